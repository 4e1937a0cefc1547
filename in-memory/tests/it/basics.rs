//! Sending, receiving, settling.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use towpath_core::{AckStatus, ErrorKind, Message};

use crate::support::{LEASE, SECOND, bodies, body, halves, open, take, take_one};

#[tokio::test(start_paused = true)]
async fn what_is_sent_is_received_with_all_its_parts() {
    let (producer, consumer) = halves(&open("memory://q")).await;
    let message = Message::new(vec![0, 255, 7])
        .with_attribute("a", "1")
        .with_ordering_key("k")
        .with_dedup_id("d");
    let id = producer.send(message.clone()).await.unwrap();
    let delivery = take_one(&consumer).await;
    assert_eq!(delivery.envelope().message, message);
    assert_eq!(delivery.envelope().id, id);
    assert_eq!(delivery.attempt(), Some(1));
    assert!(delivery.envelope().sent_at.is_some());
    assert_eq!(delivery.ack().await.unwrap(), AckStatus::Confirmed);
    sleep(LEASE * 3).await;
    assert!(take(&consumer, 10).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn messages_come_in_the_order_of_sending() {
    let (producer, consumer) = halves(&open("memory://q")).await;
    let messages: Vec<Message> = (0..200).map(|i| Message::new(i.to_string())).collect();
    for result in producer.send_batch(&messages).await {
        result.unwrap();
    }
    let deliveries = take(&consumer, 1_000).await;
    let expected: Vec<String> = (0..200).map(|i| i.to_string()).collect();
    assert_eq!(bodies(&deliveries), expected);
    for result in consumer.ack_batch(deliveries).await {
        result.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_leased_message_is_handed_to_nobody_else() {
    let queue = open("memory://q");
    let (producer, first) = halves(&queue).await;
    let second = queue.consumer().await.unwrap();
    producer.send("x").await.unwrap();
    let held = take_one(&first).await;
    sleep(LEASE * 5).await;
    assert!(take(&second, 1).await.is_empty(), "the lease is kept alive");
    assert!(!held.is_lease_lost());
    held.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_expired_lease_brings_the_message_back_with_the_next_attempt() {
    let (producer, consumer) = halves(&open("memory://q")).await;
    producer.send("x").await.unwrap();
    take_one(&consumer).await.abandon();
    let begun = Instant::now();
    let again = consumer.receive().await.unwrap();
    assert_eq!(again.attempt(), Some(2));
    assert_eq!(
        begun.elapsed(),
        LEASE,
        "a waiting receiver wakes at the expiry"
    );
    again.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nack_makes_the_message_visible_again_after_its_delay() {
    let (producer, consumer) = halves(&open("memory://q")).await;
    producer.send("x").await.unwrap();
    take_one(&consumer)
        .await
        .nack(Duration::ZERO)
        .await
        .unwrap();
    let again = take_one(&consumer).await;
    assert_eq!(again.attempt(), Some(2));
    again.nack(7 * SECOND).await.unwrap();
    let begun = Instant::now();
    assert!(take(&consumer, 1).await.is_empty());
    let third = consumer.receive().await.unwrap();
    assert_eq!(third.attempt(), Some(3));
    assert_eq!(begun.elapsed(), 7 * SECOND);
    third.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_is_received_when_its_delay_is_over() {
    let (producer, consumer) = halves(&open("memory://q")).await;
    let begun = Instant::now();
    let late = Message::new("late").with_delay(10 * SECOND);
    producer.send(late).await.unwrap();
    producer.send("now").await.unwrap();
    let now = consumer.receive().await.unwrap();
    assert_eq!(body(&now), "now");
    now.ack().await.unwrap();
    let delivery = consumer.receive().await.unwrap();
    assert_eq!(begun.elapsed(), 10 * SECOND);
    assert_eq!(body(&delivery), "late");
}

#[tokio::test(start_paused = true)]
async fn a_late_settlement_is_refused() {
    let queue = open("memory://q?max_lease=30s");
    let (producer, consumer) = halves(&queue).await;
    producer.send("x").await.unwrap();
    let held = take_one(&consumer).await;
    held.lease_lost().await;
    let other = take_one(&consumer).await;
    let error = held.ack().await.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::LeaseLost);
    other.ack().await.unwrap();
}
