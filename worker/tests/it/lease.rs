use std::sync::Arc;

use tokio::{sync::Notify, time::Instant};
use towpath_core::Outcome;

use crate::support::{Log, SECOND, Setup, eventually, fixed, retry, start};

#[tokio::test(start_paused = true)]
async fn a_slow_handler_keeps_its_lease() {
    let mut setup = Setup::new("memory://orders?lease=10s").await;
    setup.send("x").await;
    let builder = setup
        .worker(|_| async {
            tokio::time::sleep(300 * SECOND).await;
            Outcome::Ack
        })
        .await;
    let running = start(builder);
    assert_eq!(setup.seen().await.number(), Some(1));
    eventually(async || setup.depth().await.total() == 0).await;
    setup.nothing_seen();
    assert_eq!(running.stop().await.acked, 1);
}

/// I3, I4: told at once, dropped a moment later, and its outcome does not count.
#[tokio::test(start_paused = true)]
async fn a_lost_lease_cancels_the_handler_and_discards_its_outcome() {
    let mut setup = Setup::new("memory://orders?lease=10s&max_lease=60s").await;
    setup.send("x").await;
    let log = Log::default();
    let theirs = log.clone();
    let builder = setup
        .worker(move |attempt| {
            let log = theirs.clone();
            async move {
                if attempt.number() == Some(2) {
                    return Outcome::Ack;
                }
                let begun = Instant::now();
                attempt.cancellation().cancelled().await;
                log.add(format!("told after {} s", begun.elapsed().as_secs()));
                struct Dropped(Log, Instant);
                impl Drop for Dropped {
                    fn drop(&mut self) {
                        self.0.add(format!("dropped after {:?}", self.1.elapsed()));
                    }
                }
                let _dropped = Dropped(log, Instant::now());
                std::future::pending::<()>().await;
                Outcome::Ack
            }
        })
        .await;
    let running = start(builder.concurrency(1));
    assert_eq!(setup.seen().await.number(), Some(1));
    assert_eq!(setup.seen().await.number(), Some(2));
    assert_eq!(log.lines(), ["told after 60 s", "dropped after 200ms"]);
    let report = running.stop().await;
    assert_eq!((report.lease_lost, report.acked), (1, 1));
    assert!(report.is_balanced());
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_returns_after_its_lease_is_neither_acked_nor_copied() {
    for outcome in [
        Outcome::Ack,
        retry("down"),
        Outcome::DeadLetter {
            class: towpath_core::FailureClass::Permanent,
            reason: "no".into(),
        },
    ] {
        let url = "memory://orders?lease=10s&max_lease=60s&dead_letter=dead";
        let mut setup = Setup::new(url).await;
        setup.send("x").await;
        let late = outcome.clone();
        let builder = setup
            .worker(move |attempt| {
                let late = late.clone();
                async move {
                    attempt.cancellation().cancelled().await;
                    late
                }
            })
            .await;
        let running = start(builder.concurrency(1));
        let id = setup.seen().await.envelope().id.clone();
        let again = setup.seen().await;
        assert_eq!((&again.envelope().id, again.number()), (&id, Some(2)));
        let report = running.stop().await;
        assert_eq!(report.lease_lost, 1, "{outcome:?}");
        assert_eq!(report.dead_lettered + report.retried, 0);
        assert_eq!(setup.dead().await.len(), 0, "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_a_failed_one() {
    let url = "memory://orders?dead_letter=dead";
    let mut setup = Setup::new(url).await;
    setup.send("x").await;
    let told = Arc::new(Notify::new());
    let telling = told.clone();
    let builder = setup
        .worker(move |attempt| {
            let told = telling.clone();
            async move {
                attempt.cancellation().cancelled().await;
                told.notify_one();
                std::future::pending().await
            }
        })
        .await;
    let policy = fixed(SECOND).max_attempts(2);
    let builder = builder.retry(policy).handler_timeout(30 * SECOND);
    let running = start(builder);
    setup.seen().await;
    told.notified().await;
    setup.seen().await;
    eventually(async || setup.depth().await.total() == 0).await;
    let report = running.stop().await;
    assert_eq!(
        (report.timed_out, report.retried, report.dead_lettered),
        (2, 1, 1)
    );
    let dead = setup.dead().await;
    let failure = dead[0].envelope().message.failure().unwrap();
    assert_eq!(failure.reason, "timed out after 30s");
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_a_failure_of_that_message_only() {
    let url = "memory://orders?dead_letter=dead&max_attempts=2";
    let mut setup = Setup::new(url).await;
    setup.send("bad").await;
    setup.send("good").await;
    let builder = setup
        .worker(|attempt| {
            let body = crate::support::text(&attempt);
            async move {
                assert_ne!(body, "bad", "cannot handle this");
                Outcome::Ack
            }
        })
        .await;
    let running = start(builder.retry(fixed(SECOND)).concurrency(1));
    for _ in 0..3 {
        setup.seen().await;
    }
    eventually(async || setup.depth().await.total() == 0).await;
    let report = running.stop().await;
    assert_eq!(
        (
            report.acked,
            report.panicked,
            report.retried,
            report.dead_lettered
        ),
        (1, 2, 1, 1)
    );
    let dead = setup.dead().await;
    let failure = dead[0].envelope().message.failure().unwrap();
    assert!(
        failure.reason.starts_with("panicked: "),
        "{}",
        failure.reason
    );
    assert!(failure.reason.contains("cannot handle this"));
}
