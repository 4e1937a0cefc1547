//! The contract of towpath: what a message queue promises, in types and traits.
//!
//! Applications use the facade crate `towpath`, which re-exports all of this and adds the
//! backends. Authors of backends read [`driver`].
//!
//! # What is promised
//!
//! 1. **Nothing accepted is lost.** When [`Producer::send`] returned `Ok`, the message is delivered
//!    until it is acked or dead-lettered, as far as the backend's own durability reaches.
//! 2. **One consumer at a time.** While a lease holds, no other consumer is handed the message, and
//!    a lost lease is told at once: [`Delivery::lease_lost`].
//! 3. **Retried until it succeeds or is parked.** A failed message is delivered again, or copied to
//!    the dead-letter queue with its [`FailureRecord`] before it is removed.
//! 4. **Settled stays settled**, where [`Capabilities::ack`] says
//!    [`Confirmed`](AckStatus::Confirmed).
//! 5. **Honest.** What a queue cannot do is in its [`Capabilities`] and is refused with
//!    [`ErrorKind::Unsupported`]; nothing is silently ignored.
//!
//! # Map
//!
//! | you want to | look at |
//! |---|---|
//! | send | [`Message`], [`Producer`] |
//! | receive and settle | [`Consumer`], [`Delivery`], [`Envelope`] |
//! | process messages | [`Handler`], [`Attempt`], [`Outcome`], [`Failure`] |
//! | open a queue by its URL | [`Registry`], [`Queue`], [`QueueConfig`] |
//! | create, inspect, purge | [`Admin`], [`QueueSpec`] |
//! | know what a queue can do | [`Capabilities`], [`Limits`] |
//! | know what went wrong | [`Error`], [`ErrorKind`] |
//! | write a backend | [`driver`], [`wire`] |

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod admin;
mod attributes;
mod backoff;
mod capability;
mod codec;
pub mod config;
mod consumer;
mod dead_letter;
mod delivery;
pub mod driver;
mod envelope;
mod error;
mod failure;
mod handler;
mod message;
mod outcome;
mod producer;
mod registry;
mod validate;
pub mod wire;

pub use admin::{Admin, Change, DeadLetterSpec, Depth, EnsureMode, QueueInfo, QueueSpec};
pub use attributes::Attributes;
pub use capability::{AckStatus, Attempts, Capabilities, Lease, Limits, Precision};
pub use config::{QueueConfig, QueueOptions};
pub use consumer::{Consumer, ConsumerOptions};
pub use delivery::{Delivery, SettleError};
pub use envelope::{Envelope, MessageId};
pub use error::{Error, ErrorKind, Result};
pub use failure::{Failure, FailureClass, FailureRecord};
pub use handler::{Attempt, Handler};
pub use message::Message;
pub use outcome::Outcome;
pub use producer::{Producer, ProducerOptions};
pub use registry::{Queue, Registry};
pub use validate::{Validation, portable};

/// Re-exported: the body of a message.
pub use bytes::Bytes;
