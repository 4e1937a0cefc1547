use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use towpath_core::{Attempt, Error, ErrorKind, Failure};
use towpath_worker::Worker;

use crate::{
    driver::StubbornDriver,
    support::{SECOND, Setup, eventually, start},
};

fn counting(
    calls: &Arc<AtomicUsize>,
) -> impl Fn(Attempt) -> std::future::Ready<Result<(), Failure>> + Send + Sync + 'static {
    let calls = calls.clone();
    move |_| {
        calls.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn slow_acks_do_not_hold_up_the_next_handler_but_are_bounded() {
    let setup = Setup::new("memory://orders").await;
    for _ in 0..1_000 {
        setup.send("x").await;
    }
    let driver = StubbornDriver::new(&setup).await;
    driver.acks.close_gate();
    let calls = Arc::new(AtomicUsize::new(0));
    let builder = Worker::builder(driver.consumer(), counting(&calls));
    let running = start(builder.concurrency(4));
    tokio::time::sleep(10 * SECOND).await;
    // 256 acks under way, and then four handlers that keep their permits.
    assert_eq!(driver.acks.waiting(), 256);
    assert_eq!(calls.load(Ordering::SeqCst), 260);
    assert_eq!(setup.depth().await.leased, 260);
    driver.acks.open_gate();
    eventually(async || setup.depth().await.total() == 0).await;
    assert_eq!(running.stop().await.acked, 1_000);
}

#[tokio::test(start_paused = true)]
async fn an_ack_that_fails_for_good_is_told_and_does_not_loop() {
    let setup = Setup::new("memory://orders?lease=30s").await;
    setup.send("x").await;
    let driver = StubbornDriver::new(&setup).await;
    let denied = Error::new(ErrorKind::PermissionDenied, "no deletes for you");
    driver.acks.fail(Some(denied));
    let calls = Arc::new(AtomicUsize::new(0));
    let running = start(Worker::builder(driver.consumer(), counting(&calls)));
    tokio::time::sleep(100 * SECOND).await;
    // Handled again only when the lease has run out: at 0, 30, 60 and 90 s.
    assert_eq!(calls.load(Ordering::SeqCst), 4);
    driver.acks.fail(None);
    eventually(async || setup.depth().await.total() == 0).await;
    let report = running.stop().await;
    assert_eq!((report.settle_failed, report.acked), (4, 1));
    assert!(report.is_balanced());
}

#[tokio::test(start_paused = true)]
async fn an_ack_that_hangs_does_not_hold_up_the_end() {
    let setup = Setup::new("memory://orders").await;
    setup.send("x").await;
    let driver = StubbornDriver::new(&setup).await;
    driver.acks.close_gate();
    let calls = Arc::new(AtomicUsize::new(0));
    let builder = Worker::builder(driver.consumer(), counting(&calls));
    let running = start(builder.drain_deadline(8 * SECOND));
    eventually(async || driver.acks.waiting() == 1).await;
    let report = running.stop().await;
    assert!(report.drained_in <= 8 * SECOND + SECOND / 2, "{report:?}");
    assert_eq!((report.unsettled, report.acked), (1, 0));
    assert!(report.is_balanced());
}
