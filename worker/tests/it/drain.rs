use std::time::Duration;

use tokio::time::Instant;
use towpath_core::Outcome;

use crate::support::{HOUR, SECOND, Setup, fixed, retry, start};

#[tokio::test(start_paused = true)]
async fn a_stopping_worker_finishes_what_is_in_hand_and_receives_no_more() {
    let mut setup = Setup::new("memory://orders").await;
    for _ in 0..5 {
        setup.send("x").await;
    }
    let builder = setup
        .worker(|_| async {
            tokio::time::sleep(10 * SECOND).await;
            Outcome::Ack
        })
        .await;
    let running = start(builder.concurrency(2));
    setup.seen().await;
    setup.seen().await;
    let report = running.stop().await;
    assert_eq!((report.received, report.acked), (2, 2));
    assert_eq!(report.drained_in, 10 * SECOND);
    assert_eq!(setup.depth().await.ready, 3);
}

/// I12: out within the deadline, and unfinished messages visible again at once.
#[tokio::test(start_paused = true)]
async fn at_the_deadline_unfinished_messages_are_visible_again_at_once() {
    let mut setup = Setup::new("memory://orders?lease=600s").await;
    for _ in 0..4 {
        setup.send("x").await;
    }
    let builder = setup
        .worker(|attempt| async move {
            if attempt.envelope().id.to_string() == "1" {
                return retry("down");
            }
            std::future::pending().await
        })
        .await;
    let builder = builder.retry(fixed(HOUR)).drain_deadline(20 * SECOND);
    let running = start(builder.concurrency(4));
    for _ in 0..4 {
        setup.seen().await;
    }
    let begun = Instant::now();
    let report = running.stop().await;
    assert!(begun.elapsed() <= 20 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(report.drained_in, begun.elapsed());
    assert_eq!(
        (report.cancelled, report.released, report.retried),
        (3, 3, 1)
    );
    assert!(report.is_balanced(), "{report:?}");
    assert_eq!(setup.depth().await.ready, 3);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_handler_that_finishes_all_the_same_is_acked() {
    let mut setup = Setup::new("memory://orders").await;
    setup.send("x").await;
    let builder = setup
        .worker(|attempt| async move {
            attempt.cancellation().cancelled().await;
            Outcome::Ack
        })
        .await;
    let running = start(builder);
    setup.seen().await;
    let report = running.stop().await;
    assert_eq!((report.acked, report.cancelled), (1, 0));
    assert_eq!(setup.depth().await.total(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_worker_releases_its_messages() {
    let mut setup = Setup::new("memory://orders?lease=600s").await;
    setup.send("x").await;
    let builder = setup.worker(|_| std::future::pending()).await;
    let running = start(builder);
    setup.seen().await;
    running.task.abort();
    let again = setup
        .consumer()
        .await
        .receive_batch(1, SECOND)
        .await
        .unwrap();
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].attempt(), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_when_it_is_dropped_does_not_hold_up_the_end() {
    let mut setup = Setup::new("memory://orders").await;
    setup.send("x").await;
    // It ignores its token.
    struct Stubborn;
    impl Drop for Stubborn {
        fn drop(&mut self) {
            std::panic::panic_any("dropped with a panic");
        }
    }
    let builder = setup
        .worker(|_| async {
            let _stubborn = Stubborn;
            std::future::pending::<()>().await;
            Outcome::Ack
        })
        .await;
    let running = start(builder.drain_deadline(4 * SECOND));
    setup.seen().await;
    let report = running.stop().await;
    assert!(report.drained_in <= 4 * SECOND);
    assert_eq!(report.panicked, 1);
    assert!(report.is_balanced(), "{report:?}");
    assert_eq!(setup.depth().await.total(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_closed_consumer_ends_the_worker() {
    let setup = Setup::new("memory://orders").await;
    let consumer = setup.consumer().await;
    let worker = towpath_worker::Worker::new(consumer.clone(), |_| async {
        Ok::<_, towpath_core::Failure>(())
    })
    .unwrap();
    let running = tokio::spawn(worker.run());
    tokio::time::sleep(Duration::from_millis(1)).await;
    consumer.close().await.unwrap();
    assert_eq!(running.await.unwrap().received, 0);
}
