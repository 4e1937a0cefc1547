//! A worker that is asked to end.

use std::{collections::BTreeSet, time::Duration};

use rustix::process::Signal;
use towpath_core::Message;
use uuid::Uuid;

use super::{
    ELASTICMQ, Event, Scene, child,
    journal::{What, now},
    judge::judge,
    say,
};

/// Worker processes begin here, see [`child`].
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_worker_finishes_releases_the_rest_and_ends_well() {
    if child::is_asked() {
        return child::run().await;
    }
    // Longer than the test, so that what comes again was released.
    let mut scene = Scene::new(ELASTICMQ, "lease=300s").await;
    let mut sent = scene.send(40, |_| Duration::from_secs(600)).await;
    let quick = scene.send(40, |_| Duration::from_millis(800)).await;
    let is_quick: BTreeSet<Uuid> = quick.iter().map(Message::idempotency_key).collect();
    sent.extend(quick);
    let worker = scene.worker("worker", "60 4000");
    let keys = |events: &[Event], what: fn(&What) -> bool| -> BTreeSet<Uuid> {
        let of = |event: &&Event| what(&event.what);
        events.iter().filter(of).map(|event| event.key).collect()
    };
    let is_started = |what: &What| *what == What::Started;
    scene
        .until("the worker is busy", |events| {
            keys(events, is_started).len() == 60
        })
        .await;
    let begun = now();
    worker.signal(Signal::TERM);
    let ended = scene.ended(worker).await;
    say(&format!("the terminated worker: {}", ended.report));
    assert_eq!(ended.status.code(), Some(0));

    // What it released is there at once.
    let consumer = scene.queue.consumer().await.unwrap();
    let mut left = Vec::new();
    while left.len() < 80 {
        let batch = consumer.receive_batch(80, Duration::from_secs(2)).await;
        let batch = batch.unwrap();
        if batch.is_empty() {
            break;
        }
        left.extend(batch);
    }
    let events = scene.read().to_vec();
    let started = keys(&events, is_started);
    let effects = keys(&events, |what| *what == What::Effect);
    let acked = keys(&events, |what| *what == What::Acked);
    let left_keys: BTreeSet<Uuid> = left
        .iter()
        .map(|delivery| delivery.envelope().message.idempotency_key())
        .collect();

    // Nothing new is begun once the signal came.
    let draining = events.iter().position(|event| event.what == What::Draining);
    let (before, after) = events.split_at(draining.expect("it noted the signal"));
    assert_eq!(keys(after, is_started), BTreeSet::new());
    assert!(before.iter().filter(|event| event.at > begun).count() < 60);
    // What could be finished was, and its ack was flushed; the rest was given back.
    assert_eq!(effects, started.intersection(&is_quick).copied().collect());
    assert_eq!(acked, effects);
    assert!(acked.len() >= 20, "of 60, at most 40 hang");
    assert_eq!(ended.figure("acked"), acked.len());
    assert_eq!(ended.figure("cancelled"), 60 - acked.len());
    assert_eq!(
        ended.figure("received"),
        ended.figure("acked") + ended.figure("released")
    );
    assert_eq!(left_keys.len(), 80 - acked.len());
    assert!(left_keys.is_disjoint(&acked));
    assert!(started.is_subset(&left_keys.union(&acked).copied().collect()));
    assert!(drained_in(&ended.report) <= 4.0, "{}", ended.report);

    let left: Vec<_> = left.iter().map(|d| d.envelope().message.clone()).collect();
    let verdict = judge(&sent, &events, &[], &left);
    assert!(verdict.ledger.is_clean(), "{verdict}");
    scene.end().await;
}

/// The seconds of the drain, in a report.
fn drained_in(report: &str) -> f64 {
    let (_, rest) = report.split_once("drained_in=").unwrap();
    rest.trim_end_matches('s').parse().unwrap()
}
