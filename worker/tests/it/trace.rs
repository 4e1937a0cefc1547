use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use towpath_core::{FailureClass, FailureRecord, Message, Outcome};
use towpath_worker::{TraceContext, layers::TraceLayer};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

use crate::support::{Setup, eventually, start};

type Fields = BTreeMap<String, String>;

/// Keeps the fields of spans named `process`.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<BTreeMap<u64, Fields>>>);

struct Visitor<'a>(&'a mut Fields);

impl Visit for Visitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.0
            .insert(field.name().to_owned(), text.trim_matches('"').to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, _: Context<'_, S>) {
        if attributes.metadata().name() == "process" {
            let mut fields = Fields::new();
            attributes.record(&mut Visitor(&mut fields));
            self.0.lock().unwrap().insert(id.into_u64(), fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        if let Some(fields) = self.0.lock().unwrap().get_mut(&id.into_u64()) {
            values.record(&mut Visitor(fields));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_span_has_the_names_of_the_conventions_and_the_sender_s_trace() {
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    let _guard = tracing::subscriber::set_default(subscriber);
    let setup = Setup::new("memory://orders?dead_letter=dead").await;
    let sender: TraceContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        .parse()
        .unwrap();
    let first = sender.inject(Message::new("secret"));
    let mut record = FailureRecord::new(FailureClass::Permanent, "no", "orders");
    record.redrives = 1;
    let redriven = sender
        .inject(Message::new("again"))
        .with_failure(Some(record));
    setup.producer.send(first.clone()).await.unwrap();
    setup.producer.send(redriven).await.unwrap();
    let builder = setup
        .worker(|attempt| async move {
            if attempt.envelope().message.failure().is_some() {
                return Outcome::Ack;
            }
            Outcome::DeadLetter {
                class: FailureClass::Other("refused".into()),
                reason: "no".into(),
            }
        })
        .await;
    let running = start(builder.layer(TraceLayer::new().system("aws_sqs")));
    eventually(async || setup.depth().await.total() == 0).await;
    running.stop().await;
    let spans: Vec<Fields> = spans.0.lock().unwrap().values().cloned().collect();
    assert_eq!(spans.len(), 2);
    let key = first.idempotency_key().to_string();
    let (child, linked) = match spans[0]["towpath.idempotency_key"] == key {
        true => (&spans[0], &spans[1]),
        false => (&spans[1], &spans[0]),
    };
    for (name, value) in [
        ("otel.name", "process orders"),
        ("otel.kind", "consumer"),
        ("otel.status_code", "ERROR"),
        ("messaging.system", "aws_sqs"),
        ("messaging.operation.name", "process"),
        ("messaging.operation.type", "process"),
        ("messaging.destination.name", "orders"),
        ("messaging.message.id", "1"),
        ("messaging.message.body.size", "6"),
        ("towpath.attempt", "1"),
        ("towpath.outcome", "dead_letter"),
        ("error.type", "refused"),
        ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("parent_id", "00f067aa0ba902b7"),
    ] {
        assert_eq!(child.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!child.contains_key("link.trace_id"));
    assert!(!format!("{child:?}").contains("secret"));
    assert_eq!(linked["link.trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(linked["link.span_id"], "00f067aa0ba902b7");
    assert_eq!(linked["towpath.redrives"], "1");
    assert_eq!(linked["towpath.outcome"], "ack");
    assert!(!linked.contains_key("trace_id") && !linked.contains_key("error.type"));
}

#[cfg(feature = "opentelemetry")]
#[tokio::test(start_paused = true)]
async fn exported_spans_are_children_of_their_senders_and_redriven_ones_are_linked() {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let setup = Setup::new("memory://orders").await;
    let sending = tracing::info_span!("send");
    let sender = TraceContext::of_span(&sending).expect("the span is exported");
    drop(sending);
    let record = FailureRecord::new(FailureClass::Permanent, "no", "orders");
    let first = sender.inject(Message::new("x"));
    let redriven = sender.inject(Message::new("x")).with_failure(Some(record));
    setup.producer.send(first).await.unwrap();
    setup.producer.send(redriven).await.unwrap();
    let builder = setup.worker(|_| async { Outcome::Ack }).await;
    let running = start(builder.layer(TraceLayer::new()));
    eventually(async || setup.depth().await.total() == 0).await;
    running.stop().await;
    provider.force_flush().unwrap();
    let spans = exporter.get_finished_spans().unwrap();
    let processed: Vec<_> = spans
        .iter()
        .filter(|s| s.name == "process orders")
        .collect();
    assert_eq!(processed.len(), 2, "{spans:?}");
    let trace = format!("{:032x}", sender.trace_id);
    let parent = format!("{:016x}", sender.span_id);
    let is_child = |s: &opentelemetry_sdk::trace::SpanData| {
        s.span_context.trace_id().to_string() == trace && s.parent_span_id.to_string() == parent
    };
    assert_eq!(processed.iter().filter(|s| is_child(s)).count(), 1);
    let linked = processed.iter().find(|s| !is_child(s)).unwrap();
    let link = &linked.links.links[0].span_context;
    assert_eq!(link.trace_id().to_string(), trace);
    assert_eq!(link.span_id().to_string(), parent);
    assert_ne!(linked.span_context.trace_id().to_string(), trace);
}
