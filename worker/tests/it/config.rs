use towpath_core::{ErrorKind, Outcome};
use towpath_worker::{Backoff, RetryPolicy};

use crate::support::{HOUR, SECOND, Setup};

#[tokio::test]
async fn a_limit_without_a_dead_letter_queue_is_refused_with_what_to_do() {
    let setup = Setup::new("memory://orders").await;
    let policy = RetryPolicy::new(Backoff::default());
    for (policy, name) in [
        (policy.clone().max_attempts(5), "max_attempts"),
        (policy.max_age(HOUR), "max_age"),
    ] {
        let builder = setup.worker(|_| async { Outcome::Ack }).await;
        let error = builder.retry(policy).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        let text = error.to_string();
        for part in [name, "orders", "dead_letter=NAME"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[tokio::test]
async fn a_limit_where_attempts_are_not_counted_is_refused() {
    let setup = Setup::new("memory://orders?profile=pubsub&dead_letter=dead").await;
    let builder = setup.worker(|_| async { Outcome::Ack }).await;
    let policy = RetryPolicy::default().max_attempts(5);
    let error = builder.retry(policy).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

#[tokio::test]
async fn a_handler_timeout_beyond_the_lease_is_refused() {
    let setup = Setup::new("memory://orders?max_lease=60s").await;
    let builder = setup.worker(|_| async { Outcome::Ack }).await;
    let error = builder.handler_timeout(60 * SECOND).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.to_string().contains("max_lease"), "{error}");
    let builder = setup.worker(|_| async { Outcome::Ack }).await;
    assert!(builder.handler_timeout(59 * SECOND).build().is_ok());
}

#[tokio::test]
async fn zeros_are_refused() {
    let setup = Setup::new("memory://orders?dead_letter=dead").await;
    let builder = || setup.worker(|_| async { Outcome::Ack });
    let none = RetryPolicy::default().max_attempts(0);
    for refused in [
        builder().await.concurrency(0),
        builder().await.max_bytes(0),
        builder().await.retry(none),
    ] {
        let error = refused.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    }
}
