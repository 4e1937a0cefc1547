//! What is counted, for the state and for metrics.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use metrics::{Counter, Gauge};

use crate::BreakerState;

/// The counts of one destination; see the crate's documentation for the metrics.
pub(crate) struct Tally {
    destination: String,
    in_flight: AtomicUsize,
    running: Gauge,
    breaker: Gauge,
    alarm: Gauge,
    pub(crate) acked: Count,
    pub(crate) retried: Count,
    pub(crate) released: Count,
    pub(crate) dead_lettered: Count,
}

/// One figure, in both places.
pub(crate) struct Count(AtomicU64, Counter);

impl Count {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
        self.1.increment(1);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Tally {
    pub(crate) fn new(destination: &str) -> Self {
        let name = || destination.to_owned();
        let count = |outcome: &'static str| {
            let labels = [("destination", name()), ("outcome", outcome.to_owned())];
            Count(
                AtomicU64::new(0),
                metrics::counter!("towpath_updates_total", &labels),
            )
        };
        Self {
            destination: name(),
            in_flight: AtomicUsize::new(0),
            running: metrics::gauge!("towpath_updates_running", "destination" => name()),
            breaker: metrics::gauge!("towpath_breaker_state", "breaker" => name()),
            alarm: metrics::gauge!("towpath_update_alarm", "destination" => name()),
            acked: count("ack"),
            retried: count("retry"),
            released: count("release"),
            dead_lettered: count("dead_letter"),
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// A request that runs for as long as the returned value lives.
    pub(crate) fn run(&self) -> Running<'_> {
        self.in_flight.fetch_add(1, Relaxed);
        self.running.increment(1);
        Running(self)
    }

    /// A request that took `time` and ended in `status`: a number, or a word for what else there is.
    pub(crate) fn request(&self, status: String, time: Duration) {
        let labels = [
            ("destination", self.destination.clone()),
            ("status", status),
        ];
        metrics::histogram!("towpath_update_seconds", &labels).record(time);
    }

    pub(crate) fn breaker(&self, state: BreakerState) {
        self.breaker.set(match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
    }

    pub(crate) fn alarm(&self, is_raised: bool) {
        self.alarm.set(u8::from(is_raised));
    }
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally")
            .field("in_flight", &self.in_flight())
            .field("acked", &self.acked.get())
            .field("retried", &self.retried.get())
            .field("released", &self.released.get())
            .field("dead_lettered", &self.dead_lettered.get())
            .finish_non_exhaustive()
    }
}

/// See [`Tally::run`].
pub(crate) struct Running<'a>(&'a Tally);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
        self.0.running.decrement(1);
    }
}
