use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;
use towpath_core::{Message, Outcome};

use crate::support::{SECOND, Setup, eventually, start};

#[tokio::test(start_paused = true)]
async fn no_more_is_received_than_there_are_permits_for() {
    let mut setup = Setup::new("memory://orders").await;
    for _ in 0..10 {
        setup.send("x").await;
    }
    let go = Arc::new(Semaphore::new(0));
    let waiting = go.clone();
    let builder = setup
        .worker(move |_| {
            let go = waiting.clone();
            async move {
                go.acquire().await.unwrap().forget();
                Outcome::Ack
            }
        })
        .await;
    let running = start(builder.concurrency(3));
    for _ in 0..3 {
        setup.seen().await;
    }
    tokio::time::sleep(60 * SECOND).await;
    setup.nothing_seen();
    let depth = setup.depth().await;
    assert_eq!((depth.leased, depth.ready), (3, 7));
    go.add_permits(1);
    setup.seen().await;
    tokio::time::sleep(SECOND).await;
    setup.nothing_seen();
    let depth = setup.depth().await;
    assert_eq!((depth.leased, depth.ready), (3, 6));
    go.add_permits(9);
    eventually(async || setup.depth().await.total() == 0).await;
    assert_eq!(running.stop().await.acked, 10);
}

#[tokio::test(start_paused = true)]
async fn used_up_bytes_hold_back_the_next_receive() {
    let mut setup = Setup::new("memory://orders").await;
    for _ in 0..6 {
        let message = Message::new(vec![7u8; 1_000]);
        setup.producer.send(message).await.unwrap();
    }
    let go = Arc::new(Semaphore::new(0));
    let waiting = go.clone();
    let builder = setup
        .worker(move |_| {
            let go = waiting.clone();
            async move {
                go.acquire().await.unwrap().forget();
                Outcome::Ack
            }
        })
        .await;
    let running = start(builder.concurrency(100).max_bytes(2_500));
    for _ in 0..3 {
        setup.seen().await;
    }
    tokio::time::sleep(60 * SECOND).await;
    setup.nothing_seen();
    assert_eq!(
        setup.depth().await.leased,
        3,
        "2,000 bytes leave room for one more"
    );
    go.add_permits(6);
    eventually(async || setup.depth().await.total() == 0).await;
    assert_eq!(running.stop().await.acked, 6);
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_does_not_hold_up_the_others() {
    let mut setup = Setup::new("memory://orders").await;
    for _ in 0..20 {
        setup.send("x").await;
    }
    let calls = Arc::new(AtomicUsize::new(0));
    let builder = setup
        .worker(move |_| {
            let call = calls.fetch_add(1, Ordering::Relaxed);
            async move {
                if call == 0 {
                    tokio::time::sleep(600 * SECOND).await;
                }
                Outcome::Ack
            }
        })
        .await;
    let running = start(builder.concurrency(2));
    let begun = tokio::time::Instant::now();
    for _ in 0..20 {
        setup.seen().await;
    }
    assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    eventually(async || setup.depth().await.total() == 0).await;
    assert_eq!(running.stop().await.acked, 20);
}
