//! Destinations that are down.

use std::time::Duration;

use futures::FutureExt;
use tokio::task::JoinSet;
use towpath_core::Outcome;
use towpath_updater::{BreakerConfig, BreakerState, Rate, Updater, UpdaterConfig};

use crate::server::{Server, handle, reason, reply, updater};

fn quick() -> BreakerConfig {
    BreakerConfig::default()
        .consecutive_failures(2)
        .cool_down(Duration::from_millis(30))
        .max_cool_down(Duration::from_millis(30))
}

async fn fail(updater: &Updater, times: usize) {
    for _ in 0..times {
        assert!(matches!(handle(updater, "x").await, Outcome::Retry { .. }));
    }
}

#[tokio::test]
async fn messages_wait_while_the_breaker_is_open_and_go_when_it_closes() {
    let server = Server::start([reply(503)]).await;
    let updater = updater(server.destination("/").breaker(quick()).probe("none"));
    assert!(updater.paused().now_or_never().is_none());
    fail(&updater, 2).await;
    updater.paused().await;
    assert!(updater.is_paused());
    assert_eq!(updater.state()["crm"].breaker, BreakerState::Open);

    let mut waiting = JoinSet::new();
    for _ in 0..5 {
        let updater = updater.clone();
        waiting.spawn(async move { handle(&updater, "x").await });
    }
    // Tries that fail do not give the messages back.
    server.saw(5).await;
    assert!(waiting.try_join_next().is_none());
    assert!(
        updater.resumed().now_or_never().is_none(),
        "those in hand are tried first"
    );
    server.set_reply(reply(200));
    for outcome in waiting.join_all().await {
        assert_eq!(outcome, Outcome::Ack);
    }
    updater.resumed().await;
    assert_eq!(updater.state()["crm"].breaker, BreakerState::Closed);
}

#[tokio::test]
async fn an_open_breaker_lets_one_request_through_at_a_time() {
    let server = Server::start([reply(503)]).await;
    let updater = updater(server.destination("/").breaker(quick()).probe("none"));
    fail(&updater, 2).await;
    server.set_open(false);
    let mut waiting = JoinSet::new();
    for _ in 0..5 {
        let updater = updater.clone();
        waiting.spawn(async move { handle(&updater, "x").await });
    }
    server.saw(3).await;
    assert_eq!(updater.state()["crm"].breaker, BreakerState::HalfOpen);
    assert_eq!(updater.state()["crm"].in_flight, 1);
    server.set_reply(reply(200));
    server.set_open(true);
    for outcome in waiting.join_all().await {
        assert_eq!(outcome, Outcome::Ack);
    }
}

#[tokio::test]
async fn a_message_that_waited_long_enough_is_given_back_and_was_no_attempt() {
    let server = Server::start([reply(503).body("down for repair")]).await;
    let config = UpdaterConfig::new()
        .destination(
            "crm",
            server.destination("/").breaker(
                BreakerConfig::default()
                    .consecutive_failures(1)
                    .cool_down(Duration::from_secs(60)),
            ),
        )
        .max_wait(Duration::from_millis(40));
    let updater = Updater::new(config).unwrap();
    fail(&updater, 1).await;
    let outcome = handle(&updater, "x").await;
    let Outcome::Release {
        after: Some(after), ..
    } = &outcome
    else {
        panic!("{outcome:?}");
    };
    assert!((50..=60).contains(&after.as_secs()), "{after:?}");
    assert!(reason(&outcome).contains("down for repair"), "{outcome:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_front_that_answers_does_not_close_the_breaker() {
    let server = Server::start([reply(503)]).await;
    server.set_head(reply(404));
    let updater = updater(
        server
            .destination("/contacts/{message_id}")
            .breaker(quick()),
    );
    fail(&updater, 2).await;
    updater.resumed().await;
    assert_eq!(updater.state()["crm"].breaker, BreakerState::HalfOpen);
    let waiting = tokio::spawn({
        let updater = updater.clone();
        async move { handle(&updater, "x").await }
    });
    server.saw(8).await;
    assert!(!waiting.is_finished());
    server.set_reply(reply(200));
    assert_eq!(waiting.await.unwrap(), Outcome::Ack);
    let asked = server
        .seen()
        .into_iter()
        .filter(|seen| seen.method == "HEAD");
    assert!(asked.map(|seen| seen.uri).all(|uri| uri == "/contacts"));
}

#[tokio::test]
async fn the_probe_that_is_configured_is_asked_before_a_message_is_risked() {
    let server = Server::start([reply(503)]).await;
    let destination = server
        .destination("/contacts")
        .breaker(quick())
        .probe(server.url("/health"));
    let updater = updater(destination);
    fail(&updater, 2).await;
    let resumed = tokio::spawn({
        let updater = updater.clone();
        async move { updater.resumed().await }
    });
    server.saw(6).await;
    assert!(!resumed.is_finished());
    server.set_reply(reply(200));
    resumed.await.unwrap();
    assert_eq!(handle(&updater, "x").await, Outcome::Ack);
    let paths: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| seen.uri.path().to_owned())
        .collect();
    assert_eq!(paths[..2], ["/contacts", "/contacts"]);
    assert_eq!(paths.last().unwrap(), "/contacts");
    let between = &paths[2..paths.len() - 1];
    assert!(between.iter().all(|path| path == "/health"), "{paths:?}");
    assert_eq!(updater.state()["crm"].breaker, BreakerState::Closed);
}

#[tokio::test]
async fn permanent_failures_leave_the_breaker_alone() {
    let server = Server::start([reply(422)]).await;
    let updater = updater(server.destination("/").breaker(quick()));
    for _ in 0..5 {
        assert!(matches!(
            handle(&updater, "x").await,
            Outcome::DeadLetter { .. }
        ));
    }
    assert!(!updater.is_paused());
    assert_eq!(
        updater.breaker("crm").unwrap().state(),
        BreakerState::Closed
    );
}

#[tokio::test]
async fn those_who_wait_for_the_rate_do_not_go_when_the_breaker_opens() {
    let server = Server::start([reply(503)]).await;
    let breaker = BreakerConfig::default().consecutive_failures(1);
    let destination = server
        .destination("/")
        .breaker(breaker)
        .rate(Rate::new(20, Duration::from_secs(1)));
    let config = UpdaterConfig::new()
        .destination("crm", destination)
        .max_wait(Duration::from_millis(400));
    let updater = Updater::new(config).unwrap();
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let updater = updater.clone();
        tasks.spawn(async move { handle(&updater, "x").await });
    }
    let outcomes = tasks.join_all().await;
    let released = outcomes
        .iter()
        .filter(|o| matches!(o, Outcome::Release { .. }));
    assert_eq!((released.count(), server.seen().len()), (3, 1));
}
