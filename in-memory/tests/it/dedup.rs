//! Deduplication ids.

use tokio::time::sleep;
use towpath_core::Message;

use crate::support::{SECOND, bodies, halves, open, take};

#[tokio::test(start_paused = true)]
async fn a_deduplication_id_is_accepted_once_within_five_minutes() {
    let (producer, consumer) = halves(&open("memory://q")).await;
    let send = |body: &'static str| producer.send(Message::new(body).with_dedup_id("d"));
    let first = send("first").await.unwrap();
    let second = send("second").await.unwrap();
    assert_eq!(first, second, "the answer names the message that is there");
    let all = take(&consumer, 10).await;
    assert_eq!(bodies(&all), ["first"]);
    for result in consumer.ack_batch(all).await {
        result.unwrap();
    }
    sleep(299 * SECOND).await;
    assert_eq!(
        send("third").await.unwrap(),
        first,
        "settled, and known still"
    );
    sleep(SECOND).await;
    let fourth = send("fourth").await.unwrap();
    assert_ne!(fourth, first);
    assert_eq!(bodies(&take(&consumer, 10).await), ["fourth"]);
}

#[tokio::test(start_paused = true)]
async fn messages_without_a_deduplication_id_are_all_accepted() {
    let (producer, consumer) = halves(&open("memory://q?profile=sqs-fifo")).await;
    let same = Message::new("same").with_ordering_key("k");
    producer.send(same.clone()).await.unwrap();
    producer
        .send(same.clone().with_dedup_id("d"))
        .await
        .unwrap();
    producer
        .send(same.clone().with_dedup_id("e"))
        .await
        .unwrap();
    for _ in 0..3 {
        let batch = take(&consumer, 10).await;
        assert_eq!(batch.len(), 1);
        for result in consumer.ack_batch(batch).await {
            result.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_message_does_not_use_up_its_deduplication_id() {
    let (producer, consumer) = halves(&open("memory://q?max_depth=1&send_timeout=1ms")).await;
    producer.send("x").await.unwrap();
    let message = Message::new("y").with_dedup_id("d");
    producer.send(message.clone()).await.unwrap_err();
    for result in consumer.ack_batch(take(&consumer, 10).await).await {
        result.unwrap();
    }
    producer.send(message).await.unwrap();
    assert_eq!(bodies(&take(&consumer, 10).await), ["y"]);
}
