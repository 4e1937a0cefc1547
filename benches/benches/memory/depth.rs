//! What a message costs in a queue that is deep.

use std::time::{Duration, Instant};

use towpath_core::{Consumer, Message, Producer};

use crate::{load::BODY, towpath_memory_queue};

const BATCH: usize = 100;
const CYCLES: usize = 2_000;

pub(crate) fn run() {
    println!("\nA cycle of send, receive, ack in a queue of this depth, batches of {BATCH}");
    println!("  {:>10}{:>16}", "depth", "ns/message");
    for depth in [1_000, 10_000, 100_000, 1_000_000, 10_000_000] {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        let mut times = runtime.block_on(cycles(depth));
        times.sort();
        let median = times[times.len() / 2].as_nanos() as f64 / BATCH as f64;
        println!("  {depth:>10}{median:>16.0}");
    }
}

async fn cycles(depth: usize) -> Vec<Duration> {
    let queue = towpath_memory_queue::queue();
    let producer = queue.producer().await.expect("it opens");
    let consumer = queue.consumer().await.expect("it opens");
    for _ in 0..depth / BATCH {
        send(&producer).await;
    }
    let mut times = Vec::with_capacity(CYCLES);
    for _ in 0..CYCLES {
        let begun = Instant::now();
        send(&producer).await;
        receive(&consumer).await;
        times.push(begun.elapsed());
    }
    times
}

async fn send(producer: &Producer) {
    // One body for all, so that the deepest queue fits into memory.
    let messages: Vec<Message> = (0..BATCH).map(|_| Message::new(&BODY_OF_ALL[..])).collect();
    for result in producer.send_batch(&messages).await {
        result.expect("it is sent");
    }
}

static BODY_OF_ALL: [u8; BODY.len()] = BODY;

async fn receive(consumer: &Consumer) {
    let deliveries = consumer.receive_batch(BATCH, Duration::ZERO).await;
    let deliveries = deliveries.expect("it is received");
    assert_eq!(deliveries.len(), BATCH);
    for result in consumer.ack_batch(deliveries).await {
        result.expect("it is acked");
    }
}
