//! A load with every kind of trouble, checked by a ledger.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use towpath_core::{Attempt, FailureClass, Message, Outcome};
use towpath_memory::{Faults, MemoryBackend};
use towpath_worker::{Backoff, Report, RetryPolicy, WorkerBuilder};
use uuid::Uuid;

use crate::support::{SECOND, Setup, retry, start};

const MESSAGES: u64 = 3_000;
const KEYS: u64 = 40;
const LIMIT: u32 = 6;

/// What the handlers did.
#[derive(Default)]
struct Ledger {
    /// The tokens of the attempts that run, by message.
    running: HashMap<Uuid, (u64, CancellationToken)>,
    started: u64,
    attempts: HashMap<Uuid, u32>,
    releases: HashMap<Uuid, u32>,
    effects: Vec<(Uuid, Option<String>, u64)>,
    overlaps: Vec<Uuid>,
}

/// An attempt that runs. Dropped when it ends, however it does.
struct Entry {
    ledger: Arc<Mutex<Ledger>>,
    key: Uuid,
    number: u64,
}

impl Entry {
    async fn new(ledger: &Arc<Mutex<Ledger>>, attempt: &Attempt) -> Self {
        let key = attempt.envelope().message.idempotency_key();
        let token = attempt.cancellation().clone();
        let (entry, before) = {
            let mut inner = ledger.lock().unwrap();
            *inner.attempts.entry(key).or_default() += 1;
            inner.started += 1;
            let entry = Self {
                ledger: ledger.clone(),
                key,
                number: inner.started,
            };
            let before = inner.running.insert(key, (entry.number, token));
            (entry, before)
        };
        // I3, I4: another attempt only when the one before is told that its lease is gone. A lease
        // can end for both in the same instant, so the other one gets a moment to hear of it.
        if let Some((_, token)) = before {
            let told = timeout(Duration::from_millis(1), token.cancelled()).await;
            if told.is_err() {
                ledger.lock().unwrap().overlaps.push(key);
            }
        }
        entry
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut inner = self.ledger.lock().unwrap();
        let is_ours = |(number, _): &(u64, CancellationToken)| *number == self.number;
        if inner.running.get(&self.key).is_some_and(is_ours) {
            inner.running.remove(&self.key);
        }
    }
}

/// What the handler does with an attempt, by a seed of its own, so that one run is like another.
async fn handle(seed: u64, ledger: Arc<Mutex<Ledger>>, attempt: Attempt) -> Outcome {
    let message = attempt.envelope().message.clone();
    let key = message.idempotency_key();
    let entry = Entry::new(&ledger, &attempt).await;
    let tries = ledger.lock().unwrap().attempts[&key];
    let mut random = fastrand::Rng::with_seed(seed ^ key.as_u128() as u64 ^ u64::from(tries) << 48);
    tokio::time::sleep(Duration::from_millis(random.u64(0..200))).await;
    match random.u32(0..100) {
        0..15 => return retry("down"),
        15..17 => panic!("a bug"),
        // Longer than any lease.
        17..19 => std::future::pending::<()>().await,
        // It hangs on to its lease for a while.
        19..25 => tokio::time::sleep(40 * SECOND).await,
        25..27 => {
            return Outcome::DeadLetter {
                class: FailureClass::Permanent,
                reason: "refused".into(),
            };
        }
        27..30 => {
            *ledger.lock().unwrap().releases.entry(key).or_default() += 1;
            return Outcome::Release {
                after: Some(SECOND),
                reason: "busy".into(),
            };
        }
        30..33 => {
            return Outcome::Retry {
                after: Some(20 * SECOND),
                reason: "429".into(),
            };
        }
        _ => {}
    }
    let number: u64 = attempt.json().unwrap();
    let ordering_key = message.ordering_key().map(str::to_owned);
    ledger
        .lock()
        .unwrap()
        .effects
        .push((key, ordering_key, number));
    drop(entry);
    Outcome::Ack
}

fn configured(builder: WorkerBuilder) -> WorkerBuilder {
    let backoff = Backoff::exponential(SECOND, 30 * SECOND);
    builder
        .concurrency(32)
        .drain_deadline(10 * SECOND)
        .retry(RetryPolicy::new(backoff).max_attempts(LIMIT))
}

/// Runs until the queue is empty, with workers that come and go, and returns their reports.
async fn run(seed: u64, setup: &Setup, ledger: &Arc<Mutex<Ledger>>) -> Vec<Report> {
    let builder = async || {
        let ledger = ledger.clone();
        let builder = setup
            .worker(move |attempt| handle(seed, ledger.clone(), attempt))
            .await;
        configured(builder)
    };
    let mut reports = Vec::new();
    let mut workers = vec![start(builder().await), start(builder().await)];
    for _ in 0..2_000 {
        tokio::time::sleep(37 * SECOND).await;
        if setup.depth().await.total() == 0 {
            break;
        }
        // A rolling restart: the older one drains while its successor starts.
        let oldest = workers.remove(0);
        workers.push(start(builder().await));
        reports.push(oldest.stop().await);
    }
    for worker in workers {
        reports.push(worker.stop().await);
    }
    reports
}

async fn check(seed: u64) {
    // The jitter of the retries, too.
    fastrand::seed(seed);
    let faults = Faults::new()
        .with_throttle(0.05)
        .with_lost_ack(0.02)
        .with_receive_error(0.05)
        .with_reorder(0.1);
    let backend = MemoryBackend::with_faults(faults, seed).unwrap();
    let url = "memory://orders?lease=10s&max_lease=60s&dead_letter=dead&max_deliveries=100000";
    let setup = Setup::with(backend, url).await;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sent: BTreeMap<Uuid, u64> = BTreeMap::new();
    for number in 0..MESSAGES {
        let key = Uuid::from_u128(random.u128(..));
        let mut message = Message::json(&number).unwrap().with_idempotency_key(key);
        if number % 2 == 0 {
            message = message.with_ordering_key(format!("k{}", random.u64(0..KEYS)));
        }
        setup.producer.send(message).await.unwrap();
        sent.insert(key, number);
    }
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let reports = run(seed, &setup, &ledger).await;

    let sum = |figure: fn(&Report) -> u64| reports.iter().map(figure).sum::<u64>();
    let (acked, dead_lettered) = (sum(|r| r.acked), sum(|r| r.dead_lettered));
    println!(
        "seed={seed} workers={} received={} acked={acked} dead_lettered={dead_lettered} retried={} released={} lease_lost={} panicked={} cancelled={}",
        reports.len(),
        sum(|r| r.received),
        sum(|r| r.retried),
        sum(|r| r.released),
        sum(|r| r.lease_lost),
        sum(|r| r.panicked),
        sum(|r| r.cancelled),
    );
    for report in &reports {
        assert!(report.is_balanced(), "{report:?}");
        assert!(report.drained_in <= 10 * SECOND, "{report:?}");
        assert_eq!(
            (report.settle_failed, report.unsettled),
            (0, 0),
            "{report:?}"
        );
    }
    for (name, figure) in [
        ("panicked", sum(|r| r.panicked)),
        ("lease_lost", sum(|r| r.lease_lost)),
        ("cancelled", sum(|r| r.cancelled)),
        ("released", sum(|r| r.released)),
        ("receive_errors", sum(|r| r.receive_errors)),
    ] {
        assert!(figure > 0, "the load has no {name}");
    }

    // Every message ended in one place.
    let dead: Vec<_> = setup.dead_all().await;
    let parked: BTreeSet<Uuid> = dead.iter().map(|m| m.idempotency_key()).collect();
    assert_eq!(setup.depth().await.total(), 0);
    let ledger = ledger.lock().unwrap();
    let done: BTreeSet<Uuid> = ledger.effects.iter().map(|(key, ..)| *key).collect();
    let lost: Vec<_> = sent
        .keys()
        .filter(|key| !done.contains(key) && !parked.contains(key))
        .collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(done.iter().chain(&parked).all(|key| sent.contains_key(key)));
    // Settled once: as many acks and dead letters as messages, and no message in both places.
    assert_eq!(acked + dead_lettered, MESSAGES);
    assert_eq!(parked.len(), dead.len(), "a message was parked twice");
    assert_eq!(dead.len() as u64, dead_lettered);
    assert!(
        ledger.overlaps.is_empty(),
        "overlaps: {:?}",
        ledger.overlaps
    );

    // I5: effects of a key in order of sending.
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for (_, key, number) in &ledger.effects {
        if let Some(key) = key {
            let before = last.insert(key, *number);
            assert!(
                before.is_none_or(|before| before <= *number),
                "{key}: {before:?}, {number}"
            );
        }
    }
    assert_eq!(last.len() as u64, KEYS);
    // I6: attempts within the limit; what the handler itself gave back was none.
    for (key, attempts) in &ledger.attempts {
        let releases = ledger.releases.get(key).copied().unwrap_or(0);
        assert!(attempts - releases <= LIMIT, "{key}: {attempts} attempts");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_or_settled_twice_and_keys_stay_in_order() {
    for seed in [1, 2, 3] {
        check(seed).await;
    }
}
