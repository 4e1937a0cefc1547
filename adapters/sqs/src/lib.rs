//! Amazon SQS behind towpath's contract: standard and FIFO queues.
//!
//! Applications name a queue by a URL and use `towpath_core`'s types; this crate only adds the
//! scheme `sqs`.
//!
//! ```no_run
//! use towpath_core::{Message, Registry, Result};
//! use towpath_sqs::Sqs;
//!
//! # async fn example() -> Result<()> {
//! let queue = Registry::new()
//!     .with(Sqs::new())
//!     .open("sqs://orders?region=us-east-1&dead_letter=orders-dlq&max_attempts=5")?;
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
//! | form | |
//! |---|---|
//! | `sqs://orders` | a queue of your own account, or of `owner=123456789012` |
//! | `sqs://https://sqs.us-east-1.amazonaws.com/123456789012/orders` | by its URL |
//! | `sqs://arn:aws:sqs:us-east-1:123456789012:orders` | by its ARN |
//!
//! Names of FIFO queues end in `.fifo`. Options are those of
//! [`QueueOptions`](towpath_core::QueueOptions) and [`SqsOptions`].
//!
//! # What is particular to SQS
//!
//! - A queue's limits, lease, ordering and dead-letter policy are read from the queue when one of
//!   its halves is opened, and stand in its [`Capabilities`](towpath_core::Capabilities).
//! - The lease is said with every receive, so a later change of the queue's own visibility timeout
//!   cannot shorten it unseen.
//! - SQS carries text: other bodies travel as base64, marked in the attribute `towpath`; see
//!   [`wire`](towpath_core::wire). That attribute is one of SQS's ten, so nine are yours.
//! - On a FIFO queue the ordering key is the message group. A message without one is a group of its
//!   own, so that it waits for no other.
//! - On a FIFO queue every message has a deduplication id: the one that you give, else a random
//!   one. Sending a copy of a message is another message; only retrying a send that failed or
//!   timed out uses the id again. Content-based deduplication is never relied upon.
//! - Waits and delays are whole seconds, rounded up. A receive with no wait at all asks only some
//!   of SQS's servers and may miss messages; wait for a second or more to be sure.
//! - A message can be held and delayed for 12 h in all.
//!
//! The README has the table of words, the IAM policy, and what cannot be hidden.

mod address;
mod admin;
mod backend;
mod capabilities;
mod connect;
mod consumer;
mod dedup;
mod digest;
mod ensure;
mod error;
mod message;
mod operation;
mod options;
mod producer;
mod queue;
mod settings;

pub use admin::{MoveTask, SqsAdmin};
pub use backend::Sqs;
pub use options::SqsOptions;
