//! What the spool keeps, sends on, and says.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use serde_json::json;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use towpath_core::{Message, Producer};
use towpath_webhook::{
    Config, Receiver,
    spool::{Spool, SpoolError, SpoolOptions},
};

use crate::support::{GITHUB, Mode, TestQueue, get, github, send};

/// A spool in a folder of its own, and queues that can be switched off.
struct Fixture {
    folder: TempDir,
    spool: Spool,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut SpoolOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = SpoolOptions::default();
        options.max_backoff = Duration::from_millis(20);
        change(&mut options);
        let spool = Spool::open(folder.path().join("spool"), options).unwrap();
        Self { folder, spool }
    }

    fn reopen(self) -> Self {
        let Self { folder, spool } = self;
        drop(spool);
        let mut options = SpoolOptions::default();
        options.max_backoff = Duration::from_millis(20);
        let spool = Spool::open(folder.path().join("spool"), options).unwrap();
        Self { folder, spool }
    }

    fn drain(&self, queues: &[(&'static str, &TestQueue)]) -> Drain {
        let producers: Vec<(&str, Producer)> = queues
            .iter()
            .map(|(name, queue)| (*name, queue.producer()))
            .collect();
        let lookup = move |wanted: &str| {
            let found = producers.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, producer)| producer.clone())
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let spool = self.spool.clone();
        let shutdown = async { stopped.await.unwrap_or_default() };
        let task = tokio::spawn(async move { spool.run(lookup, shutdown).await });
        Drain { stop, task }
    }

    async fn until(&self, holds: impl Fn(&Spool) -> bool) {
        tokio::time::timeout(Duration::from_secs(20), async {
            while !holds(&self.spool) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{:?}", self.spool.state()));
    }
}

struct Drain {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Drain {
    async fn stop(self) {
        drop(self.stop);
        self.task.await.unwrap();
    }
}

fn bodies(queue: &TestQueue) -> Vec<String> {
    let text = |message: &Message| String::from_utf8(message.body().to_vec()).unwrap();
    queue.messages().iter().map(text).collect()
}

#[tokio::test]
async fn what_was_pushed_is_there_after_a_restart_and_drained_in_order() {
    let fixture = Fixture::new();
    let messages: Vec<Message> = (0..250)
        .map(|n| {
            Message::new(format!("{n}"))
                .with_attribute("n", "v")
                .with_ordering_key("k")
        })
        .collect();
    for message in &messages {
        fixture.spool.push("queue", message).await.unwrap();
    }
    assert!(fixture.spool.has("queue") && !fixture.spool.has("other"));
    assert_eq!(fixture.spool.depth(), 250);
    let (bytes, oldest) = (fixture.spool.bytes(), fixture.spool.oldest());
    assert!(oldest.is_some());

    let fixture = fixture.reopen();
    assert!(fixture.spool.has("queue"));
    assert_eq!((fixture.spool.depth(), fixture.spool.bytes()), (250, bytes));
    assert!(fixture.spool.oldest().unwrap() <= oldest.unwrap());
    let queue = TestQueue::new();
    let drain = fixture.drain(&[("queue", &queue)]);
    fixture.until(|spool| !spool.has("queue")).await;
    drain.stop().await;
    assert_eq!(queue.messages(), messages);
    assert_eq!(fixture.spool.state().oldest, None);
    let fixture = fixture.reopen();
    assert_eq!((fixture.spool.depth(), fixture.spool.bytes()), (0, 0));
}

#[tokio::test]
async fn a_queue_that_is_down_keeps_its_messages_and_holds_up_no_other() {
    let fixture = Fixture::new();
    let (down, up) = (TestQueue::new(), TestQueue::new());
    down.set(Mode::Down);
    let drain = fixture.drain(&[("down", &down), ("up", &up)]);
    for n in 0..3 {
        let message = Message::new(n.to_string());
        fixture.spool.push("down", &message).await.unwrap();
        fixture.spool.push("up", &message).await.unwrap();
    }
    fixture.until(|spool| !spool.has("up")).await;
    assert_eq!(bodies(&up), ["0", "1", "2"]);
    assert_eq!(fixture.spool.depth(), 3);
    down.set(Mode::Up);
    fixture.until(|spool| spool.depth() == 0).await;
    assert_eq!(bodies(&down), ["0", "1", "2"]);
    drain.stop().await;
}

#[tokio::test]
async fn full_is_said_and_what_was_sent_on_makes_room() {
    let fixture = Fixture::with(|options| options.max_messages = 2);
    let push = async |body: &str| {
        fixture
            .spool
            .push("queue", &Message::new(body.to_owned()))
            .await
    };
    push("1").await.unwrap();
    assert!(fixture.spool.state().has_room);
    push("2").await.unwrap();
    assert!(!fixture.spool.state().has_room);
    let full = push("3").await.unwrap_err();
    assert!(
        matches!(full, SpoolError::Full { messages: 2, .. }),
        "{full}"
    );
    let queue = TestQueue::new();
    let drain = fixture.drain(&[("queue", &queue)]);
    fixture.until(|spool| spool.state().has_room).await;
    push("3").await.unwrap();
    fixture.until(|spool| spool.depth() == 0).await;
    assert_eq!(bodies(&queue), ["1", "2", "3"]);
    drain.stop().await;

    let fixture = Fixture::with(|options| options.max_bytes = 1_000);
    let large = Message::new(vec![0; 1_001]);
    let full = fixture.spool.push("queue", &large).await.unwrap_err();
    assert!(
        matches!(full, SpoolError::Full { messages: 0, .. }),
        "{full}"
    );
    assert!(!fixture.spool.has("queue"));
    fixture
        .spool
        .push("queue", &Message::new(vec![0; 800]))
        .await
        .unwrap();
    let full = fixture
        .spool
        .push("queue", &Message::new(vec![0; 800]))
        .await;
    assert!(full.is_err());
}

#[tokio::test]
async fn the_bounds_hold_for_pushes_at_the_same_time() {
    let fixture = Fixture::with(|options| options.max_messages = 50);
    let message = Message::new("x");
    let pushes = (0..200).map(|_| fixture.spool.push("queue", &message));
    let results = join_all(pushes).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 50);
    assert_eq!(fixture.reopen().spool.depth(), 50);
}

#[tokio::test]
async fn a_push_whose_caller_went_away_leaves_no_wrong_count() {
    let fixture = Fixture::new();
    for n in 0..20 {
        let message = Message::new(n.to_string());
        let push = fixture.spool.push("queue", &message);
        let _ = tokio::time::timeout(Duration::ZERO, push).await;
    }
    fixture
        .spool
        .push("queue", &Message::new("last"))
        .await
        .unwrap();
    let depth = fixture.spool.depth();
    assert_eq!(fixture.reopen().spool.depth(), depth);
}

#[tokio::test]
async fn a_queue_that_nobody_knows_is_named_and_its_messages_are_kept() {
    let fixture = Fixture::new();
    fixture
        .spool
        .push("gone", &Message::new("1"))
        .await
        .unwrap();
    let drain = fixture.drain(&[]);
    fixture
        .until(|spool| spool.state().unknown_queues == ["gone"])
        .await;
    assert_eq!(fixture.spool.depth(), 1);
    let other = TestQueue::new();
    let receiver = Receiver::builder()
        .producer("queue", other.producer())
        .overflow(Arc::new(fixture.spool.clone()));
    let receiver = receiver
        .start(Config::parse(GITHUB).unwrap())
        .await
        .unwrap();
    let ready = get(&receiver.router(), "/readyz").await;
    let expected = json!({ "depth": 1, "has_room": true, "unknown_queues": ["gone"] });
    assert_eq!(ready.body["spool"], expected);
    drain.stop().await;
    let queue = TestQueue::new();
    let drain = fixture.drain(&[("gone", &queue)]);
    fixture.until(|spool| spool.depth() == 0).await;
    assert_eq!(bodies(&queue), ["1"]);
    assert!(fixture.spool.state().unknown_queues.is_empty());
    drain.stop().await;
}

#[tokio::test]
async fn a_message_that_its_queue_refuses_is_kept_and_holds_up_no_other() {
    let fixture = Fixture::new();
    // Longer than any queue carries.
    let bad = Message::new("bad").with_attribute("a", "x".repeat(2_000));
    fixture.spool.push("queue", &bad).await.unwrap();
    fixture
        .spool
        .push("queue", &Message::new("good"))
        .await
        .unwrap();
    let queue = TestQueue::new();
    let drain = fixture.drain(&[("queue", &queue)]);
    fixture.until(|spool| !spool.has("queue")).await;
    assert_eq!(bodies(&queue), ["good"]);
    let state = fixture.spool.state();
    assert_eq!((state.messages, state.refused), (1, 1));
    drain.stop().await;
    // Tried again by the next one that opens it.
    let fixture = fixture.reopen();
    assert!(fixture.spool.has("queue"));
}

#[tokio::test]
async fn a_queue_that_hangs_is_given_up_and_nothing_is_removed() {
    let fixture = Fixture::with(|options| options.publish_timeout = Duration::from_millis(20));
    let queue = TestQueue::new();
    queue.set(Mode::Hanging);
    fixture
        .spool
        .push("queue", &Message::new("1"))
        .await
        .unwrap();
    let drain = fixture.drain(&[("queue", &queue)]);
    queue.until_waiting(2).await;
    assert_eq!(fixture.spool.depth(), 1);
    queue.set(Mode::Up);
    fixture.until(|spool| spool.depth() == 0).await;
    drain.stop().await;
    assert!(bodies(&queue).iter().all(|body| body == "1"));
}

#[tokio::test]
async fn a_second_spool_of_one_file_is_refused() {
    let fixture = Fixture::new();
    let path = fixture.folder.path().join("spool");
    let error = Spool::open(&path, SpoolOptions::default()).unwrap_err();
    assert!(
        matches!(&error, SpoolError::InUse { path: p } if *p == path),
        "{error}"
    );
    let missing = fixture.folder.path().join("missing/spool");
    let error = Spool::open(missing, SpoolOptions::default()).unwrap_err();
    assert!(
        error.to_string().contains("a folder that exists"),
        "{error}"
    );
}

#[tokio::test]
async fn a_torn_tail_is_not_looked_at_and_another_file_is_never_taken_for_an_empty_spool() {
    let fixture = Fixture::new();
    for n in 0..50 {
        fixture
            .spool
            .push("queue", &Message::new(vec![n; 5_000]))
            .await
            .unwrap();
    }
    let path = fixture.folder.path().join("spool");
    // While it is open, as a crash leaves it.
    let whole = std::fs::read(&path).unwrap();
    let copy = fixture.folder.path().join("copy");
    let mut longer = whole.clone();
    longer.extend([0xa5; 2 * 4_096]);
    std::fs::write(&copy, longer).unwrap();
    let spool = Spool::open(&copy, SpoolOptions::default()).unwrap();
    assert_eq!(spool.depth(), 50);
    spool
        .push("queue", &Message::new("one more"))
        .await
        .unwrap();
    drop(spool);
    let spool = Spool::open(&copy, SpoolOptions::default()).unwrap();
    assert_eq!(spool.depth(), 51);
    drop(spool);

    std::fs::write(&copy, "not a spool").unwrap();
    let error = Spool::open(&copy, SpoolOptions::default()).unwrap_err();
    assert!(matches!(error, SpoolError::Open { .. }), "{error}");
    // Pages that are lost after they were synced: said, or nothing is missing.
    for part in 1..16 {
        std::fs::write(&copy, &whole[..whole.len() * part / 16]).unwrap();
        match Spool::open(&copy, SpoolOptions::default()) {
            Ok(spool) => assert_eq!(spool.depth(), 50),
            Err(error) => {
                let is_said = matches!(error, SpoolError::Open { .. } | SpoolError::Storage(_));
                assert!(is_said, "{error}");
            }
        }
    }
}

#[tokio::test]
async fn the_receiver_accepts_into_the_spool_and_the_queue_gets_all_in_order() {
    let fixture = Fixture::with(|options| options.max_messages = 3);
    let queue = TestQueue::new();
    let receiver = Receiver::builder()
        .producer("queue", queue.producer())
        .overflow(Arc::new(fixture.spool.clone()));
    let config = Config::parse(&format!("{GITHUB}\nretry_after = '7s'")).unwrap();
    let receiver = receiver.start(config).await.unwrap();
    let router = receiver.router();
    let post = async |id: &str| send(&router, github(id, &json!({ "n": id }).to_string())).await;

    queue.set(Mode::Down);
    let mut ids = Vec::new();
    for id in ["1", "2", "3"] {
        let answer = post(id).await;
        assert_eq!(answer.status, 202);
        ids.push(answer.id().to_owned());
    }
    let refused = post("4").await;
    refused.is_refused(503, "unavailable");
    assert_eq!(refused.headers["retry-after"], "7");
    assert_eq!(get(&router, "/readyz").await.status, 503);

    queue.set(Mode::Up);
    let drain = fixture.drain(&[("queue", &queue)]);
    fixture.until(|spool| spool.depth() == 0).await;
    ids.push(post("4").await.id().to_owned());
    drain.stop().await;
    let keys: Vec<String> = queue
        .messages()
        .iter()
        .map(|message| message.idempotency_key().to_string())
        .collect();
    assert_eq!(keys, ids);
    assert_eq!(get(&router, "/readyz").await.status, 200);
    receiver.close().await.unwrap();
}
