//! The copy of a message that goes to a dead-letter queue.

use crate::{Capabilities, Envelope, FailureClass, FailureRecord, Message, failure::unix_ms};

impl Envelope {
    /// The message as it is sent to a dead-letter queue that can do what `target` says: with the
    /// record of its failure in `queue`, and without what the dead-letter queue would refuse.
    ///
    /// A [`Delivery`](crate::Delivery) does this by itself; this is for runtimes without one.
    pub fn dead_letter_copy(
        &self,
        queue: &str,
        class: FailureClass,
        reason: impl Into<String>,
        target: &Capabilities,
    ) -> Message {
        let message = &self.message;
        let mut record = FailureRecord::new(class, reason, queue);
        record.attempts = self.attempt.unwrap_or(0);
        record.first_sent_ms = self.sent_at.map(unix_ms);
        record.message_id = self.id.to_string();
        record.ordering_key = message.ordering_key().map(str::to_owned);
        if let Some(before) = message.failure() {
            record.redrives = before.redrives;
            record.edits = before.edits;
            record.first_sent_ms = before.first_sent_ms.or(record.first_sent_ms);
        }
        let mut copy = message.clone().without_options();
        if target.ordering
            && let Some(key) = message.ordering_key()
        {
            copy = copy.with_ordering_key(key);
        }
        if target.dedup_window.is_some() {
            copy = copy.with_dedup_id(format!("{}-{}", message.idempotency_key(), record.redrives));
        }
        copy.with_failure(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lease, Limits};
    use std::time::{Duration, SystemTime};

    fn target() -> Capabilities {
        let max_total = Duration::from_secs(3_600);
        Capabilities::new(Limits::default(), Lease::Managed { max_total })
    }

    fn copy(message: Message, target: &Capabilities) -> Message {
        let sent = SystemTime::UNIX_EPOCH + Duration::from_secs(7);
        Envelope::new("m-1".into(), message)
            .with_attempt(Some(3))
            .with_sent_at(Some(sent))
            .dead_letter_copy("orders", FailureClass::Permanent, "no", target)
    }

    #[test]
    fn the_copy_keeps_the_message_and_tells_of_its_failure() {
        let message = Message::new("x")
            .with_attribute("a", "1")
            .with_delay(Duration::from_secs(9));
        let copy = copy(message.clone(), &target());
        assert_eq!(copy.body(), message.body());
        assert_eq!(copy.attributes(), message.attributes());
        assert_eq!(copy.idempotency_key(), message.idempotency_key());
        assert_eq!(copy.delay(), Duration::ZERO);
        let record = copy.failure().unwrap();
        assert_eq!((record.attempts, record.queue.as_str()), (3, "orders"));
        assert_eq!(
            (record.message_id.as_str(), record.first_sent_ms),
            ("m-1", Some(7_000))
        );
    }

    #[test]
    fn the_counts_of_redrives_and_edits_go_on() {
        let mut before = FailureRecord::new(FailureClass::Permanent, "no", "orders");
        (before.redrives, before.edits) = (2, 1);
        let copy = copy(Message::new("x").with_failure(Some(before)), &target());
        let record = copy.failure().unwrap();
        assert_eq!((record.redrives, record.edits), (2, 1));
    }

    #[test]
    fn options_are_kept_where_the_dead_letter_queue_has_them_and_recorded_anyway() {
        let message = Message::new("x").with_ordering_key("k").with_dedup_id("d");
        let plain = copy(message.clone(), &target());
        assert_eq!((plain.ordering_key(), plain.dedup_id()), (None, None));
        assert_eq!(plain.failure().unwrap().ordering_key.as_deref(), Some("k"));
        let mut fifo = target();
        fifo.ordering = true;
        fifo.dedup_window = Some(Duration::from_secs(300));
        let key = message.idempotency_key();
        let kept = copy(message, &fifo);
        assert_eq!(kept.ordering_key(), Some("k"));
        assert_eq!(kept.dedup_id(), Some(format!("{key}-0").as_str()));
    }
}
