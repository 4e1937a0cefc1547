//! A whole function process, against a server that speaks Lambda's runtime API.

use std::{
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};
use towpath_lambda::SqsFunction;

use crate::invocation::{Scripted, event, failures, record};

type Answers = mpsc::UnboundedSender<(String, String, Value)>;

#[derive(Clone)]
struct Api {
    events: Arc<Mutex<Vec<Value>>>,
    answers: Answers,
}

async fn hand_out(State(api): State<Api>) -> Response {
    let event = {
        let mut events = api.events.lock().unwrap();
        events.pop().map(|event| (events.len(), event))
    };
    let Some(event) = event else {
        return std::future::pending().await;
    };
    let deadline = SystemTime::now() + Duration::from_secs(60);
    let deadline = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let headers = [
        (
            "lambda-runtime-aws-request-id",
            format!("request-{}", event.0),
        ),
        (
            "lambda-runtime-deadline-ms",
            deadline.as_millis().to_string(),
        ),
        ("lambda-runtime-invoked-function-arn", "arn".to_owned()),
    ];
    (headers, Json(event.1)).into_response()
}

async fn answer(
    State(api): State<Api>,
    Path((request, kind)): Path<(String, String)>,
    answer: Bytes,
) -> StatusCode {
    let answer = serde_json::from_slice(&answer).unwrap();
    let _ = api.answers.send((request, kind, answer));
    StatusCode::ACCEPTED
}

/// Ends the process that this test started, whatever becomes of the test.
struct Function(Child);

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This test starts itself once more, as the function.
#[tokio::test]
async fn a_function_answers_its_invocations() {
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        SqsFunction::new(Scripted::default()).run().await.unwrap();
        return;
    }
    let (answers, mut answered) = mpsc::unbounded_channel();
    let mixed = event([
        record("a", "ok"),
        record("b", "retry"),
        record("c", "panic"),
    ]);
    let api = Api {
        // Taken from the end.
        events: Arc::new(Mutex::new(vec![json!({"no": "event"}), mixed])),
        answers,
    };
    let router = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(hand_out))
        .route(
            "/2018-06-01/runtime/invocation/{request}/{kind}",
            post(answer),
        )
        .with_state(api);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "runtime::a_function_answers_its_invocations"])
        .env("AWS_LAMBDA_RUNTIME_API", addr.to_string())
        .env("AWS_LAMBDA_FUNCTION_NAME", "orders")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _function = Function(child);

    let mut next = async || {
        let answer = tokio::time::timeout(Duration::from_secs(60), answered.recv()).await;
        answer.expect("the function answers").unwrap()
    };
    let (request, kind, answer) = next().await;
    assert_eq!((request.as_str(), kind.as_str()), ("request-1", "response"));
    assert_eq!(answer, failures(&["b", "c"]));
    let (request, kind, answer) = next().await;
    assert_eq!((request.as_str(), kind.as_str()), ("request-0", "error"));
    assert!(answer.to_string().contains("no Records"), "{answer}");
}
