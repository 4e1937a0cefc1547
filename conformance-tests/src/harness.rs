//! What the cases need to know about a backend.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use towpath_core::{Error, ErrorKind, QueueConfig, QueueSpec, Registry, Result};

/// Opens, names and times the queues of one backend.
///
/// [`UrlHarness`](crate::UrlHarness) does for any backend whose queues have URLs and whose
/// [`Admin`](towpath_core::driver::Admin) creates them. The provided methods are abilities that few
/// backends can offer; cases that need one are ignored without it.
#[async_trait]
pub trait Harness: Debug + Send + Sync + 'static {
    /// What is tested, for reports: `memory` or `sqs on elasticmq`.
    fn name(&self) -> &str;

    /// How time passes.
    fn timing(&self) -> &Timing;

    /// The backends. Called inside the runtime of each case, so that no connection outlives the
    /// runtime that drives it; all registries see the same queues.
    fn registry(&self) -> Registry;

    /// How the names of new queues begin. At most 24 of `A-Za-z0-9-`, and a letter first.
    fn prefix(&self) -> &str {
        "towpath-ct"
    }

    /// How the names of queues must end, for instance in `.fifo`.
    fn suffix(&self) -> &str {
        ""
    }

    /// The queue `name`, whether or not it exists.
    fn queue(&self, name: &str) -> Result<QueueConfig>;

    /// What all queues are created with; the cases add to it.
    fn spec(&self) -> QueueSpec {
        QueueSpec::new()
    }

    /// The queue `name` that does not exist and is not to be created by opening it.
    fn missing(&self, name: &str) -> Result<QueueConfig> {
        self.queue(name)
    }

    /// The queue `name` at an endpoint where nobody answers.
    fn unreachable(&self, _name: &str) -> Option<QueueConfig> {
        None
    }

    /// The queue `name` with credentials that are not accepted.
    fn denied(&self, _name: &str) -> Option<QueueConfig> {
        None
    }

    /// `queue` by way of a connection that [`cut`](Self::cut) can cut. Called inside the runtime of
    /// the case.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) where there is no such way.
    async fn cuttable(&self, _queue: &QueueConfig) -> Result<QueueConfig> {
        Err(cannot_cut())
    }

    /// Cuts the connections of this queue once, and of no other; new ones succeed.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) where it cannot be done.
    async fn cut(&self, _queue: &QueueConfig) -> Result<()> {
        Err(cannot_cut())
    }

    /// Told before a queue is created, so that it can be noted for a later clean-up.
    fn creating(&self, _queue: &QueueConfig) {}

    /// Told after a queue was deleted.
    fn deleted(&self, _queue: &QueueConfig) {}
}

pub(crate) fn cannot_cut() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the harness cannot cut a connection",
    )
}

/// How time passes for a backend, and how exact it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timing {
    /// Whether the clock is tokio's own, paused: for backends without I/O.
    pub is_paused: bool,
    /// The shortest lease that queues can be created with. Cases wait for a few of them.
    pub lease: Duration,
    /// A delay that is short, and exact enough to be measured.
    pub delay: Duration,
    /// How late "at once" may be.
    pub slack: Duration,
}

impl Timing {
    /// For backends without I/O, on tokio's clock: all waits take no time.
    pub fn paused() -> Self {
        Self {
            is_paused: true,
            lease: Duration::from_secs(30),
            delay: Duration::from_secs(7),
            slack: Duration::from_millis(100),
        }
    }

    /// For local servers and files: a lease of 2 s, a delay of 2 s, a slack of 1 s.
    pub fn local() -> Self {
        Self {
            is_paused: false,
            lease: Duration::from_secs(2),
            delay: Duration::from_secs(2),
            slack: Duration::from_secs(1),
        }
    }

    /// For real clouds: a lease of 10 s, a delay of 5 s, a slack of 5 s.
    pub fn cloud() -> Self {
        Self {
            is_paused: false,
            lease: Duration::from_secs(10),
            delay: Duration::from_secs(5),
            slack: Duration::from_secs(5),
        }
    }

    /// Sets the shortest lease.
    #[must_use]
    pub fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the delay.
    #[must_use]
    pub fn with_delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets how late "at once" may be.
    #[must_use]
    pub fn with_slack(mut self, slack: Duration) -> Self {
        self.slack = slack;
        self
    }

    /// How early "not before" may be: clocks are not exact.
    pub fn early(&self) -> Duration {
        if self.is_paused {
            Duration::from_millis(1)
        } else {
            self.slack / 5
        }
    }
}
