//! What an opened queue can do.

use std::{ops::RangeInclusive, time::Duration};

/// What the opened queue promises and what it carries.
///
/// Read from the queue that was opened, not from the brand: two queues of one cloud can differ.
/// What is claimed holds, and what is not claimed is refused with
/// [`Unsupported`](crate::ErrorKind::Unsupported); the conformance tests check both.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Sizes, counts and times.
    pub limits: Limits,
    /// Who keeps leases alive, and how long they are.
    pub lease: Lease,
    /// Whether messages of one ordering key are delivered in order, one at a time.
    pub ordering: bool,
    /// How long a deduplication id is remembered; `None` where there is no deduplication.
    pub dedup_window: Option<Duration>,
    /// How attempts are counted.
    pub attempts: Attempts,
    /// What a successful ack means.
    pub ack: AckStatus,
    /// Whether the broker itself moves messages to a dead-letter queue (the backstop).
    pub broker_dead_letter: bool,
    /// How well the depth of the queue is known.
    pub depth: Precision,
    /// Whether the age of the oldest message is known.
    pub oldest_age: bool,
    /// Whether the queue can be purged.
    pub purge: bool,
    /// Whether single sends and settlements cost a request each, so that gathering them pays.
    /// `false` for in-process queues and for client libraries that gather by themselves.
    pub gather: bool,
    /// Whether dropping the future of a driver's `receive` never loses or strands a message. Where
    /// it does, receiving runs in a task of its own.
    pub cancel_safe_receive: bool,
}

impl Capabilities {
    /// A queue with leases of `lease` that the consumer keeps alive, and nothing optional.
    pub fn new(limits: Limits, lease: Lease) -> Self {
        Self {
            limits,
            lease,
            ordering: false,
            dedup_window: None,
            attempts: Attempts::Uncounted,
            ack: AckStatus::Submitted,
            broker_dead_letter: false,
            depth: Precision::Unknown,
            oldest_age: false,
            purge: false,
            gather: true,
            cancel_safe_receive: false,
        }
    }
}

/// Sizes, counts and times that the queue carries.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Limits {
    /// The largest message in bytes as the driver's `encoded_len` counts it: body and attributes,
    /// with room left for a failure record.
    pub message_bytes: usize,
    /// Whether an empty body is carried.
    pub empty_body: bool,
    /// The most attributes of the user's own.
    pub attributes: usize,
    /// The longest attribute name in bytes.
    pub attribute_name_bytes: usize,
    /// The longest attribute value in bytes.
    pub attribute_value_bytes: usize,
    /// Whether an attribute value may be empty.
    pub empty_attribute_value: bool,
    /// The longest ordering key in bytes.
    pub ordering_key_bytes: usize,
    /// The most messages in one send call.
    pub send_batch: usize,
    /// The most bytes in one send call, as `encoded_len` counts them.
    pub send_batch_bytes: usize,
    /// The most messages in one receive call.
    pub receive_batch: usize,
    /// The most receipts in one ack, nack or extend call.
    pub settle_batch: usize,
    /// The longest time that one receive call waits at the broker.
    pub wait: Duration,
    /// The longest delay of a message on send; zero where delays are not supported.
    pub delay: Duration,
    /// The longest delay of a nack; zero where a nack is always at once.
    pub nack_delay: Duration,
}

impl Default for Limits {
    /// No limits, and no delays.
    fn default() -> Self {
        Self {
            message_bytes: usize::MAX,
            empty_body: true,
            attributes: usize::MAX,
            attribute_name_bytes: usize::MAX,
            attribute_value_bytes: usize::MAX,
            empty_attribute_value: true,
            ordering_key_bytes: usize::MAX,
            send_batch: usize::MAX,
            send_batch_bytes: usize::MAX,
            receive_batch: usize::MAX,
            settle_batch: usize::MAX,
            wait: Duration::MAX,
            delay: Duration::ZERO,
            nack_delay: Duration::ZERO,
        }
    }
}

/// Who keeps leases alive, and how long they are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lease {
    /// The consumer extends leases with the driver's `extend`.
    Extended {
        /// How long a lease lasts from the receive, or from the last extension.
        duration: Duration,
        /// The lengths that `extend` accepts.
        range: RangeInclusive<Duration>,
        /// The longest that a message can be held in total.
        max_total: Duration,
    },
    /// The cloud's client library extends leases by itself.
    Managed {
        /// The longest that it holds a message in total.
        max_total: Duration,
    },
}

impl Lease {
    /// The longest that a message can be held in total.
    pub fn max_total(&self) -> Duration {
        match self {
            Self::Extended { max_total, .. } | Self::Managed { max_total } => *max_total,
        }
    }

    /// How long a lease lasts without an extension; `None` where the client library decides.
    pub fn duration(&self) -> Option<Duration> {
        match self {
            Self::Extended { duration, .. } => Some(*duration),
            Self::Managed { .. } => None,
        }
    }
}

/// How attempts are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attempts {
    /// Every delivery counts, exactly.
    Exact,
    /// Counted as well as the broker can; a crash of the broker may lose a count.
    Approximate,
    /// Not counted: [`Envelope::attempt`](crate::Envelope::attempt) is `None`, and a limit on
    /// attempts is refused.
    Uncounted,
}

/// What a successful ack means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AckStatus {
    /// The queue confirmed it: the message is not delivered again.
    Confirmed,
    /// The queue took the request; in rare cases the message is delivered again all the same.
    Submitted,
}

/// How well a figure is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Precision {
    /// To the message.
    Exact,
    /// Roughly, and with some delay.
    Approximate,
    /// Not at all.
    Unknown,
}
