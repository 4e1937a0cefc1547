//! A backend that counts the calls of the one it wraps.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use towpath::{
    Capabilities, Message, MessageId, QueueConfig, Result,
    driver::{Admin, Backend, Consumer, Producer, Receipt, Received},
};

/// What a cloud adds to a message for which it bills: the id and the time.
const ADDED_BYTES: u64 = 40;

/// What was asked of the cloud so far.
#[derive(Debug, Default)]
pub(super) struct Calls {
    send: Sort,
    receive: Sort,
    settle: Sort,
    extend: Sort,
}

/// Calls of one sort.
#[derive(Debug, Default)]
struct Sort {
    calls: AtomicU64,
    bytes: AtomicU64,
    /// In units of 64 KiB per call, at least one each.
    chunks: AtomicU64,
    /// At least 1,000 each.
    thousands: AtomicU64,
}

/// The figures of [`Calls`] at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    pub(super) send: u64,
    pub(super) receive: u64,
    /// Acks and nacks.
    pub(super) settle: u64,
    pub(super) extend: u64,
    /// All of them, a call with more than 64 KiB several times.
    pub(super) chunks: u64,
    /// The bytes of messages that were sent, and those that were received, with at least 1,000 for
    /// each call.
    pub(super) bytes: u64,
}

impl Sort {
    fn add(&self, calls: usize, bytes: u64) {
        let calls = calls.max(1) as u64;
        self.calls.fetch_add(calls, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let chunks = bytes.div_ceil(64 * 1_024).max(calls);
        self.chunks.fetch_add(chunks, Ordering::Relaxed);
        let thousands = bytes.max(1_000 * calls);
        self.thousands.fetch_add(thousands, Ordering::Relaxed);
    }
}

impl Calls {
    pub(super) fn figures(&self) -> Figures {
        let read = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let all = [&self.send, &self.receive, &self.settle, &self.extend];
        // A receive that brought nothing delivers no bytes.
        let received = read(&self.receive.bytes);
        Figures {
            send: read(&self.send.calls),
            receive: read(&self.receive.calls),
            settle: read(&self.settle.calls),
            extend: read(&self.extend.calls),
            chunks: all.iter().map(|sort| read(&sort.chunks)).sum(),
            bytes: read(&self.send.thousands) + received.max(read(&self.send.thousands)),
        }
    }
}

/// The wrapped backend, and where its calls are counted.
#[derive(Debug)]
pub(super) struct Counted {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) calls: Arc<Calls>,
    /// How many messages the cloud's client puts into one request, where it batches by itself.
    pub(super) client_batch: Option<usize>,
}

#[derive(Debug)]
struct Half<T: ?Sized> {
    calls: Arc<Calls>,
    client_batch: Option<usize>,
    half: Arc<T>,
}

impl Counted {
    fn half<T: ?Sized>(&self, half: Arc<T>) -> Half<T> {
        Half {
            calls: self.calls.clone(),
            client_batch: self.client_batch,
            half,
        }
    }
}

fn bytes_of<'a>(messages: impl Iterator<Item = &'a Message>) -> u64 {
    let size = |message: &Message| {
        let attributes: usize = message
            .attributes()
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        // The reserved attribute of a message without a failure record.
        let reserved = r#"towpath{"key":"00000000-0000-0000-0000-000000000000"}"#.len();
        (message.body().len() + attributes + reserved) as u64 + ADDED_BYTES
    };
    messages.map(size).sum()
}

#[async_trait]
impl Backend for Counted {
    fn scheme(&self) -> &'static str {
        self.backend.scheme()
    }

    fn check(&self, config: &QueueConfig) -> Result<()> {
        self.backend.check(config)
    }

    async fn producer(&self, config: &QueueConfig) -> Result<Arc<dyn Producer>> {
        let half = self.half(self.backend.producer(config).await?);
        Ok(Arc::new(half))
    }

    async fn consumer(&self, config: &QueueConfig) -> Result<Arc<dyn Consumer>> {
        let half = self.half(self.backend.consumer(config).await?);
        Ok(Arc::new(half))
    }

    async fn admin(&self, config: &QueueConfig) -> Result<Arc<dyn Admin>> {
        self.backend.admin(config).await
    }

    fn dead_letter(&self, config: &QueueConfig, name: &str) -> Result<QueueConfig> {
        self.backend.dead_letter(config, name)
    }
}

#[async_trait]
impl Producer for Half<dyn Producer> {
    fn capabilities(&self) -> &Capabilities {
        self.half.capabilities()
    }

    fn encoded_len(&self, message: &Message) -> usize {
        self.half.encoded_len(message)
    }

    async fn send(&self, batch: &[Message]) -> Vec<Result<MessageId>> {
        let most = self
            .client_batch
            .unwrap_or(self.capabilities().limits.send_batch);
        let calls = batch.len().div_ceil(most.max(1));
        self.calls.send.add(calls, bytes_of(batch.iter()));
        self.half.send(batch).await
    }

    async fn close(&self) -> Result<()> {
        self.half.close().await
    }
}

impl Half<dyn Consumer> {
    fn settled(&self, sort: &Sort, receipts: &[Receipt]) {
        let most = self.half.capabilities().limits.settle_batch;
        sort.add(receipts.len().div_ceil(most.max(1)), 0);
    }
}

#[async_trait]
impl Consumer for Half<dyn Consumer> {
    fn capabilities(&self) -> &Capabilities {
        self.half.capabilities()
    }

    async fn receive(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>> {
        let result = self.half.receive(max, wait).await;
        let received = result.as_deref().unwrap_or_default();
        let bytes = bytes_of(received.iter().map(|received| &received.envelope.message));
        self.calls.receive.add(1, bytes);
        result
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Result<()>> {
        self.settled(&self.calls.settle, receipts);
        self.half.ack(receipts).await
    }

    async fn nack(&self, receipts: &[Receipt], delay: Duration) -> Vec<Result<()>> {
        self.settled(&self.calls.settle, receipts);
        self.half.nack(receipts, delay).await
    }

    async fn extend(&self, receipts: &[Receipt], lease: Duration) -> Vec<Result<()>> {
        self.settled(&self.calls.extend, receipts);
        self.half.extend(receipts, lease).await
    }

    async fn close(&self) -> Result<()> {
        self.half.close().await
    }
}

#[cfg(test)]
mod tests {
    use towpath::Registry;

    use super::*;

    #[tokio::test]
    async fn every_call_is_counted_and_billed_by_its_size() {
        let calls = Arc::new(Calls::default());
        let backend = towpath::open("memory://counted").unwrap().backend().clone();
        let counted = Counted {
            backend,
            calls: calls.clone(),
            client_batch: None,
        };
        let registry = Registry::new().with(counted);
        let queue = registry.open("memory://counted?profile=sqs").unwrap();
        let producer = queue.producer().await.unwrap();
        let messages: Vec<Message> = (0..25).map(|_| Message::new("x")).collect();
        for result in producer.send_batch(&messages).await {
            result.unwrap();
        }
        // 10, 10 and 5.
        let figures = calls.figures();
        assert_eq!((figures.send, figures.chunks), (3, 3));
        assert_eq!(figures.bytes, 2 * 3_000, "at least 1,000 bytes a request");
        producer.send("x".repeat(200_000)).await.unwrap();
        assert_eq!(calls.figures().chunks, 3 + 4);

        let consumer = queue.consumer().await.unwrap();
        let wait = Duration::from_secs(1);
        let mut seen = 0;
        while seen < 26 {
            let batch = consumer.receive_batch(10, wait).await.unwrap();
            seen += batch.len();
            for acked in consumer.ack_batch(batch).await {
                acked.unwrap();
            }
        }
        consumer.close().await.unwrap();
        let figures = calls.figures();
        assert!(figures.receive >= 3, "{figures:?}");
        assert!(figures.settle >= 3, "{figures:?}");
    }
}
