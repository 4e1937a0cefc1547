use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use towpath_core::Outcome;
use towpath_worker::{DepthSampler, layers::MetricsLayer};

use crate::support::{SECOND, Setup, eventually, fixed, retry, start};

/// The recorder is this thread's own, and the runtime of the test has only this thread.
#[test]
fn what_the_worker_does_is_measured() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    metrics::with_local_recorder(&recorder, || {
        runtime.block_on(async {
            towpath_worker::metrics::describe();
            let mut setup = Setup::new("memory://orders").await;
            setup.send("x").await;
            setup.send("y").await;
            let admin = setup.queue.admin().await.unwrap();
            let _sampler = DepthSampler::start(admin, "orders", 3_600 * SECOND);
            let builder = setup
                .worker(|attempt| async move {
                    tokio::time::sleep(2 * SECOND).await;
                    match attempt.number() {
                        Some(1) => retry("not yet"),
                        _ => Outcome::Ack,
                    }
                })
                .await;
            let builder = builder.retry(fixed(5 * SECOND));
            let builder = builder.layer(MetricsLayer::new("orders"));
            // The sampler sees the queue before the worker does.
            tokio::task::yield_now().await;
            let running = start(builder);
            for _ in 0..4 {
                setup.seen().await;
            }
            eventually(async || setup.depth().await.total() == 0).await;
            running.stop().await;
        });
    });
    let figures = snapshotter.snapshot().into_vec();
    let find = |name: &str, label: Option<(&str, &str)>| {
        figures
            .iter()
            .find(|(key, ..)| {
                let key = key.key();
                key.name() == name
                    && label.is_none_or(|(name, value)| {
                        key.labels().any(|l| l.key() == name && l.value() == value)
                    })
            })
            .map(|(.., value)| value)
            .unwrap_or_else(|| panic!("{name} {label:?} is missing"))
    };
    assert_eq!(
        find("towpath_received_total", None),
        &DebugValue::Counter(4)
    );
    for (outcome, n) in [("acked", 2), ("retried", 2), ("dead_lettered", 0)] {
        let counter = find("towpath_settled_total", Some(("outcome", outcome)));
        assert_eq!(counter, &DebugValue::Counter(n), "{outcome}");
    }
    for gauge in ["towpath_in_flight", "towpath_attempts_running"] {
        assert_eq!(find(gauge, None), &DebugValue::Gauge(0.0.into()), "{gauge}");
    }
    assert_eq!(
        find("towpath_depth", Some(("state", "ready"))),
        &DebugValue::Gauge(2.0.into())
    );
    for (name, label, expected) in [
        (
            "towpath_attempt_seconds",
            Some(("outcome", "ack")),
            [2.0, 2.0],
        ),
        (
            "towpath_attempt_seconds",
            Some(("outcome", "retry")),
            [2.0, 2.0],
        ),
        ("towpath_retry_delay_seconds", None, [5.0, 5.0]),
        ("towpath_end_to_end_seconds", None, [9.0, 9.0]),
    ] {
        let DebugValue::Histogram(values) = find(name, label) else {
            panic!("{name} is a histogram");
        };
        let values: Vec<f64> = values.iter().map(|value| value.into_inner()).collect();
        assert_eq!(values.len(), 2, "{name} {label:?}");
        for (value, expected) in values.iter().zip(expected) {
            assert!(
                (value - expected).abs() < 0.1,
                "{name} {label:?}: {values:?}"
            );
        }
    }
}
