//! Waiting receivers: woken at once, never lost, safe to cancel.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use towpath_core::Message;

use crate::support::{LEASE, SECOND, halves, open, take, take_one};

#[tokio::test(start_paused = true)]
async fn an_empty_queue_is_waited_for_and_no_longer() {
    let (_producer, consumer) = halves(&open("memory://q")).await;
    let begun = Instant::now();
    let none = consumer.receive_batch(10, 5 * SECOND).await.unwrap();
    assert!(none.is_empty());
    assert_eq!(begun.elapsed(), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn every_waiting_receiver_gets_one_of_the_messages_at_once() {
    let queue = open("memory://q");
    let producer = queue.producer().await.unwrap();
    let begun = Instant::now();
    let mut waiting = JoinSet::new();
    for _ in 0..16 {
        let consumer = queue.consumer().await.unwrap();
        waiting.spawn(async move {
            let delivery = consumer.receive().await.unwrap();
            delivery.ack().await.unwrap();
        });
    }
    sleep(SECOND).await;
    let messages: Vec<Message> = (0..16).map(|i| Message::new(i.to_string())).collect();
    for result in producer.send_batch(&messages).await {
        result.unwrap();
    }
    waiting.join_all().await;
    assert_eq!(begun.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_wakes_for_a_delay_although_the_one_that_watched_it_went_away() {
    let queue = open("memory://q");
    let (producer, consumer) = halves(&queue).await;
    let begun = Instant::now();
    let mut waiting = JoinSet::new();
    for wait in [2, 4, 100] {
        let consumer = queue.consumer().await.unwrap();
        waiting.spawn(async move {
            let got = consumer.receive_batch(1, wait * SECOND).await.unwrap();
            let count = got.len();
            for result in consumer.ack_batch(got).await {
                result.unwrap();
            }
            count
        });
    }
    sleep(SECOND).await;
    let late = Message::new("x").with_delay(9 * SECOND);
    producer.send(late).await.unwrap();
    let counts = waiting.join_all().await;
    assert_eq!(counts.iter().sum::<usize>(), 1);
    assert_eq!(begun.elapsed(), 10 * SECOND);
    assert!(take(&consumer, 1).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_receiver_wakes_for_an_earlier_event_than_the_one_it_waits_for() {
    let queue = open("memory://q");
    let (producer, consumer) = halves(&queue).await;
    let begun = Instant::now();
    let delayed = |body: &'static str, delay| Message::new(body).with_delay(delay * SECOND);
    producer.send(delayed("later", 60)).await.unwrap();
    let waiting = tokio::spawn(async move { consumer.receive().await.unwrap().body().clone() });
    sleep(SECOND).await;
    producer.send(delayed("sooner", 4)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), "sooner");
    assert_eq!(begun.elapsed(), 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_receive_strands_no_message_and_loses_no_wake_up() {
    let queue = open("memory://q");
    let (producer, consumer) = halves(&queue).await;
    let other = queue.consumer().await.unwrap();
    let staying = tokio::spawn(async move {
        let delivery = other.receive().await.unwrap();
        delivery.ack().await.unwrap();
    });
    // Waits longest, so it is the first to be woken, and is cancelled in the same instant.
    let mut leaving = Box::pin(consumer.receive());
    assert!(timeout(SECOND, &mut leaving).await.is_err());
    let begun = Instant::now();
    producer.send("x").await.unwrap();
    drop(leaving);
    timeout(SECOND, staying).await.unwrap().unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn receives_that_are_cancelled_at_any_time_lose_nothing() {
    let queue = open("memory://q?prefetch=0");
    let (producer, consumer) = halves(&queue).await;
    let sending = tokio::spawn(async move {
        for i in 0..300 {
            let message = Message::new(i.to_string());
            let message = if i % 3 == 0 {
                message.with_delay(Duration::from_millis(i % 40))
            } else {
                message
            };
            producer.send(message).await.unwrap();
            sleep(Duration::from_millis(3)).await;
        }
    });
    let mut received = 0;
    let mut random = fastrand::Rng::with_seed(3);
    while received < 300 {
        let patience = Duration::from_micros(random.u64(..4_000));
        if let Ok(delivery) = timeout(patience, consumer.receive()).await {
            let delivery = delivery.unwrap();
            assert_eq!(delivery.attempt(), Some(1));
            delivery.ack().await.unwrap();
            received += 1;
        }
    }
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_receiver_sees_the_lease_of_another_run_out() {
    let queue = open("memory://q");
    let (producer, crashing) = halves(&queue).await;
    let idle = queue.consumer().await.unwrap();
    let waiting = tokio::spawn(async move {
        let again = idle.receive().await.unwrap();
        assert_eq!(again.attempt(), Some(2));
        again.ack().await.unwrap();
    });
    sleep(SECOND).await;
    // The sent message would wake the idle receiver; so it is taken before that task runs.
    producer.send("x").await.unwrap();
    let begun = Instant::now();
    take_one(&crashing).await.abandon();
    waiting.await.unwrap();
    assert_eq!(begun.elapsed(), LEASE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_comes_twice_with_four_producers_and_four_consumers() {
    let queue = open("memory://q");
    let mut tasks = JoinSet::new();
    let received = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    for p in 0..4 {
        let producer = queue.producer().await.unwrap();
        tasks.spawn(async move {
            for i in 0..500 {
                producer.send(format!("{p}-{i}")).await.unwrap();
            }
        });
        let (consumer, received) = (queue.consumer().await.unwrap(), received.clone());
        tasks.spawn(async move {
            while received.lock().unwrap().len() < 2_000 {
                let batch = consumer
                    .receive_batch(3, Duration::from_millis(50))
                    .await
                    .unwrap();
                let bodies: Vec<_> = batch.iter().map(|d| d.body().clone()).collect();
                for result in consumer.ack_batch(batch).await {
                    result.unwrap();
                }
                received.lock().unwrap().extend(bodies);
            }
        });
    }
    tasks.join_all().await;
    let mut received = received.lock().unwrap().clone();
    assert_eq!(received.len(), 2_000);
    received.sort();
    received.dedup();
    assert_eq!(received.len(), 2_000);
}
