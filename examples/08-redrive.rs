//! From the dead-letter queue back to where it failed: `cargo run -p examples --bin redrive`
//!
//! While the CRM refuses everything, three updates are parked. It is mended, two of them are sent on
//! their way again, and arrive under the idempotency keys that they always had.
#![allow(clippy::print_stdout)]

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use towpath::{
    Attempt, Failure, Queue,
    worker::{Redrive, RedriveFilter, Worker},
};

static IS_MENDED: AtomicBool = AtomicBool::new(false);

async fn update(attempt: Attempt) -> Result<(), Failure> {
    let message = &attempt.envelope().message;
    let text = String::from_utf8_lossy(message.body()).into_owned();
    if !IS_MENDED.load(Ordering::Acquire) {
        return Err(Failure::permanent(format!(
            "the CRM answered 422 to {text}"
        )));
    }
    let redrives = message.failure().map_or(0, |record| record.redrives);
    println!("{text} is in the CRM, after {redrives} redrive(s)");
    Ok(())
}

/// Works until so many messages are settled.
async fn work(queue: &Queue, settled: u64) -> anyhow::Result<()> {
    let worker = Worker::builder(queue.consumer().await?, update)
        .concurrency(1)
        .build()?;
    let stats = worker.stats();
    worker
        .run_until(async {
            while stats.report().acked + stats.report().dead_lettered < settled {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let queue = towpath::open("memory://updates?dead_letter=updates-dlq")?;
    let producer = queue.producer().await?;
    for body in ["Ada", "Grace", "a test that nobody wants"] {
        producer.send(body).await?;
        work(&queue, 1).await?;
    }

    IS_MENDED.store(true, Ordering::Release);
    let dead = queue.dead_letter()?.expect("it is configured");
    let report = Redrive::new(dead.consumer().await?)
        .to(producer)
        .filter(RedriveFilter::new().condition(|letter| letter.message.body().len() < 10))
        .rate(
            NonZeroU32::new(50).expect("not zero"),
            Duration::from_secs(1),
        )
        .quiet(Duration::from_millis(200))
        .audit(|letter| println!("{:?}: {}", letter.fate, letter.reason))
        .run()
        .await?;
    println!("{report}");
    work(&queue, 2).await
}
