//! A span per attempt.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;
use towpath_core::{Attempt, Outcome};
use tracing::{Instrument, Span, field::Empty};

use crate::{AttemptService, OutcomeFuture, TraceContext};

/// Runs each attempt in a span, with the names of OpenTelemetry's conventions for messaging. Bodies
/// are never recorded.
///
/// | field | value |
/// |---|---|
/// | `otel.name`, `otel.kind` | `process <queue>`, `consumer` |
/// | `messaging.system` | [`system`](Self::system) |
/// | `messaging.operation.name`, `messaging.operation.type` | `process` |
/// | `messaging.destination.name` | the queue |
/// | `messaging.message.id` | the broker's id |
/// | `messaging.message.body.size` | bytes |
/// | `towpath.idempotency_key` | the stable identity of the message |
/// | `towpath.attempt` | 1 is the first |
/// | `towpath.redrives` | where it was redriven |
/// | `towpath.outcome` | `ack`, `retry`, `release` or `dead_letter` |
/// | `error.type`, `otel.status_code` | where it failed |
/// | `trace_id`, `parent_id` | the sender's trace and span, where the message is a child of it |
/// | `link.trace_id`, `link.span_id` | the same, where it is only linked |
///
/// A message is a child of the span that sent it, so that both are in one trace. A message that was
/// redriven is linked instead: it is days away from its sender, and has been traced before.
///
/// With the feature `opentelemetry` and a `tracing-opentelemetry` layer in the subscriber, parent
/// and link are those of the exported span. Without, they are fields for the logs.
#[derive(Clone, Debug)]
pub struct TraceLayer {
    system: &'static str,
}

impl Default for TraceLayer {
    fn default() -> Self {
        Self { system: "towpath" }
    }
}

impl TraceLayer {
    /// Spans with `messaging.system` = `towpath`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `messaging.system`: `aws_sqs`, `gcp_pubsub`.
    #[must_use]
    pub fn system(mut self, system: &'static str) -> Self {
        self.system = system;
        self
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = Trace<S>;

    fn layer(&self, inner: S) -> Trace<S> {
        Trace {
            inner,
            system: self.system,
        }
    }
}

/// The service of [`TraceLayer`].
#[derive(Clone, Debug)]
pub struct Trace<S> {
    inner: S,
    system: &'static str,
}

impl<S: AttemptService> Service<Attempt> for Trace<S> {
    type Response = Outcome;
    type Error = Infallible;
    type Future = OutcomeFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, attempt: Attempt) -> OutcomeFuture {
        let span = span_of(&attempt, self.system);
        let work = span.in_scope(|| self.inner.call(attempt));
        let outer = span.clone();
        Box::pin(
            async move {
                let outcome = work.await?;
                note_outcome(&outer, &outcome);
                Ok(outcome)
            }
            .instrument(span),
        )
    }
}

fn span_of(attempt: &Attempt, system: &'static str) -> Span {
    let envelope = attempt.envelope();
    let message = &envelope.message;
    let span = tracing::info_span!(
        "process",
        otel.name = format_args!("process {}", attempt.queue()),
        otel.kind = "consumer",
        otel.status_code = Empty,
        messaging.system = system,
        messaging.operation.name = "process",
        "messaging.operation.type" = "process",
        messaging.destination.name = attempt.queue(),
        messaging.message.id = %envelope.id,
        messaging.message.body.size = message.body().len(),
        towpath.idempotency_key = %message.idempotency_key(),
        towpath.attempt = envelope.attempt,
        towpath.redrives = message.failure().map(|failure| failure.redrives),
        towpath.outcome = Empty,
        "error.type" = Empty,
        trace_id = Empty,
        parent_id = Empty,
        link.trace_id = Empty,
        link.span_id = Empty,
    );
    if span.is_disabled() {
        return span;
    }
    if let Some(context) = TraceContext::of(message) {
        let (trace_id, span_id) = (
            format!("{:032x}", context.trace_id),
            format!("{:016x}", context.span_id),
        );
        if message.failure().is_some() {
            span.record("link.trace_id", trace_id);
            span.record("link.span_id", span_id);
            #[cfg(feature = "opentelemetry")]
            crate::otel::link(&span, &context);
        } else {
            span.record("trace_id", trace_id);
            span.record("parent_id", span_id);
            #[cfg(feature = "opentelemetry")]
            crate::otel::set_parent(&span, &context);
        }
    }
    span
}

fn note_outcome(span: &Span, outcome: &Outcome) {
    let (name, error) = match outcome {
        Outcome::Ack => ("ack", None),
        Outcome::Release { .. } => ("release", None),
        Outcome::Retry { .. } => ("retry", Some("retry")),
        Outcome::DeadLetter { class, .. } => {
            let class = serde_json::to_value(class).unwrap_or_default();
            let class = class.as_str().unwrap_or("permanent").to_owned();
            span.record("towpath.outcome", "dead_letter");
            span.record("error.type", class);
            span.record("otel.status_code", "ERROR");
            return;
        }
    };
    span.record("towpath.outcome", name);
    if let Some(error) = error {
        span.record("error.type", error);
        span.record("otel.status_code", "ERROR");
    }
}
