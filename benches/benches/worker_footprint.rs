//! The memory of handlers that wait, all at once.
#![allow(missing_docs, clippy::print_stdout)]

use std::{alloc::System, sync::Arc, time::Duration};

use cap::Cap;
use tokio::sync::Semaphore;
use towpath_core::{Attempt, Failure, Message, Registry};
use towpath_memory::MemoryBackend;
use towpath_worker::{
    Worker, WorkerBuilder,
    layers::{
        CatchPanicLayer, IdempotencyLayer, MemoryStore, MetricsLayer, TimeoutLayer, TraceLayer,
    },
};

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

const HANDLERS: usize = 10_000;
const BODY: usize = 1_024;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    println!("\nMemory of {HANDLERS} handlers that wait, with their messages of {BODY} B");
    measure("worker", |builder| builder).await;
    measure("worker, with a handler timeout", |builder| {
        builder.handler_timeout(Duration::from_secs(600))
    })
    .await;
    measure("worker, with five layers", |builder| {
        builder
            .layer(TimeoutLayer::new(Duration::from_secs(600)))
            .layer(IdempotencyLayer::new(MemoryStore::new(
                Duration::from_secs(600),
            )))
            .layer(TraceLayer::new())
            .layer(MetricsLayer::new("bench"))
            .layer(CatchPanicLayer::new())
    })
    .await;
}

async fn measure(name: &str, build: impl FnOnce(WorkerBuilder) -> WorkerBuilder) {
    let before = MEMORY.allocated();
    let queue = Registry::new()
        .with(MemoryBackend::new())
        .open("memory://bench?lease=60s")
        .expect("the URL is right");
    let producer = queue.producer().await.expect("it opens");
    for _ in 0..HANDLERS {
        let message = Message::new(vec![7; BODY]);
        producer.send(message).await.expect("it is sent");
    }
    let queued = MEMORY.allocated() - before;
    let waiting = Arc::new(Semaphore::new(0));
    let go = Arc::new(Semaphore::new(0));
    let (arrived, hold) = (waiting.clone(), go.clone());
    let handler = move |_: Attempt| {
        let (arrived, hold) = (arrived.clone(), hold.clone());
        async move {
            arrived.add_permits(1);
            let _permit = hold.acquire().await;
            Ok::<_, Failure>(())
        }
    };
    let builder = Worker::builder(queue.consumer().await.expect("it opens"), handler);
    let worker = build(builder).concurrency(HANDLERS).build();
    let worker = worker.expect("it is right");
    let stop = worker.shutdown_token();
    let running = tokio::spawn(worker.run());
    let all = u32::try_from(HANDLERS).expect("it fits");
    let _all = waiting.acquire_many(all).await.expect("it is open");
    let held = MEMORY.allocated() - before;
    println!(
        "  {name:<34}{:>8.1} MB, {:>6} B a handler; of it the queue {:.1} MB",
        held as f64 / 1e6,
        (held - queued) / HANDLERS,
        queued as f64 / 1e6
    );
    go.add_permits(HANDLERS);
    stop.cancel();
    let report = running.await.expect("it ends");
    assert_eq!(report.acked, HANDLERS as u64);
}
