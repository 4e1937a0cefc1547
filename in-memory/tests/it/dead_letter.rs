//! Dead letters that the queue moves itself.

use std::time::Duration;

use tokio::time::sleep;
use towpath_core::{FailureClass, Message};

use crate::support::{LEASE, SECOND, halves, open, registry, take, take_one};

#[tokio::test(start_paused = true)]
async fn a_message_that_was_delivered_too_often_is_moved_once_with_all_its_parts() {
    let queue = open("memory://q?dead_letter=dlq&max_deliveries=3");
    let (producer, consumer) = halves(&queue).await;
    let dead_letters = queue.dead_letter().unwrap().unwrap();
    let parked = dead_letters.consumer().await.unwrap();
    let message = Message::new(vec![1, 255])
        .with_attribute("a", "1")
        .with_ordering_key("k");
    let id = producer.send(message.clone()).await.unwrap();
    take_one(&consumer)
        .await
        .nack(Duration::ZERO)
        .await
        .unwrap();
    take_one(&consumer).await.nack(SECOND).await.unwrap();
    sleep(SECOND).await;
    assert!(take(&parked, 10).await.is_empty());
    take_one(&consumer).await.abandon();
    sleep(LEASE).await;
    assert!(take(&consumer, 10).await.is_empty());

    let dead = take_one(&parked).await;
    let moved = &dead.envelope().message;
    assert_eq!(moved.body(), message.body());
    assert_eq!(moved.attributes(), message.attributes());
    assert_eq!(moved.idempotency_key(), message.idempotency_key());
    assert_eq!(moved.ordering_key(), Some("k"));
    assert_eq!(dead.attempt(), Some(1), "it is counted anew");
    let failure = moved.failure().unwrap();
    assert_eq!(failure.class, FailureClass::AttemptsExhausted);
    assert!(failure.reason.contains("moved by the queue"), "{failure:?}");
    assert_eq!(failure.attempts, 3);
    assert_eq!(failure.queue, "q");
    assert_eq!(failure.message_id, id.to_string());
    assert_eq!(failure.ordering_key.as_deref(), Some("k"));
    assert!(failure.first_sent_ms.unwrap() < failure.failed_ms);
    assert!(take(&parked, 10).await.is_empty(), "moved once");
}

#[tokio::test(start_paused = true)]
async fn a_moved_message_frees_its_ordering_key() {
    let (producer, consumer) = halves(&open("memory://q?dead_letter=dlq&max_deliveries=1")).await;
    for body in ["1", "2"] {
        let message = Message::new(body).with_ordering_key("k");
        producer.send(message).await.unwrap();
    }
    take_one(&consumer)
        .await
        .nack(Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(take_one(&consumer).await.body(), "2");
}

#[tokio::test(start_paused = true)]
async fn the_backstop_lies_well_above_the_consumer_s_own_limit() {
    let queue = open("memory://q?dead_letter=dlq&max_attempts=5");
    let admin = queue.admin().await.unwrap();
    let consumer = queue.consumer().await.unwrap();
    let policy = admin.inspect().await.unwrap().dead_letter.unwrap();
    assert_eq!((policy.queue.as_str(), policy.max_deliveries), ("dlq", 10));
    assert!(consumer.capabilities().broker_dead_letter);
    let none = open("memory://q?dead_letter=dlq");
    assert!(
        !none
            .consumer()
            .await
            .unwrap()
            .capabilities()
            .broker_dead_letter
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_queue_that_was_deleted_is_made_again_and_loses_nothing() {
    let queue = open("memory://q?dead_letter=dlq&max_deliveries=1");
    let (producer, consumer) = halves(&queue).await;
    let dead_letters = queue.dead_letter().unwrap().unwrap();
    dead_letters.admin().await.unwrap().delete().await.unwrap();
    producer.send("x").await.unwrap();
    take_one(&consumer)
        .await
        .nack(Duration::ZERO)
        .await
        .unwrap();
    let parked = dead_letters.consumer().await.unwrap();
    assert_eq!(take_one(&parked).await.body(), "x");
}

#[tokio::test(start_paused = true)]
async fn queues_that_are_each_other_s_dead_letter_queue_pass_a_message_on() {
    let registry = registry();
    let a = registry
        .open("memory://a?dead_letter=b&max_deliveries=1")
        .unwrap();
    let b = registry
        .open("memory://b?dead_letter=a&max_deliveries=1")
        .unwrap();
    let (producer, from_a) = halves(&a).await;
    let from_b = b.consumer().await.unwrap();
    producer.send("x").await.unwrap();
    take_one(&from_a).await.nack(Duration::ZERO).await.unwrap();
    take_one(&from_b).await.nack(Duration::ZERO).await.unwrap();
    let back = take_one(&from_a).await;
    let failure = back.envelope().message.failure().unwrap();
    assert_eq!(failure.queue, "b");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_queue_has_the_profile_of_its_source() {
    let queue = open("memory://q?profile=sqs-fifo&dead_letter=dlq&max_attempts=5");
    queue.consumer().await.unwrap();
    let dead_letters = queue.dead_letter().unwrap().unwrap();
    let info = dead_letters.admin().await.unwrap().inspect().await.unwrap();
    assert_eq!(info.settings["profile"], "sqs-fifo");
    assert!(info.ordered);
}
