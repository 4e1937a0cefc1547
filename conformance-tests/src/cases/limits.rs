//! The limits that are claimed are those that hold.

use std::{num::NonZeroUsize, time::Duration};

use towpath_core::{Error, Message};

use crate::{
    Case, CaseError, CaseResult, Context, TestQueue, context::numbered, ensure, ensure_eq,
};

pub(super) const CASES: &[Case] = &[
    case!(
        Capabilities,
        the_largest_message_is_carried,
        [],
        "A message of exactly the claimed size comes out unchanged."
    ),
    case!(
        Capabilities,
        as_many_attributes_as_claimed_are_carried,
        [],
        "A message with the claimed number of attributes comes out with all of them."
    ),
    case!(
        Capabilities,
        the_longest_attribute_is_carried,
        [],
        "An attribute with the longest claimed name and value comes out unchanged."
    ),
    case!(
        Capabilities,
        the_longest_ordering_key_is_carried,
        [Ordering],
        "An ordering key of the claimed length comes out unchanged."
    ),
    case!(
        Capabilities,
        the_largest_batches_are_accepted,
        [],
        "Drivers send, receive and settle as many messages at once as they claim."
    ),
    case!(
        Capabilities,
        the_longest_delay_is_accepted,
        [Delay],
        "A message with the longest claimed delay is accepted, and not delivered at once."
    ),
    case!(
        Capabilities,
        the_longest_nack_delay_is_accepted,
        [NackDelay],
        "A nack with the longest claimed delay is accepted, and the message waits."
    ),
];

/// No limit at all is tested with much, not with everything.
const MUCH: usize = 2 * 1_024 * 1_024;
const MANY: usize = 120;

async fn unchanged(cx: &Context, queue: &TestQueue, message: Message) -> CaseResult {
    let (producer, consumer) = queue.native()?.halves().await?;
    producer.send(message.clone()).await?;
    let delivery = cx.receive(&consumer).await?;
    ensure!(
        delivery.body() == message.body(),
        "{} bytes were sent, and {} others came out",
        message.body().len(),
        delivery.body().len()
    );
    ensure!(
        delivery.attributes() == message.attributes(),
        "{} attributes were sent, and {} came out, or their values changed",
        message.attributes().len(),
        delivery.attributes().len()
    );
    ensure_eq!(
        delivery.envelope().message.ordering_key(),
        message.ordering_key(),
        "the ordering key"
    );
    delivery.ack().await?;
    Ok(())
}

async fn the_largest_message_is_carried(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let driver = queue.driver_producer().await?;
    let most = driver.capabilities().limits.message_bytes.min(16 * MUCH);
    let most = if most == 16 * MUCH { MUCH } else { most };
    let empty = Message::new("").with_attribute("a", "1");
    let room = most.saturating_sub(driver.encoded_len(&empty));
    let message = empty.with_body("x".repeat(room));
    ensure_eq!(
        driver.encoded_len(&message),
        most,
        "the encoded length of a message of text"
    );
    driver.close().await?;
    unchanged(&cx, &queue, message).await
}

async fn as_many_attributes_as_claimed_are_carried(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let claimed = queue.capabilities().await?.limits.attributes;
    ensure!(
        claimed >= 8,
        "{claimed} attributes are claimed, and 8 must work everywhere"
    );
    let attributes = (0..claimed.min(MANY)).map(|i| (format!("name-{i}"), format!("value {i}")));
    let message = Message::new("x").with_attributes(attributes.collect());
    unchanged(&cx, &queue, message).await
}

async fn the_longest_attribute_is_carried(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let limits = queue.capabilities().await?.limits;
    let name = limits.attribute_name_bytes.min(1_000);
    let room = limits.message_bytes.saturating_sub(name + 1_000);
    let value = limits.attribute_value_bytes.min(64 * 1_024).min(room);
    let message = Message::new("x").with_attribute("n".repeat(name), "v".repeat(value));
    unchanged(&cx, &queue, message).await
}

async fn the_longest_ordering_key_is_carried(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let limits = queue.capabilities().await?.limits;
    let key = "k".repeat(limits.ordering_key_bytes.min(10_000));
    let message = Message::new("x").with_ordering_key(key);
    unchanged(&cx, &queue, message).await
}

async fn the_largest_batches_are_accepted(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let producer = queue.driver_producer().await?;
    let consumer = queue.driver_consumer().await?;
    let limits = producer.capabilities().limits.clone();
    let count = limits.send_batch.min(1_000);
    let each = (limits.send_batch_bytes / count).min(limits.message_bytes);
    let mut messages = numbered("m", count);
    if each < 1_024 * 1_024 {
        // Full by count and by bytes.
        messages = messages
            .into_iter()
            .map(|message| message.with_body("x".repeat(each.min(64 * 1_024))))
            .collect();
    }
    let results = producer.send(&messages).await;
    ensure_eq!(results.len(), count, "the number of results");
    for result in results {
        result?;
    }
    let limits = consumer.capabilities().limits.clone();
    let most = NonZeroUsize::new(limits.receive_batch).unwrap_or(NonZeroUsize::MIN);
    let mut receipts = Vec::new();
    let deadline = tokio::time::Instant::now() + cx.patience();
    while receipts.len() < count {
        ensure!(
            tokio::time::Instant::now() < deadline,
            "{} of {count} messages came in time",
            receipts.len()
        );
        let received = consumer.receive(most, cx.slack()).await?;
        receipts.extend(received.into_iter().map(|one| one.receipt));
    }
    for batch in receipts.chunks(limits.settle_batch.min(1_000)) {
        let results = consumer.ack(batch).await;
        ensure_eq!(results.len(), batch.len(), "the number of results");
        for result in results {
            result?;
        }
    }
    Ok(())
}

fn accepted<T>(result: Result<T, Error>, delay: Duration) -> CaseResult {
    match result {
        Ok(_) => Ok(()),
        Err(error) => Err(CaseError::failed(format!(
            "a delay of {} is claimed, and refused: {error}",
            humantime::format_duration(delay)
        ))),
    }
}

async fn the_longest_delay_is_accepted(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let longest = producer.capabilities().limits.delay;
    let message = Message::new("x").with_delay(longest);
    accepted(producer.send(message).await, longest)?;
    cx.nothing(&consumer, cx.slack(), "its delay is long").await
}

async fn the_longest_nack_delay_is_accepted(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let longest = consumer.capabilities().limits.nack_delay;
    producer.send("x").await?;
    let held = cx.receive(&consumer).await?;
    accepted(held.nack(longest).await.map_err(Error::from), longest)?;
    cx.nothing(&consumer, cx.slack(), "its delay is long").await
}
