//! What an answer means for the message.

use std::time::{Duration, SystemTime};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use towpath_core::{FailureClass, Outcome};
use towpath_updater::{BreakerConfig, BreakerState, Class, Destination, Secret};

use crate::server::{Server, handle, reason, reply, updater};

#[tokio::test]
async fn success_is_acked() {
    for status in [200, 201, 202, 204] {
        let server = Server::start([reply(status)]).await;
        let updater = updater(server.destination("/"));
        assert_eq!(handle(&updater, "x").await, Outcome::Ack, "{status}");
        assert_eq!(updater.state()["crm"].succeeded, 1);
    }
}

#[tokio::test]
async fn transient_answers_are_retried() {
    for status in [408, 409, 423, 425, 429, 500, 502, 503, 504] {
        let server = Server::start([reply(status).body("try later")]).await;
        let outcome = handle(&updater(server.destination("/")), "x").await;
        let Outcome::Retry {
            after: None,
            reason,
        } = &outcome
        else {
            panic!("{status}: {outcome:?}");
        };
        assert!(
            reason.starts_with(&format!("crm answered {status} ")),
            "{reason}"
        );
        assert!(reason.ends_with(": try later"), "{reason}");
    }
}

#[tokio::test]
async fn permanent_answers_are_dead_lettered() {
    for status in [400, 402, 404, 405, 410, 413, 415, 422, 451] {
        let server = Server::start([reply(status).body("no\r\nsuch \u{1b}[31mfield")]).await;
        let updater = updater(server.destination("/"));
        let outcome = handle(&updater, "x").await;
        let Outcome::DeadLetter { class, reason } = &outcome else {
            panic!("{status}: {outcome:?}");
        };
        assert_eq!(*class, FailureClass::Permanent);
        assert!(reason.contains(r"no\r\nsuch \u{1b}[31mfield"), "{reason}");
        assert_eq!(updater.state()["crm"].breaker, BreakerState::Closed);
    }
}

#[tokio::test]
async fn refused_credentials_raise_an_alarm_until_the_next_success() {
    for status in [401, 403] {
        let server = Server::start([reply(status), reply(status), reply(200)]).await;
        let updater = updater(server.destination("/"));
        for count in [1, 2] {
            let outcome = handle(&updater, "x").await;
            let Outcome::DeadLetter { class, .. } = outcome else {
                panic!("{status}: {outcome:?}");
            };
            assert_eq!(class, FailureClass::Other("unauthorized".into()));
            let alarm = updater.state()["crm"].alarm.clone().unwrap();
            assert_eq!(alarm.count, count);
            assert!(alarm.reason.contains(&status.to_string()), "{alarm:?}");
        }
        assert_eq!(handle(&updater, "x").await, Outcome::Ack);
        assert_eq!(updater.state()["crm"].alarm, None);
    }
}

#[tokio::test]
async fn a_few_refusals_in_a_row_open_the_breaker_before_all_is_dead_lettered() {
    let server = Server::start([reply(401)]).await;
    let breaker = BreakerConfig::default().consecutive_failures(3);
    let updater = updater(server.destination("/").breaker(breaker));
    for _ in 0..3 {
        assert!(matches!(
            handle(&updater, "x").await,
            Outcome::DeadLetter { .. }
        ));
    }
    assert_eq!(updater.state()["crm"].breaker, BreakerState::Open);
    assert!(updater.is_paused());
}

#[tokio::test]
async fn a_rotated_secret_is_picked_up_and_the_message_is_retried() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "old").unwrap();
    let server = Server::start([reply(401), reply(200)]).await;
    let auth = towpath_updater::Auth::Bearer(Secret::file(file.path()));
    let updater = updater(server.destination("/").auth(auth));
    std::fs::write(file.path(), "new").unwrap();
    assert!(matches!(handle(&updater, "x").await, Outcome::Retry { .. }));
    assert_eq!(updater.state()["crm"].alarm, None);
    assert_eq!(handle(&updater, "x").await, Outcome::Ack);
    let sent: Vec<_> = server
        .seen()
        .iter()
        .map(|s| s.header("authorization").to_owned())
        .collect();
    assert_eq!(sent, ["Bearer old", "Bearer new"]);
}

#[tokio::test]
async fn classes_are_overridden_per_destination() {
    for (status, class) in [
        (404, Class::Transient),
        (501, Class::Permanent),
        (409, Class::Success),
        (202, Class::Transient),
    ] {
        let server = Server::start([reply(status)]).await;
        let outcome = handle(&updater(server.destination("/").class(status, class)), "x").await;
        let is_as_wanted = match class {
            Class::Success => outcome == Outcome::Ack,
            Class::Transient => matches!(outcome, Outcome::Retry { .. }),
            _ => matches!(outcome, Outcome::DeadLetter { .. }),
        };
        assert!(is_as_wanted, "{status}: {outcome:?}");
    }
}

async fn retry_after(status: u16, value: String) -> Option<Duration> {
    let server = Server::start([reply(status).header("retry-after", value)]).await;
    match handle(&updater(server.destination("/")), "x").await {
        Outcome::Retry { after, .. } => after,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn retry_after_is_honoured_as_seconds_and_as_a_date() {
    assert_eq!(
        retry_after(429, "120".into()).await,
        Some(Duration::from_secs(120))
    );
    let date = SystemTime::now() + Duration::from_secs(300);
    let after = retry_after(500, httpdate::fmt_http_date(date))
        .await
        .unwrap();
    assert!((200..=300).contains(&after.as_secs()), "{after:?}");
    assert_eq!(retry_after(429, "soon".into()).await, None);
    // The default bound.
    assert_eq!(
        retry_after(503, "999999999".into()).await,
        Some(Duration::from_secs(3_600))
    );
}

#[tokio::test]
async fn a_busy_destination_is_left_alone_for_as_long_as_it_asks() {
    let server = Server::start([reply(429).header("retry-after", "120")]).await;
    let updater = updater(server.destination("/"));
    assert!(matches!(handle(&updater, "x").await, Outcome::Retry { .. }));
    let state = &updater.state()["crm"];
    assert_eq!(state.breaker, BreakerState::Open);
    assert!(state.cool_down_left > Duration::from_secs(100), "{state:?}");
}

#[tokio::test]
async fn a_late_answer_is_retried() {
    let server = Server::start([reply(200)]).await;
    server.set_open(false);
    let updater = updater(server.destination("/").timeout(Duration::from_millis(50)));
    let outcome = handle(&updater, "x").await;
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    assert!(
        reason(&outcome).contains("did not answer within 50ms"),
        "{outcome:?}"
    );
    assert_eq!(updater.state()["crm"].in_flight, 0);
}

#[tokio::test]
async fn a_refused_connection_is_retried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "http://{}/contacts/{{message_id}}",
        listener.local_addr().unwrap()
    );
    drop(listener);
    let destination = Destination::new(url).allow_private(true).allow_http(true);
    let outcome = handle(&updater(destination), "x").await;
    assert!(matches!(outcome, Outcome::Retry { .. }), "{outcome:?}");
    assert!(
        reason(&outcome).contains("crm cannot be reached"),
        "{outcome:?}"
    );
    assert!(reason(&outcome).contains("refused"), "{outcome:?}");
    assert!(!reason(&outcome).contains("/contacts/"), "{outcome:?}");
}

/// Answers every request with `answer` and cuts the connection.
async fn cutting(answer: &'static [u8]) -> Destination {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let mut request = [0; 4_096];
            let _ = connection.read(&mut request).await;
            connection.write_all(answer).await.unwrap();
            connection.set_zero_linger().unwrap();
        }
    });
    Destination::new(url).allow_private(true).allow_http(true)
}

#[tokio::test]
async fn a_connection_that_breaks_is_retried_wherever_it_breaks() {
    for answer in [
        "",
        "HTTP/1.1 20",
        "HTTP/1.1 200 OK\r\nContent-Le",
        // Acknowledged, but not to the end.
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "not HTTP at all\r\n\r\n",
    ] {
        let updater = updater(cutting(answer.as_bytes()).await);
        let outcome = handle(&updater, "x").await;
        assert!(
            matches!(outcome, Outcome::Retry { .. }),
            "{answer:?}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_failure_that_breaks_off_keeps_its_status() {
    let updater =
        updater(cutting(b"HTTP/1.1 422 Unprocessable\r\nContent-Length: 100\r\n\r\nno such").await);
    let outcome = handle(&updater, "x").await;
    assert!(matches!(outcome, Outcome::DeadLetter { .. }), "{outcome:?}");
    assert!(reason(&outcome).contains("422"), "{outcome:?}");
}

#[tokio::test]
async fn a_long_answer_is_not_kept() {
    let server = Server::start([reply(400).body("x".repeat(10_000_000))]).await;
    let outcome = handle(&updater(server.destination("/")), "x").await;
    assert!(reason(&outcome).len() < 400, "{}", reason(&outcome).len());
    server.set_reply(reply(200).body("x".repeat(10_000_000)));
    assert_eq!(
        handle(&updater(server.destination("/")), "x").await,
        Outcome::Ack
    );
}

#[tokio::test]
async fn the_reason_tells_of_earlier_attempts() {
    let server = Server::start([reply(500), reply(502), reply(502), reply(404)]).await;
    let updater = updater(server.destination("/"));
    let message = towpath_core::Message::new("x");
    let mut reasons = Vec::new();
    for _ in 0..4 {
        let attempt = crate::server::attempt_at(message.clone());
        let outcome = towpath_core::Handler::handle(&updater, attempt).await;
        reasons.push(reason(&outcome).to_owned());
    }
    assert!(!reasons[0].contains("before"), "{reasons:?}");
    assert!(reasons[1].ends_with("; before: 500"), "{reasons:?}");
    assert!(reasons[3].ends_with("; before: 500, 2x 502"), "{reasons:?}");
}
