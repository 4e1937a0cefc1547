//! What a handler sees of a record.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use towpath_core::{FailureClass, FailureRecord, Message, wire};
use towpath_lambda::SqsFunction;

use crate::invocation::{Scripted, event, failures, invoke, record};

/// <https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html>
const STANDARD: &str = include_str!("../events/standard.json");
const FIFO: &str = include_str!("../events/fifo.json");

async fn handled(event: Value) -> Scripted {
    let handler = Scripted::default();
    let function = SqsFunction::new(handler.clone());
    assert_eq!(invoke(&function, event).await.unwrap(), failures(&[]));
    handler
}

#[tokio::test]
async fn the_documented_event_of_a_standard_queue_is_read() {
    let handler = handled(serde_json::from_str(STANDARD).unwrap()).await;
    let attempts = handler.attempts();
    assert_eq!(attempts.len(), 2);
    let first = &attempts[0];
    assert_eq!(first.queue(), "my-queue");
    assert_eq!(first.number(), Some(1));
    let envelope = first.envelope();
    assert_eq!(
        envelope.id.to_string(),
        "059f36b4-87a3-44ab-83d2-661975830a7d"
    );
    assert_eq!(
        envelope.sent_at,
        Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_545_082_649_183))
    );
    let message = &envelope.message;
    assert_eq!(message.body(), "Test message.");
    assert_eq!(message.attributes().get("myAttribute"), Some("myValue"));
    assert_eq!(message.ordering_key(), None);
    let other = &attempts[1].envelope().message;
    assert_ne!(message.idempotency_key(), other.idempotency_key());
}

#[tokio::test]
async fn the_documented_event_of_a_fifo_queue_is_read() {
    let handler = handled(serde_json::from_str(FIFO).unwrap()).await;
    let attempts = handler.attempts();
    assert_eq!(attempts[0].queue(), "fifo.fifo");
    assert_eq!(attempts[0].envelope().message.ordering_key(), Some("1"));
}

#[tokio::test]
async fn what_towpath_sent_comes_out_as_it_was() {
    for body in [&b"text \xc3\xa9"[..], b"\x00\xff", b"with \x01 control"] {
        let failure = FailureRecord::new(FailureClass::Permanent, "before", "orders");
        let sent = Message::new(body.to_vec())
            .with_attribute("a", "1")
            .with_failure(Some(failure));
        let (text, encoding) = wire::body_to_text(sent.body());
        let mut record = record("m-1", &text);
        let string = |value: &str| json!({"stringValue": value, "dataType": "String"});
        record["messageAttributes"] = json!({
            "a": string("1"),
            "towpath": string(&wire::reserved_value(&sent, encoding)),
        });
        let handler = handled(event([record])).await;
        assert_eq!(handler.attempts()[0].envelope().message, sent);
    }
}

#[tokio::test]
async fn attributes_of_all_types_are_text() {
    let mut record = record("m-1", "x");
    record["messageAttributes"] = json!({
        "text": {"stringValue": "a", "dataType": "String"},
        "number": {"stringValue": "1.50", "dataType": "Number.money"},
        "bytes": {"binaryValue": "AP8=", "dataType": "Binary"},
        "nothing": {"dataType": "String"},
    });
    record["attributes"]["AWSTraceHeader"] =
        json!("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1");
    let handler = handled(event([record])).await;
    let attempts = handler.attempts();
    let attributes = attempts[0].envelope().message.attributes();
    let expected = [
        ("bytes", "AP8="),
        ("nothing", ""),
        ("number", "1.50"),
        ("text", "a"),
        (
            "traceparent",
            "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01",
        ),
    ];
    assert_eq!(attributes.iter().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_fails_alone() {
    let broken = [
        ("body", json!(7)),
        ("body", Value::Null),
        ("attributes", json!("none")),
        (
            "messageAttributes",
            json!({"a": {"binaryValue": "not base64!", "dataType": "Binary"}}),
        ),
        ("messageAttributes", json!({"a": "text"})),
    ];
    for (field, value) in broken {
        let handler = Scripted::default();
        let function = SqsFunction::new(handler.clone());
        let mut bad = record("bad", "x");
        bad[field] = value.clone();
        let event = event([record("a", "1"), bad, record("b", "2")]);
        let response = invoke(&function, event).await.unwrap();
        assert_eq!(response, failures(&["bad"]), "{field}: {value}");
        assert_eq!(handler.bodies(), ["1", "2"]);
    }
}

#[tokio::test]
async fn an_event_that_cannot_be_reported_on_fails_as_a_whole_and_nothing_is_handled() {
    let mut nameless = record("a", "1");
    nameless["messageId"] = Value::Null;
    let mut empty = record("", "1");
    empty["body"] = json!("x");
    let mut stream = record("a", "1");
    stream["eventSource"] = json!("aws:kinesis");
    for (payload, hint) in [
        (json!({}), "no Records"),
        (json!([]), "no Records"),
        (json!("hello"), "no Records"),
        (event([]), "no Records"),
        (json!({"Records": {"a": 1}}), "no Records"),
        (event([json!(7)]), "no messageId"),
        (
            event([record("b", "1"), nameless]),
            "record 1 has no messageId",
        ),
        (event([empty]), "no messageId"),
        (event([stream]), "aws:kinesis"),
    ] {
        let handler = Scripted::default();
        let function = SqsFunction::new(handler.clone());
        let error = invoke(&function, payload).await.unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
        assert!(handler.attempts().is_empty());
    }
}
