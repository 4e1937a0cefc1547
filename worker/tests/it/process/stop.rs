//! A worker that is stopped for longer than its leases.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep_until};

use super::{ELASTICMQ, Event, FAUXQS, Scene, journal::What, judge::judge, say};

const MESSAGES: usize = 200;

/// Handlers of many lengths are stopped in all of their phases. A second worker takes over what the
/// stopped one holds, and then the first one goes on.
async fn stop_past_the_leases(server: &str) {
    let mut scene = Scene::new(server, "lease=3s").await;
    let works = |n: usize| Duration::from_millis(20 * (n as u64 % 50));
    let sent = scene.send(MESSAGES, works).await;
    let first = scene.worker("first", "40 5000");
    let count = |who: &'static str, what: What| {
        move |events: &[Event]| {
            let of = |event: &&Event| event.who == who && event.what == what;
            events.iter().filter(of).count()
        }
    };
    scene
        .until("the first worker works", |events| {
            let effects = count("first", What::Effect)(events);
            effects >= 20 && count("first", What::Started)(events) >= effects + 20
        })
        .await;
    first.signal(Signal::STOP);
    let stopped = Instant::now();
    scene.journal.note_of("first", What::Stopped);
    let second = scene.worker("second", "40 5000");
    // The second one takes over what the first one holds when its leases are over.
    let admin = scene.queue.admin().await.unwrap();
    while admin.depth().await.unwrap().total() > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Longer than a request's wait and the lease, so that an answer which the process has yet to
    // read is over, too.
    sleep_until(stopped + Duration::from_secs(5)).await;
    first.signal(Signal::CONT);
    let mut reports = Vec::new();
    for worker in [first, second] {
        worker.signal(Signal::TERM);
        let ended = scene.ended(worker).await;
        assert!(ended.status.success(), "{ended:?}");
        reports.push(ended);
    }
    let events = scene.read().to_vec();
    let verdict = judge(&sent, &events, &[], &[]);
    say(&format!(
        "{verdict}; the stopped worker: {}",
        reports[0].report
    ));
    assert!(verdict.is_good(), "{verdict:?}");
    assert_eq!(verdict.ledger.done, MESSAGES);
    // Some of the stopped handlers do their work all the same, for nothing.
    assert!(verdict.ran_out > 0 && verdict.discarded > 0, "{verdict}");
    // What a worker reports as success is what the queue confirmed to it while it held the lease:
    // nothing of what the second one took over.
    for (ended, who) in reports.iter().zip(["first", "second"]) {
        let late = verdict.late.get(who).copied().unwrap_or_default();
        let in_time = count(who, What::Acked)(&events) - late;
        assert!(
            ended.figure("acked") <= in_time,
            "{who}: {ended:?}, {late} late"
        );
    }
    let [received, acked, lost] = ["received", "acked", "lease_lost"].map(|n| reports[0].figure(n));
    assert_eq!(received, acked + lost, "{reports:?}");
    assert!(lost >= verdict.discarded, "{reports:?}");
    let acked = acked + reports[1].figure("acked");
    assert!(acked <= MESSAGES, "no message is a success twice");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_worker_reports_no_success_where_late_acks_are_refused() {
    stop_past_the_leases(ELASTICMQ).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_worker_reports_no_success_where_late_acks_are_accepted() {
    stop_past_the_leases(FAUXQS).await;
}
