//! Ships each order once, although each is in the queue twice and two workers handle them.
//!
//! `cargo run -p idempotency-redis -- redis://127.0.0.1:6379`
#![allow(clippy::print_stdout)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use idempotency_redis::RedisStore;
use towpath_core::{Attempt, Failure, Message, Registry};
use towpath_memory::MemoryBackend;
use towpath_worker::{Worker, layers::IdempotencyLayer};

const ORDERS: u64 = 100;

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::args()
        .nth(1)
        .context("the address of Redis is missing, for instance redis://127.0.0.1:6379")?;
    let store = RedisStore::connect(&url, Duration::from_secs(86_400)).await?;
    let queue = Registry::new()
        .with(MemoryBackend::new())
        .open("memory://orders")?;
    let producer = queue.producer().await?;
    for number in 0..ORDERS {
        let order = Message::new(number.to_string());
        // As a sender does that got no answer the first time: the key is the same.
        producer.send(order.clone()).await?;
        producer.send(order).await?;
    }

    let shipped = Arc::new(AtomicU64::new(0));
    let mut workers = Vec::new();
    for _ in 0..2 {
        let shipped = shipped.clone();
        let worker = Worker::builder(queue.consumer().await?, move |order: Attempt| {
            let shipped = shipped.clone();
            async move {
                let _number: u64 = order.json()?;
                shipped.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Failure>(())
            }
        })
        .layer(IdempotencyLayer::new(store.clone()))
        .build()?;
        workers.push((worker.shutdown_token(), tokio::spawn(worker.run())));
    }
    let admin = queue.admin().await?;
    while admin.depth().await?.total() > 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut acked = 0;
    for (stop, running) in workers {
        stop.cancel();
        acked += running.await?.acked;
    }
    let shipped = shipped.load(Ordering::Relaxed);
    println!("orders={ORDERS} acked={acked} shipped={shipped}");
    Ok(())
}
