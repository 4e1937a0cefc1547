//! Closing handles, and deleting queues.

use std::time::Duration;

use tokio::time::sleep;
use towpath_core::ErrorKind;

use crate::support::{LEASE, SECOND, halves, open, take, take_one};

#[tokio::test(start_paused = true)]
async fn a_closed_handle_says_so_and_the_others_go_on() {
    let queue = open("memory://q");
    let (producer, consumer) = halves(&queue).await;
    let (other_producer, other_consumer) = halves(&queue).await;
    producer.send("x").await.unwrap();
    let held = take_one(&consumer).await;
    let also_held = {
        producer.send("y").await.unwrap();
        take_one(&other_consumer).await
    };
    for _ in 0..2 {
        producer.close().await.unwrap();
        consumer.close().await.unwrap();
    }
    let kind = |error: towpath_core::Error| error.kind();
    assert_eq!(
        producer.send("z").await.map_err(kind),
        Err(ErrorKind::Closed)
    );
    let received = consumer.receive().await.map(drop);
    assert_eq!(received.map_err(kind), Err(ErrorKind::Closed));
    let error = held.ack().await.unwrap_err();
    assert_eq!(error.error.kind(), ErrorKind::Closed);
    drop(error);

    also_held.ack().await.unwrap();
    other_producer.send("z").await.unwrap();
    let z = take_one(&other_consumer).await;
    assert_eq!(z.body(), "z");
    z.ack().await.unwrap();
    sleep(LEASE).await;
    let x = take_one(&other_consumer).await;
    assert_eq!((x.body().as_ref(), x.attempt()), (&b"x"[..], Some(2)));
}

#[tokio::test(start_paused = true)]
async fn closing_ends_a_receive_that_waits() {
    let (_producer, consumer) = halves(&open("memory://q")).await;
    let waiting = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.receive().await.map(drop) }
    });
    sleep(SECOND).await;
    consumer.close().await.unwrap();
    assert_eq!(
        waiting.await.unwrap().unwrap_err().kind(),
        ErrorKind::Closed
    );
}

#[tokio::test(start_paused = true)]
async fn closing_the_driver_ends_its_receive_too() {
    use towpath_core::driver::Backend;
    let backend = towpath_memory::MemoryBackend::new();
    let config = "memory://q".parse().unwrap();
    let consumer = backend.consumer(&config).await.unwrap();
    let begun = tokio::time::Instant::now();
    let waiting = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.receive(std::num::NonZeroUsize::MIN, LEASE).await }
    });
    sleep(SECOND).await;
    consumer.close().await.unwrap();
    let error = waiting.await.unwrap().map(drop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(begun.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn after_the_deletion_every_handle_gets_not_found() {
    let queue = open("memory://q?send_timeout=1ms");
    let (producer, consumer) = halves(&queue).await;
    let admin = queue.admin().await.unwrap();
    producer.send("x").await.unwrap();
    let held = take_one(&consumer).await;
    let waiting = tokio::spawn({
        let consumer = consumer.clone();
        async move { consumer.receive().await.map(drop) }
    });
    sleep(SECOND).await;
    admin.delete().await.unwrap();
    let kinds = [
        waiting.await.unwrap().unwrap_err(),
        producer.send("y").await.unwrap_err(),
        consumer.receive().await.map(drop).unwrap_err(),
        held.ack().await.unwrap_err().error,
        admin.depth().await.unwrap_err(),
        admin.inspect().await.unwrap_err(),
        admin.purge().await.unwrap_err(),
        admin.delete().await.unwrap_err(),
    ]
    .map(|error| error.kind());
    assert_eq!(kinds, [ErrorKind::NotFound; 8]);

    let (producer, again) = halves(&queue).await;
    assert!(take(&again, 1).await.is_empty(), "a new queue, and empty");
    producer.send("z").await.unwrap();
    take_one(&again).await.ack().await.unwrap();
    let error = consumer.receive_batch(1, Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "an old handle stays old");
}

#[tokio::test(start_paused = true)]
async fn a_receipt_of_another_queue_settles_nothing() {
    use towpath_core::driver::Backend;
    let backend = towpath_memory::MemoryBackend::new();
    let mut halves = Vec::new();
    for url in ["memory://a", "memory://b"] {
        let config = url.parse().unwrap();
        let producer = backend.producer(&config).await.unwrap();
        producer.send(&["x".into()]).await.pop().unwrap().unwrap();
        halves.push(backend.consumer(&config).await.unwrap());
    }
    let one = std::num::NonZeroUsize::MIN;
    let of_a = halves[0].receive(one, Duration::ZERO).await.unwrap();
    let of_b = halves[1].receive(one, Duration::ZERO).await.unwrap();
    let receipt = std::slice::from_ref(&of_a[0].receipt);
    let error = halves[1].ack(receipt).await.pop().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
    let own = std::slice::from_ref(&of_b[0].receipt);
    halves[1].ack(own).await.pop().unwrap().unwrap();
    let error = halves[1].ack(own).await.pop().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost, "settled before");
    let foreign = towpath_core::driver::Receipt::new("text");
    let error = halves[1].ack(&[foreign]).await.pop().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LeaseLost);
}
