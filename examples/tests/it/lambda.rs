//! The function, against a server that speaks Lambda's runtime API.

use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use assert_cmd::cargo::cargo_bin;
use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc},
};

/// Ends the process that a test started, whatever becomes of the test.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A record as
/// [AWS documents it](https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html#example-standard-queue-message-event).
fn record(id: &str, body: &str) -> Value {
    json!({
        "messageId": id,
        "receiptHandle": format!("receipt of {id}"),
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1545082649183",
            "SenderId": "AIDAIENQZJOLO23YVJ4VO",
            "ApproximateFirstReceiveTimestamp": "1545082649185"
        },
        "messageAttributes": {},
        "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:orders",
        "awsRegion": "us-east-2"
    })
}

type Events = Arc<Mutex<Vec<Value>>>;

async fn hand_out(State(events): State<Events>) -> Response {
    let Some(event) = events.lock().await.pop() else {
        return std::future::pending().await;
    };
    let deadline = SystemTime::now() + Duration::from_secs(60);
    let deadline = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let headers = [
        ("lambda-runtime-aws-request-id", "request-1".to_owned()),
        (
            "lambda-runtime-deadline-ms",
            deadline.as_millis().to_string(),
        ),
        ("lambda-runtime-invoked-function-arn", "arn".to_owned()),
    ];
    (headers, Json(event)).into_response()
}

#[tokio::test]
async fn the_function_reports_just_what_failed() {
    let event = json!({"Records": [
        record("059f36b4-87a3-44ab-83d2-661975830a7d", "17"),
        record("2e1424d4-f796-459a-8184-9c92662be6da", "0"),
        record("a-third", "no order"),
    ]});
    let events: Events = Arc::new(Mutex::new(vec![event]));
    let (answers, mut answered) = mpsc::unbounded_channel();
    let router = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(hand_out))
        .route(
            "/2018-06-01/runtime/invocation/request-1/response",
            post(async move |answer: Bytes| {
                let answer: Value = serde_json::from_slice(&answer).unwrap();
                let _ = answers.send(answer);
                StatusCode::ACCEPTED
            }),
        )
        .with_state(events);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });

    let child = Command::new(cargo_bin("lambda"))
        .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "orders")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _running = Running(child);
    let answer = tokio::time::timeout(Duration::from_secs(60), answered.recv()).await;
    // Order 17 is done. The last one cannot succeed, but there is no queue to park it in.
    let wanted = json!({"batchItemFailures": [
        {"itemIdentifier": "2e1424d4-f796-459a-8184-9c92662be6da"},
        {"itemIdentifier": "a-third"},
    ]});
    assert_eq!(answer.expect("it answers").unwrap(), wanted);
}
