//! What a worker did.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use towpath_core::{Error, ErrorKind};

use crate::{Health, metrics::WorkerMetrics};

/// What a worker did from start to end.
///
/// Every received message is in exactly one of the next seven figures, see
/// [`is_balanced`](Self::is_balanced).
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Messages that were received.
    pub received: u64,
    /// Messages that were handled and removed from the queue.
    pub acked: u64,
    /// Attempts that failed and were given back for another one.
    pub retried: u64,
    /// Messages that were moved to the dead-letter queue.
    pub dead_lettered: u64,
    /// Messages that were given back without an attempt that counts: the worker stopped, a
    /// predecessor of the same ordering key failed, or the handler said so.
    pub released: u64,
    /// Attempts whose lease was lost before they were settled; what they returned was discarded.
    pub lease_lost: u64,
    /// Messages that the queue would neither remove nor take back. They come back when their lease
    /// runs out.
    pub settle_failed: u64,
    /// Messages still unsettled when the drain's deadline passed. They come back when their lease
    /// runs out.
    pub unsettled: u64,
    /// Attempts that panicked; each is also in another figure.
    pub panicked: u64,
    /// Attempts that took longer than the handler timeout; each is also in another figure.
    pub timed_out: u64,
    /// Handlers that were cancelled by the drain's deadline; each is also in another figure.
    pub cancelled: u64,
    /// Receive calls that failed.
    pub receive_errors: u64,
    /// How long it took from the signal to the end.
    pub drained_in: Duration,
    /// What closing the consumer reported.
    pub close_error: Option<Error>,
}

impl Report {
    /// Whether every received message is accounted for.
    pub fn is_balanced(&self) -> bool {
        self.received == self.accounted()
    }

    fn accounted(&self) -> u64 {
        self.acked
            + self.retried
            + self.dead_lettered
            + self.released
            + self.lease_lost
            + self.settle_failed
            + self.unsettled
    }
}

/// `received=10 acked=8 retried=1 dead_lettered=1 ..`, without the figures that are zero.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "received={} acked={}", self.received, self.acked)?;
        for (name, figure) in [
            ("retried", self.retried),
            ("dead_lettered", self.dead_lettered),
            ("released", self.released),
            ("lease_lost", self.lease_lost),
            ("settle_failed", self.settle_failed),
            ("unsettled", self.unsettled),
            ("panicked", self.panicked),
            ("timed_out", self.timed_out),
            ("cancelled", self.cancelled),
            ("receive_errors", self.receive_errors),
        ] {
            if figure > 0 {
                write!(f, " {name}={figure}")?;
            }
        }
        write!(f, " drained_in={:.3}s", self.drained_in.as_secs_f64())
    }
}

/// The figures of a worker while it runs. Cloning is cheap; made by
/// [`Worker::stats`](crate::Worker::stats), and right for as long as the process lives.
#[derive(Clone)]
pub struct Stats(pub(crate) Arc<Counts>);

impl Stats {
    /// The figures so far; what is in hand counts as unsettled.
    pub fn report(&self) -> Report {
        self.0.report()
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stats({})", self.report())
    }
}

/// The figures while they are counted, in the report and as metrics.
pub(crate) struct Counts {
    received: AtomicU64,
    receive_errors: AtomicU64,
    settled: [AtomicU64; 6],
    panicked: AtomicU64,
    timed_out: AtomicU64,
    cancelled: AtomicU64,
    pub(crate) metrics: WorkerMetrics,
    health: Health,
}

/// How a message was settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Acked,
    Retried,
    DeadLettered,
    Released,
    LeaseLost,
    Failed,
}

impl Counts {
    pub(crate) fn new(metrics: WorkerMetrics, health: Health) -> Self {
        Self {
            received: AtomicU64::default(),
            receive_errors: AtomicU64::default(),
            settled: Default::default(),
            panicked: AtomicU64::default(),
            timed_out: AtomicU64::default(),
            cancelled: AtomicU64::default(),
            metrics,
            health,
        }
    }

    pub(crate) fn received(&self, messages: u64) {
        self.health.received(messages);
        if messages > 0 {
            add(&self.received, messages);
            self.metrics.received.increment(messages);
        }
    }

    pub(crate) fn receive_error(&self, queue: &str, kind: ErrorKind, failures: u32) {
        add(&self.receive_errors, 1);
        self.health.failed(failures);
        WorkerMetrics::receive_error(queue, kind.as_str());
    }

    pub(crate) fn settled(&self, how: Settled) {
        add(&self.settled[how as usize], 1);
        self.health.settled();
        let metrics = &self.metrics;
        let counter = match how {
            Settled::Acked => &metrics.acked,
            Settled::Retried => &metrics.retried,
            Settled::DeadLettered => &metrics.dead_lettered,
            Settled::Released => &metrics.released,
            Settled::LeaseLost => &metrics.lease_lost,
            Settled::Failed => &metrics.failed,
        };
        counter.increment(1);
    }

    pub(crate) fn panicked(&self) {
        add(&self.panicked, 1);
        self.metrics.panics.increment(1);
    }

    pub(crate) fn timed_out(&self) {
        add(&self.timed_out, 1);
        self.metrics.timeouts.increment(1);
    }

    pub(crate) fn cancelled(&self) {
        add(&self.cancelled, 1);
    }

    /// The figures now; what is not settled counts as unsettled.
    pub(crate) fn report(&self) -> Report {
        let settled = |how: Settled| self.settled[how as usize].load(Ordering::Relaxed);
        let mut report = Report {
            acked: settled(Settled::Acked),
            retried: settled(Settled::Retried),
            dead_lettered: settled(Settled::DeadLettered),
            released: settled(Settled::Released),
            lease_lost: settled(Settled::LeaseLost),
            settle_failed: settled(Settled::Failed),
            panicked: self.panicked.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
            cancelled: self.cancelled.load(Ordering::Relaxed),
            receive_errors: self.receive_errors.load(Ordering::Relaxed),
            // Read last: a message is counted as received before it is settled.
            received: self.received.load(Ordering::Relaxed),
            ..Report::default()
        };
        let accounted = report.accounted();
        report.unsettled = report.received.saturating_sub(accounted);
        report
    }
}

fn add(count: &AtomicU64, n: u64) {
    count.fetch_add(n, Ordering::Relaxed);
}
