//! The trace context in OpenTelemetry's own types.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::TraceContext;

pub(crate) fn set_parent(span: &Span, context: &TraceContext) {
    let parent = Context::new().with_remote_span_context(remote(context));
    if let Err(error) = span.set_parent(parent) {
        tracing::debug!(%error, "the span has no parent in the exported trace; is a tracing-opentelemetry layer installed?");
    }
}

pub(crate) fn link(span: &Span, context: &TraceContext) {
    span.add_link(remote(context));
}

impl TraceContext {
    /// The context of `span` in the exported trace, to send along. `None` where the subscriber has
    /// no `tracing-opentelemetry` layer.
    pub fn of_span(span: &Span) -> Option<Self> {
        let context = span.context();
        let span = context.span();
        let context = span.span_context();
        context.is_valid().then(|| Self {
            trace_id: u128::from_be_bytes(context.trace_id().to_bytes()),
            span_id: u64::from_be_bytes(context.span_id().to_bytes()),
            sampled: context.is_sampled(),
            state: Some(context.trace_state().header()).filter(|state| !state.is_empty()),
        })
    }
}

fn remote(context: &TraceContext) -> SpanContext {
    let state = context.state.as_deref().unwrap_or_default();
    SpanContext::new(
        TraceId::from_bytes(context.trace_id.to_be_bytes()),
        SpanId::from_bytes(context.span_id.to_be_bytes()),
        if context.sampled {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::NOT_SAMPLED
        },
        true,
        // Vendor data that cannot be read is left out.
        state.parse::<TraceState>().unwrap_or_default(),
    )
}
