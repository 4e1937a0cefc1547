use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;
use towpath_core::Outcome;
use towpath_worker::layers::{ConcurrencyLayer, RateLimitLayer};

use crate::support::{SECOND, Setup, eventually, start};

#[tokio::test(start_paused = true)]
async fn a_shared_bound_holds_over_several_workers() {
    let layer = ConcurrencyLayer::new(3);
    let now = Arc::new(AtomicUsize::new(0));
    let peak = Arc::new(AtomicUsize::new(0));
    let mut running = Vec::new();
    for _ in 0..2 {
        let setup = Setup::new("memory://orders").await;
        for _ in 0..10 {
            setup.send("x").await;
        }
        let (now, peak) = (now.clone(), peak.clone());
        let builder = setup
            .worker(move |_| {
                let (now, peak) = (now.clone(), peak.clone());
                async move {
                    peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(SECOND).await;
                    now.fetch_sub(1, Ordering::SeqCst);
                    Outcome::Ack
                }
            })
            .await;
        running.push((setup, start(builder.layer(layer.clone()))));
    }
    let begun = Instant::now();
    for (setup, running) in running {
        eventually(async || setup.depth().await.total() == 0).await;
        running.stop().await;
    }
    assert_eq!(peak.load(Ordering::SeqCst), 3);
    assert!(begun.elapsed() >= 7 * SECOND - SECOND / 2);
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_kept_after_its_burst() {
    let mut setup = Setup::new("memory://orders").await;
    for _ in 0..50 {
        setup.send("x").await;
    }
    let builder = setup.worker(|_| async { Outcome::Ack }).await;
    let layer = RateLimitLayer::new(NonZeroU32::new(10).unwrap(), SECOND);
    let running = start(builder.layer(layer).concurrency(50));
    let begun = Instant::now();
    let mut at = Vec::new();
    for _ in 0..50 {
        setup.seen().await;
        at.push(begun.elapsed());
    }
    assert!(at[9] < SECOND / 10, "{:?}", at[9]);
    for (n, at) in at.iter().enumerate().skip(10) {
        let due = SECOND / 10 * u32::try_from(n - 9).unwrap();
        assert!(
            *at >= due - SECOND / 100 && *at < due + SECOND / 10,
            "{n}: {at:?}"
        );
    }
    assert_eq!(running.stop().await.acked, 50);
}

/// I6: what is over the rate is given back, and that is no attempt.
#[tokio::test(start_paused = true)]
async fn what_would_wait_too_long_is_given_back_untried() {
    let url = "memory://orders?max_attempts=1&dead_letter=dead&max_deliveries=1000";
    let mut setup = Setup::new(url).await;
    for _ in 0..20 {
        setup.send("x").await;
    }
    let builder = setup.worker(|_| async { Outcome::Ack }).await;
    let layer = RateLimitLayer::new(NonZeroU32::new(1).unwrap(), SECOND).longest_wait(3 * SECOND);
    let running = start(builder.layer(layer).concurrency(20));
    for _ in 0..20 {
        assert_eq!(setup.seen().await.number(), Some(1));
    }
    let report = running.stop().await;
    assert_eq!((report.acked, report.dead_lettered), (20, 0));
    assert!(report.released > 0);
}
