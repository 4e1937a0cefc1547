//! A copy that waits for its time, in a queue whose cloud cannot delay.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::failure::unix_ms;

/// What a copy of a message says that took its place in the queue, and must not be handled before
/// its time.
///
/// It is for the consumers of one queue: another one that comes by the copy takes it for a message
/// like any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Delayed {
    /// The queue that waits for it, by the cloud's full name.
    pub queue: String,
    /// Before when it must not be handled, in milliseconds since 1970.
    pub not_before_ms: u64,
    /// How often the message was tried before, where the queue counts; a copy's own count begins
    /// anew.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// When the message was sent at first, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_sent_ms: Option<u64>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands over a reference"
)]
fn is_zero(attempts: &u32) -> bool {
    *attempts == 0
}

impl Delayed {
    /// A copy for `queue` that must not be handled before `not_before`.
    pub fn new(queue: impl Into<String>, not_before: SystemTime) -> Self {
        // Rounded up, so that it is never early.
        let rounded = not_before.checked_add(Duration::from_nanos(999_999));
        let not_before_ms = unix_ms(rounded.unwrap_or(not_before));
        Self {
            queue: queue.into(),
            not_before_ms,
            attempts: 0,
            first_sent_ms: None,
        }
    }

    /// Sets how often the message was tried before.
    #[must_use]
    pub fn with_attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// Sets when the message was sent at first.
    #[must_use]
    pub fn with_first_sent(mut self, time: Option<SystemTime>) -> Self {
        self.first_sent_ms = time.map(unix_ms);
        self
    }

    /// How long it still has to wait at the time `now`.
    pub fn rest(&self, now: SystemTime) -> Duration {
        let at = Duration::from_millis(self.not_before_ms);
        // Before 1970 only a clock is that is wrong.
        at.saturating_sub(now.duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    /// When the message was sent at first.
    pub fn first_sent(&self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_millis(self.first_sent_ms?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        FailureClass, FailureRecord, Message,
        wire::{BodyEncoding, RESERVED_BYTES, delayed_value, restore, restore_delayed},
    };

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    #[test]
    fn a_copy_tells_when_and_for_whom_and_a_longer_reason_gives_way() {
        let failure = FailureRecord::new(FailureClass::Permanent, "no".repeat(2_000), "orders");
        let message = Message::new("x").with_failure(Some(failure));
        let delayed = Delayed::new("q".repeat(350), at(1_767_323_045_678))
            .with_attempts(3)
            .with_first_sent(Some(at(7)));
        let text = delayed_value(&message, BodyEncoding::Raw, delayed.clone());
        assert!(text.len() <= RESERVED_BYTES);
        let (back, found) = restore_delayed("x".into(), &1.into(), Some(&text));
        assert_eq!(found, Some(delayed));
        assert_eq!(back.idempotency_key(), message.idempotency_key());
        assert!(back.failure().is_some());
        assert_eq!(restore("x".into(), &1.into(), Some(&text)), back);
    }

    #[test]
    fn what_is_rounded_is_never_early() {
        let due = at(5_000) + Duration::from_nanos(1);
        let delayed = Delayed::new("q", due);
        assert_eq!(delayed.not_before_ms, 5_001);
        assert_eq!(delayed.rest(at(4_000)), Duration::from_millis(1_001));
        assert_eq!(delayed.rest(at(9_000)), Duration::ZERO);
        assert_eq!(Delayed::new("q", at(5_000)).not_before_ms, 5_000);
    }

    #[test]
    fn times_of_another_writer_do_not_panic() {
        let text = format!(
            r#"{{"key":"8a0c2c5e-6c7b-4d43-8a63-0d2b8f0f6a57","delayed":{{"queue":"q","not_before_ms":{max},"first_sent_ms":{max}}}}}"#,
            max = u64::MAX
        );
        let (_, found) = restore_delayed("x".into(), &1.into(), Some(&text));
        let found = found.unwrap();
        assert!(found.rest(SystemTime::now()) > Duration::from_secs(1));
        let _ = found.first_sent();
    }
}
