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

//!
//! [`ALL`] is the same as data, and `docs/grafana` has a dashboard for it. Its durations are in
//! buckets of the [`BUCKETS`], which a recorder for Prometheus has to be told.

use metrics::{
    Counter, Gauge, Histogram, Unit, describe_counter, describe_gauge, describe_histogram,
};

/// One metric.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means.
    pub meaning: &'static str,
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It is what it is now.
    Gauge,
    /// A distribution of seconds.
    Histogram,
}

const fn metric(
    kind: MetricKind,
    name: &'static str,
    labels: &'static [&'static str],
    meaning: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        labels,
        meaning,
    }
}

use MetricKind::{Counter as C, Gauge as G, Histogram as H};

/// Every metric of this crate.
#[rustfmt::skip]
pub const ALL: &[Metric] = &[
    metric(C, "towpath_received_total", &["queue"], "Messages received"),
    metric(C, "towpath_settled_total", &["queue", "outcome"], "Messages settled, by outcome"),
    metric(C, "towpath_panics_total", &["queue"], "Attempts that panicked"),
    metric(C, "towpath_timeouts_total", &["queue"], "Attempts beyond the handler timeout"),
    metric(C, "towpath_receive_errors_total", &["queue", "kind"], "Receive calls that failed, by kind"),
    metric(G, "towpath_in_flight", &["queue"], "Messages in hand"),
    metric(G, "towpath_paused", &["queue"], "1 while receiving is paused"),
    metric(H, "towpath_end_to_end_seconds", &["queue"], "From the send to the ack"),
    metric(H, "towpath_retry_delay_seconds", &["queue"], "Delay before the next attempt"),
    metric(H, "towpath_attempt_seconds", &["queue", "outcome"], "How long attempts take, by outcome"),
    metric(G, "towpath_attempts_running", &["queue"], "Attempts that run"),
    metric(G, "towpath_breaker_state", &["breaker"], "0 closed, 1 half open, 2 open"),
    metric(G, "towpath_depth", &["queue", "state"], "Messages in the queue, by state"),
    metric(G, "towpath_oldest_age_seconds", &["queue"], "Age of the oldest message"),
    metric(C, "towpath_redriven_total", &["queue"], "Messages sent on from a dead-letter queue"),
];

/// Upper bounds of buckets, in seconds, that hold from a quick handler to a day of retries.
pub const BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 1_800.0, 7_200.0, 43_200.0, 86_400.0,
];

/// Tells the installed recorder what the metrics mean.
pub fn describe() {
    for metric in ALL {
        let is_time = metric.name.ends_with("_seconds");
        let unit = if is_time { Unit::Seconds } else { Unit::Count };
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, unit, metric.meaning),
            MetricKind::Gauge => describe_gauge!(metric.name, unit, metric.meaning),
            MetricKind::Histogram => describe_histogram!(metric.name, unit, metric.meaning),
        }
    }
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
