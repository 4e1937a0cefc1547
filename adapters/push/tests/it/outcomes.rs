//! What is answered, which is what becomes of the message.

use std::time::Duration;

use axum::http::{StatusCode, header};
use serde_json::json;
use towpath_core::{Consumer, Delivery, ErrorKind, FailureClass, Producer, Registry};
use towpath_memory::MemoryBackend;

use crate::harness::{Scripted, builder, problem, request, router, send, status, wrapped};

#[tokio::test]
async fn only_an_ack_is_answered_with_success() {
    let router = router(Scripted::default());
    for (body, expected, retry_after) in [
        ("ok", StatusCode::NO_CONTENT, None),
        ("retry", StatusCode::SERVICE_UNAVAILABLE, Some("30")),
        ("release", StatusCode::TOO_MANY_REQUESTS, None),
        ("panic", StatusCode::SERVICE_UNAVAILABLE, None),
        ("dead letter", StatusCode::SERVICE_UNAVAILABLE, None),
    ] {
        let response = send(&router, request(wrapped(body).to_string())).await;
        assert_eq!(response.status(), expected, "{body}");
        let header = response.headers().get(header::RETRY_AFTER);
        assert_eq!(
            header.map(|value| value.to_str().unwrap()),
            retry_after,
            "{body}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_too_long_is_cancelled_and_its_message_comes_back() {
    let handler = Scripted::default();
    let router = router(handler.clone());
    assert_eq!(
        status(&router, &wrapped("hang")).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(handler.attempts()[0].cancellation().is_cancelled());
}

#[tokio::test]
async fn a_request_that_is_given_up_cancels_its_handler() {
    let handler = Scripted::default();
    let router = router(handler.clone());
    let pushed = tokio::spawn(async move { status(&router, &wrapped("hang")).await });
    while handler.attempts().is_empty() {
        tokio::task::yield_now().await;
    }
    pushed.abort();
    handler.attempts()[0].cancellation().cancelled().await;
}

#[tokio::test]
async fn more_messages_than_allowed_are_refused_for_now() {
    let handler = Scripted::default();
    let endpoint = builder(handler.clone()).concurrency(1).build().unwrap();
    let router = endpoint.router("/push");
    let first = tokio::spawn({
        let router = router.clone();
        async move { status(&router, &wrapped("hang")).await }
    });
    while handler.attempts().is_empty() {
        tokio::task::yield_now().await;
    }
    let response = send(&router, request(wrapped("ok").to_string())).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(problem(response).await.contains("being handled"));
    first.abort();
    let _ = first.await;
    assert_eq!(
        status(&router, &wrapped("ok")).await,
        StatusCode::NO_CONTENT
    );
}

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
async fn a_dead_letter_is_copied_with_its_reason_and_then_acked() {
    let (producer, consumer) = dead_letter_queue().await;
    let endpoint = builder(Scripted::default())
        .dead_letter(producer.clone())
        .build();
    let router = endpoint.unwrap().router("/push");
    assert_eq!(
        status(&router, &wrapped("dead letter")).await,
        StatusCode::NO_CONTENT
    );
    let dead = all(&consumer).await;
    assert_eq!((dead.len(), &dead[0].body()[..]), (1, &b"dead letter"[..]));
    let record = dead[0].envelope().message.failure().unwrap();
    assert_eq!(record.class, FailureClass::Permanent);
    assert_eq!(
        (record.queue.as_str(), record.message_id.as_str()),
        ("orders", "m-1")
    );

    producer.close().await.unwrap();
    assert_eq!(
        status(&router, &wrapped("dead letter")).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
}

#[tokio::test]
async fn the_last_attempt_is_dead_lettered_with_its_reason() {
    let (producer, consumer) = dead_letter_queue().await;
    let handler = Scripted::default();
    let endpoint = builder(handler.clone())
        .dead_letter(producer)
        .max_attempts(3);
    let router = endpoint.build().unwrap().router("/push");
    for (attempt, body, expected) in [
        (2, "retry", StatusCode::SERVICE_UNAVAILABLE),
        (3, "retry", StatusCode::NO_CONTENT),
        (3, "release", StatusCode::TOO_MANY_REQUESTS),
        (4, "ok", StatusCode::NO_CONTENT),
    ] {
        let mut message = wrapped(body);
        message["deliveryAttempt"] = json!(attempt);
        message["message"]["messageId"] = json!(format!("{body}-{attempt}"));
        assert_eq!(
            status(&router, &message).await,
            expected,
            "{attempt} {body}"
        );
    }
    assert_eq!(handler.attempts().len(), 3);
    let dead = all(&consumer).await;
    let reasons: Vec<_> = dead
        .iter()
        .map(|delivery| {
            let record = delivery.envelope().message.failure().unwrap();
            assert_eq!(record.class, FailureClass::AttemptsExhausted);
            record.reason.as_str()
        })
        .collect();
    assert_eq!(reasons.len(), 2);
    assert_eq!(reasons[0], "as the body says");
    assert!(
        reasons[1].contains("3 attempts were allowed"),
        "{reasons:?}"
    );
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let builder = || builder(Scripted::default());
    for (builder, hint) in [
        (builder().concurrency(0), "concurrency"),
        (builder().max_bytes(0), "max_bytes"),
        (builder().timeout(Duration::ZERO), "timeout"),
        (builder().max_attempts(0), "at least 1"),
        (builder().max_attempts(3), "dead_letter"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains(hint), "{error}");
    }
}
