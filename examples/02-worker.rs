//! A worker with typed arguments, retries and a dead-letter queue: `cargo run -p examples --bin worker`
//!
//! Order 3 fails twice before it succeeds, order 0 never can, and one message is no order at all.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use towpath::{
    Failure,
    worker::{
        Backoff, RetryPolicy, Worker,
        extract::{AttemptNumber, Json, State},
        shutdown_signal, typed_with,
    },
};

#[derive(serde::Deserialize)]
struct Order {
    id: u64,
}

#[derive(Clone)]
struct Shop {
    name: &'static str,
}

async fn handle(
    State(shop): State<Shop>,
    AttemptNumber(attempt): AttemptNumber,
    Json(order): Json<Order>,
) -> Result<(), Failure> {
    let attempt = attempt.unwrap_or(1);
    match order.id {
        0 => Err(Failure::permanent("there is no order 0")),
        3 if attempt < 3 => Err(Failure::retry("the warehouse is busy")),
        id => {
            println!("{}: order {id} is shipped at attempt {attempt}", shop.name);
            Ok(())
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let queue = towpath::open("memory://orders?max_attempts=5&dead_letter=orders-dlq")?;
    let producer = queue.producer().await?;
    let bodies = [
        r#"{"id":1}"#,
        r#"{"id":0}"#,
        "an order, please",
        r#"{"id":3}"#,
    ];
    for body in bodies {
        producer.send(body).await?;
    }

    let shop = Shop { name: "canal shop" };
    let worker = Worker::builder(queue.consumer().await?, typed_with(handle, shop))
        .concurrency(8)
        .retry(RetryPolicy::new(Backoff::Fixed(Duration::from_millis(200))))
        .build()?;

    // A service runs until SIGTERM or Ctrl-C; this one also ends when all is done.
    let stats = worker.stats();
    let done = async {
        loop {
            let so_far = stats.report();
            if so_far.acked + so_far.dead_lettered == bodies.len() as u64 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let signal = shutdown_signal()?;
    let report = worker
        .run_until(async {
            tokio::select! {
                () = done => {}
                () = signal => {}
            }
        })
        .await;

    let parked = queue
        .dead_letter()?
        .expect("it is configured")
        .consumer()
        .await?;
    for delivery in parked.receive_batch(10, Duration::ZERO).await? {
        let record = delivery
            .envelope()
            .message
            .failure()
            .cloned()
            .expect("the worker wrote it");
        println!(
            "parked after {} attempt(s): {}",
            record.attempts, record.reason
        );
        delivery.ack().await?;
    }
    println!(
        "acked={} retried={} dead_lettered={}",
        report.acked, report.retried, report.dead_lettered
    );
    Ok(())
}
