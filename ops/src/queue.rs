//! A queue that the page shows.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};
use towpath_core::{Depth, Queue};
use towpath_worker::{Health, HealthReport, Report, Stats, Worker};

/// How long a depth is shown before it is read again: each reading is a call of the cloud's.
const FRESH: Duration = Duration::from_secs(10);
/// How long to wait for the cloud to tell a depth.
const PATIENCE: Duration = Duration::from_secs(5);
/// Rates are means over at most this time.
const WINDOW: Duration = Duration::from_secs(60);

/// A queue that the page shows, with the workers of this process on it.
pub struct WatchedQueue {
    pub(crate) name: String,
    pub(crate) queue: Queue,
    workers: Vec<(Health, Stats)>,
    samples: Mutex<VecDeque<Sample>>,
    main: Gauge,
    dead: Gauge,
    /// Who works with the dead letters; two at a time would hide them from each other.
    pub(crate) dead_letters: tokio::sync::Mutex<()>,
}

impl WatchedQueue {
    /// A queue, under the name that it is shown and addressed by: letters, digits, `-`, `_` and
    /// `.`.
    pub fn new(name: impl Into<String>, queue: Queue) -> Self {
        Self {
            name: name.into(),
            queue,
            workers: Vec::new(),
            samples: Mutex::default(),
            main: Gauge::default(),
            dead: Gauge::default(),
            dead_letters: tokio::sync::Mutex::default(),
        }
    }

    /// Adds a worker of this process that works on the queue.
    #[must_use]
    pub fn worker(mut self, worker: &Worker) -> Self {
        self.workers.push((worker.health(), worker.stats()));
        self
    }

    /// What the workers did so far, and their rates.
    pub(crate) fn work(&self) -> Option<Work> {
        if self.workers.is_empty() {
            return None;
        }
        let mut sample = Sample::now();
        let mut in_hand = 0;
        let mut reasons = Vec::new();
        for (health, stats) in &self.workers {
            sample.add(&stats.report());
            let readiness = health.readiness();
            in_hand += readiness.in_hand;
            let HealthReport { reasons: more, .. } = health.liveness();
            reasons.extend(readiness.reasons);
            reasons.extend(more);
        }
        reasons.sort();
        reasons.dedup();
        let mut samples = lock(&self.samples);
        while samples.len() > 1 && samples[1].at.elapsed() >= WINDOW {
            samples.pop_front();
        }
        let before = samples.front().copied().unwrap_or(sample);
        // A reload right after another adds nothing to know.
        if samples
            .back()
            .is_none_or(|last| last.at.elapsed() >= Duration::from_secs(1))
        {
            samples.push_back(sample);
        }
        Some(Work {
            in_hand,
            reasons,
            received: sample.received,
            acked: sample.acked,
            retried: sample.retried,
            dead_lettered: sample.dead_lettered,
            acked_per_s: sample.rate(&before),
        })
    }

    /// How full the queue is.
    pub(crate) async fn depth(&self) -> Result<Depth, String> {
        self.main.read(&self.queue).await
    }

    /// How full its dead-letter queue is; `None` without one.
    pub(crate) async fn dead_depth(&self) -> Option<Result<Depth, String>> {
        match self.queue.dead_letter() {
            Ok(None) => None,
            Ok(Some(dead)) => Some(self.dead.read(&dead).await),
            Err(error) => Some(Err(error.to_string())),
        }
    }

    /// Reads the depths anew at the next look.
    pub(crate) async fn forget_depths(&self) {
        self.main.forget().await;
        self.dead.forget().await;
    }
}

impl fmt::Debug for WatchedQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedQueue")
            .field("name", &self.name)
            .field("queue", &self.queue)
            .field("workers", &self.workers.len())
            .finish_non_exhaustive()
    }
}

/// What the workers of this process do on a queue.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Work {
    pub(crate) in_hand: u64,
    /// What keeps a worker from working; empty when all is well.
    pub(crate) reasons: Vec<String>,
    pub(crate) received: u64,
    pub(crate) acked: u64,
    pub(crate) retried: u64,
    pub(crate) dead_lettered: u64,
    /// The mean over the last minute, or since the page was first looked at. `None` at first.
    pub(crate) acked_per_s: Option<f64>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    received: u64,
    acked: u64,
    retried: u64,
    dead_lettered: u64,
}

impl Sample {
    fn now() -> Self {
        Self {
            at: Instant::now(),
            received: 0,
            acked: 0,
            retried: 0,
            dead_lettered: 0,
        }
    }

    fn add(&mut self, report: &Report) {
        self.received += report.received;
        self.acked += report.acked;
        self.retried += report.retried;
        self.dead_lettered += report.dead_lettered;
    }

    fn rate(&self, before: &Self) -> Option<f64> {
        let time = self.at.duration_since(before.at).as_secs_f64();
        // Counts of a process are far below what a float holds exactly.
        (time > 0.5).then(|| self.acked.saturating_sub(before.acked) as f64 / time)
    }
}

/// The last reading of a depth.
#[derive(Default)]
struct Gauge(tokio::sync::Mutex<Option<(Instant, Result<Depth, String>)>>);

impl Gauge {
    async fn read(&self, queue: &Queue) -> Result<Depth, String> {
        // Held while reading, so that many who look make one call.
        let mut last = self.0.lock().await;
        if let Some((at, depth)) = &*last
            && at.elapsed() < FRESH
        {
            return depth.clone();
        }
        let reading = async { queue.admin().await?.depth().await };
        let depth = match timeout(PATIENCE, reading).await {
            Ok(depth) => depth.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        *last = Some((Instant::now(), depth.clone()));
        depth
    }

    async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
