//! Creating, inspecting, counting, purging.

use tokio::time::sleep;
use towpath_core::{EnsureMode, ErrorKind, Message, QueueSpec};

use crate::support::{SECOND, halves, open, take, take_one};

#[tokio::test(start_paused = true)]
async fn ensure_creates_what_is_planned_and_then_finds_nothing_to_do() {
    let queue = open("memory://q?create=false");
    let admin = queue.admin().await.unwrap();
    let spec = QueueSpec::new()
        .with_lease(12 * SECOND)
        .with_ordering()
        .with_exactly_once()
        .with_dead_letter("dlq", 7);
    let planned = admin.ensure(&spec, EnsureMode::Plan).await.unwrap();
    let settings: Vec<_> = planned.iter().map(|c| c.setting.as_str()).collect();
    assert_eq!(settings, ["queue q", "queue dlq"]);
    let error = admin.inspect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "a plan changes nothing");
    let done = admin.ensure(&spec, EnsureMode::Create).await.unwrap();
    assert_eq!(done, planned);
    for mode in [EnsureMode::Plan, EnsureMode::Create, EnsureMode::Apply] {
        assert_eq!(admin.ensure(&spec, mode).await.unwrap(), []);
    }
    let info = admin.inspect().await.unwrap();
    assert_eq!(info.lease, Some(12 * SECOND));
    assert!(info.ordered && info.exactly_once && info.warnings.is_empty());
    let policy = info.dead_letter.unwrap();
    assert_eq!((policy.queue.as_str(), policy.max_deliveries), ("dlq", 7));
    queue.consumer().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_live_queue_is_changed_only_when_the_change_is_applied() {
    let queue = open("memory://q");
    let admin = queue.admin().await.unwrap();
    queue.producer().await.unwrap();
    let spec = QueueSpec::new()
        .with_lease(12 * SECOND)
        .with_dead_letter("dlq", 7);
    let planned = admin.ensure(&spec, EnsureMode::Plan).await.unwrap();
    assert_eq!(planned.len(), 3, "{planned:?}");
    let error = admin.ensure(&spec, EnsureMode::Create).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    let text = error.to_string();
    assert!(text.contains("30s") && text.contains("12s"), "{text}");
    let before = admin.inspect().await.unwrap();
    assert_eq!(before.lease, Some(30 * SECOND));
    assert_eq!(
        admin.ensure(&spec, EnsureMode::Apply).await.unwrap(),
        planned
    );
    let after = admin.inspect().await.unwrap();
    assert_eq!(after.lease, Some(12 * SECOND));
    assert_eq!(after.dead_letter.unwrap().max_deliveries, 7);
}

#[tokio::test(start_paused = true)]
async fn what_the_profile_cannot_do_is_refused() {
    let kind = async |url: &str, spec: QueueSpec| {
        let admin = open(url).admin().await.unwrap();
        let result = admin.ensure(&spec, EnsureMode::Create).await;
        result.map_err(|error| error.kind())
    };
    let unsupported = Err(ErrorKind::Unsupported);
    let spec = QueueSpec::new();
    let ordered = spec.clone().with_ordering();
    let once = spec.clone().with_exactly_once();
    assert_eq!(
        kind("memory://q?profile=sqs", ordered.clone()).await,
        unsupported
    );
    assert_eq!(
        kind("memory://q?profile=sqs", once.clone()).await,
        unsupported
    );
    let kept = spec.with_retention(SECOND);
    assert_eq!(kind("memory://q", kept).await, unsupported);
    assert!(
        kind("memory://q?profile=sqs-fifo", ordered.clone())
            .await
            .is_ok()
    );

    let queue = open("memory://q?profile=pubsub&create=false");
    let admin = queue.admin().await.unwrap();
    let both = ordered.with_exactly_once();
    admin.ensure(&both, EnsureMode::Create).await.unwrap();
    let info = admin.inspect().await.unwrap();
    assert_eq!(info.settings["profile"], "pubsub-exactly-once");
    assert!(info.ordered && info.exactly_once);
    assert_eq!(admin.ensure(&both, EnsureMode::Plan).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn the_depth_is_exact_in_every_state() {
    let queue = open("memory://q");
    let (producer, consumer) = halves(&queue).await;
    let admin = queue.admin().await.unwrap();
    let counts = async || {
        let depth = admin.depth().await.unwrap();
        let age = depth.oldest_age.map(|age| age.as_secs());
        (depth.ready, depth.leased, depth.delayed, age)
    };
    assert_eq!(counts().await, (0, 0, 0, None));
    producer.send("1").await.unwrap();
    sleep(2 * SECOND).await;
    let keyed = |body: &'static str| Message::new(body).with_ordering_key("k");
    for message in [
        Message::new("2"),
        Message::new("3").with_delay(10 * SECOND),
        keyed("4"),
        keyed("5").with_delay(5 * SECOND),
        keyed("6"),
    ] {
        producer.send(message).await.unwrap();
    }
    assert_eq!(counts().await, (4, 0, 2, Some(2)));
    let held = take(&consumer, 3).await;
    assert_eq!(counts().await, (1, 3, 2, Some(2)));
    sleep(5 * SECOND).await;
    assert_eq!(counts().await, (2, 3, 1, Some(7)));
    for result in consumer.ack_batch(held).await {
        result.unwrap();
    }
    assert_eq!(counts().await, (2, 0, 1, Some(5)));
    let five = take_one(&consumer).await;
    five.nack(60 * SECOND).await.unwrap();
    assert_eq!(counts().await, (1, 0, 2, Some(5)));
    assert!(take(&consumer, 10).await.is_empty(), "the key waits");
}

#[tokio::test(start_paused = true)]
async fn a_purge_removes_everything_and_late_settlements_are_refused() {
    let queue = open("memory://q");
    let (producer, consumer) = halves(&queue).await;
    let admin = queue.admin().await.unwrap();
    for message in [
        Message::new("1"),
        Message::new("2"),
        Message::new("3").with_delay(10 * SECOND),
        Message::new("4").with_ordering_key("k"),
        Message::new("5").with_ordering_key("k").with_delay(SECOND),
    ] {
        producer.send(message).await.unwrap();
    }
    let held = take_one(&consumer).await;
    admin.purge().await.unwrap();
    assert_eq!(admin.depth().await.unwrap().total(), 0);
    let error = held.ack().await.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::LeaseLost);
    sleep(100 * SECOND).await;
    assert!(take(&consumer, 10).await.is_empty());
    producer
        .send(Message::new("6").with_ordering_key("k"))
        .await
        .unwrap();
    assert_eq!(take_one(&consumer).await.body(), "6");
}
