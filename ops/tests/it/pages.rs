//! What the pages show.

use axum::http::StatusCode;
use towpath_core::{Attempt, Failure};
use towpath_ops::{Status, WatchedQueue};
use towpath_worker::Worker;

use crate::support::{SECOND, Setup, get};

#[tokio::test]
async fn the_first_page_shows_depths_workers_and_statuses() {
    let setup = Setup::new();
    setup.bury(&["a", "b"], "refused").await;
    let producer = setup.queue.producer().await.unwrap();
    for body in ["1", "2", "3"] {
        producer.send(body).await.unwrap();
    }
    let router = setup
        .ops()
        .status("breaker crm", || Status::bad("open, next try in 12 s"))
        .status("spool", || panic!("boom"))
        .router()
        .unwrap();
    let page = get(&router, "/").await.text;
    for wanted in [
        "memory://mail",
        "<td class=\"n\">3</td>",
        "no worker in this process",
        "open, next try in 12 s",
        "unknown: the probe panicked",
        "/queues/mail/dead-letters\" class=\"bad\">2</a>",
    ] {
        assert!(page.contains(wanted), "{wanted}: {page}");
    }
    let status = get(&router, "/status.json").await;
    let json: serde_json::Value = serde_json::from_str(&status.text).unwrap();
    assert_eq!(json["queues"][0]["depth"]["ready"], 3);
    assert_eq!(json["queues"][0]["dead_letters"]["ready"], 2);
    assert_eq!(json["statuses"][0]["ok"], false);
}

#[tokio::test]
async fn a_worker_is_shown_with_its_figures_and_its_rate() {
    let setup = Setup::new();
    let consumer = setup.queue.consumer().await.unwrap();
    let worker = Worker::new(consumer, |_: Attempt| async { Ok::<_, Failure>(()) }).unwrap();
    let gate = worker.gate().clone();
    let ops = setup
        .registry
        .open("memory://empty")
        .map(|other| {
            towpath_ops::Ops::new("test")
                .queue(WatchedQueue::new("mail", setup.queue.clone()).worker(&worker))
                .queue(WatchedQueue::new("empty", other))
        })
        .unwrap();
    let router = ops.router().unwrap();
    let json = async || {
        let text = get(&router, "/status.json").await.text;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["queues"][1]["work"].clone()
    };
    let work = json().await;
    assert_eq!(work["reasons"][0], "not started");
    assert_eq!(work["acked_per_s"], serde_json::Value::Null);
    let stop = worker.shutdown_token();
    let running = tokio::spawn(worker.run());
    let producer = setup.queue.producer().await.unwrap();
    for _ in 0..5 {
        producer.send("x").await.unwrap();
    }
    // The rate needs some time to be a mean of.
    tokio::time::sleep(SECOND).await;
    let mut work = json().await;
    while work["acked"] != 5 {
        tokio::time::sleep(SECOND / 10).await;
        work = json().await;
    }
    assert!(work["acked_per_s"].as_f64().unwrap() > 0.0, "{work}");
    assert_eq!(work["reasons"].as_array().unwrap().len(), 0);
    let _hold = gate.hold("the circuit breaker crm is open");
    let page = get(&router, "/").await.text;
    assert!(
        page.contains("paused: the circuit breaker crm is open"),
        "{page}"
    );
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn dead_letters_are_shown_escaped_and_stay() {
    let setup = Setup::new();
    let body = "<script>alert(1)</script>\"'&";
    setup.bury(&[body], "CRM said <b>no</b>").await;
    let router = setup.router();
    for _ in 0..2 {
        let page = get(&router, "/queues/mail/dead-letters").await.text;
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
        assert!(page.contains("alert(1)"), "{page}");
        assert!(page.contains("permanent"), "{page}");
        assert!(page.contains("<dt>kind</dt><dd>test</dd>"), "{page}");
        assert_eq!(setup.depths().await, (0, 1));
    }
}

#[tokio::test]
async fn a_body_that_is_no_text_or_is_long_is_shown_in_part() {
    let setup = Setup::new();
    let producer = setup.dead().producer().await.unwrap();
    producer.send(vec![0xff_u8, 0, 1]).await.unwrap();
    producer.send("\u{e9}".repeat(4_000)).await.unwrap();
    let page = get(&setup.router(), "/queues/mail/dead-letters").await.text;
    assert!(page.contains("(not text) ff0001"), "{page}");
    assert!(page.contains("[cut]") && page.contains("8000 B"), "{page}");
    assert!(page.contains("moved by the broker"), "{page}");
    assert!(!page.contains('\u{fffd}'), "{page}");
}

#[tokio::test]
async fn what_is_not_there_is_told() {
    let setup = Setup::new();
    let plain = setup.registry.open("memory://plain").unwrap();
    let router = setup
        .ops()
        .queue(WatchedQueue::new("plain", plain))
        .router()
        .unwrap();
    for (path, wanted) in [
        ("/queues/nothing/dead-letters", "No queue is shown as"),
        ("/queues/plain/dead-letters", "has no dead-letter queue"),
        ("/nowhere", "no such page"),
    ] {
        let answer = get(&router, path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert!(answer.text.contains(wanted), "{}", answer.text);
    }
    let page = get(&router, "/queues/mail/dead-letters").await.text;
    assert!(page.contains("None that can be received now"), "{page}");
}
