//! Durations and outcomes of attempts.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use metrics::{Gauge, Histogram};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;
use towpath_core::{Attempt, Outcome};

use crate::{AttemptService, OutcomeFuture};

/// Measures attempts: `towpath_attempt_seconds` by outcome, and `towpath_attempts_running`. See
/// [all metrics](crate::metrics).
///
/// A duration is that of everything within this layer, so put it around what is to be measured.
#[derive(Clone)]
pub struct MetricsLayer(Arc<Handles>);

struct Handles {
    running: Gauge,
    acked: Histogram,
    failed: Histogram,
    released: Histogram,
    dead_lettered: Histogram,
    dropped: Histogram,
}

impl MetricsLayer {
    /// Measures under the name of a queue. Install the recorder before.
    pub fn new(queue: impl Into<String>) -> Self {
        let queue = queue.into();
        let of = |outcome: &'static str| metrics::histogram!("towpath_attempt_seconds", "queue" => queue.clone(), "outcome" => outcome);
        Self(Arc::new(Handles {
            running: metrics::gauge!("towpath_attempts_running", "queue" => queue.clone()),
            acked: of("ack"),
            failed: of("retry"),
            released: of("release"),
            dead_lettered: of("dead_letter"),
            dropped: of("dropped"),
        }))
    }
}

impl std::fmt::Debug for MetricsLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MetricsLayer")
    }
}

impl<S> Layer<S> for MetricsLayer {
    type Service = Metrics<S>;

    fn layer(&self, inner: S) -> Metrics<S> {
        Metrics {
            inner,
            handles: self.clone(),
        }
    }
}

/// The service of [`MetricsLayer`].
#[derive(Clone, Debug)]
pub struct Metrics<S> {
    inner: S,
    handles: MetricsLayer,
}

impl<S: AttemptService> Service<Attempt> for Metrics<S> {
    type Response = Outcome;
    type Error = Infallible;
    type Future = OutcomeFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, attempt: Attempt) -> OutcomeFuture {
        let mut running = Running::new(self.handles.0.clone());
        let work = self.inner.call(attempt);
        Box::pin(async move {
            let outcome = work.await?;
            running.end(&outcome);
            Ok(outcome)
        })
    }
}

/// An attempt that runs. One that is dropped, or panics, counts as dropped.
struct Running {
    handles: Arc<Handles>,
    begun: Instant,
    is_over: bool,
}

impl Running {
    fn new(handles: Arc<Handles>) -> Self {
        handles.running.increment(1);
        Self {
            handles,
            begun: Instant::now(),
            is_over: false,
        }
    }

    fn end(&mut self, outcome: &Outcome) {
        self.is_over = true;
        let handles = &self.handles;
        let histogram = match outcome {
            Outcome::Ack => &handles.acked,
            Outcome::Retry { .. } => &handles.failed,
            Outcome::Release { .. } => &handles.released,
            Outcome::DeadLetter { .. } => &handles.dead_lettered,
        };
        histogram.record(self.begun.elapsed());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handles.running.decrement(1);
        if !self.is_over {
            self.handles.dropped.record(self.begun.elapsed());
        }
    }
}
