//! Why a message failed: what a handler reports, and what travels with a dead letter.

use std::{
    any::Any,
    borrow::Cow,
    error::Error as StdError,
    fmt,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

/// The class of a failure, as it travels with a dead letter.
///
/// A class that this version does not know is kept as [`Other`](Self::Other).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureClass {
    /// The handler said that no retry can help.
    Permanent,
    /// The last of the allowed attempts failed.
    AttemptsExhausted,
    /// The message failed for longer than allowed.
    TooOld,
    /// The body could not be decoded.
    Undecodable,
    /// A class written by another version or another language.
    #[serde(untagged)]
    Other(String),
}

/// Why, where and how often a message failed. Travels with the copy in the dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FailureRecord {
    /// The reason, in words. Shortened to fit into the attribute that carries the record.
    pub reason: String,
    /// The class of the failure.
    pub class: FailureClass,
    /// How often the message was delivered; 0 where the queue does not count.
    #[serde(default)]
    pub attempts: u32,
    /// When the message was sent at first, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_sent_ms: Option<u64>,
    /// When it failed for the last time, in milliseconds since 1970.
    #[serde(default)]
    pub failed_ms: u64,
    /// The queue that it failed in.
    pub queue: String,
    /// The broker's id in that queue.
    #[serde(default)]
    pub message_id: String,
    /// The ordering key that the message had, for the redrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordering_key: Option<String>,
    /// How often the message was redriven before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub redrives: u32,
    /// How often its body or attributes were edited before a redrive.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub edits: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl FailureRecord {
    /// A record of a failure now, in `queue`.
    pub fn new(class: FailureClass, reason: impl Into<String>, queue: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            class,
            attempts: 0,
            first_sent_ms: None,
            failed_ms: unix_ms(SystemTime::now()),
            queue: queue.into(),
            message_id: String::new(),
            ordering_key: None,
            redrives: 0,
            edits: 0,
        }
    }
}

/// Milliseconds since 1970; 0 for times before.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What a handler returns when it fails: a reason, and whether a retry can help.
///
/// Any error turns into a failure that is retried, so `?` works in a handler; say
/// [`Failure::permanent`] where a retry cannot help.
///
/// ```
/// use towpath_core::Failure;
///
/// fn parse(text: &str) -> Result<u32, Failure> {
///     text.parse().map_err(Failure::permanent)
/// }
/// assert!(parse("x").unwrap_err().is_permanent());
///
/// fn read() -> Result<String, Failure> {
///     Ok(std::fs::read_to_string("/no/such/file")?)
/// }
/// assert!(!read().unwrap_err().is_permanent());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Failure {
    reason: Cow<'static, str>,
    retry: Retry,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Retry {
    Backoff,
    After(Duration),
    NotTried(Duration),
    Never(FailureClass),
}

impl Failure {
    /// A failure that a later attempt may get over, with the usual backoff.
    pub fn retry(reason: impl fmt::Display) -> Self {
        Self {
            reason: reason.to_string().into(),
            retry: Retry::Backoff,
        }
    }

    /// A failure that must not be retried before `after` (as of `Retry-After`).
    pub fn retry_after(reason: impl fmt::Display, after: Duration) -> Self {
        Self {
            reason: reason.to_string().into(),
            retry: Retry::After(after),
        }
    }

    /// The message was not tried, and must not be before `after`: it is given back, and this does
    /// not count as an attempt. See [`Outcome::Release`](crate::Outcome::Release).
    pub fn release(reason: impl fmt::Display, after: Duration) -> Self {
        Self {
            reason: reason.to_string().into(),
            retry: Retry::NotTried(after),
        }
    }

    /// A failure that no retry can get over: the message goes to the dead-letter queue.
    pub fn permanent(reason: impl fmt::Display) -> Self {
        Self::permanent_as(FailureClass::Permanent, reason)
    }

    /// A permanent failure of a class of its own.
    pub fn permanent_as(class: FailureClass, reason: impl fmt::Display) -> Self {
        Self {
            reason: reason.to_string().into(),
            retry: Retry::Never(class),
        }
    }

    /// The failure of a handler that panicked, with the usual backoff: a defect may come and go.
    /// `panic` is what unwinding brought, and its text becomes the reason.
    ///
    /// ```
    /// use towpath_core::Failure;
    ///
    /// let panic = std::panic::catch_unwind(|| panic!("no such customer")).unwrap_err();
    /// assert_eq!(Failure::panicked(&*panic).reason(), "panicked: no such customer");
    /// ```
    pub fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("a value that is not text");
        Self::retry(format_args!("panicked: {text}"))
    }

    /// Why it failed, in words.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether no retry can help.
    pub fn is_permanent(&self) -> bool {
        matches!(self.retry, Retry::Never(_))
    }

    /// Whether the message was not tried.
    pub fn is_release(&self) -> bool {
        matches!(self.retry, Retry::NotTried(_))
    }

    /// The class, where the failure is permanent.
    pub fn class(&self) -> Option<&FailureClass> {
        match &self.retry {
            Retry::Never(class) => Some(class),
            _ => None,
        }
    }

    /// The least time before the next attempt, where one was named.
    pub fn after(&self) -> Option<Duration> {
        match self.retry {
            Retry::After(after) | Retry::NotTried(after) => Some(after),
            _ => None,
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failure")
            .field("reason", &self.reason)
            .field("retry", &self.retry)
            .finish()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Shows the error with its chain of sources: `cannot call the CRM: connection refused`.
impl<E: Into<Box<dyn StdError + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error: Box<dyn StdError + Send + Sync> = error.into();
        let mut reason = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !reason.contains(&text) {
                reason.push_str(": ");
                reason.push_str(&text);
            }
            source = cause.source();
        }
        Self {
            reason: reason.into(),
            retry: Retry::Backoff,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_class_survives_a_round_trip() {
        let class: FailureClass = serde_json::from_str(r#""gone_fishing""#).unwrap();
        assert_eq!(class, FailureClass::Other("gone_fishing".into()));
        assert_eq!(serde_json::to_string(&class).unwrap(), r#""gone_fishing""#);
        let known: FailureClass = serde_json::from_str(r#""attempts_exhausted""#).unwrap();
        assert_eq!(known, FailureClass::AttemptsExhausted);
    }

    #[test]
    fn a_release_is_neither_permanent_nor_an_attempt() {
        let after = Duration::from_secs(3);
        let failure = Failure::release("the breaker is open", after);
        assert!(!failure.is_permanent());
        assert_eq!(
            crate::Outcome::from(failure),
            crate::Outcome::Release {
                after: Some(after),
                reason: "the breaker is open".into()
            }
        );
    }

    #[test]
    fn an_error_shows_its_sources_once() {
        let inner = crate::Error::new(crate::ErrorKind::Timeout, "no answer");
        let outer =
            crate::Error::new(crate::ErrorKind::Unavailable, "cannot call").with_source(inner);
        assert_eq!(
            Failure::from(outer).reason(),
            "unavailable: cannot call: timeout: no answer"
        );
    }
}
