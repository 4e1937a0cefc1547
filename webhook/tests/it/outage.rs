//! What happens while the queue cannot be reached.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::json;
use towpath_core::{Error, ErrorKind, Message, Registry, Result};
use towpath_memory::MemoryBackend;
use towpath_webhook::{Config, Overflow, Receiver};

use crate::support::{GITHUB, Mode, TestQueue, get, github, send, start};

#[tokio::test]
async fn queue_down_is_503_with_retry_after_and_the_retry_is_accepted() {
    let queue = TestQueue::new();
    let receiver = start(&format!("{GITHUB}\nretry_after = '17s'"), &queue).await;
    let router = receiver.router();
    queue.set(Mode::Down);
    let refused = send(&router, github("one", "{}")).await;
    refused.is_refused(503, "unavailable");
    assert_eq!(refused.headers["retry-after"], "17");
    let not_ready = get(&router, "/readyz").await;
    assert_eq!(not_ready.status, 503);
    assert_eq!(not_ready.body["status"], "not_ready");
    assert_eq!(
        not_ready.body["queues"]["queue"],
        json!({ "reachable": false, "reason": "unavailable" })
    );
    assert_eq!(
        get(&router, "/livez").await.body,
        json!({ "status": "live" })
    );
    queue.set(Mode::Up);
    send(&router, github("one", "{}")).await.id();
    queue.only();
    let ready = get(&router, "/readyz").await;
    assert_eq!(
        (ready.status.as_u16(), &ready.body["status"]),
        (200, &json!("ready"))
    );
}

#[tokio::test]
async fn a_queue_that_panics_is_503_and_the_retry_is_accepted() {
    let queue = TestQueue::new();
    let router = start(GITHUB, &queue).await.router();
    queue.set(Mode::Faulty);
    send(&router, github("one", "{}"))
        .await
        .is_refused(503, "unavailable");
    queue.set(Mode::Up);
    send(&router, github("one", "{}")).await.id();
    queue.only();
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_answer_is_given_up_in_the_providers_time() {
    let queue = TestQueue::new();
    queue.set(Mode::Hanging);
    let router = start(GITHUB, &queue).await.router();
    let started = tokio::time::Instant::now();
    send(&router, github("one", "{}"))
        .await
        .is_refused(503, "unavailable");
    assert_eq!(started.elapsed(), Duration::from_secs(5));
    // Nobody is sent here to find out: after some time it counts as unknown, not as unreachable.
    assert_eq!(get(&router, "/readyz").await.status, 503);
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(get(&router, "/readyz").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_can_be_asked_is_ready_as_soon_as_it_answers() {
    let config = "[queues]\nqueue = 'memory://outage-asked?max_depth=1&send_timeout=1s'\n"
        .to_owned()
        + GITHUB;
    let registry = Registry::new().with(MemoryBackend::new());
    let receiver = Receiver::builder().registry(registry);
    let receiver = receiver
        .start(Config::parse(&config).unwrap())
        .await
        .unwrap();
    let router = receiver.router();
    send(&router, github("one", "{}")).await.id();
    send(&router, github("two", "{}"))
        .await
        .is_refused(503, "unavailable");
    let not_ready = get(&router, "/readyz").await;
    assert_eq!(not_ready.body["queues"]["queue"]["reason"], "throttled");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(get(&router, "/readyz").await.status, 200);
    receiver.close().await.unwrap();
}

#[tokio::test]
async fn more_requests_at_once_than_allowed_are_refused_and_not_kept_in_memory() {
    let queue = TestQueue::new();
    queue.set(Mode::Hanging);
    let router = start(&format!("max_in_flight = 1\n{GITHUB}"), &queue)
        .await
        .router();
    let first = tokio::spawn({
        let router = router.clone();
        async move { send(&router, github("one", "{}")).await }
    });
    queue.until_waiting(1).await;
    let refused = send(&router, github("two", "{}")).await;
    refused.is_refused(503, "unavailable");
    assert_eq!(refused.headers["retry-after"], "1");
    queue.set(Mode::Up);
    first.await.unwrap().id();
    send(&router, github("two", "{}")).await.id();
}

/// An overflow in memory, with room for two.
#[derive(Debug, Default)]
struct Shelf(Mutex<VecDeque<(String, Message)>>);

#[async_trait]
impl Overflow for Shelf {
    async fn push(&self, queue: &str, message: &Message) -> Result<()> {
        if !self.has_room() {
            return Err(Error::new(ErrorKind::Throttled, "full"));
        }
        let entry = (queue.to_owned(), message.clone());
        self.0.lock().unwrap().push_back(entry);
        Ok(())
    }

    fn holds(&self, queue: &str) -> bool {
        self.0.lock().unwrap().iter().any(|(name, _)| name == queue)
    }

    fn depth(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    fn has_room(&self) -> bool {
        self.depth() < 2
    }

    fn unknown_queues(&self) -> Vec<String> {
        Vec::new()
    }
}

#[tokio::test]
async fn the_overflow_takes_what_the_queue_does_not_and_keeps_the_order() {
    let config = format!("{GITHUB}\nordering_key = '/customer'");
    let (queue, shelf) = (TestQueue::new(), Arc::new(Shelf::default()));
    let receiver = Receiver::builder()
        .producer("queue", queue.producer())
        .overflow(shelf.clone());
    let receiver = receiver
        .start(Config::parse(&config).unwrap())
        .await
        .unwrap();
    let router = receiver.router();
    let post = async |id: &str| send(&router, github(id, r#"{"customer":"c4"}"#)).await;
    queue.set(Mode::Down);
    let first = post("1").await.id().to_owned();
    let ready = get(&router, "/readyz").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.body["spool"], json!({ "depth": 1, "has_room": true }));
    assert_eq!(ready.body["queues"]["queue"]["reachable"], false);
    // Kept is accepted: its copies have no second effect.
    assert_eq!(post("1").await.id(), first);

    // The queue is back, but what came first waits still.
    queue.set(Mode::Up);
    post("2").await.id();
    assert!(queue.messages().is_empty());
    queue.set(Mode::Down);
    post("3").await.is_refused(503, "unavailable");
    assert_eq!(get(&router, "/readyz").await.status, 503);

    // Somebody sends on what was kept; then messages go straight again.
    queue.set(Mode::Up);
    let producer = receiver.producer("queue").unwrap();
    while let Some((_, message)) = { shelf.0.lock().unwrap().front().cloned() } {
        producer.send(message).await.unwrap();
        shelf.0.lock().unwrap().pop_front();
    }
    post("3").await.id();
    let ids: Vec<String> = queue
        .messages()
        .iter()
        .map(|m| m.idempotency_key().to_string())
        .collect();
    let expected =
        ["1", "2", "3"].map(|id| towpath_webhook::dedup::event_key("github", id).to_string());
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn a_queue_that_the_configuration_drops_can_be_sent_what_the_overflow_holds() {
    let (queue, shelf) = (TestQueue::new(), Arc::new(Shelf::default()));
    let receiver = Receiver::builder()
        .producer("queue", queue.producer())
        .producer("other", TestQueue::new().producer())
        .overflow(shelf.clone());
    let receiver = receiver
        .start(Config::parse(GITHUB).unwrap())
        .await
        .unwrap();
    queue.set(Mode::Down);
    send(&receiver.router(), github("1", "{}")).await.id();
    let other = GITHUB.replace("\"queue\"", "\"other\"");
    receiver
        .reload(Config::parse(&other).unwrap())
        .await
        .unwrap();
    assert!(receiver.producer("queue").is_some());
    shelf.0.lock().unwrap().clear();
    receiver
        .reload(Config::parse(&other).unwrap())
        .await
        .unwrap();
    assert!(receiver.producer("queue").is_none());
}
