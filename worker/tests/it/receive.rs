use tokio::time::Instant;
use towpath_core::Outcome;
use towpath_memory::{Faults, MemoryBackend};

use crate::support::{HOUR, SECOND, Setup, eventually, start};

#[tokio::test(start_paused = true)]
async fn receive_errors_heal_and_never_end_the_worker() {
    let faults = Faults::new().with_receive_error(0.9);
    let backend = MemoryBackend::with_faults(faults, 7).unwrap();
    let setup = Setup::with(backend, "memory://orders").await;
    for _ in 0..20 {
        setup.send("x").await;
    }
    let builder = setup.worker(|_| async { Outcome::Ack }).await;
    let running = start(builder.concurrency(1));
    eventually(async || setup.depth().await.total() == 0).await;
    let report = running.stop().await;
    assert_eq!(report.acked, 20);
    assert!(report.receive_errors > 20, "{report:?}");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_gone_is_asked_again_with_capped_pauses() {
    let setup = Setup::new("memory://orders").await;
    let builder = setup.worker(|_| async { Outcome::Ack }).await;
    let running = start(builder);
    setup.queue.admin().await.unwrap().delete().await.unwrap();
    tokio::time::sleep(HOUR).await;
    let begun = Instant::now();
    let report = running.stop().await;
    assert!(begun.elapsed() < SECOND, "a pause is cut short by the end");
    // Every 15 s on average once the pause is at its cap, and far from a hot loop.
    assert!((120..700).contains(&report.receive_errors), "{report:?}");
}
