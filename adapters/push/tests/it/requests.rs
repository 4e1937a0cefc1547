//! What a handler sees of a request, and which requests are refused.

use axum::http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};
use towpath_core::{Message, wire};

use crate::harness::{Scripted, builder, problem, request, router, send, status, wrapped};

/// <https://cloud.google.com/pubsub/docs/push>
const DOCUMENTED: &str = r#"{
    "message": {
        "attributes": {"key": "value"},
        "data": "SGVsbG8gQ2xvdWQgUHViL1N1YiEgSGVyZSBpcyBteSBtZXNzYWdlIQ==",
        "messageId": "2070443601311540",
        "message_id": "2070443601311540",
        "publishTime": "2021-02-26T19:13:55.749Z",
        "publish_time": "2021-02-26T19:13:55.749Z"
    },
    "subscription": "projects/myproject/subscriptions/mysubscription"
}"#;

#[tokio::test]
async fn the_documented_wrapped_message_is_read() {
    let handler = Scripted::default();
    let body: Value = serde_json::from_str(DOCUMENTED).unwrap();
    assert_eq!(
        status(&router(handler.clone()), &body).await,
        StatusCode::NO_CONTENT
    );
    let attempt = &handler.attempts()[0];
    assert_eq!(
        (attempt.queue(), attempt.number()),
        ("mysubscription", None)
    );
    let envelope = attempt.envelope();
    assert_eq!(envelope.id.to_string(), "2070443601311540");
    assert_eq!(
        envelope.message.body(),
        "Hello Cloud Pub/Sub! Here is my message!"
    );
    assert_eq!(envelope.message.attributes().get("key"), Some("value"));
    let sent = humantime::parse_rfc3339("2021-02-26T19:13:55.749Z").unwrap();
    assert_eq!(envelope.sent_at, Some(sent));
}

#[tokio::test]
async fn attempt_ordering_key_and_what_towpath_sent_are_read() {
    let handler = Scripted::default();
    let sent = Message::new("x")
        .with_attribute("a", "1")
        .with_ordering_key("customer-1");
    let mut body = wrapped("x");
    body["deliveryAttempt"] = json!(5);
    body["message"]["orderingKey"] = json!("customer-1");
    body["message"]["attributes"] =
        json!({"a": "1", "towpath": wire::reserved_value(&sent, Default::default())});
    assert_eq!(
        status(&router(handler.clone()), &body).await,
        StatusCode::NO_CONTENT
    );
    let attempt = &handler.attempts()[0];
    assert_eq!(attempt.number(), Some(5));
    assert_eq!(attempt.envelope().message, sent);
}

/// <https://cloud.google.com/pubsub/docs/payload-unwrapping>
#[tokio::test]
async fn an_unwrapped_message_with_metadata_is_read() {
    let handler = Scripted::default();
    let mut request = request("{\"status\":\"Hello there\"}");
    for (name, value) in [
        (
            "x-goog-pubsub-subscription-name",
            "projects/p/subscriptions/orders",
        ),
        ("x-goog-pubsub-message-id", "2070443601311540"),
        ("x-goog-pubsub-publish-time", "2021-02-26T19:13:55.749Z"),
        ("x-goog-pubsub-ordering-key", "customer-1"),
        ("user-agent", "CloudPubSub-Google"),
        ("x-forwarded-for", "192.0.2.1"),
        ("tenant", "acme"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let response = send(&router(handler.clone()), request).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let attempt = &handler.attempts()[0];
    assert_eq!(attempt.queue(), "orders");
    let envelope = attempt.envelope();
    assert_eq!(envelope.id.to_string(), "2070443601311540");
    let message = &envelope.message;
    assert_eq!(message.body(), "{\"status\":\"Hello there\"}");
    assert_eq!(message.ordering_key(), Some("customer-1"));
    let attributes: Vec<_> = message.attributes().iter().collect();
    assert_eq!(
        attributes,
        [("content-type", "application/json"), ("tenant", "acme")]
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_not_acked() {
    let handler = Scripted::default();
    let router = router(handler.clone());
    let mut not_base64 = wrapped("x");
    not_base64["message"]["data"] = json!("not base64!");
    let mut no_id = wrapped("x");
    no_id["message"]["messageId"] = json!("");
    for body in [
        String::new(),
        "hello".into(),
        "{}".into(),
        "[]".into(),
        r#"{"message": {}}"#.into(),
        not_base64.to_string(),
        no_id.to_string(),
    ] {
        let response = send(&router, request(body.clone())).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body}");
        assert!(problem(response).await.contains("message"), "{body}");
    }
    assert!(handler.attempts().is_empty());
}

#[tokio::test]
async fn a_request_beyond_the_size_is_refused() {
    let handler = Scripted::default();
    let endpoint = builder(handler.clone()).max_bytes(1_000).build().unwrap();
    let router = endpoint.router("/push");
    let body = wrapped(&"x".repeat(2_000)).to_string();
    let mut announced = request(body.clone());
    let length = body.len().to_string().parse().unwrap();
    announced.headers_mut().insert("content-length", length);
    for request in [announced, request(body)] {
        let response = send(&router, request).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert!(problem(response).await.contains("1000"));
    }
    assert!(handler.attempts().is_empty());
}

#[tokio::test]
async fn a_message_of_another_subscription_is_refused() {
    let endpoint = builder(Scripted::default()).subscription("projects/p/subscriptions/orders");
    let router = endpoint.build().unwrap().router("/push");
    assert_eq!(status(&router, &wrapped("x")).await, StatusCode::NO_CONTENT);
    for other in [json!("projects/p/subscriptions/other"), Value::Null] {
        let mut body = wrapped("x");
        body["subscription"] = other;
        assert_eq!(status(&router, &body).await, StatusCode::FORBIDDEN);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_body_is_handled_or_refused(body in any::<Vec<u8>>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let status = runtime.block_on(async {
            send(&router(Scripted::default()), request(body)).await.status()
        });
        prop_assert_eq!(status, StatusCode::BAD_REQUEST);
    }
}
