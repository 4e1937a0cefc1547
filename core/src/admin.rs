//! Queues as wanted, as they are, and how full they are.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result, driver};

/// Creates, inspects, measures, purges and deletes one queue.
#[derive(Clone, Debug)]
pub struct Admin {
    driver: Arc<dyn driver::Admin>,
}

impl Admin {
    /// The portable form of a driver's administrating half.
    pub fn new(driver: Arc<dyn driver::Admin>) -> Self {
        Self { driver }
    }

    /// Creates the queue as `spec` says, or compares it with what there is.
    ///
    /// Idempotent: the second call returns no change.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](crate::ErrorKind::InvalidConfig) in [`EnsureMode::Create`] when the queue
    /// exists with other settings; the message lists them.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the change half made; calling it again completes it.
    pub async fn ensure(&self, spec: &QueueSpec, mode: EnsureMode) -> Result<Vec<Change>> {
        self.driver.ensure(spec, mode).await
    }

    /// Reads the queue's real settings.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) when there is no such queue, and those of any call:
    /// access refused, no answer, and the like.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub async fn inspect(&self) -> Result<QueueInfo> {
        self.driver.inspect().await
    }

    /// Counts the messages, as exactly as [`Capabilities::depth`](crate::Capabilities::depth) says.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where the queue cannot tell.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it changes nothing.
    pub async fn depth(&self) -> Result<Depth> {
        self.driver.depth().await
    }

    /// Removes all messages, leased ones too. They cannot be brought back.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where
    /// [`Capabilities::purge`](crate::Capabilities::purge) is not set, else as
    /// [`inspect`](Self::inspect).
    ///
    /// # Cancel safety
    ///
    /// Once the request is out, the purge happens whether or not the future is dropped.
    pub async fn purge(&self) -> Result<()> {
        self.driver.purge().await
    }

    /// Deletes the queue with its messages. A dead-letter queue is kept.
    ///
    /// # Errors
    ///
    /// As [`inspect`](Self::inspect).
    ///
    /// # Cancel safety
    ///
    /// Once the request is out, the queue goes whether or not the future is dropped.
    pub async fn delete(&self) -> Result<()> {
        self.driver.delete().await
    }
}

/// A queue as wanted. `None` leaves a setting to the cloud's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueSpec {
    /// How long a lease lasts. Portable bounds: 10 to 600 s.
    pub lease: Option<Duration>,
    /// Whether ordering keys are honoured. SQS: the name must end in `.fifo`.
    pub ordered: bool,
    /// Whether acks are confirmed (Pub/Sub exactly-once delivery).
    pub exactly_once: bool,
    /// How long an unread message is kept.
    pub retention: Option<Duration>,
    /// Where the broker moves messages that were delivered too often.
    pub dead_letter: Option<DeadLetterSpec>,
}

impl QueueSpec {
    /// A queue with the cloud's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long a lease lasts.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Honours ordering keys.
    #[must_use]
    pub fn with_ordering(mut self) -> Self {
        self.ordered = true;
        self
    }

    /// Confirms acks.
    #[must_use]
    pub fn with_exactly_once(mut self) -> Self {
        self.exactly_once = true;
        self
    }

    /// Sets how long an unread message is kept.
    #[must_use]
    pub fn with_retention(mut self, retention: Duration) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Lets the broker move messages to `queue` after `max_deliveries` deliveries.
    #[must_use]
    pub fn with_dead_letter(mut self, queue: impl Into<String>, max_deliveries: u32) -> Self {
        self.dead_letter = Some(DeadLetterSpec {
            queue: queue.into(),
            max_deliveries,
        });
        self
    }
}

/// The broker's own dead-letter policy: the backstop for consumers that crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterSpec {
    /// The name of the dead-letter queue. `ensure` creates it where it is missing.
    pub queue: String,
    /// After how many deliveries a message is moved. Portable bounds: 5 to 100; set it above the
    /// consumer's own limit.
    pub max_deliveries: u32,
}

/// What [`Admin::ensure`] may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnsureMode {
    /// Nothing: only say what is missing or different.
    Plan,
    /// Create what is missing; refuse when a live queue has other settings.
    Create,
    /// Create what is missing and change the settings of a live queue.
    Apply,
}

/// One difference between a queue as it is and as wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What differs, for instance `queue orders` or `orders lease`.
    pub setting: String,
    /// What it is; `None` where it does not exist.
    pub from: Option<String>,
    /// What it is to be.
    pub to: String,
}

impl Change {
    /// The error of [`EnsureMode::Create`] where a live queue differs by these, for drivers.
    pub fn refused(changes: &[Self]) -> Error {
        let changes: Vec<String> = changes.iter().map(Self::to_string).collect();
        let changes = changes.join("; ");
        Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "the queue exists with other settings: {changes}; apply the changes, or ask for \
                 what there is"
            ),
        )
        .with_operation("ensure")
    }
}

/// `orders lease is 30s and is to be 60s`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.from.as_deref().unwrap_or("missing");
        write!(f, "{} is {from} and is to be {}", self.setting, self.to)
    }
}

/// A queue's real settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QueueInfo {
    /// The cloud's full name of the queue: URL, ARN or resource name.
    pub name: String,
    /// How long a lease lasts.
    pub lease: Option<Duration>,
    /// Whether ordering keys are honoured.
    pub ordered: bool,
    /// Whether acks are confirmed.
    pub exactly_once: bool,
    /// How long an unread message is kept.
    pub retention: Option<Duration>,
    /// Where the broker moves messages that were delivered too often.
    pub dead_letter: Option<DeadLetterSpec>,
    /// The cloud's own settings, by its own names.
    pub settings: std::collections::BTreeMap<String, String>,
    /// What would lose or strand messages as things are, in words, with what to do.
    pub warnings: Vec<String>,
}

impl QueueInfo {
    /// The settings of the queue `name`, all unknown yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

/// How many messages a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Depth {
    /// Waiting to be received.
    pub ready: u64,
    /// Leased by a consumer.
    pub leased: u64,
    /// Not yet visible, because of a delay.
    pub delayed: u64,
    /// The age of the oldest message that is not settled, where known.
    pub oldest_age: Option<Duration>,
}

impl Depth {
    /// The figures without an age.
    pub fn new(ready: u64, leased: u64, delayed: u64) -> Self {
        Self {
            ready,
            leased,
            delayed,
            oldest_age: None,
        }
    }

    /// Sets the age of the oldest message.
    #[must_use]
    pub fn with_oldest_age(mut self, age: Option<Duration>) -> Self {
        self.oldest_age = age;
        self
    }

    /// All messages in the queue.
    pub fn total(&self) -> u64 {
        self.ready + self.leased + self.delayed
    }
}
