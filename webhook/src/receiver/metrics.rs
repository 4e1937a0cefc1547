//! The metrics of the receiver.

use std::collections::HashMap;

use metrics::{Counter, Unit, describe_counter, describe_gauge, describe_histogram};

/// Tells the installed recorder what the receiver's metrics mean.
///
/// | name | kind | labels | meaning |
/// |---|---|---|---|
/// | `towpath_webhook_accepted_total` | counter | `source`, `queue` | events that the queue or the overflow took |
/// | `towpath_webhook_duplicates_total` | counter | `source` | copies of accepted events |
/// | `towpath_webhook_refused_total` | counter | `source`, `reason` | requests refused; the reason is the `code` of the answer |
/// | `towpath_webhook_spooled_total` | counter | `source`, `queue` | of the accepted, those that the overflow took |
/// | `towpath_webhook_publish_seconds` | histogram | `queue` | how long publishing takes, failures too |
/// | `towpath_webhook_spool_bytes` | gauge | | bytes in the [`Spool`](crate::spool::Spool) |
/// | `towpath_webhook_spool_oldest_seconds` | gauge | | the age of the oldest message in it, as of the last change or try |
/// | `towpath_webhook_spool_refused` | gauge | | messages in it that their queue refuses for what they are |
/// | `towpath_webhook_spool_drained_total` | counter | `queue` | messages that it has sent on |
/// | `towpath_webhook_spool_drain_failures_total` | counter | `queue` | batches that it could not send on |
/// | `towpath_webhook_spool_commit_seconds` | histogram | | how long a commit takes, which many messages share |
/// | `towpath_webhook_spool_depth` | gauge | | messages in the overflow, as of the last one that went there or the last question at `/readyz` |
pub fn describe() {
    describe_counter!("towpath_webhook_accepted_total", "Events accepted");
    describe_counter!(
        "towpath_webhook_duplicates_total",
        "Copies of accepted events"
    );
    describe_counter!(
        "towpath_webhook_refused_total",
        "Requests refused, by reason"
    );
    describe_counter!(
        "towpath_webhook_spooled_total",
        "Events that the overflow took"
    );
    describe_gauge!("towpath_webhook_spool_depth", "Messages in the overflow");
    describe_gauge!(
        "towpath_webhook_spool_bytes",
        Unit::Bytes,
        "Bytes in the spool"
    );
    describe_gauge!(
        "towpath_webhook_spool_oldest_seconds",
        Unit::Seconds,
        "Age of the oldest message in the spool"
    );
    describe_gauge!(
        "towpath_webhook_spool_refused",
        "Messages in the spool that their queue refuses"
    );
    describe_counter!(
        "towpath_webhook_spool_drained_total",
        "Messages that the spool has sent on"
    );
    describe_counter!(
        "towpath_webhook_spool_drain_failures_total",
        "Batches that the spool could not send on"
    );
    describe_histogram!(
        "towpath_webhook_spool_commit_seconds",
        Unit::Seconds,
        "How long a commit of the spool takes"
    );
    describe_histogram!(
        "towpath_webhook_publish_seconds",
        Unit::Seconds,
        "How long publishing takes"
    );
}

/// The metrics of one source; those that are written often are made once.
#[derive(Debug)]
pub(super) struct SourceMetrics {
    pub(super) duplicates: Counter,
    /// By queue.
    accepted: HashMap<String, Counter>,
}

impl SourceMetrics {
    pub(super) fn new<'a>(source: &str, queues: impl IntoIterator<Item = &'a str>) -> Self {
        let accepted = |queue: &str| {
            metrics::counter!(
                "towpath_webhook_accepted_total",
                "source" => source.to_owned(), "queue" => queue.to_owned()
            )
        };
        Self {
            duplicates: metrics::counter!("towpath_webhook_duplicates_total", "source" => source.to_owned()),
            accepted: queues
                .into_iter()
                .map(|queue| (queue.to_owned(), accepted(queue)))
                .collect(),
        }
    }

    pub(super) fn accepted(&self, queue: &str) {
        if let Some(counter) = self.accepted.get(queue) {
            counter.increment(1);
        }
    }

    pub(super) fn spooled(&self, source: &str, queue: &str) {
        metrics::counter!(
            "towpath_webhook_spooled_total",
            "source" => source.to_owned(), "queue" => queue.to_owned()
        )
        .increment(1);
    }

    pub(super) fn refused(&self, source: &str, reason: &'static str) {
        metrics::counter!(
            "towpath_webhook_refused_total",
            "source" => source.to_owned(), "reason" => reason
        )
        .increment(1);
    }
}

pub(super) fn spool_depth(depth: usize) {
    metrics::gauge!("towpath_webhook_spool_depth").set(depth as f64);
}
