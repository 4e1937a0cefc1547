//! Making events, and recording what a handler sees.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use lambda_runtime::{Context, LambdaEvent};
use serde_json::{Value, json};
use towpath_core::{Attempt, FailureClass, Handler, Outcome};
use towpath_lambda::{Error, SqsFunction};

/// One record of a standard queue.
pub(crate) fn record(id: &str, body: &str) -> Value {
    json!({
        "messageId": id,
        "receiptHandle": "handle",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1545082649183"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:orders",
        "awsRegion": "us-east-2",
    })
}

/// One record of a FIFO queue.
pub(crate) fn grouped(id: &str, group: &str, body: &str) -> Value {
    let mut record = record(id, body);
    record["eventSourceARN"] = json!("arn:aws:sqs:us-east-2:123456789012:orders.fifo");
    record["attributes"]["MessageGroupId"] = json!(group);
    record
}

pub(crate) fn event(records: impl Into<Vec<Value>>) -> Value {
    json!({ "Records": records.into() })
}

/// Invokes with a minute left.
pub(crate) async fn invoke(function: &SqsFunction, event: Value) -> Result<Value, Error> {
    invoke_with(function, event, Duration::from_secs(60)).await
}

pub(crate) async fn invoke_with(
    function: &SqsFunction,
    event: Value,
    left: Duration,
) -> Result<Value, Error> {
    let mut context = Context::default();
    let deadline = SystemTime::now() + left;
    let since = deadline.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    context.deadline = since.as_millis().try_into().unwrap();
    let response = function.handle(LambdaEvent::new(event, context)).await?;
    Ok(serde_json::to_value(response).unwrap())
}

/// The response that reports these as failed, as AWS documents it.
pub(crate) fn failures(ids: &[&str]) -> Value {
    let items: Vec<Value> = ids
        .iter()
        .map(|id| json!({ "itemIdentifier": id }))
        .collect();
    json!({ "batchItemFailures": items })
}

/// Does what the body says, and remembers the attempts.
#[derive(Clone, Default)]
pub(crate) struct Scripted(Arc<Mutex<Vec<Attempt>>>);

impl Scripted {
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        let attempts = self.attempts();
        let bodies = attempts.iter().map(|a| a.envelope().message.body());
        bodies
            .map(|body| String::from_utf8_lossy(body).into_owned())
            .collect()
    }
}

#[async_trait]
impl Handler for Scripted {
    async fn handle(&self, attempt: Attempt) -> Outcome {
        self.0.lock().unwrap().push(attempt.clone());
        let reason = || "as the body says".to_owned();
        match &attempt.envelope().message.body()[..] {
            b"retry" => Outcome::Retry {
                after: Some(Duration::from_secs(30)),
                reason: reason(),
            },
            b"release" => Outcome::Release {
                after: None,
                reason: reason(),
            },
            b"dead letter" => Outcome::DeadLetter {
                class: FailureClass::Permanent,
                reason: reason(),
            },
            b"panic" => panic!("as the body says"),
            b"hang" => std::future::pending().await,
            b"until cancelled" => {
                attempt.cancellation().cancelled().await;
                Outcome::Ack
            }
            _ => Outcome::Ack,
        }
    }
}
