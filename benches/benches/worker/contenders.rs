//! The bare consumer, and the worker with more and more around the handler.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use towpath_core::{Attempt, Delivery, Failure, Message, Queue, Registry};
use towpath_memory::MemoryBackend;
use towpath_worker::{
    Worker, WorkerBuilder,
    layers::{
        CatchPanicLayer, IdempotencyLayer, MemoryStore, MetricsLayer, TimeoutLayer, TraceLayer,
    },
};

pub(crate) const MESSAGES: usize = 200_000;
const BATCH: usize = 100;
const BODY: [u8; 256] = [7; 256];

pub(crate) type Contender = (&'static str, for<'a> fn(&'a Scene) -> BoxFuture<'a, ()>);

pub(crate) const CONTENDERS: &[Contender] = &[
    ("bare consumer, batches of 100", |scene| {
        Box::pin(bare(scene, true))
    }),
    ("bare consumer, batches of 100, acked one by one", |scene| {
        Box::pin(bare(scene, false))
    }),
    ("a task for each message", |scene| Box::pin(tasks(scene))),
    ("worker, 100 handlers", |scene| {
        Box::pin(worker(scene, |builder| builder))
    }),
    ("worker, handlers that wait once", |scene| {
        Box::pin(worker_that_waits(scene))
    }),
    ("worker, with a handler timeout", |scene| {
        Box::pin(worker(scene, |builder| {
            builder.handler_timeout(Duration::from_secs(30))
        }))
    }),
    ("worker, with five layers", |scene| {
        Box::pin(worker(scene, |builder| {
            builder
                .layer(TimeoutLayer::new(Duration::from_secs(30)))
                .layer(IdempotencyLayer::new(MemoryStore::new(
                    Duration::from_secs(600),
                )))
                .layer(TraceLayer::new())
                .layer(MetricsLayer::new("bench"))
                .layer(CatchPanicLayer::new())
        }))
    }),
];

/// A queue with all messages in it.
pub(crate) struct Scene(Queue);

impl Scene {
    pub(crate) async fn full() -> Self {
        let queue = Registry::new()
            .with(MemoryBackend::new())
            .open("memory://bench?lease=60s")
            .expect("the URL is right");
        let producer = queue.producer().await.expect("it opens");
        for _ in 0..MESSAGES / BATCH {
            let batch: Vec<_> = (0..BATCH).map(|_| Message::new(BODY.to_vec())).collect();
            for result in producer.send_batch(&batch).await {
                result.expect("it is sent");
            }
        }
        Self(queue)
    }

    pub(crate) async fn left(&self) -> u64 {
        let admin = self.0.admin().await.expect("it opens");
        admin.depth().await.expect("it is counted").total()
    }
}

async fn bare(scene: &Scene, in_batches: bool) {
    let consumer = scene.0.consumer().await.expect("it opens");
    let mut left = MESSAGES;
    while left > 0 {
        let batch = consumer.receive_batch(BATCH, Duration::ZERO).await;
        let batch = batch.expect("it is received");
        left -= batch.len();
        batch.iter().for_each(check);
        if in_batches {
            for result in consumer.ack_batch(batch).await {
                result.expect("it is acked");
            }
        } else {
            for delivery in batch {
                delivery.ack().await.expect("it is acked");
            }
        }
    }
}

/// What anybody would write who wants handlers to run side by side.
async fn tasks(scene: &Scene) {
    let consumer = scene.0.consumer().await.expect("it opens");
    let permits = Arc::new(tokio::sync::Semaphore::new(BATCH));
    let mut left = MESSAGES;
    while left > 0 {
        let batch = consumer.receive_batch(BATCH, Duration::ZERO).await;
        let batch = batch.expect("it is received");
        left -= batch.len();
        for delivery in batch {
            let permit = permits.clone().acquire_owned().await.expect("it is open");
            tokio::spawn(async move {
                check(&delivery);
                delivery.ack().await.expect("it is acked");
                drop(permit);
            });
        }
    }
    let all = u32::try_from(BATCH).expect("it fits");
    let _all = permits.acquire_many(all).await.expect("it is open");
}

fn check(delivery: &Delivery) {
    assert_eq!(delivery.body().len(), BODY.len());
}

async fn worker(scene: &Scene, build: impl FnOnce(WorkerBuilder) -> WorkerBuilder) {
    let (count, done) = Count::new();
    let handler = move |attempt: Attempt| {
        assert_eq!(attempt.envelope().message.body().len(), BODY.len());
        count.one();
        async { Ok::<_, Failure>(()) }
    };
    let consumer = scene.0.consumer().await.expect("it opens");
    run(build(Worker::builder(consumer, handler)), done).await;
}

async fn worker_that_waits(scene: &Scene) {
    let (count, done) = Count::new();
    let handler = move |attempt: Attempt| {
        assert_eq!(attempt.envelope().message.body().len(), BODY.len());
        let count = count.clone();
        async move {
            tokio::task::yield_now().await;
            count.one();
            Ok::<_, Failure>(())
        }
    };
    let consumer = scene.0.consumer().await.expect("it opens");
    run(Worker::builder(consumer, handler), done).await;
}

async fn run(builder: WorkerBuilder, done: CancellationToken) {
    let worker = builder.concurrency(BATCH).build().expect("it is right");
    let report = worker.run_until(done.cancelled_owned()).await;
    assert!(report.is_balanced(), "{report}");
    assert_eq!(report.acked, MESSAGES as u64);
}

/// Counts the handled messages, and tells when it is all.
#[derive(Clone)]
struct Count(Arc<(AtomicUsize, CancellationToken)>);

impl Count {
    fn new() -> (Self, CancellationToken) {
        let done = CancellationToken::new();
        let count = Self(Arc::new((AtomicUsize::new(MESSAGES), done.clone())));
        (count, done)
    }

    fn one(&self) {
        if self.0.0.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.1.cancel();
        }
    }
}
