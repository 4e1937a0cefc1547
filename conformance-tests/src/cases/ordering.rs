//! Ordering keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use towpath_core::{Message, Producer};

use crate::{Case, CaseError, CaseResult, Context, context::text, ensure, ensure_eq};

pub(super) const CASES: &[Case] = &[
    case!(
        Ordering,
        messages_of_a_key_come_in_order,
        [Ordering],
        "Sent one by one or in a batch, the messages of a key are delivered as they were sent."
    ),
    case!(
        Ordering,
        the_ordering_key_comes_out_as_it_went_in,
        [Ordering],
        "A delivery has the ordering key of its message, and none where there was none."
    ),
    case!(
        Ordering,
        a_key_has_one_message_under_way,
        [Ordering],
        "The next message of a key is not delivered before the one under way is settled."
    ),
    case!(
        Ordering,
        a_blocked_key_does_not_block_others,
        [Ordering],
        "While a message of one key is held, the messages of other keys are delivered."
    ),
    case!(
        Ordering,
        keys_are_worked_on_side_by_side,
        [Ordering],
        "Messages of different keys are under way at the same time."
    ),
    case!(
        Ordering,
        order_holds_after_a_nack,
        [Ordering],
        "A message that is given back comes again before the later ones of its key."
    ),
    case!(
        Ordering,
        order_holds_during_a_delayed_nack,
        [Ordering, NackDelay],
        "While a message waits for its next attempt, the later ones of its key wait too."
    ),
    case!(
        Ordering,
        order_holds_after_an_expiry,
        [Ordering, ExtendedLease],
        "A message whose lease ran out comes again before the later ones of its key."
    ),
    case!(
        Ordering,
        order_holds_across_consumers,
        [Ordering],
        "Competing consumers work on each key in order and one at a time."
    ),
];

fn keyed(key: &str, i: usize) -> Message {
    Message::new(format!("{key}-{i}")).with_ordering_key(key)
}

async fn send_keyed(producer: &Producer, key: &str, count: usize) -> CaseResult {
    let messages: Vec<_> = (0..count).map(|i| keyed(key, i)).collect();
    for result in producer.send_batch(&messages).await {
        result?;
    }
    Ok(())
}

async fn messages_of_a_key_come_in_order(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    for i in 0..5 {
        producer.send(keyed("k", i)).await?;
    }
    let batch: Vec<_> = (5..16).map(|i| keyed("k", i)).collect();
    for result in producer.send_batch(&batch).await {
        result?;
    }
    for i in 0..16 {
        let delivery = cx.receive(&consumer).await?;
        ensure_eq!(text(&delivery), format!("k-{i}"), "message {i} of the key");
        delivery.ack().await?;
    }
    Ok(())
}

async fn the_ordering_key_comes_out_as_it_went_in(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let keys = [Some("customer-4"), Some("a/b:c=d&e\"f'"), None];
    for key in keys {
        let mut message = Message::new("x").with_attribute("key", key.unwrap_or("none"));
        if let Some(key) = key {
            message = message.with_ordering_key(key);
        }
        producer.send(message).await?;
    }
    for delivery in cx.receive_many(&consumer, keys.len()).await? {
        let key = delivery
            .attributes()
            .get("key")
            .filter(|key| *key != "none");
        ensure_eq!(
            delivery.envelope().message.ordering_key(),
            key,
            "the ordering key"
        );
    }
    Ok(())
}

async fn a_key_has_one_message_under_way(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, consumer) = queue.halves().await?;
    let other = queue.consumer().await?;
    send_keyed(&producer, "k", 3).await?;
    // Room for more must not be filled with more of the key.
    let mut received = consumer.receive_batch(10, cx.patience()).await?;
    let bodies: Vec<_> = received.iter().map(text).collect();
    ensure_eq!(bodies, ["k-0"], "what is received together");
    let Some(first) = received.pop() else {
        return Err(CaseError::failed("nothing was received"));
    };
    let why = "an earlier message of its key is under way";
    let wait = cx.slack() * 2;
    tokio::try_join!(
        cx.nothing(&other, wait, why),
        cx.nothing(&consumer, wait, why)
    )?;
    other.close().await?;
    first.ack().await?;
    let second = cx.receive(&consumer).await?;
    ensure_eq!(text(&second), "k-1", "the second of the key");
    Ok(())
}

async fn a_blocked_key_does_not_block_others(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    send_keyed(&producer, "slow", 2).await?;
    let slow = cx.receive(&consumer).await?;
    ensure_eq!(text(&slow), "slow-0", "the first");
    send_keyed(&producer, "quick", 3).await?;
    producer.send("without a key").await?;
    let mut quick = Vec::new();
    for _ in 0..4 {
        let delivery = cx.receive(&consumer).await?;
        if delivery.envelope().message.ordering_key().is_some() {
            quick.push(text(&delivery));
        }
        delivery.ack().await?;
    }
    ensure_eq!(quick, ["quick-0", "quick-1", "quick-2"], "the other key");
    ensure!(!slow.is_lease_lost(), "the lease of the slow one was lost");
    slow.ack().await?;
    let next = cx.receive(&consumer).await?;
    ensure_eq!(text(&next), "slow-1", "the next of the slow key");
    Ok(())
}

async fn keys_are_worked_on_side_by_side(cx: Context) -> CaseResult {
    const KEYS: usize = 5;
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let messages: Vec<_> = (0..KEYS * 2)
        .map(|i| keyed(&format!("k{}", i % KEYS), i / KEYS))
        .collect();
    for result in producer.send_batch(&messages).await {
        result?;
    }
    let deliveries = cx.receive_many(&consumer, KEYS).await?;
    let bodies: BTreeSet<_> = deliveries.iter().map(text).collect();
    let firsts: BTreeSet<_> = (0..KEYS).map(|i| format!("k{i}-0")).collect();
    ensure_eq!(bodies, firsts, "what is under way at once");
    Ok(())
}

async fn order_holds_after_a_nack(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    send_keyed(&producer, "k", 3).await?;
    for i in 0..3 {
        let delivery = cx.receive(&consumer).await?;
        ensure_eq!(text(&delivery), format!("k-{i}"), "message {i}");
        delivery.nack(Duration::ZERO).await?;
        let again = cx.receive(&consumer).await?;
        ensure_eq!(text(&again), format!("k-{i}"), "message {i} after its nack");
        again.ack().await?;
    }
    Ok(())
}

async fn order_holds_during_a_delayed_nack(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.queue().await?.halves().await?;
    let delay = cx.delay().min(consumer.capabilities().limits.nack_delay);
    send_keyed(&producer, "k", 2).await?;
    let first = cx.receive(&consumer).await?;
    ensure_eq!(text(&first), "k-0", "the first of the key");
    let begun = Instant::now();
    first.nack(delay).await?;
    let next = cx.receive_within(&consumer, delay + cx.patience()).await?;
    ensure_eq!(text(&next), "k-0", "what comes after the nack");
    ensure!(
        begun.elapsed() + cx.timing().early() >= delay,
        "it came again after {:?}, and a delay of {delay:?} was asked for",
        begun.elapsed()
    );
    next.ack().await?;
    let second = cx.receive(&consumer).await?;
    ensure_eq!(text(&second), "k-1", "the second of the key");
    Ok(())
}

async fn order_holds_after_an_expiry(cx: Context) -> CaseResult {
    let (producer, consumer) = cx.short_queue().await?.halves().await?;
    send_keyed(&producer, "k", 3).await?;
    let first = cx.receive(&consumer).await?;
    ensure_eq!(text(&first), "k-0", "the first of the key");
    first.abandon();
    for i in 0..3 {
        let delivery = cx
            .receive_within(&consumer, cx.lease() + cx.patience())
            .await?;
        ensure_eq!(text(&delivery), format!("k-{i}"), "message {i}");
        delivery.ack().await?;
    }
    Ok(())
}

async fn order_holds_across_consumers(cx: Context) -> CaseResult {
    const KEYS: usize = 3;
    const EACH: usize = 6;
    let queue = cx.queue().await?;
    let producer = queue.producer().await?;
    let messages: Vec<_> = (0..KEYS * EACH)
        .map(|i| keyed(&format!("k{}", i % KEYS), i / KEYS))
        .collect();
    for result in producer.send_batch(&messages).await {
        result?;
    }
    let done: Mutex<BTreeMap<String, Vec<String>>> = Mutex::default();
    let count = || -> usize {
        let done = done.lock().unwrap_or_else(PoisonError::into_inner);
        done.values().map(Vec::len).sum()
    };
    let deadline = Instant::now() + cx.patience() * 2;
    let consume = async || {
        let consumer = queue.consumer().await?;
        while count() < KEYS * EACH && Instant::now() < deadline {
            for delivery in consumer.receive_batch(2, cx.slack() / 2).await? {
                let key = delivery.envelope().message.ordering_key();
                let key = key.unwrap_or("none").to_owned();
                // Time for another consumer to overtake, if it can.
                sleep(Duration::from_millis(5)).await;
                done.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(key)
                    .or_default()
                    .push(text(&delivery));
                delivery.ack().await?;
            }
        }
        Ok::<_, CaseError>(())
    };
    tokio::try_join!(consume(), consume())?;
    let done = done.lock().unwrap_or_else(PoisonError::into_inner);
    for key in 0..KEYS {
        let name = format!("k{key}");
        let wanted: Vec<_> = (0..EACH).map(|i| format!("{name}-{i}")).collect();
        ensure_eq!(done.get(&name), Some(&wanted), "the work on key {name}");
    }
    Ok(())
}
