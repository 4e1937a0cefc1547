//! What a backend implements: three small object-safe traits.
//!
//! A backend author reads this page and [`Capabilities`], implements [`Backend`] and the traits
//! below, and runs the conformance tests. Everything else (batching, retries of sends, prefetch,
//! lease keeping, dead-lettering, validation) is written once, above these traits.
//!
//! # The contract
//!
//! - **A result per entry.** Every batch call returns exactly one result per entry, in the order
//!   of the entries. A call that fails as a whole returns the error once per entry ([`Error`] is
//!   cheap to clone).
//! - **Nothing accepted is lost.** `send` returns `Ok` for an entry only when the broker has it.
//! - **One consumer at a time.** While a lease holds, `receive` never hands the message out again.
//! - **One at a time.** Where messages are ordered, no message of a key is handed out while an
//!   earlier one of it is unsettled, but in one case: one `receive` may return several of a key, in
//!   order, where [`cancel_safe_receive`](Capabilities::cancel_safe_receive) is `false`. The
//!   consumer above hands them out one by one, and gives the later ones back when an earlier one
//!   comes again.
//! - **No hidden waiting.** `receive` returns as soon as there is a message, and with an empty
//!   list when `wait` is over; empty is not an error. Calls other than `receive` have a deadline of
//!   the driver's own and end in [`Timeout`](crate::ErrorKind::Timeout).
//! - **Receipts are yours.** The caller hands them back, in any order and grouping, possibly more
//!   than once and possibly after the lease is gone, which is
//!   [`LeaseLost`](crate::ErrorKind::LeaseLost) where the broker can tell.
//! - **The caller keeps to the capabilities.** Batches are not empty and within the limits,
//!   messages are validated, delays are supported. A driver still never panics on bad input.
//! - **Retry is the caller's.** A driver does not retry what has an effect; it says by
//!   [`Error::is_retryable`] whether a retry makes sense.
//! - **After `close`**, every call fails with [`Closed`](crate::ErrorKind::Closed). Closing twice is
//!   fine. Messages that the driver holds unseen are released.
//!
//! Spans, logs and metrics are made above; a driver logs only what its caller cannot see.

use std::{any::Any, fmt, fmt::Debug, num::NonZeroUsize, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    Capabilities, Change, Depth, EnsureMode, Envelope, Error, Message, MessageId, QueueConfig,
    QueueInfo, QueueSpec, Result,
};

/// Opens queues of one URL scheme.
///
/// Opening a half may do I/O (to read the real settings of the queue); making a backend does not.
#[async_trait]
pub trait Backend: Debug + Send + Sync + 'static {
    /// The URL scheme, for instance `"sqs"`.
    fn scheme(&self) -> &'static str;

    /// Checks target and options without any I/O.
    fn check(&self, config: &QueueConfig) -> Result<()>;

    /// Opens the sending half.
    async fn producer(&self, config: &QueueConfig) -> Result<Arc<dyn Producer>>;

    /// Opens the receiving half.
    async fn consumer(&self, config: &QueueConfig) -> Result<Arc<dyn Consumer>>;

    /// Opens the administrating half. The queue need not exist yet.
    async fn admin(&self, config: &QueueConfig) -> Result<Arc<dyn Admin>>;

    /// The configuration of the dead-letter queue `name` that belongs to `config`: the same
    /// account, region and endpoint, another queue.
    fn dead_letter(&self, config: &QueueConfig, name: &str) -> Result<QueueConfig>;
}

/// The sending half of a queue.
#[async_trait]
pub trait Producer: Debug + Send + Sync + 'static {
    /// What the queue can do.
    fn capabilities(&self) -> &Capabilities;

    /// The bytes that `message` takes towards [`Limits::message_bytes`](crate::Limits::message_bytes)
    /// and [`Limits::send_batch_bytes`](crate::Limits::send_batch_bytes): body as encoded and
    /// attributes, without the reserved attribute.
    fn encoded_len(&self, message: &Message) -> usize;

    /// Sends a batch: `out[i]` is the fate of `batch[i]`.
    async fn send(&self, batch: &[Message]) -> Vec<Result<MessageId>>;

    /// Flushes what is buffered and releases resources.
    async fn close(&self) -> Result<()>;
}

/// The receiving half of a queue.
#[async_trait]
pub trait Consumer: Debug + Send + Sync + 'static {
    /// What the queue can do.
    fn capabilities(&self) -> &Capabilities;

    /// Leases up to `max` messages; waits up to `wait` for the first one.
    async fn receive(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>>;

    /// Removes messages from the queue for good.
    async fn ack(&self, receipts: &[Receipt]) -> Vec<Result<()>>;

    /// Gives messages back, to be delivered again after `delay`.
    async fn nack(&self, receipts: &[Receipt], delay: Duration) -> Vec<Result<()>>;

    /// Makes the leases last for `lease` from now. [`Unsupported`](crate::ErrorKind::Unsupported)
    /// where leases are [managed](crate::Lease::Managed).
    async fn extend(&self, receipts: &[Receipt], lease: Duration) -> Vec<Result<()>>;

    /// Stops receiving, releases what is held unseen, and flushes settlements.
    async fn close(&self) -> Result<()>;
}

/// The administrating half of a queue.
#[async_trait]
pub trait Admin: Debug + Send + Sync + 'static {
    /// Creates the queue as `spec` says, or compares it with what there is; see [`EnsureMode`].
    /// Returns what was or would be changed; empty when all is as wanted.
    async fn ensure(&self, spec: &QueueSpec, mode: EnsureMode) -> Result<Vec<Change>>;

    /// Reads the queue's real settings.
    async fn inspect(&self) -> Result<QueueInfo>;

    /// Counts the messages.
    async fn depth(&self) -> Result<Depth>;

    /// Removes all messages.
    async fn purge(&self) -> Result<()>;

    /// Deletes the queue, and what `ensure` created with it, but never a dead-letter queue.
    async fn delete(&self) -> Result<()>;
}

/// A leased message: the envelope and the receipt that settles it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Received {
    /// The message.
    pub envelope: Envelope,
    /// What settles it.
    pub receipt: Receipt,
}

impl Received {
    /// A leased message.
    pub fn new(envelope: Envelope, receipt: Receipt) -> Self {
        Self { envelope, receipt }
    }
}

/// What settles one leased message: an opaque object of the driver's own. Cheap to clone.
#[derive(Clone)]
pub struct Receipt(Repr);

#[derive(Clone)]
enum Repr {
    Token(u64, u64),
    Object(Arc<dyn Any + Send + Sync>),
}

impl Receipt {
    /// A receipt that holds any object, for instance the broker's receipt handle.
    pub fn new<T: Any + Send + Sync>(object: T) -> Self {
        Self(Repr::Object(Arc::new(object)))
    }

    /// A receipt of two numbers, which allocates nothing.
    pub fn token(a: u64, b: u64) -> Self {
        Self(Repr::Token(a, b))
    }

    /// The object that [`new`](Self::new) was given.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](crate::ErrorKind::LeaseLost) when this is another driver's receipt.
    pub fn object<T: Any + Send + Sync>(&self) -> Result<&T> {
        match &self.0 {
            Repr::Object(object) => object.downcast_ref().ok_or_else(Self::foreign),
            Repr::Token(..) => Err(Self::foreign()),
        }
    }

    /// The numbers that [`token`](Self::token) was given.
    ///
    /// # Errors
    ///
    /// As [`object`](Self::object).
    pub fn numbers(&self) -> Result<(u64, u64)> {
        match &self.0 {
            Repr::Token(a, b) => Ok((*a, *b)),
            Repr::Object(_) => Err(Self::foreign()),
        }
    }

    fn foreign() -> Error {
        Error::new(
            crate::ErrorKind::LeaseLost,
            "this receipt is of another backend; settle a message where it was received",
        )
    }
}

impl Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Repr::Token(a, b) => write!(f, "Receipt({a}, {b})"),
            Repr::Object(_) => f.write_str("Receipt"),
        }
    }
}
