//! A queue that messages go to.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use metrics::Histogram;
use tokio::time::{Instant, timeout};
use towpath_core::{ErrorKind, Message, Producer, Queue, QueueConfig, Validation, portable};

/// How long a queue that failed, and cannot be asked, counts as unreachable.
const UNKNOWN_AFTER: Duration = Duration::from_secs(10);
/// How long an answer about a queue holds.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long a queue may take to answer.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// A queue that messages go to.
pub(super) struct Target {
    name: String,
    producer: Producer,
    /// Where we opened it ourselves.
    queue: Option<Queue>,
    failing: Mutex<Option<Failing>>,
    asking: tokio::sync::Mutex<()>,
    seconds: Histogram,
}

/// Since when a queue cannot be reached, as far as is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failing {
    pub(super) kind: ErrorKind,
    asked: Instant,
}

impl Target {
    pub(super) fn new(name: &str, producer: Producer, queue: Option<Queue>) -> Self {
        Self {
            name: name.to_owned(),
            producer,
            queue,
            failing: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            seconds: metrics::histogram!("towpath_webhook_publish_seconds", "queue" => name.to_owned()),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn producer(&self) -> &Producer {
        &self.producer
    }

    /// Where it is, if we opened it.
    pub(super) fn config(&self) -> Option<&QueueConfig> {
        self.queue.as_ref().map(Queue::config)
    }

    /// The largest body that it may carry.
    pub(super) fn max_body_bytes(&self) -> usize {
        let native = self.producer.capabilities().limits.message_bytes;
        let is_native = self
            .queue
            .as_ref()
            .is_some_and(|queue| queue.options().validation == Validation::Native);
        if is_native {
            native
        } else {
            native.min(portable::BODY_BYTES)
        }
    }

    /// Publishes, and remembers whether that works.
    pub(super) async fn publish(&self, message: Message, limit: Duration) -> Result<(), ErrorKind> {
        let started = Instant::now();
        let result = match timeout(limit, self.producer.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                tracing::error!(queue = self.name, %error, "a message could not be published");
                Err(error.kind())
            }
            Err(_) => {
                tracing::error!(
                    queue = self.name,
                    ?limit,
                    "the queue did not answer in time"
                );
                Err(ErrorKind::Timeout)
            }
        };
        self.seconds.record(started.elapsed());
        match result {
            Ok(()) => *self.failing() = None,
            // Wrong about the message, which says that the queue is there.
            Err(ErrorKind::InvalidMessage | ErrorKind::TooLarge) => {}
            Err(kind) => {
                let asked = Instant::now();
                *self.failing() = Some(Failing { kind, asked });
            }
        }
        result
    }

    /// Whether it can be reached: what the last message said, or the queue itself when that was a
    /// failure some time ago.
    pub(super) async fn failure(&self) -> Option<Failing> {
        let _one = self.asking.lock().await;
        let failing = (*self.failing())?;
        let Some(queue) = &self.queue else {
            return Some(failing).filter(|failing| failing.asked.elapsed() < UNKNOWN_AFTER);
        };
        if failing.asked.elapsed() < ASK_EVERY {
            return Some(failing);
        }
        let asked = timeout(ASK_TIMEOUT, async { queue.admin().await?.inspect().await });
        let kind = match asked.await {
            Ok(Ok(_)) => {
                *self.failing() = None;
                return None;
            }
            // A queue that we may only send to says no more than that it is there.
            Ok(Err(error)) if error.kind() == ErrorKind::PermissionDenied => {
                return Some(failing).filter(|failing| failing.asked.elapsed() < UNKNOWN_AFTER);
            }
            Ok(Err(error)) => error.kind(),
            Err(_) => ErrorKind::Timeout,
        };
        let failing = Failing {
            kind,
            asked: Instant::now(),
        };
        *self.failing() = Some(failing);
        Some(failing)
    }

    fn failing(&self) -> MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("name", &self.name)
            .field("producer", &self.producer)
            .finish_non_exhaustive()
    }
}
