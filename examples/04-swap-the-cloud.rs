//! One program, any cloud: the URL decides, and the ledger is the same.
//!
//! ```sh
//! cargo run -p examples --bin swap-the-cloud
//! ORDERS_URL='sqs://orders?region=eu-central-1&max_attempts=3&dead_letter=orders-dlq' \
//!     cargo run -p examples --bin swap-the-cloud
//! ORDERS_URL='pubsub://my-project/orders?max_attempts=3&dead_letter=orders-dlq' \
//!     cargo run -p examples --bin swap-the-cloud
//! ```
#![allow(clippy::print_stdout)]

use std::{collections::BTreeSet, env, sync::Mutex, time::Duration};

use anyhow::Context;
use towpath::{
    Attempt, EnsureMode, Failure, Message, QueueSpec,
    worker::{Backoff, RetryPolicy, Worker},
};

const ORDERS: u64 = 100;
const MEMORY: &str = "memory://orders?max_attempts=3&dead_letter=orders-dlq";

/// The orders that were handled; a second delivery of one changes nothing.
static SHIPPED: Mutex<BTreeSet<u64>> = Mutex::new(BTreeSet::new());

async fn ship(attempt: Attempt) -> Result<(), Failure> {
    let order: u64 = attempt.json()?;
    if order.is_multiple_of(25) {
        return Err(Failure::permanent(format!("order {order} is not for sale")));
    }
    SHIPPED.lock().expect("nobody panics here").insert(order);
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = env::var("ORDERS_URL").unwrap_or_else(|_| MEMORY.to_owned());
    let queue = towpath::open(&url)?;
    let dead_letter = queue.options().dead_letter.clone();
    let dead_letter = dead_letter.context("name a dead-letter queue: &dead_letter=orders-dlq")?;

    // Where the queues are there already, this changes nothing.
    let spec = QueueSpec::new().with_dead_letter(dead_letter, 10);
    queue
        .admin()
        .await?
        .ensure(&spec, EnsureMode::Create)
        .await?;

    let producer = queue.producer().await?;
    let messages: Vec<Message> = (1..=ORDERS).map(|order| order.to_string().into()).collect();
    for sent in producer.send_batch(&messages).await {
        sent?;
    }

    let worker = Worker::builder(queue.consumer().await?, ship)
        .concurrency(32)
        .retry(RetryPolicy::new(Backoff::Fixed(Duration::from_secs(1))))
        .build()?;
    let stop = worker.shutdown_token();
    let working = tokio::spawn(worker.run());

    // What was refused for good is in the dead-letter queue, with the reason.
    let parked = queue
        .dead_letter()?
        .context("it is configured")?
        .consumer()
        .await?;
    let mut refused = BTreeSet::new();
    while refused.len() < 4 || SHIPPED.lock().expect("nobody panics here").len() < 96 {
        for delivery in parked.receive_batch(10, Duration::from_secs(1)).await? {
            let message = &delivery.envelope().message;
            let reason = message.failure().map(|record| record.reason.clone());
            refused.insert(reason.context("the worker wrote it")?);
            delivery.ack().await?;
        }
    }
    stop.cancel();
    working.await?;
    parked.close().await?;
    producer.close().await?;

    for reason in &refused {
        println!("parked: {reason}");
    }
    let shipped = SHIPPED.lock().expect("nobody panics here").len();
    println!("sent={ORDERS} shipped={shipped} parked={}", refused.len());
    Ok(())
}
