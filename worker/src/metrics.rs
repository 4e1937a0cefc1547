//! The metrics that are written, through the [`metrics`](https://docs.rs/metrics) facade.
//!
//! Install a recorder (Prometheus, OpenTelemetry, ...) before the worker is built; without one they
//! cost nearly nothing.
//!
//! | name | kind | labels | meaning |
//! |---|---|---|---|
//! | `towpath_received_total` | counter | `queue` | messages received |
//! | `towpath_settled_total` | counter | `queue`, `outcome` | how messages were settled: `acked`, `retried`, `dead_lettered`, `released`, `lease_lost`, `failed` |
//! | `towpath_panics_total` | counter | `queue` | attempts that panicked |
//! | `towpath_timeouts_total` | counter | `queue` | attempts beyond the handler timeout |
//! | `towpath_receive_errors_total` | counter | `queue`, `kind` | receive calls that failed |
//! | `towpath_in_flight` | gauge | `queue` | messages in hand |
//! | `towpath_paused` | gauge | `queue` | 1 while receiving is paused |
//! | `towpath_end_to_end_seconds` | histogram | `queue` | from the send to the ack |
//! | `towpath_retry_delay_seconds` | histogram | `queue` | the delay before the next attempt |
//! | `towpath_attempt_seconds` | histogram | `queue`, `outcome` | how long attempts take ([`MetricsLayer`](crate::layers::MetricsLayer)) |
//! | `towpath_attempts_running` | gauge | `queue` | attempts that run ([`MetricsLayer`](crate::layers::MetricsLayer)) |
//! | `towpath_breaker_state` | gauge | `breaker` | 0 closed, 1 half open, 2 open ([`CircuitBreakerLayer`](crate::layers::CircuitBreakerLayer)) |
//! | `towpath_depth` | gauge | `queue`, `state` | messages in the queue: `ready`, `leased`, `delayed` ([`DepthSampler`](crate::DepthSampler)) |
//! | `towpath_oldest_age_seconds` | gauge | `queue` | the age of the oldest message ([`DepthSampler`](crate::DepthSampler)) |
//! | `towpath_redriven_total` | counter | `queue` | messages sent on from a dead-letter queue ([`Redrive`](crate::Redrive)) |
//!
//! The depth of a dead-letter queue is that of any other: sample it under its name.

use metrics::{
    Counter, Gauge, Histogram, Unit, describe_counter, describe_gauge, describe_histogram,
};

/// Tells the installed recorder what the metrics mean.
pub fn describe() {
    describe_counter!("towpath_received_total", "Messages received");
    describe_counter!("towpath_settled_total", "Messages settled, by outcome");
    describe_counter!("towpath_panics_total", "Attempts that panicked");
    describe_counter!(
        "towpath_timeouts_total",
        "Attempts beyond the handler timeout"
    );
    describe_counter!(
        "towpath_receive_errors_total",
        "Receive calls that failed, by kind"
    );
    describe_counter!(
        "towpath_redriven_total",
        "Messages sent on from a dead-letter queue"
    );
    describe_gauge!("towpath_in_flight", "Messages in hand");
    describe_gauge!("towpath_paused", "1 while receiving is paused");
    describe_gauge!("towpath_attempts_running", "Attempts that run");
    describe_gauge!("towpath_breaker_state", "0 closed, 1 half open, 2 open");
    describe_gauge!("towpath_depth", "Messages in the queue, by state");
    describe_gauge!(
        "towpath_oldest_age_seconds",
        Unit::Seconds,
        "Age of the oldest message"
    );
    describe_histogram!(
        "towpath_end_to_end_seconds",
        Unit::Seconds,
        "From the send to the ack"
    );
    describe_histogram!(
        "towpath_retry_delay_seconds",
        Unit::Seconds,
        "Delay before the next attempt"
    );
    describe_histogram!(
        "towpath_attempt_seconds",
        Unit::Seconds,
        "How long attempts take, by outcome"
    );
}

/// The metrics of one worker.
pub(crate) struct WorkerMetrics {
    pub(crate) received: Counter,
    pub(crate) acked: Counter,
    pub(crate) retried: Counter,
    pub(crate) dead_lettered: Counter,
    pub(crate) released: Counter,
    pub(crate) lease_lost: Counter,
    pub(crate) failed: Counter,
    pub(crate) panics: Counter,
    pub(crate) timeouts: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) paused: Gauge,
    pub(crate) end_to_end: Histogram,
    pub(crate) retry_delay: Histogram,
}

impl WorkerMetrics {
    pub(crate) fn new(queue: &str) -> Self {
        let queue = queue.to_owned();
        let settled = |outcome: &'static str| metrics::counter!("towpath_settled_total", "queue" => queue.clone(), "outcome" => outcome);
        Self {
            received: metrics::counter!("towpath_received_total", "queue" => queue.clone()),
            acked: settled("acked"),
            retried: settled("retried"),
            dead_lettered: settled("dead_lettered"),
            released: settled("released"),
            lease_lost: settled("lease_lost"),
            failed: settled("failed"),
            panics: metrics::counter!("towpath_panics_total", "queue" => queue.clone()),
            timeouts: metrics::counter!("towpath_timeouts_total", "queue" => queue.clone()),
            in_flight: metrics::gauge!("towpath_in_flight", "queue" => queue.clone()),
            paused: metrics::gauge!("towpath_paused", "queue" => queue.clone()),
            end_to_end: metrics::histogram!("towpath_end_to_end_seconds", "queue" => queue.clone()),
            retry_delay: metrics::histogram!("towpath_retry_delay_seconds", "queue" => queue.clone()),
        }
    }

    /// Receive errors are rare, so their labels are made when they happen.
    pub(crate) fn receive_error(queue: &str, kind: &'static str) {
        metrics::counter!("towpath_receive_errors_total", "queue" => queue.to_owned(), "kind" => kind)
            .increment(1);
    }
}
