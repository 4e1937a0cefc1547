use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::time::Instant;
use towpath_core::Outcome;
use towpath_worker::{
    Gate,
    layers::{BreakerState, CircuitBreakerLayer},
};

use crate::support::{SECOND, Setup, eventually, fixed, retry, start};

/// I6: an outage of an hour with an open breaker costs no attempts.
#[tokio::test(start_paused = true)]
async fn an_open_breaker_pauses_the_worker_and_costs_no_attempts() {
    let url = "memory://orders?max_attempts=3&dead_letter=dead&max_deliveries=1000";
    let mut setup = Setup::new(url).await;
    for _ in 0..200 {
        setup.send("x").await;
    }
    let is_down = Arc::new(AtomicBool::new(true));
    let crm = is_down.clone();
    let builder = setup
        .worker(move |_| {
            let is_down = crm.load(Ordering::SeqCst);
            async move {
                tokio::time::sleep(SECOND / 100).await;
                if is_down { retry("down") } else { Outcome::Ack }
            }
        })
        .await;
    let gate = Gate::new();
    let breaker = CircuitBreakerLayer::new("crm")
        .failures(5)
        .cool_down(10 * SECOND, 300 * SECOND)
        .pausing(gate.clone());
    let builder = builder.gate(gate.clone()).layer(breaker.clone());
    let running = start(builder.retry(fixed(SECOND)).concurrency(4));
    eventually(async || breaker.state() == BreakerState::Open).await;
    assert_eq!(gate.reasons(), ["the circuit breaker crm is open"]);
    tokio::time::sleep(3_600 * SECOND).await;
    // Five to eight failures opened it, and one trial follows each cool-down of 10, 20, 40, 80,
    // 160 and then 300 s.
    let mut attempts = 0;
    while setup.try_seen().is_some() {
        attempts += 1;
    }
    assert!((5 + 14..=8 + 18).contains(&attempts), "{attempts}");
    is_down.store(false, Ordering::SeqCst);
    let begun = Instant::now();
    eventually(async || setup.depth().await.total() == 0).await;
    assert!(begun.elapsed() < 320 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(breaker.state(), BreakerState::Closed);
    assert!(!gate.is_paused());
    let report = running.stop().await;
    assert_eq!(report.acked + report.dead_lettered, 200);
    assert!(report.dead_lettered <= 10, "{report}");
    assert!(report.released > 0);
}

#[tokio::test(start_paused = true)]
async fn a_trial_that_is_dropped_opens_the_breaker_again() {
    let mut setup = Setup::new("memory://orders").await;
    setup.send("x").await;
    let builder = setup
        .worker(|attempt| async move {
            match attempt.number() {
                Some(1) => retry("down"),
                Some(2) => std::future::pending().await,
                _ => Outcome::Ack,
            }
        })
        .await;
    let breaker = CircuitBreakerLayer::new("crm")
        .failures(1)
        .cool_down(10 * SECOND, 60 * SECOND);
    let builder = builder.layer(breaker.clone()).handler_timeout(5 * SECOND);
    let running = start(builder.retry(fixed(SECOND)));
    setup.seen().await;
    setup.seen().await;
    assert_eq!(breaker.state(), BreakerState::HalfOpen);
    tokio::time::sleep(6 * SECOND).await;
    assert_eq!(breaker.state(), BreakerState::Open);
    setup.seen().await;
    eventually(async || breaker.state() == BreakerState::Closed).await;
    assert_eq!(running.stop().await.acked, 1);
}
