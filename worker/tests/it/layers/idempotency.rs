use std::sync::Arc;

use async_trait::async_trait;
use towpath_core::{Error, ErrorKind, Message, Outcome, Result};
use towpath_worker::layers::{Claim, IdempotencyLayer, IdempotencyStore, MemoryStore};
use uuid::Uuid;

use crate::support::{HOUR, SECOND, Setup, eventually, fixed, retry, start};

#[tokio::test(start_paused = true)]
async fn duplicates_are_handled_once() {
    let mut setup = Setup::new("memory://orders").await;
    let message = Message::new("x");
    for _ in 0..64 {
        setup.producer.send(message.clone()).await.unwrap();
    }
    let builder = setup
        .worker(|_| async {
            tokio::time::sleep(30 * SECOND).await;
            Outcome::Ack
        })
        .await;
    let store = MemoryStore::new(HOUR);
    let running = start(builder.layer(IdempotencyLayer::new(store)).concurrency(64));
    setup.seen().await;
    eventually(async || setup.depth().await.total() == 0).await;
    setup.nothing_seen();
    assert_eq!(running.stop().await.acked, 64);
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_gives_its_claim_up() {
    let mut setup = Setup::new("memory://orders").await;
    setup.send("x").await;
    let builder = setup
        .worker(|attempt| async move {
            match attempt.number() {
                Some(1) => retry("down"),
                Some(2) => std::future::pending().await,
                _ => Outcome::Ack,
            }
        })
        .await;
    let layer = IdempotencyLayer::new(MemoryStore::new(HOUR));
    let builder = builder.layer(layer).retry(fixed(SECOND));
    let running = start(builder.handler_timeout(10 * SECOND));
    let begun = tokio::time::Instant::now();
    for number in 1..=3 {
        assert_eq!(setup.seen().await.number(), Some(number));
    }
    assert!(
        begun.elapsed() < 15 * SECOND,
        "no attempt waited for a claim to end"
    );
    eventually(async || setup.depth().await.total() == 0).await;
    assert_eq!(running.stop().await.acked, 1);
}

struct Down;

#[async_trait]
impl IdempotencyStore for Down {
    async fn claim(&self, _: &str, _: Uuid, _: std::time::Duration) -> Result<Claim> {
        Err(Error::new(ErrorKind::Unavailable, "no connection").with_retry_after(60 * SECOND))
    }
    async fn complete(&self, _: &str, _: Uuid) -> Result<()> {
        Ok(())
    }
    async fn abandon(&self, _: &str, _: Uuid) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_a_failed_attempt() {
    let mut setup = Setup::new("memory://orders?dead_letter=dead").await;
    setup.send("x").await;
    let builder = setup.worker(|_| async { Outcome::Ack }).await;
    let builder = builder.layer(IdempotencyLayer::new(Down));
    let running = start(builder.retry(fixed(SECOND).max_attempts(2)));
    eventually(async || setup.depth().await.total() == 0).await;
    setup.nothing_seen();
    running.stop().await;
    let dead = setup.dead().await;
    let failure = dead[0].envelope().message.failure().unwrap();
    assert!(
        failure.reason.contains("no connection"),
        "{}",
        failure.reason
    );
}

#[tokio::test(start_paused = true)]
async fn two_handlers_share_a_store_by_scope() {
    let store = Arc::new(MemoryStore::new(HOUR));
    let message = Message::new("x");
    for (scope, handled) in [("mail", true), ("bill", true), ("mail", false)] {
        let mut setup = Setup::new("memory://orders").await;
        setup.producer.send(message.clone()).await.unwrap();
        let builder = setup.worker(|_| async { Outcome::Ack }).await;
        let layer = IdempotencyLayer::new(store.clone()).scope(scope);
        let running = start(builder.layer(layer));
        eventually(async || setup.depth().await.total() == 0).await;
        running.stop().await;
        assert_eq!(setup.try_seen().is_some(), handled, "{scope}");
    }
}
