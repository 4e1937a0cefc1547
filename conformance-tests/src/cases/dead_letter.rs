//! Dead-letter queues.

use std::time::Duration;

use tokio::time::Instant;
use towpath_core::{Consumer, Delivery, FailureClass, Message};

use crate::{Case, CaseError, CaseResult, Context, TestQueue, context::text, ensure, ensure_eq};

pub(super) const CASES: &[Case] = &[
    case!(
        DeadLetter,
        an_exhausted_message_is_dead_lettered,
        [DeadLetter, Attempts],
        "After max_attempts deliveries the message is in the dead-letter queue, and says why."
    ),
    case!(
        DeadLetter,
        a_message_is_dead_lettered_once,
        [DeadLetter],
        "One copy is in the dead-letter queue, and none is left in the queue."
    ),
    case!(
        DeadLetter,
        a_dead_letter_tells_what_happened,
        [DeadLetter],
        "Class, reason, queue, id and attempts travel with it."
    ),
    case!(
        DeadLetter,
        a_dead_letter_is_the_message_that_was_sent,
        [DeadLetter],
        "Body, attributes and idempotency key are unchanged."
    ),
    case!(
        DeadLetter,
        the_broker_moves_what_is_delivered_too_often,
        [BrokerDeadLetter],
        "The broker's own policy moves the message, once and unchanged, when consumers do not."
    ),
    case!(
        DeadLetter,
        a_redriven_message_is_the_one_that_was_sent,
        [DeadLetter],
        "Sent back from the dead-letter queue, it is delivered with the same key and content."
    ),
    case!(
        DeadLetter,
        a_dead_letter_remembers_its_ordering_key,
        [DeadLetter, Ordering],
        "The ordering key stands in the failure record, for the redrive."
    ),
    case!(
        DeadLetter,
        a_dead_letter_makes_room_for_the_next_of_its_key,
        [DeadLetter, Ordering],
        "The next message of the key is delivered, and in order."
    ),
];

/// Dead-letters the next message with a reason.
async fn bury(cx: &Context, consumer: &Consumer, reason: &str) -> CaseResult {
    let delivery = cx.receive(consumer).await?;
    delivery
        .dead_letter(FailureClass::Permanent, reason)
        .await?;
    Ok(())
}

/// The one message in the dead-letter queue.
async fn exhume(cx: &Context, queue: &TestQueue) -> Result<(Consumer, Delivery), CaseError> {
    let consumer = queue.dead_letter()?.consumer().await?;
    let delivery = cx.receive(&consumer).await?;
    Ok((consumer, delivery))
}

async fn an_exhausted_message_is_dead_lettered(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let limited = queue.with_option("max_attempts", "2")?;
    let (producer, consumer) = limited.halves().await?;
    producer.send("poison").await?;
    for attempt in 1..=2 {
        let delivery = cx.receive(&consumer).await?;
        ensure_eq!(delivery.attempt(), Some(attempt), "the attempt");
        delivery.nack(Duration::ZERO).await?;
    }
    let why = "its attempts are used up";
    cx.nothing(&consumer, cx.slack() * 2, why).await?;
    let (_, dead) = exhume(&cx, &queue).await?;
    ensure_eq!(text(&dead), "poison", "the body");
    let Some(failure) = dead.envelope().message.failure() else {
        return Err(CaseError::failed("the dead letter has no failure record"));
    };
    ensure_eq!(
        failure.class,
        FailureClass::AttemptsExhausted,
        "the class of the failure"
    );
    ensure!(
        failure.attempts >= 2,
        "the failure record says {} attempts",
        failure.attempts
    );
    Ok(())
}

async fn a_message_is_dead_lettered_once(cx: Context) -> CaseResult {
    let queue = cx.short_queue().await?;
    let (producer, consumer) = queue.halves().await?;
    producer.send("x").await?;
    bury(&cx, &consumer, "for the test").await?;
    let (dead_letters, dead) = exhume(&cx, &queue).await?;
    ensure_eq!(text(&dead), "x", "the body");
    let why = "it was dead-lettered once";
    let wait = cx.lease() * 3 / 2;
    tokio::try_join!(
        cx.nothing(&dead_letters, wait, why),
        cx.nothing(&consumer, wait, "it was dead-lettered"),
    )?;
    Ok(())
}

async fn a_dead_letter_tells_what_happened(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, consumer) = queue.halves().await?;
    let id = producer.send("x").await?;
    bury(&cx, &consumer, "the order <17> does not exist").await?;
    let (_, dead) = exhume(&cx, &queue).await?;
    let Some(failure) = dead.envelope().message.failure() else {
        return Err(CaseError::failed("the dead letter has no failure record"));
    };
    ensure_eq!(failure.class, FailureClass::Permanent, "the class");
    ensure_eq!(
        failure.reason,
        "the order <17> does not exist",
        "the reason"
    );
    ensure_eq!(failure.queue, consumer.queue(), "the queue");
    ensure_eq!(failure.message_id, id.to_string(), "the id");
    ensure!(failure.failed_ms > 0, "the time of the failure is missing");
    ensure!(
        failure.attempts <= 1,
        "the failure record says {} attempts, and there was one",
        failure.attempts
    );
    Ok(())
}

fn full_message() -> Message {
    Message::new(vec![0xff, 0x00, 0x7f])
        .with_attribute("tenant", "acme")
        .with_attribute("odd", "<zażółć> & \"more\"")
        .with_attribute("long", "v".repeat(500))
}

fn compare(found: &Message, sent: &Message) -> CaseResult {
    ensure!(found.body() == sent.body(), "the body is another");
    ensure_eq!(found.attributes(), sent.attributes(), "attributes");
    ensure_eq!(
        found.idempotency_key(),
        sent.idempotency_key(),
        "the idempotency key"
    );
    Ok(())
}

async fn a_dead_letter_is_the_message_that_was_sent(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, consumer) = queue.halves().await?;
    let message = full_message();
    producer.send(message.clone()).await?;
    bury(&cx, &consumer, "for the test").await?;
    let (_, dead) = exhume(&cx, &queue).await?;
    compare(&dead.envelope().message, &message)
}

async fn the_broker_moves_what_is_delivered_too_often(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, consumer) = queue.halves().await?;
    let dead_letters = queue.dead_letter()?.consumer().await?;
    let message = full_message();
    producer.send(message.clone()).await?;
    let deadline = Instant::now() + cx.patience() * 2 + Duration::from_secs(30);
    let mut deliveries = 0;
    let dead = loop {
        ensure!(
            Instant::now() < deadline,
            "it was delivered {deliveries} times and not moved"
        );
        for delivery in consumer.receive_batch(1, cx.slack()).await? {
            deliveries += 1;
            delivery.nack(Duration::ZERO).await?;
        }
        let wait = Duration::ZERO;
        if let Some(dead) = dead_letters.receive_batch(1, wait).await?.pop() {
            break dead;
        }
    };
    let most = crate::context::BROKER_DELIVERIES;
    ensure!(
        deliveries >= most,
        "it was moved after {deliveries} deliveries, and {most} are allowed"
    );
    compare(&dead.envelope().message, &message)?;
    cx.nothing(&dead_letters, cx.slack(), "it was moved once")
        .await?;
    cx.nothing(&consumer, cx.slack(), "it was moved away").await
}

async fn a_redriven_message_is_the_one_that_was_sent(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, consumer) = queue.halves().await?;
    let message = full_message();
    producer.send(message.clone()).await?;
    bury(&cx, &consumer, "for the test").await?;
    let (_, dead) = exhume(&cx, &queue).await?;
    let copy = dead.envelope().message.clone().with_failure(None);
    producer.send(copy).await?;
    dead.ack().await?;
    let again = cx.receive(&consumer).await?;
    compare(&again.envelope().message, &message)?;
    ensure_eq!(
        again.envelope().message.failure(),
        None,
        "the failure record of the redriven message"
    );
    again.ack().await?;
    Ok(())
}

async fn a_dead_letter_remembers_its_ordering_key(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, consumer) = queue.halves().await?;
    let message = Message::new("x").with_ordering_key("customer-4");
    producer.send(message).await?;
    bury(&cx, &consumer, "for the test").await?;
    let (_, dead) = exhume(&cx, &queue).await?;
    let failure = dead.envelope().message.failure();
    ensure_eq!(
        failure.and_then(|failure| failure.ordering_key.as_deref()),
        Some("customer-4"),
        "the ordering key in the failure record"
    );
    Ok(())
}

async fn a_dead_letter_makes_room_for_the_next_of_its_key(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    for i in 0..3 {
        let message = Message::new(format!("m-{i}")).with_ordering_key("k");
        producer.send(message).await?;
    }
    bury(&cx, &consumer, "for the test").await?;
    for i in 1..3 {
        let next = cx.receive(&consumer).await?;
        ensure_eq!(text(&next), format!("m-{i}"), "the next of the key");
        next.ack().await?;
    }
    Ok(())
}
