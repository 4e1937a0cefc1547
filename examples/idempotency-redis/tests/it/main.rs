//! The store on a real Redis, which `cargo xtask test` starts.

use std::{process::Command, time::Duration};

use assert_cmd::cargo::cargo_bin;
use idempotency_redis::RedisStore;
use towpath_core::ErrorKind;
use towpath_worker::layers::{Claim, IdempotencyStore};
use uuid::Uuid;

const SERVER: &str = "TOWPATH_REDIS_ENDPOINT";
const HOUR: Duration = Duration::from_secs(3_600);

fn server() -> String {
    std::env::var(SERVER).unwrap_or_else(|_| {
        panic!(
            "{SERVER} is not set: these tests need a Redis server, which `cargo xtask test` starts"
        )
    })
}

async fn store() -> RedisStore {
    RedisStore::connect(&server(), HOUR).await.unwrap()
}

/// A key or an owner that no other test has.
fn unique() -> Uuid {
    towpath_core::Message::new("").idempotency_key()
}

#[tokio::test]
async fn a_claim_is_one_owners_until_it_is_given_up_and_a_completed_message_is_nobodys() {
    let (store, key) = (store().await, unique().to_string());
    let (first, second) = (unique(), unique());
    let claim = async |owner| store.claim(&key, owner, HOUR).await.unwrap();
    assert_eq!(claim(first).await, Claim::Claimed);
    assert_eq!(claim(second).await, Claim::Held);
    store.abandon(&key, second).await.unwrap();
    assert_eq!(claim(second).await, Claim::Held, "not its own to give up");
    store.abandon(&key, first).await.unwrap();
    assert_eq!(claim(second).await, Claim::Claimed);
    store.complete(&key, second).await.unwrap();
    assert_eq!(claim(first).await, Claim::Completed);
    store.abandon(&key, second).await.unwrap();
    assert_eq!(claim(first).await, Claim::Completed, "done stays done");
}

#[tokio::test]
async fn a_claim_whose_owner_died_goes_to_the_next() {
    let (store, key) = (store().await, unique().to_string());
    let (dead, next) = (unique(), unique());
    let claimed = store.claim(&key, dead, Duration::from_millis(100)).await;
    assert_eq!(claimed.unwrap(), Claim::Claimed);
    while store.claim(&key, next, HOUR).await.unwrap() == Claim::Held {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store.abandon(&key, dead).await.unwrap();
    assert_eq!(store.claim(&key, dead, HOUR).await.unwrap(), Claim::Held);
}

#[tokio::test]
async fn what_is_done_is_forgotten_after_its_time() {
    let ttl = Duration::from_millis(100);
    let store = RedisStore::connect(&server(), ttl).await.unwrap();
    let key = unique().to_string();
    store.complete(&key, unique()).await.unwrap();
    while store.claim(&key, unique(), HOUR).await.unwrap() == Claim::Completed {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        store.claim(&key, unique(), HOUR).await.unwrap(),
        Claim::Held
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_claims_at_once_one_is_granted() {
    let stores = [store().await, store().await];
    for _ in 0..20 {
        let key = unique().to_string();
        let claims = (0..50).map(|n| stores[n % 2].claim(&key, unique(), HOUR));
        let claims = futures::future::join_all(claims).await;
        let granted = claims.iter().filter(|c| matches!(c, Ok(Claim::Claimed)));
        assert_eq!(granted.count(), 1, "{claims:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_that_is_worth_a_retry() {
    // Nobody listens on a port that was just given back.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    drop(listener);
    let connected = tokio::time::timeout(Duration::from_secs(60), RedisStore::connect(&url, HOUR));
    let Err(error) = connected.await.expect("it does not hang") else {
        panic!("somebody answered at {url}");
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(
        error.is_retryable() && error.to_string().contains("Redis"),
        "{error}"
    );
}

#[test]
fn two_workers_ship_each_order_once() {
    let output = Command::new(cargo_bin("idempotency-redis"))
        .arg(server())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert_eq!(text, "orders=100 acked=200 shipped=100\n");
}
