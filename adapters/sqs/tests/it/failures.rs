//! Answers that no real server can be made to give.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use towpath_core::{
    ErrorKind, Message, QueueConfig, Registry,
    driver::{Backend as _, Received},
};
use towpath_sqs::Sqs;

use crate::{
    LocalTest, Outcome, local_tests,
    script::{Answer, Call, Script},
};

pub(crate) const TESTS: &[LocalTest] = local_tests![
    an_entry_that_the_answer_leaves_out_is_an_error,
    entries_fail_one_by_one_with_their_own_errors,
    a_message_that_arrived_changed_is_an_error,
    a_received_message_that_was_changed_is_not_handed_out,
    a_request_that_is_too_large_is_halved,
    throttling_is_told_with_its_time,
    an_answer_of_something_else_is_unavailable,
    a_call_without_an_answer_ends_in_its_time,
    a_lost_receive_of_a_fifo_queue_is_asked_for_again,
    a_portable_producer_gets_through_throttling_and_lost_connections,
    closed_halves_refuse_every_call,
];

const ONE: NonZeroUsize = NonZeroUsize::MIN;

fn messages(count: usize) -> Vec<Message> {
    (0..count)
        .map(|i| Message::new(format!("message {i}")))
        .collect()
}

fn ids(call: &Call) -> Vec<String> {
    let entries = call.parameters["Entries"].as_array();
    let ids = entries.into_iter().flatten();
    ids.map(|entry| entry["Id"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// What SQS answers when all went well, but without MD5s of attributes.
fn sent(call: &Call) -> Value {
    let entries = call.parameters["Entries"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let successful: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let body = entry["MessageBody"].as_str().unwrap_or_default();
            json!({
                "Id": entry["Id"],
                "MessageId": format!("id of {body}"),
                "MD5OfMessageBody": md5(body),
            })
        })
        .collect();
    json!({ "Successful": successful, "Failed": [] })
}

fn md5(text: &str) -> String {
    use md5::{Digest, Md5};
    Md5::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn message(body: &str) -> Value {
    json!({
        "MessageId": format!("id of {body}"),
        "ReceiptHandle": format!("handle of {body}"),
        "Body": body,
        "MD5OfBody": md5(body),
        "Attributes": { "ApproximateReceiveCount": "1", "SentTimestamp": "1700000000000" },
    })
}

async fn received(script: &Script) -> towpath_core::Result<Vec<Received>> {
    let consumer = Sqs::new().consumer(&script.config("orders")).await?;
    let ten = NonZeroUsize::MIN.saturating_add(9);
    consumer.receive(ten, Duration::ZERO).await
}

async fn an_entry_that_the_answer_leaves_out_is_an_error() -> Outcome {
    let script = Script::start(|call| match call.action.as_str() {
        "SendMessageBatch" => {
            let mut answer = sent(call);
            if let Some(entries) = answer["Successful"].as_array_mut() {
                entries.retain(|entry| entry["Id"] != "1");
                // An id that was never asked for helps nobody.
                entries.push(json!({
                    "Id": "77", "MessageId": "x", "MD5OfMessageBody": md5("x"),
                }));
            }
            Answer::Ok(answer)
        }
        "ReceiveMessage" => {
            Answer::Ok(json!({ "Messages": [message("a"), message("b"), message("c")] }))
        }
        _ => Answer::Ok(json!({ "Successful": [{ "Id": "0" }, { "Id": "2" }], "Failed": [] })),
    })
    .await?;
    let is_missing = |result: Result<(), towpath_core::Error>| {
        let error = result.expect_err("left out");
        assert_eq!(error.kind(), ErrorKind::Unknown);
        assert!(error.is_retryable(), "it may succeed later");
        assert!(error.message().contains("leaves this entry out"), "{error}");
    };
    let producer = Sqs::new().producer(&script.config("orders")).await?;
    let mut results = producer.send(&messages(3)).await;
    assert!(results[0].is_ok() && results[2].is_ok());
    is_missing(results.remove(1).map(drop));

    let consumer = Sqs::new().consumer(&script.config("orders")).await?;
    let ten = NonZeroUsize::MIN.saturating_add(9);
    let received = consumer.receive(ten, Duration::ZERO).await?;
    let receipts: Vec<_> = received.into_iter().map(|one| one.receipt).collect();
    for mut results in [
        consumer.ack(&receipts).await,
        consumer.nack(&receipts, Duration::ZERO).await,
        consumer.extend(&receipts, Duration::from_secs(30)).await,
    ] {
        assert!(results[0].is_ok() && results[2].is_ok());
        is_missing(results.remove(1));
    }
    Ok(())
}

async fn entries_fail_one_by_one_with_their_own_errors() -> Outcome {
    let script = Script::start(|call| {
        let mut answer = sent(call);
        if let Some(entries) = answer["Successful"].as_array_mut() {
            entries.truncate(1);
        }
        answer["Failed"] = json!([
            { "Id": "2", "Code": "InternalError", "Message": "busy", "SenderFault": false },
            { "Id": "1", "Code": "InvalidParameterValue", "SenderFault": true,
              "Message": "One or more parameters are invalid. Reason: Message must be shorter \
                          than 1048576 bytes." },
        ]);
        Answer::Ok(answer)
    })
    .await?;
    let producer = Sqs::new().producer(&script.config("orders")).await?;
    let results = producer.send(&messages(3)).await;
    assert!(results[0].is_ok());
    let errors: Vec<_> = results[1..]
        .iter()
        .map(|result| {
            result
                .as_ref()
                .map_err(|error| (error.kind(), error.is_retryable()))
        })
        .collect();
    assert_eq!(
        errors,
        [
            Err((ErrorKind::TooLarge, false)),
            Err((ErrorKind::Unavailable, true))
        ]
    );
    Ok(())
}

async fn a_message_that_arrived_changed_is_an_error() -> Outcome {
    for (field, part) in [("MD5OfMessageBody", "0"), ("MD5OfMessageAttributes", "1")] {
        let script = Script::start(move |call| {
            let mut answer = sent(call);
            answer["Successful"][0][field] = json!(md5(part));
            Answer::Ok(answer)
        })
        .await?;
        let producer = Sqs::new().producer(&script.config("orders")).await?;
        let results = producer.send(&messages(2)).await;
        let error = results[0].as_ref().expect_err("changed");
        assert_eq!(error.kind(), ErrorKind::Unknown, "{field}");
        assert!(error.message().contains("MD5"), "{error}");
        assert!(results[1].is_ok(), "{field}");
    }
    Ok(())
}

async fn a_received_message_that_was_changed_is_not_handed_out() -> Outcome {
    let script = Script::start(|_| {
        let mut changed = message("b");
        changed["Body"] = json!("B");
        let mut attributes = message("c");
        attributes["MessageAttributes"] =
            json!({ "kind": { "DataType": "String", "StringValue": "v" } });
        attributes["MD5OfMessageAttributes"] = json!(md5("something else"));
        let mut unsettleable = message("d");
        unsettleable["ReceiptHandle"] = Value::Null;
        let all = [
            message("a"),
            changed,
            attributes,
            unsettleable,
            message("e"),
        ];
        Answer::Ok(json!({ "Messages": all }))
    })
    .await?;
    let received = received(&script).await?;
    let bodies: Vec<_> = received
        .iter()
        .map(|one| one.envelope.message.body())
        .collect();
    assert_eq!(bodies, ["a", "e"]);
    Ok(())
}

async fn a_request_that_is_too_large_is_halved() -> Outcome {
    let script = Script::start(|call| {
        if ids(call).len() > 2 {
            return Answer::Error(400, "BatchRequestTooLong", "too long");
        }
        Answer::Ok(sent(call))
    })
    .await?;
    let producer = Sqs::new().producer(&script.config("orders")).await?;
    let results = producer.send(&messages(7)).await;
    for (i, result) in results.into_iter().enumerate() {
        assert_eq!(result?.to_string(), format!("id of message {i}"));
    }
    Ok(())
}

async fn throttling_is_told_with_its_time() -> Outcome {
    let script = Script::start(|_| {
        let body = json!({ "__type": "com.amazonaws.sqs#RequestThrottled", "message": "slow" });
        Answer::Raw(400, "retry-after: 7\r\n", body.to_string())
    })
    .await?;
    let error = received(&script).await.expect_err("throttled");
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    // Nothing is repeated below.
    assert_eq!(script.calls("ReceiveMessage").len(), 1);
    Ok(())
}

async fn an_answer_of_something_else_is_unavailable() -> Outcome {
    for (status, body, kind) in [
        (503, "<html>gateway</html>", ErrorKind::Unavailable),
        (500, "", ErrorKind::Unavailable),
        (504, "", ErrorKind::Timeout),
        (429, "", ErrorKind::Throttled),
        (
            200,
            "<html>sign in to the network</html>",
            ErrorKind::Unavailable,
        ),
    ] {
        let script = Script::start(move |_| Answer::Raw(status, "", body.to_owned())).await?;
        let error = received(&script).await.expect_err("not SQS");
        assert_eq!(error.kind(), kind, "{status}: {error}");
        assert!(error.is_retryable(), "{status}: {error}");
    }
    Ok(())
}

async fn a_call_without_an_answer_ends_in_its_time() -> Outcome {
    let script = Script::start(|_| Answer::Silence).await?;
    let config = script
        .config("orders")
        .with_option("request_timeout", "300ms");
    let sqs = Sqs::new();
    let sent = sqs.producer(&config).await?.send(&messages(2)).await;
    for result in sent {
        let error = result.expect_err("no answer");
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.message().contains("unknown"), "{error}");
    }
    let consumer = sqs.consumer(&config).await?;
    let error = consumer
        .receive(ONE, Duration::from_secs(1))
        .await
        .expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    // The wait is on top of the request's own time.
    assert!(error.message().contains("1s 300ms"), "{error}");
    Ok(())
}

async fn a_lost_receive_of_a_fifo_queue_is_asked_for_again() -> Outcome {
    let count = AtomicUsize::new(0);
    let script = Script::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::Close,
        _ => Answer::Ok(json!({})),
    })
    .await?;
    let consumer = Sqs::new().consumer(&script.config("orders.fifo")).await?;
    let error = consumer
        .receive(ONE, Duration::ZERO)
        .await
        .expect_err("lost");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    consumer.receive(ONE, Duration::ZERO).await?;
    consumer.receive(ONE, Duration::ZERO).await?;
    let calls = script.calls("ReceiveMessage");
    let attempt = |i: usize| calls[i].parameters["ReceiveRequestAttemptId"].as_str();
    assert!(attempt(0).is_some());
    assert_eq!(attempt(1), attempt(0));
    assert_ne!(attempt(2), attempt(0));
    Ok(())
}

async fn a_portable_producer_gets_through_throttling_and_lost_connections() -> Outcome {
    let count = AtomicUsize::new(0);
    let script = Script::start(move |call| match count.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::Error(400, "RequestThrottled", "slow down"),
        1 => Answer::Close,
        2 => Answer::Error(503, "ServiceUnavailable", ""),
        _ => Answer::Ok(sent(call)),
    })
    .await?;
    let registry = Registry::new().with(Sqs::new());
    let queue = registry.open_config(script.config("orders"))?;
    let id = queue.producer().await?.send("hello").await?;
    assert_eq!(id.to_string(), "id of hello");
    assert_eq!(script.calls("SendMessageBatch").len(), 4);
    Ok(())
}

async fn closed_halves_refuse_every_call() -> Outcome {
    let script = Script::start(|_| Answer::Ok(json!({ "Messages": [message("a")] }))).await?;
    let config: QueueConfig = script.config("orders");
    let sqs = Sqs::new();
    let producer = sqs.producer(&config).await?;
    let consumer = sqs.consumer(&config).await?;
    let receipts = [consumer
        .receive(ONE, Duration::ZERO)
        .await?
        .remove(0)
        .receipt];
    for _ in 0..2 {
        producer.close().await?;
        consumer.close().await?;
    }
    let is_closed = |result: Result<(), towpath_core::Error>| {
        assert_eq!(result.map_err(|error| error.kind()), Err(ErrorKind::Closed));
    };
    for result in producer.send(&messages(2)).await {
        is_closed(result.map(drop));
    }
    is_closed(consumer.receive(ONE, Duration::ZERO).await.map(drop));
    is_closed(consumer.ack(&receipts).await.remove(0));
    is_closed(consumer.nack(&receipts, Duration::ZERO).await.remove(0));
    is_closed(
        consumer
            .extend(&receipts, Duration::from_secs(9))
            .await
            .remove(0),
    );
    Ok(())
}
