//! The in-memory backend of towpath: a strict simulator of a message queue.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> towpath_core::Result<()> {
//! use towpath_core::Registry;
//! use towpath_memory::MemoryBackend;
//!
//! let registry = Registry::new().with(MemoryBackend::new());
//! let queue = registry.open("memory://orders?lease=30s&max_attempts=5&dead_letter=orders-dlq")?;
//! let (producer, consumer) = (queue.producer().await?, queue.consumer().await?);
//! producer.send("hello").await?;
//! let delivery = consumer.receive().await?;
//! assert_eq!(delivery.body(), "hello");
//! delivery.ack().await?;
//! # Ok(())
//! # }
//! ```
//!
//! It keeps leases, delays, ordering groups, deduplication, attempts and dead letters as the clouds
//! do, on tokio's clock: with the clock paused, a lease of 30 s runs out in no time. Nothing
//! happens in the background; what is due is made true by the next call on the queue, and a waiting
//! receiver wakes for it.
//!
//! - [`MemoryBackend`] opens queues; its options are those of [`MemoryOptions`].
//! - [`Profile`] gives a queue the limits and guarantees of one cloud.
//! - [`Faults`] make it misbehave as the clouds do, from a seed.
//!
//! # Profiles
//!
//! | profile | ordering keys | dedup | an ack is | attempts | delay on send | delay of a nack | leases |
//! |---|---|---|---|---|---|---|---|
//! | `strict` | yes | 5 min | confirmed | exact | 30 d | 30 d | extended by the consumer |
//! | `sqs` | refused | refused | submitted | approximate | 15 min | 12 h | extended, 12 h in all |
//! | `sqs-fifo` | yes | 5 min | confirmed | approximate | refused | 12 h | extended, 12 h in all |
//! | `pubsub` | refused | refused | submitted | with a dead-letter policy | refused | 7 d | kept, 1 h in all |
//! | `pubsub-ordered` | yes | refused | submitted | with a dead-letter policy | refused | 10 min | kept, 1 h in all |
//! | `pubsub-exactly-once` | by `ordered` | refused | confirmed | with a dead-letter policy | refused | 7 d, 10 min where ordered | kept, 1 h in all |
//!
//! Sizes, batches, attribute names and what may be empty are those of the cloud too. In `sqs` and
//! `pubsub` an ack whose lease is gone returns `Ok` and removes nothing, as it does there.
//!
//! # Dead letters
//!
//! With `dead_letter` and `max_deliveries` (or `max_attempts`) the queue itself moves a message
//! that comes back once too often. As on SQS, this happens with the next call on the queue that the
//! message is in: who waits on the dead-letter queue alone sees nothing of a lease that runs out in
//! a queue that nobody touches.
//!
//! # Lifetime
//!
//! A queue exists from the first opening until [`Admin::delete`](towpath_core::Admin::delete) or
//! the end of the process, and so do its messages.

/// The example of the README runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod admin;
mod backend;
mod consumer;
mod dedup;
mod expiry;
mod faults;
mod group;
mod options;
mod producer;
mod profile;
mod queue;
mod queues;
mod settings;
mod shared;
mod store;
mod waiters;

pub use backend::MemoryBackend;
pub use faults::Faults;
pub use options::MemoryOptions;
pub use profile::Profile;
