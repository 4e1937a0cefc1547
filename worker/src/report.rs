//! What a worker did.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use towpath_core::Error;

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
        self.received
            == self.acked
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

/// The figures while they are counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) received: Count,
    pub(crate) acked: Count,
    pub(crate) retried: Count,
    pub(crate) dead_lettered: Count,
    pub(crate) released: Count,
    pub(crate) lease_lost: Count,
    pub(crate) settle_failed: Count,
    pub(crate) panicked: Count,
    pub(crate) timed_out: Count,
    pub(crate) cancelled: Count,
    pub(crate) receive_errors: Count,
}

#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counts {
    /// The figures now; what is not settled counts as unsettled.
    pub(crate) fn report(&self) -> Report {
        // Read before the others are: a message is counted as received first.
        let mut report = Report {
            acked: self.acked.get(),
            retried: self.retried.get(),
            dead_lettered: self.dead_lettered.get(),
            released: self.released.get(),
            lease_lost: self.lease_lost.get(),
            settle_failed: self.settle_failed.get(),
            panicked: self.panicked.get(),
            timed_out: self.timed_out.get(),
            cancelled: self.cancelled.get(),
            receive_errors: self.receive_errors.get(),
            ..Report::default()
        };
        report.received = self.received.get();
        report.unsettled = report.received.saturating_sub(
            report.acked
                + report.retried
                + report.dead_lettered
                + report.released
                + report.lease_lost
                + report.settle_failed,
        );
        report
    }
}
