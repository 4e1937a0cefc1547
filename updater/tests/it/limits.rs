//! Rate and concurrency.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use towpath_core::{Handler, Outcome};
use towpath_updater::{Rate, Updater, UpdaterConfig};

use crate::server::{Server, attempt, handle, reply, updater};

fn spawn(updater: &Updater, count: usize) -> JoinSet<Outcome> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let updater = updater.clone();
        tasks.spawn(async move { handle(&updater, "x").await });
    }
    tasks
}

#[tokio::test]
async fn no_more_requests_run_at_once_than_allowed() {
    let server = Server::start([reply(200)]).await;
    server.set_open(false);
    let updater = updater(server.destination("/").concurrency(3));
    let tasks = spawn(&updater, 12);
    server.saw(3).await;
    assert_eq!(updater.state()["crm"].in_flight, 3);
    server.set_open(true);
    for outcome in tasks.join_all().await {
        assert_eq!(outcome, Outcome::Ack);
    }
    assert_eq!((server.peak(), server.seen().len()), (3, 12));
}

#[tokio::test]
async fn no_more_requests_start_in_a_time_than_allowed() {
    let server = Server::start([reply(200)]).await;
    let rate = Rate::new(50, Duration::from_secs(1));
    let updater = updater(server.destination("/").rate(rate));
    let start = Instant::now();
    for outcome in spawn(&updater, 6).join_all().await {
        assert_eq!(outcome, Outcome::Ack);
    }
    // The first at once, the other five 20 ms apart. There is no upper bound to check.
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_message_that_waits_too_long_for_a_place_is_given_back_and_was_no_attempt() {
    let server = Server::start([reply(200)]).await;
    server.set_open(false);
    let config = UpdaterConfig::new()
        .destination("crm", server.destination("/").concurrency(1))
        .max_wait(Duration::from_millis(30));
    let updater = Updater::new(config).unwrap();
    let mut first = spawn(&updater, 1);
    server.saw(1).await;
    let outcome = handle(&updater, "x").await;
    assert!(
        matches!(outcome, Outcome::Release { after: None, .. }),
        "{outcome:?}"
    );
    assert_eq!(updater.state()["crm"].released, 1);
    server.set_open(true);
    assert_eq!(first.join_next().await.unwrap().unwrap(), Outcome::Ack);
}

#[tokio::test]
async fn a_lost_lease_ends_the_request() {
    let server = Server::start([reply(200)]).await;
    server.set_open(false);
    let updater = updater(server.destination("/"));
    let token = CancellationToken::new();
    let handled = tokio::spawn({
        let (updater, token) = (updater.clone(), token.clone());
        async move { updater.handle(attempt("x").with_cancellation(token)).await }
    });
    server.saw(1).await;
    token.cancel();
    assert!(matches!(handled.await.unwrap(), Outcome::Retry { .. }));
    assert_eq!(updater.state()["crm"].in_flight, 0);
}
