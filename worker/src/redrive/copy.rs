//! How a dead letter becomes a message again.

use towpath_core::{Envelope, FailureClass, FailureRecord, Message, Producer};

/// The message that a redrive sends to `target` for a dead letter of the queue `from`: its body,
/// attributes and [idempotency key](Message::idempotency_key), its failure record with one more
/// redrive, and its ordering key where `target` orders.
///
/// For a copy that is edited before it is sent; [`Redrive`](super::Redrive) does all the rest. Send
/// the copy, then ack the dead letter, never the other way round.
///
/// ```
/// # async fn example(queue: towpath_core::Queue) -> Result<(), Box<dyn std::error::Error>> {
/// use towpath_worker::redrive;
///
/// let dead = queue.dead_letter()?.expect("a dead-letter queue is configured");
/// let (consumer, target) = (dead.consumer().await?, queue.producer().await?);
/// let letter = consumer.receive().await?;
/// let message = redrive::copy(letter.envelope(), consumer.queue(), &target)
///     .with_body(r#"{"id": 7}"#);
/// target.send(message).await?;
/// letter.ack().await?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn copy(letter: &Envelope, from: &str, target: &Producer) -> Message {
    copy_with(letter, record_of(letter, from), target)
}

/// The failure record of a dead letter. A broker that moved the message by itself left none.
pub(super) fn record_of(letter: &Envelope, from: &str) -> FailureRecord {
    letter.message.failure().cloned().unwrap_or_else(|| {
        let class = FailureClass::Other("unknown".to_owned());
        FailureRecord::new(class, "moved by the queue, without a record", from)
    })
}

/// As [`copy`], with the record that was found.
pub(super) fn copy_with(
    letter: &Envelope,
    mut record: FailureRecord,
    target: &Producer,
) -> Message {
    let message = &letter.message;
    let accepts = target.capabilities();
    record.redrives = record.redrives.saturating_add(1);
    let mut copy = Message::new(message.body().clone())
        .with_idempotency_key(message.idempotency_key())
        .with_attributes(message.attributes().clone());
    let ordering_key = message.ordering_key().or(record.ordering_key.as_deref());
    if accepts.ordering
        && let Some(key) = ordering_key
    {
        copy = copy.with_ordering_key(key);
    }
    if accepts.dedup_window.is_some() {
        // Another one for each redrive, or the queue would take it for the first delivery.
        let id = format!("{}-redrive-{}", message.idempotency_key(), record.redrives);
        copy = copy.with_dedup_id(id);
    }
    copy.with_failure(Some(record))
}
