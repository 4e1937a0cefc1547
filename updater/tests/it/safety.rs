//! What is never called.

use towpath_core::{FailureClass, Outcome};
use towpath_updater::{Auth, Destination, Secret};

use crate::server::{Server, handle, reason, reply, updater};

#[tokio::test]
async fn a_name_with_a_private_address_is_refused_when_it_is_resolved() {
    let server = Server::start([reply(200)]).await;
    let url = format!("http://localhost:{}/", server.port());
    let outcome = {
        let updater = updater(Destination::new(&url).allow_http(true));
        let outcome = handle(&updater, "x").await;
        let alarm = updater.state()["crm"].alarm.clone().unwrap();
        assert!(
            alarm.reason.contains("localhost has the address"),
            "{alarm:?}"
        );
        outcome
    };
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    assert!(
        reason(&outcome).contains("allow_private = true"),
        "{outcome:?}"
    );
    assert!(server.seen().is_empty());

    let allowed = Destination::new(&url).allow_http(true).allow_private(true);
    assert_eq!(handle(&updater(allowed), "x").await, Outcome::Ack);
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let other = Server::start([reply(200)]).await;
    for status in [301, 302, 303, 307, 308] {
        let server = Server::start([reply(status).header("location", other.url("/x"))]).await;
        let outcome = handle(&updater(server.destination("/")), "x").await;
        let Outcome::DeadLetter { class, reason } = &outcome else {
            panic!("{outcome:?}");
        };
        assert_eq!(*class, FailureClass::Permanent);
        assert!(reason.contains(&other.url("/x")), "{reason}");
    }
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn a_redirect_to_another_host_or_port_is_never_followed() {
    let other = Server::start([reply(200)]).await;
    for location in [
        other.url("/x"),
        "http://10.0.0.1/x".into(),
        "http://169.254.169.254/latest/meta-data".into(),
        format!("http://localhost:{}/x", other.port()),
    ] {
        let server = Server::start([reply(307).header("location", &location)]).await;
        let auth = Auth::Header([("x-api-key".to_owned(), Secret::literal("hunter2"))].into());
        let destination = server.destination("/").redirects(5).auth(auth);
        let outcome = handle(&updater(destination), "x").await;
        assert!(matches!(outcome, Outcome::DeadLetter { .. }), "{outcome:?}");
        assert_eq!(server.seen().len(), 1);
    }
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn redirects_within_the_host_are_followed_as_far_as_allowed_and_only_as_writes() {
    let redirect = |status| reply(status).header("location", "/new");
    let server = Server::start([redirect(308), redirect(307), reply(200)]).await;
    let destination = || server.destination("/old").redirects(2);
    assert_eq!(handle(&updater(destination()), "body").await, Outcome::Ack);
    let seen = server.seen();
    assert_eq!(seen.len(), 3);
    for seen in &seen {
        assert_eq!(
            (seen.method.as_str(), &seen.body[..]),
            ("POST", &b"body"[..])
        );
        assert_eq!(
            seen.header("idempotency-key"),
            server.seen()[0].header("idempotency-key")
        );
    }
    // One too many; and one that would turn the write into a read.
    for (first, requests) in [(308, 3), (302, 1)] {
        let server = Server::start([redirect(first)]).await;
        let destination = server.destination("/old").redirects(2);
        let outcome = handle(&updater(destination), "x").await;
        assert!(matches!(outcome, Outcome::DeadLetter { .. }), "{outcome:?}");
        assert_eq!(server.seen().len(), requests);
    }
}
