use std::time::Duration;

use tokio::time::Instant;
use towpath_core::{FailureClass, Outcome};
use towpath_worker::{Backoff, RetryPolicy};

use crate::support::{HOUR, SECOND, Setup, fixed, retry, start};

#[tokio::test(start_paused = true)]
async fn a_failed_message_is_tried_again_until_it_succeeds() {
    let mut setup = Setup::new("memory://orders").await;
    let message = setup.send("x").await;
    let builder = setup
        .worker(|attempt| async move {
            if attempt.number() == Some(3) {
                Outcome::Ack
            } else {
                retry("not yet")
            }
        })
        .await;
    let running = start(builder.retry(fixed(5 * SECOND)));
    let begun = Instant::now();
    for number in 1..=3 {
        let attempt = setup.seen().await;
        assert_eq!(attempt.number(), Some(number));
        assert_eq!(attempt.queue(), "orders");
        let key = attempt.envelope().message.idempotency_key();
        assert_eq!(key, message.idempotency_key());
    }
    assert_eq!(begun.elapsed(), 10 * SECOND);
    let report = running.stop().await;
    assert_eq!((report.received, report.acked, report.retried), (3, 1, 2));
    assert!(report.is_balanced(), "{report:?}");
    assert_eq!(setup.depth().await.total(), 0);
}

/// I7: never before its delay.
#[tokio::test(start_paused = true)]
async fn retry_after_is_never_undercut() {
    let mut setup = Setup::new("memory://orders").await;
    for _ in 0..50 {
        setup.send("x").await;
    }
    let after = 90 * SECOND;
    let builder = setup
        .worker(move |attempt| async move {
            if attempt.number() == Some(1) {
                Outcome::Retry {
                    after: Some(after),
                    reason: "429".into(),
                }
            } else {
                Outcome::Ack
            }
        })
        .await;
    let policy = RetryPolicy::new(Backoff::exponential(SECOND, 5 * SECOND));
    let running = start(builder.retry(policy).concurrency(50));
    let mut first = Instant::now();
    for seen in 1..=100 {
        let attempt = setup.seen().await;
        assert_eq!(attempt.number(), Some(if seen <= 50 { 1 } else { 2 }));
        if seen <= 50 {
            first = Instant::now();
        } else {
            assert!(first.elapsed() >= after, "{:?}", first.elapsed());
        }
    }
    let report = running.stop().await;
    assert_eq!((report.acked, report.retried), (50, 50));
}

/// The queue delays by 10 min at most (the profile of Pub/Sub), and the handler asks for 25 min.
#[tokio::test(start_paused = true)]
async fn a_delay_beyond_the_queue_s_own_is_kept_and_burns_no_attempts() {
    let url = "memory://orders?profile=pubsub-ordered&max_attempts=5&dead_letter=dead";
    let mut setup = Setup::new(url).await;
    setup.send("x").await;
    let after = 25 * 60 * SECOND;
    let builder = setup
        .worker(move |attempt| async move {
            if attempt.number() == Some(3) {
                return Outcome::Ack;
            }
            Outcome::Retry {
                after: Some(after),
                reason: "come back later".into(),
            }
        })
        .await;
    let running = start(builder);
    let begun = Instant::now();
    for number in 1..=3 {
        let attempt = setup.seen().await;
        assert_eq!(attempt.number(), Some(number));
        let waited = (number - 1) * after;
        assert!(begun.elapsed() >= waited, "{:?}", begun.elapsed());
        assert!(begun.elapsed() < waited + 60 * SECOND);
    }
    let report = running.stop().await;
    assert_eq!(
        (report.acked, report.retried, report.released),
        (1, 2, 4),
        "each wait of 25 min is three deliveries of 10, 10 and 5 min"
    );
    assert!(report.is_balanced());
}

#[tokio::test(start_paused = true)]
async fn attempts_never_exceed_the_limit() {
    let url = "memory://orders?max_attempts=3&dead_letter=dead";
    let mut setup = Setup::new(url).await;
    let message = setup.send("x").await;
    let builder = setup.worker(|_| async { retry("no luck") }).await;
    let running = start(builder.retry(fixed(SECOND)));
    for number in 1..=3 {
        assert_eq!(setup.seen().await.number(), Some(number));
    }
    tokio::time::sleep(HOUR).await;
    setup.nothing_seen();
    let report = running.stop().await;
    assert_eq!((report.retried, report.dead_lettered), (2, 1));
    let dead = setup.dead().await;
    assert_eq!(dead.len(), 1);
    let copy = &dead[0].envelope().message;
    assert_eq!(copy.idempotency_key(), message.idempotency_key());
    let failure = copy.failure().unwrap();
    assert_eq!(failure.class, FailureClass::AttemptsExhausted);
    assert_eq!((&*failure.reason, failure.attempts), ("no luck", 3));
    assert_eq!(failure.queue, "orders");
    assert_eq!(setup.depth().await.total(), 0);
}

/// A handler that brings the process down leaves no failure behind, only a count.
#[tokio::test(start_paused = true)]
async fn a_message_that_never_got_settled_is_parked_without_another_attempt() {
    let mut setup = Setup::new("memory://orders?lease=10s&dead_letter=dead").await;
    setup.send("x").await;
    let crashing = setup.consumer().await;
    for _ in 0..3 {
        crashing.receive().await.unwrap().abandon();
    }
    let builder = setup.worker(|_| async { Outcome::Ack }).await;
    let running = start(builder.retry(fixed(SECOND).max_attempts(3)));
    crate::support::eventually(async || setup.depth().await.total() == 0).await;
    setup.nothing_seen();
    let report = running.stop().await;
    assert_eq!((report.acked, report.dead_lettered), (0, 1));
    let dead = setup.dead().await;
    let failure = dead[0].envelope().message.failure().unwrap();
    assert_eq!(failure.class, FailureClass::AttemptsExhausted);
    assert!(failure.reason.contains("none of them settled"));
}

#[tokio::test(start_paused = true)]
async fn thirty_days_of_retries_end_at_the_age_limit() {
    let mut setup = Setup::new("memory://orders?dead_letter=dead").await;
    setup.send("x").await;
    let days = |n: u32| n * 24 * HOUR;
    let builder = setup.worker(|_| async { retry("down") }).await;
    let policy = fixed(HOUR).max_age(days(30));
    let running = start(builder.retry(policy));
    let begun = Instant::now();
    for number in 1..=(30 * 24 + 1) {
        assert_eq!(setup.seen().await.number(), Some(number));
    }
    assert_eq!(begun.elapsed(), days(30));
    tokio::time::sleep(days(2)).await;
    setup.nothing_seen();
    let report = running.stop().await;
    assert_eq!((report.retried, report.dead_lettered), (30 * 24, 1));
    let dead = setup.dead().await;
    let failure = dead[0].envelope().message.failure().unwrap();
    assert_eq!(failure.class, FailureClass::TooOld);
}

/// Pub/Sub counts no attempts without a dead-letter policy.
#[tokio::test(start_paused = true)]
async fn backoff_grows_where_the_queue_does_not_count() {
    let mut setup = Setup::new("memory://orders?profile=pubsub").await;
    setup.send("x").await;
    let builder = setup.worker(|_| async { retry("down") }).await;
    let delays = [1, 10, 100].map(Duration::from_secs).to_vec();
    let running = start(builder.retry(RetryPolicy::new(Backoff::List(delays))));
    let begun = Instant::now();
    for elapsed in [0, 1, 11, 111, 211] {
        assert_eq!(setup.seen().await.number(), None);
        assert_eq!(begun.elapsed(), Duration::from_secs(elapsed));
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_released_message_does_not_count_as_tried() {
    let url = "memory://orders?max_attempts=2&dead_letter=dead&max_deliveries=100";
    let mut setup = Setup::new(url).await;
    setup.send("x").await;
    let mut calls = 0;
    let calls = std::sync::Mutex::new(move || {
        calls += 1;
        calls
    });
    let builder = setup
        .worker(move |_| {
            let call = calls.lock().unwrap()();
            async move {
                if call <= 20 {
                    return Outcome::Release {
                        after: Some(SECOND),
                        reason: "the breaker is open".into(),
                    };
                }
                if call == 21 {
                    retry("down")
                } else {
                    Outcome::Ack
                }
            }
        })
        .await;
    let running = start(builder.retry(fixed(SECOND)));
    for _ in 1..=21 {
        assert_eq!(setup.seen().await.number(), Some(1));
    }
    assert_eq!(setup.seen().await.number(), Some(2));
    let report = running.stop().await;
    assert_eq!((report.acked, report.released, report.retried), (1, 20, 1));
}
