//! Profiles: a queue has the limits and guarantees of the cloud that it stands in for.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::time::sleep;
use towpath_core::{
    AckStatus, Attempts, ErrorKind, Lease, Message, Precision, Validation,
    driver::{Backend, Consumer, Producer, Receipt},
};
use towpath_memory::MemoryBackend;

use crate::support::{SECOND, bodies, halves, open, take, take_one};

async fn drivers(url: &str) -> (Arc<dyn Producer>, Arc<dyn Consumer>) {
    let backend = MemoryBackend::new();
    let config = url.parse().unwrap();
    (
        backend.producer(&config).await.unwrap(),
        backend.consumer(&config).await.unwrap(),
    )
}

async fn send(producer: &Arc<dyn Producer>, message: Message) -> Option<ErrorKind> {
    let result = producer.send(&[message]).await.pop().unwrap();
    result.err().map(|error| error.kind())
}

async fn lease(consumer: &Arc<dyn Consumer>) -> Receipt {
    let mut received = consumer
        .receive(NonZeroUsize::MIN, Duration::ZERO)
        .await
        .unwrap();
    received.pop().expect("a message is ready").receipt
}

#[tokio::test(start_paused = true)]
async fn each_profile_claims_what_its_cloud_gives() {
    use AckStatus::{Confirmed, Submitted};
    use Attempts::{Approximate, Exact, Uncounted};
    let table = [
        ("strict", true, true, Exact, Confirmed, Precision::Exact),
        (
            "sqs",
            false,
            false,
            Approximate,
            Submitted,
            Precision::Approximate,
        ),
        (
            "sqs-fifo",
            true,
            true,
            Approximate,
            Confirmed,
            Precision::Approximate,
        ),
        (
            "pubsub",
            false,
            false,
            Uncounted,
            Submitted,
            Precision::Unknown,
        ),
        (
            "pubsub-ordered",
            true,
            false,
            Uncounted,
            Submitted,
            Precision::Unknown,
        ),
        (
            "pubsub-exactly-once",
            false,
            false,
            Uncounted,
            Confirmed,
            Precision::Unknown,
        ),
    ];
    for (profile, ordering, dedup, attempts, ack, depth) in table {
        let queue = open(&format!("memory://q?profile={profile}"));
        let consumer = queue.consumer().await.unwrap();
        let capabilities = consumer.capabilities();
        assert_eq!(capabilities.ordering, ordering, "{profile}");
        assert_eq!(capabilities.dedup_window.is_some(), dedup, "{profile}");
        assert_eq!(capabilities.attempts, attempts, "{profile}");
        assert_eq!(capabilities.ack, ack, "{profile}");
        assert_eq!(capabilities.depth, depth, "{profile}");
        assert_eq!(capabilities.oldest_age, profile == "strict", "{profile}");
        assert!(capabilities.cancel_safe_receive && !capabilities.gather);
        let admin = queue.admin().await.unwrap();
        let depth_kind = admin.depth().await.map_err(|error| error.kind());
        assert_eq!(
            depth_kind.is_err(),
            depth == Precision::Unknown,
            "{profile}: {depth_kind:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_claimed_is_refused_by_the_driver_too() {
    use ErrorKind::{InvalidMessage, TooLarge, Unsupported};
    let long = 901 * SECOND;
    let table = [
        ("sqs", Message::new(""), Some(InvalidMessage)),
        (
            "sqs",
            Message::new("x").with_ordering_key("k"),
            Some(Unsupported),
        ),
        (
            "sqs",
            Message::new("x").with_dedup_id("d"),
            Some(Unsupported),
        ),
        ("sqs", Message::new("x").with_delay(long), Some(Unsupported)),
        ("sqs", Message::new("x").with_delay(900 * SECOND), None),
        (
            "sqs",
            Message::new(vec![b'x'; 1_024 * 1_024]),
            Some(TooLarge),
        ),
        ("sqs", Message::new(vec![b'x'; 1_024 * 1_024 - 1_037]), None),
        ("sqs", Message::new(vec![0xff; 800_000]), Some(TooLarge)),
        ("sqs", Message::new(vec![0xff; 700_000]), None),
        ("sqs", attributes(9), None),
        ("sqs", attributes(10), Some(InvalidMessage)),
        (
            "sqs",
            Message::new("x").with_attribute("a b", "1"),
            Some(InvalidMessage),
        ),
        (
            "sqs",
            Message::new("x").with_attribute("AWS.x", "1"),
            Some(InvalidMessage),
        ),
        (
            "sqs",
            Message::new("x").with_attribute("a", ""),
            Some(InvalidMessage),
        ),
        (
            "sqs",
            Message::new("x").with_attribute("a", "\u{1}"),
            Some(InvalidMessage),
        ),
        (
            "sqs-fifo",
            Message::new("x").with_delay(SECOND),
            Some(Unsupported),
        ),
        (
            "sqs-fifo",
            Message::new("x").with_ordering_key("k".repeat(129)),
            Some(InvalidMessage),
        ),
        (
            "sqs-fifo",
            Message::new("x").with_ordering_key("k").with_dedup_id("d"),
            None,
        ),
        ("pubsub", Message::new(""), None),
        (
            "pubsub",
            Message::new("x").with_delay(SECOND),
            Some(Unsupported),
        ),
        (
            "pubsub",
            Message::new("x").with_ordering_key("k"),
            Some(Unsupported),
        ),
        (
            "pubsub",
            Message::new("x").with_dedup_id("d"),
            Some(Unsupported),
        ),
        ("pubsub", Message::new(vec![0; 10_000_000]), Some(TooLarge)),
        (
            "pubsub",
            Message::new("x").with_attribute("googx", "1"),
            Some(InvalidMessage),
        ),
        (
            "pubsub",
            Message::new("x").with_attribute("a", "v".repeat(1_025)),
            Some(InvalidMessage),
        ),
        ("pubsub", attributes(99), None),
        ("pubsub", attributes(100), Some(InvalidMessage)),
        (
            "pubsub-ordered",
            Message::new("x").with_ordering_key("k"),
            None,
        ),
        (
            "strict",
            Message::new("x").with_delay(SECOND * 86_400 * 30),
            None,
        ),
        (
            "strict",
            Message::new("x").with_delay(SECOND * 86_400 * 31),
            Some(Unsupported),
        ),
        (
            "strict&ordered=false",
            Message::new("x").with_ordering_key("k"),
            Some(Unsupported),
        ),
    ];
    for (profile, message, refused) in table {
        let (producer, _) = drivers(&format!("memory://q?profile={profile}")).await;
        let shown = format!("{profile} {message:?}");
        assert_eq!(send(&producer, message).await, refused, "{shown}");
    }
}

fn attributes(count: usize) -> Message {
    Message::new("x").with_attributes((0..count).map(|i| (format!("a{i}"), "v")).collect())
}

#[tokio::test(start_paused = true)]
async fn batches_beyond_the_cloud_s_are_refused_by_the_driver_and_split_by_the_producer() {
    let (producer, consumer) = drivers("memory://q?profile=sqs").await;
    let eleven: Vec<Message> = (0..11).map(|i| Message::new(i.to_string())).collect();
    let results = producer.send(&eleven).await;
    assert_eq!(results.len(), 11);
    assert!(results.iter().all(Result::is_err));
    let large: Vec<Message> = (0..2).map(|_| vec![b'x'; 600_000].into()).collect();
    let results = producer.send(&large).await;
    let kind = results[1].as_ref().unwrap_err().kind();
    assert_eq!(kind, ErrorKind::TooLarge);
    let receipts = vec![Receipt::token(0, 0); 11];
    for results in [
        consumer.ack(&receipts).await,
        consumer.nack(&receipts, Duration::ZERO).await,
        consumer.extend(&receipts, SECOND).await,
    ] {
        assert_eq!(results.len(), 11);
        assert!(results.iter().all(Result::is_err));
    }

    let (producer, consumer) = halves(&open("memory://q?profile=sqs")).await;
    for result in producer.send_batch(&eleven).await {
        result.unwrap();
    }
    let ten = take(&consumer, 100).await;
    assert_eq!(ten.len(), 10);
    for result in consumer.ack_batch(ten).await {
        assert_eq!(result.unwrap(), AckStatus::Submitted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_ack_is_refused_or_deletes_nothing() {
    for (profile, late_ack, late_nack) in [
        ("strict", false, false),
        ("sqs", true, false),
        ("sqs-fifo", false, false),
        ("pubsub", true, true),
        ("pubsub-exactly-once", false, false),
    ] {
        let (producer, consumer) = drivers(&format!("memory://q?profile={profile}")).await;
        send(&producer, "x".into()).await;
        let late = [lease(&consumer).await];
        sleep(SECOND * 3_600).await;
        let present = [lease(&consumer).await];
        assert_eq!(consumer.ack(&late).await[0].is_ok(), late_ack, "{profile}");
        let nacked = consumer.nack(&late, Duration::ZERO).await;
        assert_eq!(nacked[0].is_ok(), late_nack, "{profile}");
        assert!(consumer.extend(&late, 10 * SECOND).await[0].is_err());
        consumer.nack(&present, Duration::ZERO).await[0]
            .clone()
            .unwrap();
        lease(&consumer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nack_delays_and_leases_keep_to_the_cloud_s_limits() {
    for (profile, longest) in [
        ("sqs", 43_200),
        ("pubsub", 7 * 86_400),
        ("pubsub-exactly-once", 7 * 86_400),
        ("pubsub-exactly-once&ordered=true", 600),
        ("pubsub-ordered", 600),
        ("strict", 30 * 86_400),
    ] {
        let (producer, consumer) = drivers(&format!("memory://q?profile={profile}")).await;
        send(&producer, "x".into()).await;
        let receipt = [lease(&consumer).await];
        let beyond = consumer.nack(&receipt, (longest + 1) * SECOND).await;
        let kind = beyond[0].as_ref().unwrap_err().kind();
        assert_eq!(kind, ErrorKind::Unsupported, "{profile}");
        let within = consumer.nack(&receipt, longest * SECOND).await;
        within[0].as_ref().unwrap();
    }
    let (producer, consumer) = drivers("memory://q?profile=sqs").await;
    send(&producer, "x".into()).await;
    let receipt = [lease(&consumer).await];
    sleep(SECOND).await;
    let kind = async |lease: Duration| {
        let result = consumer.extend(&receipt, lease).await.pop().unwrap();
        result.map_err(|error| error.kind())
    };
    assert_eq!(kind(Duration::ZERO).await, Err(ErrorKind::Unsupported));
    assert_eq!(
        kind(43_200 * SECOND).await,
        Err(ErrorKind::Unsupported),
        "12 h in total, counted from the receive"
    );
    assert_eq!(kind(43_199 * SECOND).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn pubsub_keeps_leases_itself_and_counts_attempts_with_a_policy_only() {
    let (producer, consumer) = drivers("memory://q?profile=pubsub&max_lease=20m").await;
    let expected = Lease::Managed {
        max_total: 1_200 * SECOND,
    };
    assert_eq!(consumer.capabilities().lease, expected);
    send(&producer, "x".into()).await;
    let receipt = [lease(&consumer).await];
    let extended = consumer.extend(&receipt, 60 * SECOND).await;
    let kind = extended[0].as_ref().unwrap_err().kind();
    assert_eq!(kind, ErrorKind::Unsupported);
    let one = NonZeroUsize::MIN;
    sleep(1_199 * SECOND).await;
    assert!(
        consumer
            .receive(one, Duration::ZERO)
            .await
            .unwrap()
            .is_empty()
    );
    sleep(SECOND).await;
    let again = consumer.receive(one, Duration::ZERO).await.unwrap();
    assert_eq!(again[0].envelope.attempt, None);

    let queue = open("memory://q?profile=pubsub&max_attempts=6&dead_letter=d");
    let (producer, consumer) = halves(&queue).await;
    producer.send("x").await.unwrap();
    assert_eq!(take_one(&consumer).await.attempt(), Some(1));
    let refused = open("memory://q?profile=pubsub").config().clone();
    assert_eq!(refused.option("max_attempts"), None);
}

#[tokio::test(start_paused = true)]
async fn any_body_travels_whatever_the_profile() {
    for profile in ["strict", "sqs", "sqs-fifo", "pubsub"] {
        let (producer, consumer) = halves(&open(&format!("memory://q?profile={profile}"))).await;
        let body: Vec<u8> = (0..=255).collect();
        producer.send(body.clone()).await.unwrap();
        assert_eq!(take_one(&consumer).await.body(), &body);
    }
}

#[tokio::test(start_paused = true)]
async fn native_validation_lifts_the_portable_bounds_of_a_strict_queue() {
    let (producer, consumer) = halves(&open("memory://q?validation=native")).await;
    producer.send("").await.unwrap();
    producer.send(attributes(500)).await.unwrap();
    assert_eq!(bodies(&take(&consumer, 10).await), ["", "x"]);
    let portable = open("memory://q");
    assert_eq!(portable.options().validation, Validation::Portable);
    let error = portable
        .producer()
        .await
        .unwrap()
        .send("")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidMessage);
}
