//! Each event has one effect.

use std::time::Duration;

use axum::http::HeaderMap;
use towpath_webhook::{Config, Receiver, dedup::event_key};

use crate::support::{Answer, GITHUB, Mode, TestQueue, github, request, send, start};

/// 64 copies of one event, each on a task of its own.
async fn copies(receiver: &Receiver) -> Vec<Answer> {
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let router = receiver.router();
            tokio::spawn(async move { send(&router, github("one", "{}")).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_copies_of_an_event_have_one_effect_and_one_id() {
    for _ in 0..10 {
        let queue = TestQueue::new();
        let receiver = start(GITHUB, &queue).await;
        let answers = copies(&receiver).await;
        let id = queue.only().idempotency_key();
        assert_eq!(id, event_key("github", "one"));
        assert!(answers.iter().all(|answer| answer.id() == id.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn copies_wait_for_one_that_is_being_published_and_share_its_failure() {
    let queue = TestQueue::new();
    queue.set(Mode::Hanging);
    let receiver = start(GITHUB, &queue).await;
    let (waiting, answers) = (queue.clone(), copies(&receiver));
    let switch = async {
        waiting.until_waiting(1).await;
        waiting.set(Mode::Down);
    };
    let (answers, ()) = tokio::join!(answers, switch);
    for answer in answers {
        answer.is_refused(503, "unavailable");
    }
    // Nothing is remembered of it: the provider's next try is accepted.
    queue.set(Mode::Up);
    let router = receiver.router();
    let id = send(&router, github("one", "{}")).await.id().to_owned();
    assert_eq!(send(&router, github("one", "{}")).await.id(), id);
    queue.only();
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_nothing_half_done() {
    let queue = TestQueue::new();
    queue.set(Mode::Hanging);
    let receiver = start(GITHUB, &queue).await;
    let router = receiver.router();
    let client = tokio::spawn(async move { send(&router, github("one", "{}")).await });
    queue.until_waiting(1).await;
    client.abort();
    assert!(client.await.unwrap_err().is_cancelled());
    queue.set(Mode::Up);
    // The publication went on, and a copy gets its id.
    receiver.close().await.unwrap();
    let id = queue.only().idempotency_key().to_string();
    assert_eq!(send(&receiver.router(), github("one", "{}")).await.id(), id);
    queue.only();
}

#[tokio::test(start_paused = true)]
async fn an_event_is_remembered_for_the_horizon_and_not_at_all_when_that_is_zero() {
    let queue = TestQueue::new();
    let router = start(&format!("{GITHUB}\ndedup.horizon = '1h'"), &queue)
        .await
        .router();
    for _ in 0..2 {
        send(&router, github("one", "{}")).await.id();
    }
    queue.only();
    tokio::time::advance(Duration::from_secs(3_601)).await;
    send(&router, github("one", "{}")).await.id();
    assert_eq!(queue.messages().len(), 2);

    let queue = TestQueue::new();
    let router = start(&format!("{GITHUB}\ndedup.horizon = '0s'"), &queue)
        .await
        .router();
    let first = send(&router, github("one", "{}")).await;
    let second = send(&router, github("one", "{}")).await;
    assert_eq!(first.id(), second.id());
    assert_eq!(queue.messages().len(), 2);
}

#[tokio::test]
async fn the_id_may_stand_in_a_header_or_in_the_body() {
    let config = r#"
        [sources.header]
        path = "/header"
        queue = "queue"
        verify = "none"
        dedup.id_header = "x-id"

        [sources.pointer]
        path = "/pointer"
        queue = "queue"
        verify = "none"
        dedup.id_pointer = "/data/id"
    "#;
    let queue = TestQueue::new();
    let receiver = Receiver::builder().producer("queue", queue.producer());
    let receiver = receiver
        .start(Config::parse(config).unwrap())
        .await
        .unwrap();
    let router = receiver.router();
    let header = |id: &str| HeaderMap::from_iter([("x-id".parse().unwrap(), id.parse().unwrap())]);
    for id in ["1", "1", "2"] {
        send(&router, request("/header", header(id), "{}"))
            .await
            .id();
        let body = format!(r#"{{"data":{{"id":{id}}}}}"#);
        send(&router, request("/pointer", HeaderMap::new(), body))
            .await
            .id();
    }
    // The same id at another source is another event.
    assert_eq!(queue.messages().len(), 4);
    for _ in 0..2 {
        send(&router, request("/pointer", HeaderMap::new(), "{}"))
            .await
            .id();
    }
    assert_eq!(queue.messages().len(), 6);
}
