//! Messages that failed for good.

use std::time::Duration;

use serde_json::json;
use towpath_core::{Consumer, Delivery, FailureClass, Producer, Registry};
use towpath_lambda::SqsFunction;
use towpath_memory::MemoryBackend;

use crate::invocation::{Scripted, event, failures, grouped, invoke, record};

async fn dead_letter_queue() -> (Producer, Consumer) {
    let queue = Registry::new()
        .with(MemoryBackend::new())
        .open("memory://orders-dlq")
        .unwrap();
    (
        queue.producer().await.unwrap(),
        queue.consumer().await.unwrap(),
    )
}

async fn all(consumer: &Consumer) -> Vec<Delivery> {
    consumer.receive_batch(10, Duration::ZERO).await.unwrap()
}

#[tokio::test]
async fn a_dead_letter_is_copied_with_its_reason_and_then_reported_as_done() {
    let (producer, consumer) = dead_letter_queue().await;
    let function = SqsFunction::builder(Scripted::default())
        .dead_letter(producer)
        .build()
        .unwrap();
    let event = event([record("a", "dead letter"), record("b", "retry")]);
    assert_eq!(invoke(&function, event).await.unwrap(), failures(&["b"]));
    let dead = all(&consumer).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].body(), "dead letter");
    let record = dead[0].envelope().message.failure().unwrap();
    assert_eq!(record.class, FailureClass::Permanent);
    assert_eq!(record.reason, "as the body says");
    assert_eq!(
        (record.queue.as_str(), record.message_id.as_str()),
        ("orders", "a")
    );
    assert_eq!(record.attempts, 1);
}

#[tokio::test]
async fn a_dead_letter_without_a_queue_for_it_is_reported_as_failed() {
    let function = SqsFunction::new(Scripted::default());
    let event = event([record("a", "dead letter"), record("b", "ok")]);
    assert_eq!(invoke(&function, event).await.unwrap(), failures(&["a"]));
}

#[tokio::test]
async fn a_dead_letter_that_is_not_accepted_is_reported_as_failed() {
    let (producer, _consumer) = dead_letter_queue().await;
    producer.close().await.unwrap();
    let function = SqsFunction::builder(Scripted::default())
        .dead_letter(producer)
        .build()
        .unwrap();
    let event = event([record("a", "dead letter")]);
    assert_eq!(invoke(&function, event).await.unwrap(), failures(&["a"]));
}

#[tokio::test]
async fn a_group_goes_on_after_a_dead_letter() {
    let (producer, consumer) = dead_letter_queue().await;
    let handler = Scripted::default();
    let function = SqsFunction::builder(handler.clone())
        .dead_letter(producer)
        .build()
        .unwrap();
    let event = event([grouped("1", "g", "dead letter"), grouped("2", "g", "ok")]);
    assert_eq!(invoke(&function, event).await.unwrap(), failures(&[]));
    assert_eq!(handler.bodies(), ["dead letter", "ok"]);
    assert_eq!(all(&consumer).await.len(), 1);
}

#[tokio::test]
async fn the_last_attempt_is_dead_lettered_with_its_reason() {
    let (producer, consumer) = dead_letter_queue().await;
    let handler = Scripted::default();
    let function = SqsFunction::builder(handler.clone())
        .dead_letter(producer)
        .max_attempts(3)
        .build()
        .unwrap();
    let nth = |id: &str, body: &str, attempt: &str| {
        let mut record = record(id, body);
        record["attributes"]["ApproximateReceiveCount"] = json!(attempt);
        record
    };
    let event = event([
        nth("second", "retry", "2"),
        nth("third", "retry", "3"),
        nth("waited", "release", "3"),
        nth("beyond", "ok", "4"),
    ]);
    let response = invoke(&function, event).await.unwrap();
    assert_eq!(response, failures(&["second", "waited"]));
    assert_eq!(handler.attempts().len(), 3);
    let mut reasons: Vec<_> = all(&consumer)
        .await
        .iter()
        .map(|delivery| {
            let record = delivery.envelope().message.failure().unwrap();
            assert_eq!(record.class, FailureClass::AttemptsExhausted);
            (record.message_id.clone(), record.reason.clone())
        })
        .collect();
    reasons.sort();
    assert_eq!(reasons[0].0, "beyond");
    assert!(
        reasons[0].1.contains("3 attempts were allowed"),
        "{reasons:?}"
    );
    assert_eq!(reasons[1], ("third".into(), "as the body says".into()));
}
