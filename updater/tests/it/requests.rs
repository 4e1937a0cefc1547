//! What is sent.

use axum::http::Method;
use serde_json::json;
use towpath_core::{FailureClass, Handler, Message, Outcome};
use towpath_updater::{Auth, Body, Route, Secret, Updater, UpdaterConfig};

use crate::server::{Server, attempt_at, handle, reason, reply, updater};

const EVENT: &str = r#"{"customer": {"email": "a+b@x.example"}, "event": "opened", "at": 17}"#;

#[tokio::test]
async fn url_headers_and_body_are_filled_from_the_message() {
    let server = Server::start([reply(200)]).await;
    let destination = server
        .destination("/contacts/{/customer/email}/activities?at={/at}&tenant={attribute.tenant?}")
        .method("put")
        .header("x-event", "mail {/event}")
        .header("x-queue", "{queue}")
        .body(Body::Json(
            json!({"subject": "Mail {/event}", "at": "{/at}", "note": "{/note?}"}),
        ));
    assert_eq!(handle(&updater(destination), EVENT).await, Outcome::Ack);
    let seen = &server.seen()[0];
    assert_eq!(seen.method, Method::PUT);
    assert_eq!(
        seen.uri,
        "/contacts/a%2Bb%40x.example/activities?at=17&tenant="
    );
    assert_eq!(seen.header("x-event"), "mail opened");
    assert_eq!(seen.header("x-queue"), "events");
    assert_eq!(seen.header("content-type"), "application/json");
    assert!(seen.header("user-agent").starts_with("towpath-updater/"));
    let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(body, json!({"subject": "Mail opened", "at": 17}));
}

#[tokio::test]
async fn any_bytes_pass_through() {
    let server = Server::start([reply(200)]).await;
    let updater = updater(server.destination("/"));
    let bytes: Vec<u8> = (0..=255).collect();
    let message = Message::new(bytes.clone())
        .with_attribute("content-type", "application/x-bytes")
        .with_attribute(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        );
    assert_eq!(updater.handle(attempt_at(message)).await, Outcome::Ack);
    let seen = &server.seen()[0];
    assert_eq!(seen.body, bytes);
    assert_eq!(seen.header("content-type"), "application/x-bytes");
    assert!(seen.header("traceparent").starts_with("00-0af7"));
}

#[tokio::test]
async fn each_way_to_authenticate_is_sent() {
    let secret = || Secret::literal("hunter2");
    for (auth, name, value) in [
        (Auth::Bearer(secret()), "authorization", "Bearer hunter2"),
        (
            Auth::Basic {
                user: "me".into(),
                password: secret(),
            },
            "authorization",
            "Basic bWU6aHVudGVyMg==",
        ),
        (
            Auth::Header([("X-Api-Key".to_owned(), secret())].into()),
            "x-api-key",
            "hunter2",
        ),
    ] {
        let server = Server::start([reply(200)]).await;
        assert_eq!(
            handle(&updater(server.destination("/").auth(auth)), "x").await,
            Outcome::Ack
        );
        assert_eq!(server.seen()[0].header(name), value);
    }
}

#[tokio::test]
async fn the_idempotency_key_is_the_same_in_every_attempt_and_after_a_redrive() {
    let server = Server::start([reply(500), reply(429), reply(200), reply(200)]).await;
    let updater = updater(server.destination("/"));
    let message = Message::new("x");
    for _ in 0..3 {
        let _ = updater.handle(attempt_at(message.clone())).await;
    }
    // As the message comes back from the dead-letter queue: with a failure record.
    let record = towpath_core::FailureRecord::new(FailureClass::Permanent, "no", "events");
    let redriven = message.clone().with_failure(Some(record));
    assert_eq!(updater.handle(attempt_at(redriven)).await, Outcome::Ack);
    let seen = server.seen();
    assert_eq!(seen.len(), 4);
    for seen in seen {
        assert_eq!(
            seen.header("idempotency-key"),
            message.idempotency_key().to_string()
        );
    }
}

#[tokio::test]
async fn the_idempotency_header_has_the_name_that_is_configured() {
    let server = Server::start([reply(200)]).await;
    let destination = || server.destination("/");
    for name in ["x-request-id", ""] {
        let updater = updater(destination().idempotency_header(name));
        assert_eq!(handle(&updater, "x").await, Outcome::Ack);
    }
    let seen = server.seen();
    assert!(!seen[0].header("x-request-id").is_empty());
    assert!(
        seen.iter()
            .all(|seen| seen.header("idempotency-key").is_empty())
    );
}

#[tokio::test]
async fn a_message_that_does_not_fill_the_template_is_dead_lettered_without_a_request() {
    let server = Server::start([reply(200)]).await;
    let updater = updater(server.destination("/contacts/{/customer/email}"));
    for (body, hint) in [
        ("{}", "/customer/email"),
        ("not json", "not the expected JSON"),
        (r#"{"customer": {"email": ".."}}"#, "change the path"),
        (r#"{"customer": {"email": ["a"]}}"#, "no string"),
    ] {
        let outcome = handle(&updater, body).await;
        let Outcome::DeadLetter { class, .. } = &outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(*class, FailureClass::Undecodable);
        assert!(reason(&outcome).contains(hint), "{outcome:?}");
        assert!(
            reason(&outcome).starts_with("crm cannot be called"),
            "{outcome:?}"
        );
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_message_chooses_its_destination() {
    let (crm, billing) = (
        Server::start([reply(200)]).await,
        Server::start([reply(200)]).await,
    );
    let updater = |route| {
        Updater::new(
            UpdaterConfig::new()
                .destination("crm", crm.destination("/"))
                .destination("billing", billing.destination("/"))
                .route(route),
        )
        .unwrap()
    };
    let by_attribute = updater(Route::attribute("to").with_default("crm"));
    let to = |name: &str| attempt_at(Message::new("x").with_attribute("to", name));
    assert_eq!(by_attribute.handle(to("billing")).await, Outcome::Ack);
    assert_eq!(
        by_attribute.handle(attempt_at("x".into())).await,
        Outcome::Ack
    );
    assert_eq!((crm.seen().len(), billing.seen().len()), (1, 1));

    let by_pointer = updater(Route::pointer("/to"));
    assert_eq!(
        handle(&by_pointer, r#"{"to": "billing"}"#).await,
        Outcome::Ack
    );
    assert_eq!(billing.seen().len(), 2);
    for body in ["{}", r#"{"to": "nobody"}"#, r#"{"to": 7}"#] {
        let outcome = handle(&by_pointer, body).await;
        let Outcome::DeadLetter { class, .. } = &outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(*class, FailureClass::Other("no_destination".into()));
    }
    assert!(matches!(
        by_attribute.handle(to("nobody")).await,
        Outcome::DeadLetter { .. }
    ));
}
