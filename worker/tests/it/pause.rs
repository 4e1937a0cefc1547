use towpath_core::Outcome;
use towpath_worker::Gate;

use crate::support::{HOUR, SECOND, Setup, eventually, start};

#[tokio::test(start_paused = true)]
async fn a_paused_worker_receives_nothing_and_finishes_what_is_in_hand() {
    let mut setup = Setup::new("memory://orders").await;
    let gate = Gate::new();
    let builder = setup
        .worker(|_| async {
            tokio::time::sleep(10 * SECOND).await;
            Outcome::Ack
        })
        .await;
    let running = start(builder.gate(gate.clone()));
    setup.send("x").await;
    setup.seen().await;
    gate.pause();
    setup.send("y").await;
    tokio::time::sleep(HOUR).await;
    setup.nothing_seen();
    assert_eq!(setup.depth().await.ready, 1);
    gate.resume();
    assert_eq!(
        setup.seen().await.number(),
        Some(1),
        "the pause was no attempt"
    );
    let report = running.stop().await;
    assert_eq!((report.received, report.acked), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_pause_releases_what_was_fetched_ahead() {
    let mut setup = Setup::new("memory://orders?prefetch=10&max_attempts=2&dead_letter=dead").await;
    let gate = Gate::new();
    for _ in 0..8 {
        setup.send("x").await;
    }
    let builder = setup
        .worker(|_| async {
            tokio::time::sleep(SECOND).await;
            Outcome::Ack
        })
        .await;
    let running = start(builder.gate(gate.clone()).concurrency(1));
    setup.seen().await;
    eventually(async || setup.depth().await.leased == 8).await;
    gate.pause();
    let begun = tokio::time::Instant::now();
    eventually(async || setup.depth().await.leased == 0).await;
    assert!(begun.elapsed() < 2 * SECOND, "{:?}", begun.elapsed());
    assert_eq!(setup.depth().await.ready, 7);
    tokio::time::sleep(HOUR).await;
    assert_eq!(setup.depth().await.leased, 0);
    gate.resume();
    eventually(async || setup.depth().await.total() == 0).await;
    assert_eq!(running.stop().await.acked, 8);
}

#[tokio::test(start_paused = true)]
async fn a_paused_worker_can_be_stopped() {
    let setup = Setup::new("memory://orders").await;
    let builder = setup.worker(|_| async { Outcome::Ack }).await;
    let gate = Gate::new();
    let _hold = gate.hold("maintenance");
    let running = start(builder.gate(gate));
    setup.send("x").await;
    tokio::time::sleep(SECOND).await;
    assert_eq!(running.stop().await.received, 0);
}
