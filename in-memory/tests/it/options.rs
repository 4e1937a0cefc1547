//! Options of the URL: what is refused, and what handles agree on.

use towpath_core::ErrorKind;

use crate::support::{SECOND, open, registry, take_one};

#[tokio::test(start_paused = true)]
async fn a_wrong_url_is_refused_before_anything_is_opened() {
    let wrong = [
        ("memory://q?profil=sqs", "did you mean \"profile\"?"),
        ("memory://q?profile=kafka", "pubsub-ordered"),
        ("memory://q?max_depth=0", "at least one"),
        ("memory://q?max_depth=many", "many"),
        ("memory://q?max_deliveries=5", "dead_letter=NAME"),
        ("memory://q?dead_letter=q", "its own"),
        ("memory://q?dead_letter=a/b", "letters"),
        (
            "memory://q?dead_letter=d&max_attempts=5&max_deliveries=4",
            "max_attempts=5",
        ),
        (
            "memory://q?profile=pubsub&dead_letter=d&max_deliveries=4",
            "5 to 100",
        ),
        ("memory://q?profile=pubsub&lease=5s", "10s to 10m"),
        ("memory://q?profile=sqs&lease=13h", "12h"),
        ("memory://q?profile=sqs&ordered=true", "has no"),
        ("memory://q?profile=sqs-fifo&ordered=false", "always has"),
        ("memory://q?faults=duplicate", "duplicate:0.01"),
        ("memory://q?faults=duplicate:2", "between 0 and 1"),
        ("memory://q?seed=7", "faults"),
        ("memory://a/b", "letters"),
    ];
    for (url, hint) in wrong {
        let error = registry().open(url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
        assert!(error.to_string().contains(hint), "{url}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_later_handle_takes_the_queue_as_it_is() {
    let registry = registry();
    let first = registry.open("memory://q?lease=12s&profile=sqs").unwrap();
    first.producer().await.unwrap();
    let second = registry
        .open("memory://q")
        .unwrap()
        .consumer()
        .await
        .unwrap();
    let capabilities = second.capabilities();
    assert_eq!(capabilities.lease.duration(), Some(12 * SECOND));
    assert_eq!(capabilities.limits.send_batch, 10);
}

#[tokio::test(start_paused = true)]
async fn a_later_handle_that_contradicts_is_refused_with_both_values() {
    let registry = registry();
    let first = "memory://q?lease=12s&dead_letter=d&max_deliveries=9&max_depth=5&\
                 faults=throttle:0.5&seed=1";
    registry.open(first).unwrap().producer().await.unwrap();
    let contradictions = [
        ("lease=13s", "12s", "13s"),
        ("profile=sqs", "strict", "sqs"),
        ("ordered=false", "true", "false"),
        ("dead_letter=e&max_deliveries=9", "=d", "=e"),
        ("dead_letter=d&max_deliveries=8", "9", "8"),
        ("max_depth=6", "5", "6"),
        ("faults=throttle:0.25&seed=1", "0.5", "0.25"),
        ("faults=throttle:0.5&seed=2", "=1", "=2"),
    ];
    for (options, is, asked) in contradictions {
        let queue = registry.open(&format!("memory://q?{options}")).unwrap();
        let error = queue.consumer().await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{options}");
        let text = error.to_string();
        assert!(
            text.contains(is) && text.contains(asked),
            "{options}: {text}"
        );
    }
    registry.open(first).unwrap().consumer().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_first_to_name_a_setting_fixes_it() {
    let registry = registry();
    let open = |url| registry.open(url).unwrap();
    let producer = open("memory://q").producer().await.unwrap();
    let consumer = open("memory://q?lease=12s&max_attempts=5&dead_letter=d")
        .consumer()
        .await
        .unwrap();
    assert_eq!(consumer.capabilities().lease.duration(), Some(12 * SECOND));
    assert!(consumer.capabilities().broker_dead_letter);
    let error = open("memory://q?lease=30s").consumer().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    producer.send("x").await.unwrap();
    take_one(&consumer).await.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_must_not_be_created_is_not_found_until_it_is_there() {
    let registry = registry();
    let open = |url| registry.open(url).unwrap();
    let strict = open("memory://q?create=false");
    let error = strict.producer().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = strict.consumer().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    open("memory://q").producer().await.unwrap();
    strict.producer().await.unwrap();
    let with_dead_letter = open("memory://q?create=false&dead_letter=d");
    let error = with_dead_letter.consumer().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("\"d\""), "{error}");
}

#[tokio::test(start_paused = true)]
async fn backends_have_queues_of_their_own_unless_they_are_shared() {
    use towpath_core::Registry;
    use towpath_memory::MemoryBackend;
    let url = "memory://shared-by-name";
    let producer = Registry::new()
        .with(MemoryBackend::shared())
        .open(url)
        .unwrap();
    let producer = producer.producer().await.unwrap();
    producer.send("x").await.unwrap();
    let other = open(url).consumer().await.unwrap();
    assert!(crate::support::take(&other, 1).await.is_empty());
    let same = Registry::new()
        .with(MemoryBackend::shared())
        .open(url)
        .unwrap();
    let same = same.consumer().await.unwrap();
    take_one(&same).await.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_throttles_until_there_is_room() {
    let queue = open("memory://q?max_depth=2&send_timeout=1ms");
    let (producer, consumer) = crate::support::halves(&queue).await;
    let results = producer
        .send_batch(&["1".into(), "2".into(), "3".into()])
        .await;
    assert!(results[0].is_ok() && results[1].is_ok());
    let error = results[2].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert!(error.is_retryable() && error.to_string().contains("max_depth is 2"));
    let one = take_one(&consumer).await;
    producer.send("4").await.unwrap_err();
    one.ack().await.unwrap();
    producer.send("4").await.unwrap();
}
