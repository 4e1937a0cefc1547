//! What is logged and measured, and what is not.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use towpath_webhook::signature::{Key, github::Github};
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

use crate::support::{Mode, TestQueue, github, request, send, signed, start};

const CONFIG: &str = r#"
    [sources.github]
    path = "/hook"
    queue = "queue"
    verify = { scheme = "github", secrets = ["hunter2-new", "hunter2-old", "secret"] }
"#;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn which_secret_matched_is_logged_and_no_secret_and_no_body_is() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(lines.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let queue = TestQueue::new();
    let receiver = start(CONFIG, &queue).await;
    let router = receiver.router();
    let old = Github::new([Key::new("hunter2-old")]);
    for id in ["1", "2"] {
        send(&router, signed(&old, "/hook", id, b"\"body-of-mine\""))
            .await
            .id();
    }
    let wrong = Github::new([Key::new("hunter2-wrong")]);
    send(&router, signed(&wrong, "/hook", "3", b"\"body-of-mine\""))
        .await
        .is_refused(401, "signature");
    queue.set(Mode::Down);
    send(&router, signed(&old, "/hook", "4", b"\"body-of-mine\""))
        .await
        .is_refused(503, "unavailable");
    drop(guard);
    let text =
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap() + &format!("{receiver:?}");
    let first_use = text
        .matches("a request was signed with this secret")
        .count();
    assert_eq!(first_use, 1, "{text}");
    assert!(text.contains("key=1 secret=\"Secret(literal)\""), "{text}");
    assert!(text.contains("reason=\"signature\""), "{text}");
    assert!(
        !text.contains("hunter2") && !text.contains("body-of-mine"),
        "{text}"
    );
}

#[tokio::test]
async fn accepted_refused_duplicate_and_published_are_measured() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    // Current-thread runtime: all is measured in this thread.
    let _guard = metrics::set_default_local_recorder(&recorder);
    let queue = TestQueue::new();
    let router = start(CONFIG, &queue).await.router();
    for _ in 0..3 {
        send(&router, github("1", "{}")).await.id();
    }
    send(&router, request("/hook", Default::default(), "{}"))
        .await
        .is_refused(401, "unsigned");
    queue.set(Mode::Down);
    send(&router, github("2", "{}"))
        .await
        .is_refused(503, "unavailable");
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
        ("towpath_webhook_accepted_total github queue", 1.0),
        ("towpath_webhook_duplicates_total github", 2.0),
        ("towpath_webhook_publish_seconds queue", 2.0),
        ("towpath_webhook_refused_total github unavailable", 1.0),
        ("towpath_webhook_refused_total github unsigned", 1.0),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(seen, BTreeMap::from(expected));
}
