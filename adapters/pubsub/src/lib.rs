//! Google Cloud Pub/Sub behind towpath's contract: a topic and one of its subscriptions make a
//! queue.
//!
//! Applications name a queue by a URL and use `towpath_core`'s types; this crate only adds the
//! scheme `pubsub`.
//!
//! ```no_run
//! use towpath_core::{Message, Registry, Result};
//! use towpath_pubsub::PubSub;
//!
//! # async fn example() -> Result<()> {
//! let queue = Registry::new()
//!     .with(PubSub::new())
//!     .open("pubsub://my-project/orders?dead_letter=orders-dlq&max_attempts=5")?;
//!
//! let producer = queue.producer().await?;
//! producer.send(Message::new("hello").with_attribute("kind", "greeting")).await?;
//!
//! let consumer = queue.consumer().await?;
//! let delivery = consumer.receive().await?;
//! assert_eq!(delivery.body(), "hello");
//! delivery.ack().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Names of queues
//!
//! | form | topic | subscription |
//! |---|---|---|
//! | `pubsub://my-project/orders` | `orders` | `orders` |
//! | `pubsub://my-project/orders?subscription=billing` | `orders` | `billing` |
//! | `pubsub://orders` | `orders` of the project in `GOOGLE_CLOUD_PROJECT` | `orders` |
//! | `pubsub://projects/my-project/topics/orders` | `orders` | `orders` |
//!
//! A dead-letter queue `NAME` is a topic of that name in the same project with a subscription of
//! the same name. Options are those of [`QueueOptions`](towpath_core::QueueOptions) and
//! [`PubSubOptions`].
//!
//! # What is particular to Pub/Sub
//!
//! - Messages are pushed by the service over streams. How many may come is decided by demand: the
//!   first stream may bring as many as are asked for, and more are allowed when callers are kept
//!   waiting, up to `max_outstanding`. When nobody asks for a second, streams by which more could
//!   come are closed, and what was not handed out is given back soon after.
//! - The client library keeps leases alive ([`Lease::Managed`](towpath_core::Lease::Managed)), for
//!   `max_lease` at most.
//! - Pub/Sub cannot delay a nack. The message stays leased here for the delay and is nacked then;
//!   when the process ends before, it comes back early. For longer delays than `nack_delay` a copy
//!   with the time takes its place, where the topic has no other subscription and no order.
//! - Acks are confirmed by subscriptions with exactly-once delivery only.
//! - Attempts are counted by subscriptions with a dead-letter policy only.
//! - Ordering keys belong to the subscription: without ordering there, they are refused.
//!   A consumer hands out one message of a key at a time.
//! - What is published to a topic without a subscription is lost, so a producer refuses to open
//!   such a topic where it may look.
//!
//! The README has the table of words, the roles, and what cannot be hidden.

mod address;
mod admin;
mod backend;
mod capabilities;
mod connect;
mod consumer;
mod ensure;
mod error;
mod inspect;
mod message;
mod options;
mod producer;
mod publishers;
mod pump;

pub use backend::PubSub;
pub use options::{Access, PubSubOptions};
