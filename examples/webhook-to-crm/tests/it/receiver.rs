//! The receiver over real HTTP: good and bad requests.

use std::{net::SocketAddr, path::Path, time::Duration};

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use towpath::{
    QueueConfig,
    webhook::{
        Secret,
        signature::{Key, mailgun::signed_body},
    },
};
use webhook_to_crm::serve::{Running, Setup};

const KEY: &str = "test-key";

async fn start(queue: &str) -> Running {
    start_with(queue, None).await
}

async fn start_with(queue: &str, spool: Option<&Path>) -> Running {
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    Setup {
        queue: QueueConfig::parse(queue).unwrap(),
        updates: None,
        listen: any_port,
        crm: None,
        crm_listen: any_port,
        crm_ledger: None,
        ops: Some(any_port),
        signing_key: Secret::literal(KEY),
        spool: spool.map(Path::to_owned),
        first_retry: Duration::from_millis(10),
    }
    .start()
    .await
    .unwrap()
}

fn event(id: &str) -> Value {
    json!({ "id": id, "event": "opened", "timestamp": 1_760_000_000.0, "recipient": "ana@customer.example" })
}

fn signed(event: &Value, token: &str) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    signed_body(&Key::new(KEY), &json!(now), token, event).to_string()
}

async fn post(
    running: &Running,
    path: &str,
    content_type: &str,
    body: impl Into<reqwest::Body>,
) -> Response {
    Client::new()
        .post(running.receiver.join(path).unwrap())
        .header("content-type", content_type)
        .body(body)
        .send()
        .await
        .unwrap()
}

async fn is_problem(response: Response, wanted: StatusCode) {
    assert_eq!(response.status(), wanted);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], wanted.as_u16());
    assert!(!problem["detail"].as_str().unwrap().is_empty(), "{problem}");
}

async fn applied(running: &Running) -> usize {
    let ledger: Value = reqwest::get(running.crm.join("ledger").unwrap())
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    ledger["applied"].as_u64().unwrap().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_the_right_status_and_enqueue_nothing() {
    let running = start("memory://bad-requests").await;
    let json_type = "application/json";
    let hook = "hooks/mailgun";
    is_problem(
        post(&running, hook, "text/plain", signed(&event("a"), "t")).await,
        StatusCode::NOT_ACCEPTABLE,
    )
    .await;
    is_problem(
        post(&running, hook, json_type, vec![b'x'; 300_000]).await,
        StatusCode::NOT_ACCEPTABLE,
    )
    .await;
    is_problem(
        post(&running, hook, json_type, "{").await,
        StatusCode::NOT_ACCEPTABLE,
    )
    .await;
    is_problem(
        post(&running, hook, json_type, vec![0xff, 0xfe]).await,
        StatusCode::NOT_ACCEPTABLE,
    )
    .await;
    is_problem(
        post(&running, hook, json_type, "[".repeat(200_000)).await,
        StatusCode::NOT_ACCEPTABLE,
    )
    .await;
    is_problem(
        post(
            &running,
            hook,
            json_type,
            json!({ "event-data": event("a") }).to_string(),
        )
        .await,
        StatusCode::NOT_ACCEPTABLE,
    )
    .await;
    let forged = signed_body(&Key::new("other"), &json!(1), "t", &event("a")).to_string();
    is_problem(
        post(&running, hook, json_type, forged).await,
        StatusCode::UNAUTHORIZED,
    )
    .await;
    let stale = signed_body(&Key::new(KEY), &json!(1_529_006_854), "t", &event("a")).to_string();
    is_problem(
        post(&running, hook, json_type, stale).await,
        StatusCode::UNAUTHORIZED,
    )
    .await;
    let mut typed = event("a");
    typed["recipient"] = json!(17);
    is_problem(
        post(&running, hook, json_type, signed(&typed, "t")).await,
        StatusCode::NOT_ACCEPTABLE,
    )
    .await;
    is_problem(
        post(&running, "forms/contact", json_type, r#"{"name":""}"#).await,
        StatusCode::UNPROCESSABLE_ENTITY,
    )
    .await;
    assert_eq!(applied(&running).await, 0);
    let reports = running.stop().await.unwrap();
    assert!(
        reports.iter().all(|(_, report)| report.received == 0),
        "{reports:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_page_shows_both_queues_and_the_crm() {
    let running = start("memory://ops-page?max_attempts=3&dead_letter=ops-page-dlq").await;
    let ops = running.ops.clone().unwrap();
    let status: Value = reqwest::get(ops.join("status.json").unwrap())
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    for (queue, name) in [(0, "events"), (1, "updates")] {
        assert_eq!(status["queues"][queue]["name"], name);
        assert_eq!(status["queues"][queue]["work"]["reasons"], json!([]));
        assert_eq!(status["queues"][queue]["dead_letters"]["ready"], 0);
    }
    assert_eq!(status["statuses"][0]["text"], "answers");
    running.stop().await.unwrap();
    assert!(reqwest::get(ops).await.is_err(), "it ends with the rest");
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_an_event_have_one_effect_and_one_id_and_a_used_token_no_second() {
    let running = start("memory://copies").await;
    let posts = (0..64).map(|i| {
        post(
            &running,
            "hooks/mailgun",
            "application/json",
            signed(&event("same"), &format!("t{i}")),
        )
    });
    let mut ids = std::collections::BTreeSet::new();
    for response in futures::future::join_all(posts).await {
        assert_eq!(response.status(), StatusCode::OK);
        let receipt: Value = response.json().await.unwrap();
        ids.insert(receipt["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 1);
    let replayed = |id: &str| signed(&event(id), "one-token");
    assert_eq!(
        post(&running, "hooks/mailgun", "application/json", replayed("b"))
            .await
            .status(),
        StatusCode::OK
    );
    is_problem(
        post(&running, "hooks/mailgun", "application/json", replayed("c")).await,
        StatusCode::NOT_ACCEPTABLE,
    )
    .await;
    let form = r#"{"name":"Ana","email":"ana@customer.example","message":"Hi"}"#;
    assert_eq!(
        post(&running, "forms/contact", "application/json", form)
            .await
            .status(),
        StatusCode::ACCEPTED
    );
    until_applied(&running, 3, Duration::from_secs(20)).await;
    running.stop().await.unwrap();
}

/// Waits until the CRM has applied so many.
async fn until_applied(running: &Running, count: usize, limit: Duration) {
    let all_applied = async {
        while applied(running).await < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(limit, all_applied)
        .await
        .expect("the CRM applies them all");
}

async fn set_crm(running: &Running, is_down: bool) {
    let control = running.crm.join("control").unwrap();
    let sent = Client::new().put(control).json(&json!({ "down": is_down }));
    sent.send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_spool_what_a_full_queue_refuses_is_accepted_and_applied_later() {
    let folder = tempfile::tempdir().unwrap();
    let spool = folder.path().join("spool");
    // The queue of updates takes nothing while the CRM is down and the queue is full.
    let running = start_with("memory://spooled?max_depth=1", Some(&spool)).await;
    set_crm(&running, true).await;
    for i in 0..5 {
        let form = format!(r#"{{"name":"Ana","email":"a{i}@customer.example","message":"Hi"}}"#);
        let answer = post(&running, "forms/contact", "application/json", form).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
    }
    assert!(spool.exists());
    assert_eq!(applied(&running).await, 0);
    set_crm(&running, false).await;
    until_applied(&running, 5, Duration::from_secs(60)).await;
    running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_answers_503_with_retry_after_and_accepts_later() {
    // The queue of updates takes nothing while the CRM is down and the queue is full.
    let running = start("memory://full?max_depth=1").await;
    set_crm(&running, true).await;
    let form = r#"{"name":"Ana","email":"ana@customer.example","message":"Hi"}"#;
    assert_eq!(
        post(&running, "forms/contact", "application/json", form)
            .await
            .status(),
        StatusCode::ACCEPTED
    );
    let refused = post(&running, "forms/contact", "application/json", form).await;
    assert!(refused.headers().contains_key("retry-after"));
    is_problem(refused, StatusCode::SERVICE_UNAVAILABLE).await;
    set_crm(&running, false).await;
    let accepted = async {
        while post(&running, "forms/contact", "application/json", form)
            .await
            .status()
            != StatusCode::ACCEPTED
        {}
    };
    tokio::time::timeout(Duration::from_secs(30), accepted)
        .await
        .expect("accepted when there is room again");
    running.stop().await.unwrap();
}
