use towpath_core::{Failure, Outcome};
use towpath_memory::{Faults, MemoryBackend};
use towpath_worker::{Gate, Worker};

use crate::{
    driver::StubbornDriver,
    support::{HOUR, SECOND, Setup, eventually},
};

#[tokio::test(start_paused = true)]
async fn an_idle_worker_is_alive_and_ready() {
    let setup = Setup::new("memory://orders").await;
    let worker = setup.worker(|_| async { Outcome::Ack }).await;
    let worker = worker.build().unwrap();
    let health = worker.health();
    assert_eq!(health.readiness().reasons, ["not started"]);
    let stop = worker.shutdown_token();
    let running = tokio::spawn(worker.run());
    tokio::time::sleep(HOUR).await;
    assert!(health.liveness().ok, "{:?}", health.liveness());
    let report = health.readiness();
    assert!(report.ok, "{report:?}");
    let age = report.last_receive_s.unwrap();
    assert!(age <= 20.0, "an empty answer is an answer: {age}");
    stop.cancel();
    running.await.unwrap();
    assert_eq!(health.readiness().reasons, ["ended"]);
}

#[tokio::test(start_paused = true)]
async fn a_paused_worker_is_alive_and_not_ready() {
    let setup = Setup::new("memory://orders").await;
    let gate = Gate::new();
    let worker = setup.worker(|_| async { Outcome::Ack }).await;
    let worker = worker.gate(gate.clone()).build().unwrap();
    let health = worker.health();
    let _running = tokio::spawn(worker.run());
    let hold = gate.hold("the disk is full");
    tokio::time::sleep(HOUR).await;
    assert!(health.liveness().ok);
    let report = health.readiness();
    assert_eq!(report.reasons, ["paused: the disk is full"]);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["queue"], "orders");
    drop(hold);
    tokio::time::sleep(SECOND).await;
    assert!(health.readiness().ok);
}

#[tokio::test(start_paused = true)]
async fn failing_receives_are_not_ready() {
    let faults = Faults::new().with_receive_error(1.0);
    let backend = MemoryBackend::with_faults(faults, 1).unwrap();
    let setup = Setup::with(backend, "memory://orders").await;
    let worker = setup.worker(|_| async { Outcome::Ack }).await;
    let worker = worker.build().unwrap();
    let health = worker.health();
    let _running = tokio::spawn(worker.run());
    eventually(async || !health.readiness().ok).await;
    tokio::time::sleep(60 * SECOND).await;
    let report = health.readiness();
    assert!(
        report.reasons[0].contains("receive calls failed"),
        "{report:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_settles_nothing_is_not_alive() {
    let setup = Setup::new("memory://orders?max_lease=600s").await;
    setup.send("x").await;
    let driver = StubbornDriver::new(&setup).await;
    driver.acks.close_gate();
    let consumer = driver.consumer();
    let worker = Worker::new(consumer, |_| async { Ok::<_, Failure>(()) }).unwrap();
    let health = worker.health();
    let running = tokio::spawn(worker.run());
    eventually(async || driver.acks.waiting() == 1).await;
    tokio::time::sleep(600 * SECOND).await;
    assert!(health.liveness().ok);
    tokio::time::sleep(120 * SECOND).await;
    let report = health.liveness();
    // Its lease has run out meanwhile, and it was received again.
    assert_eq!(report.in_hand, 2);
    assert!(report.reasons[0].contains("none was settled"), "{report:?}");
    running.abort();
    tokio::time::sleep(SECOND).await;
    assert_eq!(health.liveness().in_hand, 0);
}
