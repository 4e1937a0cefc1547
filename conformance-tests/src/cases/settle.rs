//! Acks and nacks.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, sleep};
use towpath_core::{ErrorKind, driver::Receipt};

use crate::{
    Case, CaseError, CaseResult, Context,
    context::{numbered, text},
    ensure, ensure_eq,
};

pub(super) const CASES: &[Case] = &[
    case!(
        Settle,
        an_acked_message_does_not_come_back,
        [],
        "An ack removes the message for good: also when its lease would have run out."
    ),
    case!(
        Settle,
        a_batch_of_acks_settles_each_message,
        [],
        "Many messages are acked at once, whatever the queue's own limit."
    ),
    case!(
        Settle,
        a_late_ack_does_not_take_the_message_from_another,
        [ExtendedLease],
        "An ack after the lease was lost removes nothing that another consumer holds."
    ),
    case!(
        Settle,
        a_late_ack_is_refused_where_acks_are_confirmed,
        [ConfirmedAck, ExtendedLease],
        "An ack after the lease was lost is LeaseLost, never a false Ok."
    ),
    case!(
        Settle,
        a_second_ack_does_no_harm,
        [],
        "Acking twice removes one message, and is no error other than LeaseLost."
    ),
    case!(
        Settle,
        a_nacked_message_comes_again_at_once,
        [],
        "A nack makes the message visible again, long before its lease would have run out."
    ),
    case!(
        Settle,
        a_nacked_message_may_go_to_another_consumer,
        [],
        "What one consumer gives back is there for all."
    ),
    case!(
        Settle,
        a_delayed_nack_is_neither_early_nor_forgotten,
        [NackDelay],
        "The message comes again after its delay, and not before."
    ),
    case!(
        Settle,
        a_delayed_nack_does_not_hold_up_others,
        [NackDelay],
        "While a message waits for its next attempt, others are delivered."
    ),
    case!(
        Settle,
        deliveries_are_settled_in_any_order,
        [],
        "Each ack and each nack is about its own message, whatever the order."
    ),
    case!(
        Settle,
        a_dropped_delivery_comes_again_at_once,
        [],
        "Dropping a delivery without an answer gives the message back."
    ),
    case!(
        Settle,
        a_bad_receipt_does_not_spoil_its_batch,
        [],
        "The other entries of the batch are settled, and each has its own result."
    ),
    case!(
        Settle,
        a_receipt_of_another_backend_is_refused,
        [],
        "A driver that is handed what it did not make returns an error, and never panics."
    ),
    case!(
        Settle,
        closing_finishes_the_acks_that_were_begun,
        [],
        "No ack is lost when the consumer is closed right after it."
    ),
];

async fn an_acked_message_does_not_come_back(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.short_queue().await?.halves().await?;
    producer.send("x").await?;
    cx.receive(&consumer).await?.ack().await?;
    cx.nothing(&consumer, cx.lease() * 2, "it was acked").await
}

async fn a_batch_of_acks_settles_each_message(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.short_queue().await?.halves().await?;
    for result in producer.send_batch(&numbered("m", 13)).await {
        result?;
    }
    let deliveries = cx.receive_many(&consumer, 13).await?;
    let results = consumer.ack_batch(deliveries).await;
    ensure_eq!(results.len(), 13, "the number of results");
    for result in results {
        result?;
    }
    cx.nothing(&consumer, cx.lease() * 2, "all were acked")
        .await
}

async fn a_late_ack_does_not_take_the_message_from_another(cx: Context) -> CaseResult {
    let queue = cx.short_queue().await?;
    let (first, second) = (
        queue.driver_consumer().await?,
        queue.driver_consumer().await?,
    );
    queue.producer().await?.send("x").await?;
    let lost = cx.receive_raw(&*first).await?;
    sleep(cx.lease()).await;
    let held = cx.receive_raw(&*second).await?;
    // An error or not: what counts is what it does.
    let _ = first.ack(&[lost.receipt]).await;
    for result in second.nack(&[held.receipt], Duration::ZERO).await {
        result?;
    }
    let again = cx.receive_raw(&*second).await?;
    ensure_eq!(again.envelope.message.body(), "x", "the body");
    for result in second.ack(&[again.receipt]).await {
        result?;
    }
    Ok(())
}

async fn a_late_ack_is_refused_where_acks_are_confirmed(cx: Context) -> CaseResult {
    let queue = cx.short_queue().await?;
    let driver = queue.driver_consumer().await?;
    queue.producer().await?.send("x").await?;
    let lost = cx.receive_raw(&*driver).await?;
    sleep(cx.lease()).await;
    let held = cx.receive_raw(&*driver).await?;
    let kinds: Vec<_> = driver
        .ack(&[lost.receipt])
        .await
        .into_iter()
        .map(|result| result.err().map(|error| error.kind()))
        .collect();
    ensure_eq!(
        kinds,
        [Some(ErrorKind::LeaseLost)],
        "the fate of the late ack"
    );
    for result in driver.ack(&[held.receipt]).await {
        result?;
    }
    Ok(())
}

async fn a_second_ack_does_no_harm(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let driver = queue.driver_consumer().await?;
    let producer = queue.producer().await?;
    producer.send("first").await?;
    let first = cx.receive_raw(&*driver).await?;
    for result in driver.ack(std::slice::from_ref(&first.receipt)).await {
        result?;
    }
    producer.send("second").await?;
    match driver.ack(&[first.receipt]).await.pop() {
        Some(Ok(())) => {}
        Some(Err(error)) if error.kind() == ErrorKind::LeaseLost => {}
        other => {
            return Err(CaseError::failed(format!(
                "the second ack of a message ended in {other:?}"
            )));
        }
    }
    let second = cx.receive_raw(&*driver).await?;
    ensure_eq!(second.envelope.message.body(), "second", "the body");
    driver.close().await?;
    Ok(())
}

async fn a_nacked_message_comes_again_at_once(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    producer.send("x").await?;
    let first = cx.receive(&consumer).await?;
    let id = first.envelope().id.clone();
    first.nack(Duration::ZERO).await?;
    let again = cx.receive(&consumer).await?;
    ensure_eq!(text(&again), "x", "the body");
    ensure_eq!(again.envelope().id, id, "the id of the second attempt");
    again.ack().await?;
    Ok(())
}

async fn a_nacked_message_may_go_to_another_consumer(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, first) = queue.halves().await?;
    producer.send("x").await?;
    let held = cx.receive(&first).await?;
    let second = queue.consumer().await?;
    held.nack(Duration::ZERO).await?;
    let again = cx.receive(&second).await?;
    ensure_eq!(text(&again), "x", "the body");
    again.ack().await?;
    Ok(())
}

async fn a_delayed_nack_is_neither_early_nor_forgotten(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let delay = cx.delay().min(consumer.capabilities().limits.nack_delay);
    producer.send("x").await?;
    let held = cx.receive(&consumer).await?;
    let begun = Instant::now();
    held.nack(delay).await?;
    let again = cx.receive_within(&consumer, delay + cx.patience()).await?;
    let elapsed = begun.elapsed();
    ensure!(
        elapsed + cx.timing().early() >= delay,
        "it came again after {elapsed:?}, and a delay of {delay:?} was asked for"
    );
    ensure!(
        elapsed <= delay + cx.slack() * 3,
        "it came again after {elapsed:?}, and a delay of {delay:?} was asked for"
    );
    again.ack().await?;
    Ok(())
}

async fn a_delayed_nack_does_not_hold_up_others(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let delay = Duration::from_secs(60).min(consumer.capabilities().limits.nack_delay);
    producer.send("waits").await?;
    cx.receive(&consumer).await?.nack(delay).await?;
    for message in numbered("m", 3) {
        producer.send(message).await?;
    }
    for _ in 0..3 {
        let delivery = cx.receive(&consumer).await?;
        ensure!(text(&delivery) != "waits", "the nacked message is early");
        delivery.ack().await?;
    }
    Ok(())
}

async fn deliveries_are_settled_in_any_order(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    for result in producer.send_batch(&numbered("m", 6)).await {
        result?;
    }
    let mut deliveries = cx.receive_many(&consumer, 6).await?;
    deliveries.sort_by_key(text);
    let mut slots: Vec<_> = deliveries.into_iter().map(Some).collect();
    for i in [4, 1, 5] {
        if let Some(delivery) = slots[i].take() {
            delivery.ack().await?;
        }
    }
    for i in [3, 0, 2] {
        if let Some(delivery) = slots[i].take() {
            delivery.nack(Duration::ZERO).await?;
        }
    }
    let again = cx.receive_many(&consumer, 3).await?;
    let bodies: BTreeSet<_> = again.iter().map(text).collect();
    let nacked = ["m-0", "m-2", "m-3"].map(str::to_owned);
    ensure_eq!(bodies, BTreeSet::from(nacked), "what came again");
    for result in consumer.ack_batch(again).await {
        result?;
    }
    let why = "all messages were acked by now";
    cx.nothing(&consumer, cx.slack(), why).await
}

async fn a_dropped_delivery_comes_again_at_once(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, consumer) = queue.halves().await?;
    producer.send("x").await?;
    let dropped = cx.receive(&consumer).await?;
    let id = dropped.envelope().id.clone();
    drop(dropped);
    let again = cx.receive(&consumer).await?;
    ensure_eq!(again.envelope().id, id, "the id");
    again.ack().await?;
    Ok(())
}

async fn a_bad_receipt_does_not_spoil_its_batch(cx: Context) -> CaseResult {
    let queue = cx.short_queue().await?;
    let driver = queue.driver_consumer().await?;
    for result in queue.producer().await?.send_batch(&numbered("m", 3)).await {
        result?;
    }
    let received = cx.receive_raw_many(&*driver, 3).await?;
    let mut receipts: Vec<_> = received.into_iter().map(|one| one.receipt).collect();
    for result in driver.ack(&receipts[1..2]).await {
        result?;
    }
    // The second is settled already, the last is no receipt of this driver.
    receipts.push(Receipt::new("foreign"));
    let results = driver.ack(&receipts).await;
    ensure_eq!(results.len(), 4, "the number of results");
    for i in [0, 2] {
        if let Err(error) = &results[i] {
            return Err(CaseError::failed(format!(
                "the good entry {i} failed with its neighbour: {error}"
            )));
        }
    }
    ensure!(results[3].is_err(), "a foreign receipt was acked");
    let consumer = queue.consumer().await?;
    cx.nothing(&consumer, cx.lease() * 2, "all were acked")
        .await
}

async fn a_receipt_of_another_backend_is_refused(cx: Context) -> CaseResult {
    let driver = cx.queue().await?.driver_consumer().await?;
    let lease = cx.lease();
    // Of types that no driver has: also one that takes numbers must not take these.
    for receipt in [Receipt::new("foreign"), Receipt::new([17_u8; 3])] {
        let receipts = [receipt];
        for (operation, results) in [
            ("ack", driver.ack(&receipts).await),
            ("nack", driver.nack(&receipts, Duration::ZERO).await),
            ("extend", driver.extend(&receipts, lease).await),
        ] {
            ensure_eq!(results.len(), 1, "the number of results");
            ensure!(
                results[0].is_err(),
                "{operation} took {:?} for one of its own",
                receipts[0]
            );
        }
    }
    driver.close().await?;
    Ok(())
}

async fn closing_finishes_the_acks_that_were_begun(cx: Context) -> CaseResult {
    let queue = cx.short_queue().await?;
    let (producer, consumer) = queue.halves().await?;
    for result in producer.send_batch(&numbered("m", 5)).await {
        result?;
    }
    let deliveries = cx.receive_many(&consumer, 5).await?;
    let acks: Vec<_> = deliveries
        .into_iter()
        .map(|delivery| tokio::spawn(delivery.ack()))
        .collect();
    // Each is polled once.
    tokio::task::yield_now().await;
    consumer.close().await?;
    for ack in acks {
        let joined = ack
            .await
            .map_err(|error| CaseError::failed(format!("an ack panicked: {error}")))?;
        joined?;
    }
    let other = queue.consumer().await?;
    let why = "it was acked before the consumer was closed";
    cx.nothing(&other, cx.lease() * 2, why).await
}
