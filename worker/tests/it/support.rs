//! What the tests share.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use towpath_core::{
    Attempt, Consumer, Delivery, Depth, Handler, Message, Outcome, Producer, Queue, Registry,
};
use towpath_memory::MemoryBackend;
use towpath_worker::{Backoff, Report, RetryPolicy, Worker, WorkerBuilder};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

/// A queue of its own, its dead-letter queue, and what the handler saw.
pub(crate) struct Setup {
    pub(crate) backend: MemoryBackend,
    pub(crate) queue: Queue,
    pub(crate) producer: Producer,
    seen: mpsc::UnboundedReceiver<Attempt>,
    seen_by_handler: mpsc::UnboundedSender<Attempt>,
}

impl Setup {
    pub(crate) async fn new(url: &str) -> Self {
        Self::with(MemoryBackend::new(), url).await
    }

    pub(crate) async fn with(backend: MemoryBackend, url: &str) -> Self {
        let queue = Registry::new().with(backend.clone()).open(url).unwrap();
        let producer = queue.producer().await.unwrap();
        let (seen_by_handler, seen) = mpsc::unbounded_channel();
        Self {
            backend,
            queue,
            producer,
            seen,
            seen_by_handler,
        }
    }

    pub(crate) async fn consumer(&self) -> Consumer {
        self.queue.consumer().await.unwrap()
    }

    /// A builder of a worker whose handler is `decide`.
    pub(crate) async fn worker<F, Fut>(&self, decide: F) -> WorkerBuilder
    where
        F: Fn(Attempt) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Outcome> + Send + 'static,
    {
        let seen = self.seen_by_handler.clone();
        let handler = Decide(move |attempt: Attempt| {
            seen.send(attempt.clone()).unwrap();
            decide(attempt)
        });
        Worker::builder(self.consumer().await, handler)
    }

    /// The next attempt that the handler sees.
    pub(crate) async fn seen(&mut self) -> Attempt {
        timeout(100_000 * HOUR, self.seen.recv())
            .await
            .expect("an attempt")
            .expect("the setup has a sender")
    }

    /// The next attempt that the handler saw already.
    pub(crate) fn try_seen(&mut self) -> Option<Attempt> {
        self.seen.try_recv().ok()
    }

    pub(crate) fn nothing_seen(&mut self) {
        assert!(self.try_seen().is_none());
    }

    pub(crate) async fn send(&self, body: &'static str) -> Message {
        let message = Message::new(body);
        self.producer.send(message.clone()).await.unwrap();
        message
    }

    pub(crate) async fn depth(&self) -> Depth {
        self.queue.admin().await.unwrap().depth().await.unwrap()
    }

    /// Takes everything out of the dead-letter queue, also behind ordering keys and faults.
    pub(crate) async fn dead_all(&self) -> Vec<Message> {
        let dead = self.queue.dead_letter().unwrap().unwrap();
        let consumer = dead.consumer().await.unwrap();
        let mut all = Vec::new();
        while dead.admin().await.unwrap().depth().await.unwrap().total() > 0 {
            for delivery in consumer
                .receive_batch(1_000, SECOND)
                .await
                .unwrap_or_default()
            {
                all.push(delivery.envelope().message.clone());
                delivery.ack().await.unwrap();
            }
        }
        all
    }

    /// The messages of the dead-letter queue.
    pub(crate) async fn dead(&self) -> Vec<Delivery> {
        let dead = self.queue.dead_letter().unwrap().unwrap();
        let consumer = dead.consumer().await.unwrap();
        consumer.receive_batch(1_000, Duration::ZERO).await.unwrap()
    }
}

/// A handler that returns its outcome itself.
pub(crate) struct Decide<F>(pub(crate) F);

#[async_trait::async_trait]
impl<F, Fut> Handler for Decide<F>
where
    F: Fn(Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send,
{
    async fn handle(&self, attempt: Attempt) -> Outcome {
        (self.0)(attempt).await
    }
}

/// A worker that runs in a task.
pub(crate) struct Running {
    stop: CancellationToken,
    pub(crate) task: JoinHandle<Report>,
}

impl Running {
    pub(crate) async fn stop(self) -> Report {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

pub(crate) fn start(builder: WorkerBuilder) -> Running {
    let worker = builder.build().unwrap();
    let stop = worker.shutdown_token();
    Running {
        stop,
        task: tokio::spawn(worker.run()),
    }
}

/// Waits for something that is checked again with time.
pub(crate) async fn eventually<F: Future<Output = bool>>(mut is_so: impl FnMut() -> F) {
    for _ in 0..100_000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came true");
}

pub(crate) fn fixed(delay: Duration) -> RetryPolicy {
    RetryPolicy::new(Backoff::Fixed(delay))
}

pub(crate) fn retry(reason: &str) -> Outcome {
    Outcome::Retry {
        after: None,
        reason: reason.to_owned(),
    }
}

pub(crate) fn text(attempt: &Attempt) -> String {
    String::from_utf8(attempt.envelope().message.body().to_vec()).unwrap()
}

/// What happened, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}
