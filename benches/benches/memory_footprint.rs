//! The memory that a queued message takes beside its body.
#![allow(missing_docs, clippy::print_stdout)]

use std::{alloc::System, time::Duration};

use cap::Cap;
use towpath_core::{Consumer, Delivery, Message, Registry};
use towpath_memory::MemoryBackend;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

const MESSAGES: usize = 1_000_000;
const BATCH: usize = 100;
const BODY: usize = 256;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("\nBytes per message beside a body of {BODY} B, {MESSAGES} messages");
    type State = (&'static str, fn(usize) -> Message);
    let states: [State; 4] = [
        ("ready", |_| Message::new(vec![7; BODY])),
        ("ready, 1,000 ordering keys", |i| {
            Message::new(vec![7; BODY]).with_ordering_key(format!("key-{}", i % 1_000))
        }),
        ("ready, an ordering key each", |i| {
            Message::new(vec![7; BODY]).with_ordering_key(format!("key-{i}"))
        }),
        ("delayed", |i| {
            let delay = Duration::from_secs(1_000 + i as u64 % 1_000);
            Message::new(vec![7; BODY]).with_delay(delay)
        }),
    ];
    for (state, message) in states {
        let (consumer, bytes) = fill(message).await;
        report(state, bytes);
        let before = MEMORY.allocated();
        drop(consumer);
        // The tasks behind it end when they run next.
        while MEMORY.allocated() + MESSAGES * BODY > before {
            tokio::task::yield_now().await;
        }
    }
    let before = MEMORY.allocated();
    let (consumer, bytes) = fill(|_| Message::new(vec![7; BODY])).await;
    let mut held: Vec<Delivery> = Vec::with_capacity(MESSAGES);
    while held.len() < MESSAGES {
        let batch = consumer.receive_batch(BATCH, Duration::ZERO).await;
        held.extend(batch.expect("it is received"));
    }
    report("leased, with its delivery", bytes_since(before));
    let mut held = held.into_iter();
    loop {
        let deliveries: Vec<_> = held.by_ref().take(BATCH).collect();
        if deliveries.is_empty() {
            break;
        }
        for result in consumer.ack_batch(deliveries).await {
            result.expect("it is acked");
        }
    }
    drop(held);
    let left = MEMORY.allocated().saturating_sub(before);
    println!(
        "  {:<30}{left:>8} B in all, of {bytes:.0} per message",
        "kept when all are settled"
    );
}

async fn fill(message: impl Fn(usize) -> Message) -> (Consumer, f64) {
    let queue = Registry::new()
        .with(MemoryBackend::new())
        .open("memory://bench")
        .expect("the URL is right");
    let producer = queue.producer().await.expect("it opens");
    let consumer = queue.consumer().await.expect("it opens");
    let before = MEMORY.allocated();
    for batch in 0..MESSAGES / BATCH {
        let messages: Vec<Message> = (0..BATCH).map(|i| message(batch * BATCH + i)).collect();
        for result in producer.send_batch(&messages).await {
            result.expect("it is sent");
        }
    }
    (consumer, bytes_since(before))
}

fn bytes_since(before: usize) -> f64 {
    (MEMORY.allocated() - before) as f64 / MESSAGES as f64 - BODY as f64
}

fn report(state: &str, bytes: f64) {
    println!("  {state:<30}{bytes:>8.0}");
}
