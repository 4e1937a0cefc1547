//! What the tests share.

use std::time::Duration;

use towpath_core::{Consumer, Delivery, Producer, Queue, Registry};
use towpath_memory::MemoryBackend;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const LEASE: Duration = Duration::from_secs(30);

/// A registry with queues of its own.
pub(crate) fn registry() -> Registry {
    Registry::new().with(MemoryBackend::new())
}

pub(crate) fn open(url: &str) -> Queue {
    registry().open(url).unwrap()
}

pub(crate) async fn halves(queue: &Queue) -> (Producer, Consumer) {
    (
        queue.producer().await.unwrap(),
        queue.consumer().await.unwrap(),
    )
}

/// What is there at once, up to `max`.
pub(crate) async fn take(consumer: &Consumer, max: usize) -> Vec<Delivery> {
    consumer.receive_batch(max, Duration::ZERO).await.unwrap()
}

/// The one message that is there at once.
pub(crate) async fn take_one(consumer: &Consumer) -> Delivery {
    take(consumer, 1).await.pop().expect("a message is ready")
}

pub(crate) fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(body).collect()
}

pub(crate) fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body().to_vec()).unwrap()
}
