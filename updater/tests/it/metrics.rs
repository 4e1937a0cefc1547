//! What is measured.

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use towpath_core::Outcome;
use towpath_updater::BreakerConfig;

use crate::server::{Server, handle, reply, updater};

#[tokio::test]
async fn requests_outcomes_breaker_and_alarm_are_measured() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    // Current-thread runtime: all is measured in this thread.
    let _guard = metrics::set_default_local_recorder(&recorder);
    let server = Server::start([reply(200), reply(401), reply(503)]).await;
    let breaker = BreakerConfig::default().consecutive_failures(2);
    let updater = updater(server.destination("/").breaker(breaker));
    assert_eq!(handle(&updater, "x").await, Outcome::Ack);
    assert!(matches!(
        handle(&updater, "x").await,
        Outcome::DeadLetter { .. }
    ));
    assert!(matches!(handle(&updater, "x").await, Outcome::Retry { .. }));

    let mut seen = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let labels: Vec<_> = key.key().labels().map(|label| label.value()).collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        };
        seen.insert(format!("{} {}", key.key().name(), labels.join(" ")), value);
    }
    let expected = [
        ("towpath_breaker_state crm", 2.0),
        ("towpath_update_alarm crm", 1.0),
        ("towpath_update_seconds crm 200", 1.0),
        ("towpath_update_seconds crm 401", 1.0),
        ("towpath_update_seconds crm 503", 1.0),
        ("towpath_updates_running crm", 0.0),
        ("towpath_updates_total crm ack", 1.0),
        ("towpath_updates_total crm dead_letter", 1.0),
        ("towpath_updates_total crm release", 0.0),
        ("towpath_updates_total crm retry", 1.0),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(seen, BTreeMap::from(expected));
}
