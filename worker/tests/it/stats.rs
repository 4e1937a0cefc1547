use towpath_core::Outcome;

use crate::support::{Setup, eventually};

#[tokio::test(start_paused = true)]
async fn the_figures_can_be_read_while_a_worker_runs() {
    let setup = Setup::new("memory://orders").await;
    let worker = setup.worker(|_| async { Outcome::Ack }).await;
    let worker = worker.build().unwrap();
    let stats = worker.stats();
    assert_eq!(stats.report().received, 0);
    let stop = worker.shutdown_token();
    let running = tokio::spawn(worker.run());
    setup.send("a").await;
    setup.send("b").await;
    eventually(async || stats.report().acked == 2).await;
    assert_eq!(stats.report().received, 2);
    stop.cancel();
    running.await.unwrap();
    assert_eq!(stats.report().acked, 2, "also after the end");
}
