//! Which dead letters are redriven.

use std::{
    collections::BTreeSet,
    fmt,
    time::{Duration, SystemTime},
};

use towpath_core::{Envelope, FailureClass, FailureRecord};
use uuid::Uuid;

/// Which dead letters a [`Redrive`](crate::Redrive) takes: those that pass every condition. Without
/// any, all do.
#[derive(Default)]
#[must_use]
pub struct RedriveFilter {
    classes: Vec<FailureClass>,
    reasons: Vec<String>,
    origins: Vec<String>,
    keys: BTreeSet<Uuid>,
    attributes: Vec<(String, Option<String>)>,
    failed_before: Option<SystemTime>,
    failed_after: Option<SystemTime>,
    max_redrives: Option<u32>,
    condition: Option<Box<Condition>>,
}

type Condition = dyn Fn(&Envelope) -> bool + Send + Sync;

impl RedriveFilter {
    /// No condition.
    pub fn new() -> Self {
        Self::default()
    }

    /// Failed with this class; called twice, with one of both.
    pub fn class(mut self, class: FailureClass) -> Self {
        self.classes.push(class);
        self
    }

    /// The reason contains `text`, in upper or lower case; called twice, one of both.
    pub fn reason(mut self, text: impl Into<String>) -> Self {
        self.reasons.push(text.into().to_lowercase());
        self
    }

    /// Failed in this queue; called twice, in one of both.
    pub fn origin(mut self, queue: impl Into<String>) -> Self {
        self.origins.push(queue.into());
        self
    }

    /// Has this idempotency key; called twice, one of both.
    pub fn idempotency_key(mut self, key: Uuid) -> Self {
        self.keys.insert(key);
        self
    }

    /// Has the attribute `name` with this value; called twice, both.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.push((name.into(), Some(value.into())));
        self
    }

    /// Has the attribute `name`, with any value.
    pub fn has_attribute(mut self, name: impl Into<String>) -> Self {
        self.attributes.push((name.into(), None));
        self
    }

    /// Failed for the last time before `time`.
    pub fn failed_before(mut self, time: SystemTime) -> Self {
        self.failed_before = Some(time);
        self
    }

    /// Failed for the last time at `time` or later.
    pub fn failed_after(mut self, time: SystemTime) -> Self {
        self.failed_after = Some(time);
        self
    }

    /// Was redriven fewer times than this.
    pub fn max_redrives(mut self, redrives: u32) -> Self {
        self.max_redrives = Some(redrives);
        self
    }

    /// Meets a condition of your own.
    pub fn condition(
        mut self,
        condition: impl Fn(&Envelope) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.condition = Some(Box::new(condition));
        self
    }

    /// Whether a dead letter passes.
    pub(crate) fn admits(&self, envelope: &Envelope, record: &FailureRecord) -> bool {
        let message = &envelope.message;
        let reason = || record.reason.to_lowercase();
        // A message without a record has no time of failure; when it was sent is the next best.
        let failed = match message.failure() {
            Some(_) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(record.failed_ms)),
            None => envelope.sent_at,
        };
        let any = |is_empty: bool, is_met: &dyn Fn() -> bool| is_empty || is_met();
        any(self.classes.is_empty(), &|| {
            self.classes.contains(&record.class)
        }) && any(self.reasons.is_empty(), &|| {
            let reason = reason();
            self.reasons.iter().any(|text| reason.contains(text))
        }) && any(self.origins.is_empty(), &|| {
            self.origins.contains(&record.queue)
        }) && any(self.keys.is_empty(), &|| {
            self.keys.contains(&message.idempotency_key())
        }) && self.attributes.iter().all(|(name, wanted)| {
            match (message.attributes().get(name), wanted) {
                (Some(value), Some(wanted)) => value == wanted,
                (Some(_), None) => true,
                (None, _) => false,
            }
        }) && self
            .failed_before
            .is_none_or(|limit| failed.is_some_and(|at| at < limit))
            && self
                .failed_after
                .is_none_or(|limit| failed.is_some_and(|at| at >= limit))
            && self.max_redrives.is_none_or(|most| record.redrives < most)
            && self
                .condition
                .as_ref()
                .is_none_or(|condition| condition(envelope))
    }
}

impl fmt::Debug for RedriveFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedriveFilter")
            .field("classes", &self.classes)
            .field("reasons", &self.reasons)
            .field("origins", &self.origins)
            .field("keys", &self.keys)
            .field("attributes", &self.attributes)
            .field("failed_before", &self.failed_before)
            .field("failed_after", &self.failed_after)
            .field("max_redrives", &self.max_redrives)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use towpath_core::Message;

    fn letter(class: FailureClass, reason: &str, failed_ms: u64) -> Envelope {
        let mut record = FailureRecord::new(class, reason, "orders");
        record.failed_ms = failed_ms;
        record.redrives = 2;
        let message = Message::new("x")
            .with_attribute("tenant", "a")
            .with_failure(Some(record));
        Envelope::new(1.into(), message)
    }

    fn admits(filter: RedriveFilter, envelope: &Envelope) -> bool {
        filter.admits(envelope, envelope.message.failure().unwrap())
    }

    #[test]
    fn every_condition_is_a_condition() {
        let letter = letter(FailureClass::TooOld, "CRM: Timed out", 5_000);
        let at = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        let new = RedriveFilter::new;
        let key = letter.message.idempotency_key();
        for (filter, is_admitted) in [
            (new(), true),
            (new().class(FailureClass::TooOld), true),
            (new().class(FailureClass::Permanent), false),
            (
                new()
                    .class(FailureClass::Permanent)
                    .class(FailureClass::TooOld),
                true,
            ),
            (new().reason("timed OUT"), true),
            (new().reason("refused"), false),
            (new().origin("orders"), true),
            (new().origin("bills"), false),
            (new().idempotency_key(key), true),
            (new().idempotency_key(Uuid::nil()), false),
            (new().attribute("tenant", "a"), true),
            (new().attribute("tenant", "b"), false),
            (new().has_attribute("tenant"), true),
            (new().has_attribute("region"), false),
            (new().failed_before(at(6)), true),
            (new().failed_before(at(5)), false),
            (new().failed_after(at(5)), true),
            (new().failed_after(at(6)), false),
            (new().max_redrives(3), true),
            (new().max_redrives(2), false),
            (
                new().condition(|envelope| envelope.message.body() == "x"),
                true,
            ),
            (new().condition(|_| false), false),
            (new().class(FailureClass::TooOld).origin("bills"), false),
        ] {
            let shown = format!("{filter:?}");
            assert_eq!(admits(filter, &letter), is_admitted, "{shown}");
        }
    }
}
