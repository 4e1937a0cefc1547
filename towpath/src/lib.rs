//! One honest message queue contract, any cloud, chosen by a URL.
//!
//! ```
//! # #[cfg(feature = "memory")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> towpath::Result<()> {
//! let queue = towpath::open("memory://orders")?;
//! let (producer, consumer) = (queue.producer().await?, queue.consumer().await?);
//! producer.send("hello").await?;
//! let delivery = consumer.receive().await?;
//! assert_eq!(delivery.body(), "hello");
//! delivery.ack().await?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "memory"))]
//! # fn main() {}
//! ```
//!
//! Another cloud is another URL; the code stays:
//!
//! | URL | queue | feature |
//! |---|---|---|
//! | `memory://orders` | in this process, with the semantics of the clouds | `memory` (default) |
//! | `sqs://orders?region=eu-central-1` | Amazon SQS, standard and FIFO | `sqs` |
//! | `pubsub://my-project/orders` | Google Cloud Pub/Sub, plain, ordered or exactly-once | `pubsub` |
//!
//! # Modules
//!
//! Everything of the contract is re-exported here: [`Message`], [`Producer`], [`Consumer`],
//! [`Delivery`], [`Handler`], [`Admin`], [`Capabilities`], [`Error`]. What comes with a feature is
//! in a module of its own: `worker` runs handlers with retries, dead letters and a graceful drain,
//! `config` reads named queues from a file and the environment, `updater` writes to other systems over
//! HTTP, `webhook` receives webhooks into queues, `lambda` and `push` run the same handler in AWS
//! Lambda and behind Pub/Sub push, `ops` is a page for the operator.
//!
//! # Words
//!
//! A *producer* sends *messages* to a *queue*. A *consumer* receives a message with a *lease*: while
//! it holds, nobody else gets the message. The message is then *acked* (removed), *nacked* (given
//! back, perhaps with a delay) or moved to the *dead-letter queue* with the reason. *Redrive* moves
//! it back from there.
#![cfg_attr(docsrs, feature(doc_cfg))]

/// The examples of the README compile.
#[cfg(all(doctest, feature = "memory", feature = "worker"))]
#[doc = include_str!("../../README.md")]
struct Readme;

#[cfg(feature = "config")]
pub mod config;

pub use towpath_core::*;

/// The in-process backend.
#[cfg(feature = "memory")]
pub mod memory {
    pub use towpath_memory::*;
}

/// Amazon SQS.
#[cfg(feature = "sqs")]
pub mod sqs {
    pub use towpath_sqs::*;
}

/// Google Cloud Pub/Sub.
#[cfg(feature = "pubsub")]
pub mod pubsub {
    pub use towpath_pubsub::*;
}

/// The worker runtime.
#[cfg(feature = "worker")]
pub mod worker {
    pub use towpath_worker::*;
}

/// The same handler in AWS Lambda, on events of SQS.
#[cfg(feature = "lambda")]
pub mod lambda {
    pub use towpath_lambda::*;
}

/// The same handler behind a Pub/Sub push subscription.
#[cfg(feature = "push")]
pub mod push {
    pub use towpath_push::*;
}

/// Receiving webhooks.
#[cfg(feature = "webhook")]
pub mod webhook {
    pub use towpath_webhook::*;
}

/// Writing back to other systems over HTTP.
#[cfg(feature = "updater")]
pub mod updater {
    pub use towpath_updater::*;
}

/// The operator's page.
#[cfg(feature = "ops")]
pub mod ops {
    pub use towpath_ops::*;
}

/// The backends that were compiled in, by URL scheme.
///
/// Add your own with [`Registry::with`]: `towpath::registry().with(MyBackend::new())`.
pub fn registry() -> Registry {
    let registry = Registry::new();
    #[cfg(feature = "memory")]
    let registry = registry.with(towpath_memory::MemoryBackend::shared());
    #[cfg(feature = "sqs")]
    let registry = registry.with(towpath_sqs::Sqs::new());
    #[cfg(feature = "pubsub")]
    let registry = registry.with(towpath_pubsub::PubSub::new());
    registry
}

/// A handle on the queue at `url`, with the backends that were compiled in. No I/O yet.
///
/// # Errors
///
/// [`InvalidConfig`](ErrorKind::InvalidConfig) for a URL that names no queue, a scheme that was not
/// compiled in, an unknown option or a bad value; the message says what would be right.
///
/// ```
/// let error = towpath::open("carrier-pigeon://orders").unwrap_err();
/// assert_eq!(error.kind(), towpath::ErrorKind::InvalidConfig);
/// assert!(error.to_string().contains("available: "));
/// ```
pub fn open(url: &str) -> Result<Queue> {
    registry().open(url)
}
