//! Seeded faults.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};
use towpath_core::{ErrorKind, Message, Registry};
use towpath_memory::{Faults, MemoryBackend};

use crate::support::{LEASE, SECOND, bodies, body, halves, open, take, take_one};

#[tokio::test(start_paused = true)]
async fn a_duplicate_has_the_same_idempotency_key() {
    for (profile, same_id) in [("sqs", true), ("strict", false)] {
        let url = format!("memory://q?profile={profile}&faults=duplicate:1");
        let (producer, consumer) = halves(&open(&url)).await;
        producer.send("x").await.unwrap();
        let both = take(&consumer, 10).await;
        let [a, b] = <[_; 2]>::try_from(both).unwrap();
        let key = |d: &towpath_core::Delivery| d.envelope().message.idempotency_key();
        assert_eq!(key(&a), key(&b));
        assert_eq!(a.envelope().id == b.envelope().id, same_id, "{profile}");
        a.ack().await.unwrap();
        b.ack().await.unwrap();
        assert!(take(&consumer, 10).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_deduplication_id_prevents_duplicates() {
    let (producer, consumer) = halves(&open("memory://q?faults=duplicate:1")).await;
    let message = Message::new("x").with_dedup_id("d");
    producer.send(message).await.unwrap();
    assert_eq!(take(&consumer, 10).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn reordering_spares_ordering_keys_and_loses_nothing() {
    let (producer, consumer) = halves(&open("memory://q?faults=reorder:0.5&seed=3")).await;
    let mut expected = Vec::new();
    for i in 10..60 {
        producer.send(i.to_string()).await.unwrap();
        let keyed = Message::new(format!("k{i}")).with_ordering_key("k");
        producer.send(keyed).await.unwrap();
        expected.push(i.to_string());
    }
    let (mut keyed, mut others) = (Vec::new(), Vec::new());
    while let Some(delivery) = take(&consumer, 1).await.pop() {
        let text = body(&delivery);
        if text.starts_with('k') {
            keyed.push(text);
        } else {
            others.push(text);
        }
        delivery.ack().await.unwrap();
    }
    assert!(keyed.is_sorted() && keyed.len() == 50);
    assert!(!others.is_sorted(), "{others:?}");
    others.sort();
    assert_eq!(others, expected);
}

#[tokio::test(start_paused = true)]
async fn throttling_hits_entries_and_the_producer_gets_over_it() {
    let (producer, consumer) = halves(&open("memory://q?faults=throttle:0.3&seed=7")).await;
    let messages: Vec<Message> = (0..100).map(|i| Message::new(i.to_string())).collect();
    let begun = Instant::now();
    for result in producer.send_batch(&messages).await {
        result.unwrap();
    }
    assert!(begun.elapsed() > Duration::ZERO, "some were sent again");
    let all = take(&consumer, 1_000).await;
    assert_eq!(all.len(), 100);
    for result in consumer.ack_batch(all).await {
        result.unwrap();
    }
    sleep(LEASE).await;
    assert!(take(&consumer, 1_000).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lost_ack_is_ok_where_acks_are_submitted_and_the_message_comes_back() {
    let (producer, consumer) = halves(&open("memory://q?profile=sqs&faults=lost_ack:1")).await;
    producer.send("x").await.unwrap();
    take_one(&consumer).await.ack().await.unwrap();
    assert!(take(&consumer, 1).await.is_empty());
    sleep(LEASE).await;
    assert_eq!(take_one(&consumer).await.attempt(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_lost_ack_is_an_error_where_acks_are_confirmed() {
    let (producer, consumer) = halves(&open("memory://q?faults=lost_ack:0.5&seed=1")).await;
    for i in 0..20 {
        producer.send(i.to_string()).await.unwrap();
    }
    for delivery in take(&consumer, 20).await {
        delivery.ack().await.unwrap();
    }
    sleep(LEASE).await;
    assert!(
        take(&consumer, 20).await.is_empty(),
        "what returned Ok stays settled"
    );
    let (producer, consumer) = halves(&open("memory://q?faults=lost_ack:1")).await;
    producer.send("x").await.unwrap();
    let error = take_one(&consumer).await.ack().await.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::Timeout);
}

#[tokio::test(start_paused = true)]
async fn a_lost_ack_of_an_ordered_subscription_replays_the_later_ones_of_the_key() {
    let url = "memory://q?profile=pubsub-ordered&faults=lost_ack:0.25&seed=5&max_lease=10m";
    let (producer, consumer) = halves(&open(url)).await;
    for i in 0..6 {
        let message = Message::new(i.to_string()).with_ordering_key("k");
        producer.send(message).await.unwrap();
    }
    let mut rounds = Vec::new();
    loop {
        let mut round = Vec::new();
        while let Some(delivery) = take(&consumer, 10).await.pop() {
            round.push(body(&delivery));
            delivery.ack().await.unwrap();
        }
        if round.is_empty() {
            break;
        }
        rounds.push(round.concat());
        sleep(600 * SECOND).await;
    }
    assert_eq!(rounds[0], "012345");
    assert!(rounds.len() > 1, "the seed loses an ack");
    for pair in rounds.windows(2) {
        assert!(pair[0].ends_with(&pair[1]), "{rounds:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_send_is_in_the_queue_and_sent_again_with_the_same_key() {
    let (producer, consumer) = halves(&open("memory://q?faults=lost_send:0.5&seed=2")).await;
    for i in 0..10 {
        producer.send(i.to_string()).await.unwrap();
    }
    let mut seen: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for delivery in take(&consumer, 100).await {
        let key = delivery.envelope().message.idempotency_key();
        seen.entry(body(&delivery)).or_default().push(key);
    }
    assert_eq!(seen.len(), 10);
    assert!(seen.values().any(|keys| keys.len() > 1));
    for keys in seen.values() {
        assert!(keys.iter().all(|key| *key == keys[0]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_receive_is_retryable_and_leases_nothing() {
    let (producer, consumer) = halves(&open("memory://q?faults=receive_error:0.5&seed=2")).await;
    producer.send("x").await.unwrap();
    let mut failures = 0;
    loop {
        match consumer.receive().await {
            Ok(delivery) => {
                assert_eq!(delivery.attempt(), Some(1));
                break delivery.ack().await.map(drop).unwrap();
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable);
                failures += 1;
            }
        }
    }
    assert!(failures > 0, "the seed fails at first");
}

#[tokio::test(start_paused = true)]
async fn a_slow_send_takes_longer() {
    let (producer, consumer) = halves(&open("memory://q?faults=slow_send:50ms@1")).await;
    let begun = Instant::now();
    producer.send("x").await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_millis(50));
    assert_eq!(bodies(&take(&consumer, 1).await), ["x"]);
}

#[tokio::test(start_paused = true)]
async fn one_seed_gives_one_history() {
    let run = async |seed: u64| {
        let faults = Faults::new()
            .with_duplicate(0.2)
            .with_reorder(0.2)
            .with_lost_ack(0.2);
        let backend = MemoryBackend::with_faults(faults, seed).unwrap();
        let registry = Registry::new().with(backend);
        let (producer, consumer) = halves(&registry.open("memory://q?profile=sqs").unwrap()).await;
        let mut history = Vec::new();
        for i in 0..40 {
            producer.send(i.to_string()).await.unwrap();
        }
        for _ in 0..3 {
            while let Some(delivery) = take(&consumer, 1).await.pop() {
                history.push((body(&delivery), delivery.attempt()));
                delivery.ack().await.unwrap();
            }
            sleep(LEASE).await;
        }
        history
    };
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
}
