//! Building a worker, and refusing what cannot work.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_layer::Layer;
use towpath_core::{Attempt, Attempts, Consumer, Error, ErrorKind, Handler, Result};

use crate::{
    AttemptService, Gate, HandlerService, Health, RetryPolicy, ServiceHandler, Worker,
    attempt::Bounds,
    keys::Keys,
    metrics::WorkerMetrics,
    notes::Notes,
    permits::Permits,
    report::Counts,
    runtime::{Clock, RetryFor, Runtime, Settings},
};

/// Builds a [`Worker`]. Made by [`Worker::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct WorkerBuilder {
    consumer: Consumer,
    handler: Arc<dyn Handler>,
    concurrency: usize,
    max_bytes: usize,
    retry: RetryPolicy,
    retry_for: Option<Box<RetryFor>>,
    handler_timeout: Option<Duration>,
    drain_deadline: Duration,
    cancel_grace: Duration,
    gate: Gate,
}

impl WorkerBuilder {
    pub(crate) fn new(consumer: Consumer, handler: Arc<dyn Handler>) -> Self {
        Self {
            consumer,
            handler,
            concurrency: 16,
            max_bytes: 64 * 1_024 * 1_024,
            retry: RetryPolicy::default(),
            retry_for: None,
            handler_timeout: None,
            drain_deadline: Duration::from_secs(25),
            cancel_grace: Duration::from_millis(200),
            gate: Gate::new(),
        }
    }

    /// How many handlers run at once, at most. Only that many messages are received. Default: 16.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers;
        self
    }

    /// How many bytes of messages are in hand at once; what one receive brings can exceed it.
    /// Default: 64 MiB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// When a failed message is tried again. Default: [`RetryPolicy::default`].
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Gives some messages a retry policy of their own, for instance by type. Where the function
    /// returns `None`, and for limits that its policy leaves open, the [general](Self::retry) one
    /// holds.
    pub fn retry_for(
        mut self,
        policy: impl Fn(&Attempt) -> Option<RetryPolicy> + Send + Sync + 'static,
    ) -> Self {
        self.retry_for = Some(Box::new(policy));
        self
    }

    /// How long one attempt may take, before it is cancelled and counted as failed. Shorter than
    /// the consumer's `max_lease`. Default: until the lease ends.
    pub fn handler_timeout(mut self, limit: Duration) -> Self {
        self.handler_timeout = Some(limit);
        self
    }

    /// How long a stopping worker may take from the signal to the end. Handlers are cancelled a
    /// little before that. Default: 25 s, which is below the 30 s that Kubernetes waits.
    pub fn drain_deadline(mut self, limit: Duration) -> Self {
        self.drain_deadline = limit;
        self
    }

    /// How long a handler may take to end by itself after its cancellation token was cancelled,
    /// before its future is dropped. Default: 200 ms.
    pub fn cancel_grace(mut self, limit: Duration) -> Self {
        self.cancel_grace = limit;
        self
    }

    /// Pauses and resumes by this gate. Default: a gate of its own, see
    /// [`Worker::gate`](crate::Worker::gate).
    pub fn gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    /// Puts a tower layer around the handler and the layers before it. See [`layers`](crate::layers).
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<HandlerService>,
        L::Service: AttemptService,
    {
        let service = layer.layer(HandlerService::shared(self.handler));
        self.handler = Arc::new(ServiceHandler::new(service));
        self
    }

    /// The worker.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) and [`Unsupported`](ErrorKind::Unsupported) for
    /// what could not work: a limit on attempts or age without a dead-letter queue, a limit on
    /// attempts where the queue does not count them, a handler timeout that outlasts the lease, no
    /// concurrency.
    pub fn build(self) -> Result<Worker> {
        let consumer = self.consumer;
        let mut retry = self.retry;
        retry.max_attempts = retry.max_attempts.or(consumer.max_attempts());
        check(&consumer, &retry, self.handler_timeout)?;
        if self.concurrency == 0 || self.max_bytes == 0 {
            return Err(invalid(
                "concurrency and max_bytes must be at least 1; to pause, use the gate".to_owned(),
            ));
        }
        // More could never be taken, and a semaphore has a bound of its own.
        let concurrency = self.concurrency.min(Semaphore::MAX_PERMITS / 4);
        let queue: Arc<str> = consumer.queue().into();
        let longest = self.handler_timeout.unwrap_or(consumer.max_lease());
        let longest = longest + self.cancel_grace + SETTLING;
        let health = Health::new(queue.clone(), self.gate.clone(), longest);
        Ok(Worker::new_from(Runtime {
            counts: Arc::new(Counts::new(WorkerMetrics::new(&queue), health.clone())),
            queue,
            consumer,
            health,
            handler: self.handler,
            settings: Settings {
                retry,
                retry_for: self.retry_for,
                bounds: Bounds {
                    timeout: self.handler_timeout,
                    grace: self.cancel_grace,
                },
                drain: self.drain_deadline,
            },
            permits: Permits::new(concurrency, self.max_bytes),
            settling: Arc::new(Semaphore::new((2 * concurrency).max(256))),
            keys: Arc::new(Keys::default()),
            notes: Notes::default(),
            gate: self.gate,
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            tasks: TaskTracker::new(),
            clock: Clock::new(),
        }))
    }
}

/// How long the settlement of a message may take before it is a sign of bad health.
const SETTLING: Duration = Duration::from_secs(60);

fn check(consumer: &Consumer, retry: &RetryPolicy, timeout: Option<Duration>) -> Result<()> {
    let queue = consumer.queue();
    if retry.max_attempts == Some(0) {
        return Err(invalid(format!(
            "max_attempts of the queue {queue} is 0, and at least 1 attempt is needed"
        )));
    }
    if consumer.dead_letter().is_none() {
        let limits = [
            ("max_attempts", retry.max_attempts.is_some()),
            ("max_age", retry.max_age.is_some()),
        ];
        if let Some((name, _)) = limits.iter().find(|(_, is_set)| *is_set) {
            return Err(invalid(format!(
                "{name} is set, and the queue {queue} has no dead-letter queue for the messages \
                 that reach it; configure one with dead_letter=NAME"
            )));
        }
    }
    if retry.max_attempts.is_some() && consumer.capabilities().attempts == Attempts::Uncounted {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "max_attempts is set, and the queue {queue} does not count attempts; give it a \
                 dead-letter policy, or limit by max_age"
            ),
        ));
    }
    let max_lease = consumer.max_lease();
    if let Some(timeout) = timeout
        && timeout >= max_lease
    {
        return Err(invalid(format!(
            "the handler timeout of {} outlasts the longest lease of the queue {queue}, {}; \
             shorten it, or raise max_lease",
            humantime::format_duration(timeout),
            humantime::format_duration(max_lease),
        )));
    }
    let longest = retry.backoff().longest();
    let nack_delay = consumer.capabilities().limits.nack_delay;
    if longest > nack_delay {
        tracing::info!(
            queue,
            ?longest,
            ?nack_delay,
            "retry delays can be longer than the queue's own; while this process runs, messages that come back too early are given back again"
        );
    }
    Ok(())
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

impl fmt::Debug for WorkerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerBuilder")
            .field("consumer", &self.consumer)
            .field("concurrency", &self.concurrency)
            .field("max_bytes", &self.max_bytes)
            .field("retry", &self.retry)
            .field("handler_timeout", &self.handler_timeout)
            .field("drain_deadline", &self.drain_deadline)
            .field("cancel_grace", &self.cancel_grace)
            .field("gate", &self.gate)
            .finish_non_exhaustive()
    }
}
