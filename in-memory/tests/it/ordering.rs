//! Ordering keys: in order, one at a time, and one key does not block another.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use towpath_core::{Message, Producer};

use crate::support::{LEASE, SECOND, bodies, body, halves, open, take, take_one};

async fn send(producer: &Producer, pairs: &[(&str, &str)]) {
    let messages: Vec<Message> = pairs
        .iter()
        .map(|(key, body)| Message::new(body.to_string()).with_ordering_key(*key))
        .collect();
    for result in producer.send_batch(&messages).await {
        result.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_has_one_message_unsettled_and_the_others_go_on() {
    let (producer, consumer) = halves(&open("memory://q")).await;
    send(
        &producer,
        &[
            ("a", "a1"),
            ("a", "a2"),
            ("b", "b1"),
            ("a", "a3"),
            ("b", "b2"),
        ],
    )
    .await;
    let first = take(&consumer, 10).await;
    assert_eq!(bodies(&first), ["a1", "b1"]);
    assert!(take(&consumer, 10).await.is_empty(), "both keys are locked");
    let [a1, b1] = <[_; 2]>::try_from(first).unwrap();
    b1.ack().await.unwrap();
    let b2 = take_one(&consumer).await;
    assert_eq!(body(&b2), "b2");
    a1.ack().await.unwrap();
    assert_eq!(bodies(&take(&consumer, 10).await), ["a2"]);
}

#[tokio::test(start_paused = true)]
async fn a_nacked_message_comes_again_before_the_later_ones_of_its_key() {
    let (producer, consumer) = halves(&open("memory://q")).await;
    send(&producer, &[("a", "a1"), ("a", "a2"), ("b", "b1")]).await;
    let a1 = take_one(&consumer).await;
    a1.nack(20 * SECOND).await.unwrap();
    let b1 = take_one(&consumer).await;
    assert_eq!(body(&b1), "b1", "another key is not held up by the delay");
    b1.ack().await.unwrap();
    let begun = Instant::now();
    let again = consumer.receive().await.unwrap();
    assert_eq!((body(&again).as_str(), again.attempt()), ("a1", Some(2)));
    assert_eq!(begun.elapsed(), 20 * SECOND);
    again.ack().await.unwrap();
    assert_eq!(body(&take_one(&consumer).await), "a2");
}

#[tokio::test(start_paused = true)]
async fn an_expired_message_comes_again_before_the_later_ones_of_its_key() {
    let (producer, consumer) = halves(&open("memory://q")).await;
    send(&producer, &[("a", "a1"), ("a", "a2")]).await;
    take_one(&consumer).await.abandon();
    sleep(LEASE).await;
    let again = take(&consumer, 10).await;
    assert_eq!(bodies(&again), ["a1"]);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_holds_up_the_later_ones_of_its_key_only() {
    let (producer, consumer) = halves(&open("memory://q")).await;
    let late = Message::new("a1")
        .with_ordering_key("a")
        .with_delay(10 * SECOND);
    producer.send(late).await.unwrap();
    send(&producer, &[("a", "a2"), ("b", "b1")]).await;
    let b1 = take(&consumer, 10).await;
    assert_eq!(bodies(&b1), ["b1"]);
    sleep(10 * SECOND).await;
    let a1 = take_one(&consumer).await;
    assert_eq!(body(&a1), "a1");
    a1.ack().await.unwrap();
    assert_eq!(body(&take_one(&consumer).await), "a2");
}

#[tokio::test(start_paused = true)]
async fn a_settled_key_wakes_a_waiting_receiver() {
    let (producer, consumer) = halves(&open("memory://q")).await;
    send(&producer, &[("a", "a1"), ("a", "a2")]).await;
    let a1 = take_one(&consumer).await;
    let waiting = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.receive().await }
    });
    sleep(SECOND).await;
    let begun = Instant::now();
    a1.ack().await.unwrap();
    let a2 = waiting.await.unwrap().unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert_eq!(body(&a2), "a2");
}

#[tokio::test(start_paused = true)]
async fn keyed_and_other_messages_share_the_queue_in_the_order_of_sending() {
    let (producer, consumer) = halves(&open("memory://q")).await;
    producer.send("x1").await.unwrap();
    send(&producer, &[("a", "a1")]).await;
    producer.send("x2").await.unwrap();
    send(&producer, &[("b", "b1")]).await;
    let all = take(&consumer, 10).await;
    assert_eq!(bodies(&all), ["x1", "a1", "x2", "b1"]);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_keys_stay_in_order_with_four_consumers_that_fail_now_and_then() {
    let queue = open("memory://q");
    let producer = queue.producer().await.unwrap();
    let messages: Vec<Message> = (0..2_000)
        .map(|i| Message::new(i.to_string()).with_ordering_key(format!("k{}", i % 100)))
        .collect();
    for result in producer.send_batch(&messages).await {
        result.unwrap();
    }
    let mut tasks = tokio::task::JoinSet::new();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(std::collections::BTreeMap::new()));
    for worker in 0..4u64 {
        let (consumer, seen) = (queue.consumer().await.unwrap(), seen.clone());
        tasks.spawn(async move {
            let mut random = fastrand::Rng::with_seed(worker);
            loop {
                let batch = consumer.receive_batch(7, 60 * SECOND).await.unwrap();
                if batch.is_empty() {
                    return;
                }
                for delivery in batch {
                    match random.u8(..10) {
                        0 => delivery.abandon(),
                        1 => delivery.nack(random.u32(..5) * SECOND).await.unwrap(),
                        2 => drop(delivery),
                        _ => {
                            let number: u32 = body(&delivery).parse().unwrap();
                            let key = delivery
                                .envelope()
                                .message
                                .ordering_key()
                                .unwrap()
                                .to_owned();
                            // Noted before the ack, which lets the next one of the key go.
                            seen.lock()
                                .unwrap()
                                .entry(key)
                                .or_insert_with(Vec::new)
                                .push(number);
                            delivery.ack().await.unwrap();
                        }
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 100);
    for (key, numbers) in &*seen {
        assert_eq!(numbers.len(), 20, "{key}");
        assert!(numbers.is_sorted(), "{key}: {numbers:?}");
    }
}
