//! Receiving.

use std::{fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, Semaphore, mpsc},
    time::{Instant, timeout_at},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    AckStatus, Attempts, Capabilities, Delivery, Error, ErrorKind, FailureClass, Lease, Producer,
    QueueConfig, QueueOptions, Result, SettleError,
    driver::{self, Received},
    producer::closed,
};

mod lease;
mod pump;
mod releases;
pub(crate) mod settle;
mod turn;

pub(crate) use lease::LeaseRef;
pub(crate) use turn::Turn;

/// How a [`Consumer`] receives and settles.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsumerOptions {
    /// The name of the queue, for failure records and logs.
    pub queue: String,
    /// How many messages are fetched ahead of demand. Default: 0.
    pub prefetch: usize,
    /// How long one receive call waits at the broker. Default: 20 s.
    pub wait: Duration,
    /// The longest that a message is held in all. Default: 1 h.
    pub max_lease: Duration,
    /// How long a settlement waits for company before a request goes out. Default: 20 ms where
    /// requests cost ([`Capabilities::gather`]), else not used.
    pub settle_linger: Duration,
    /// Deliveries beyond this attempt go to the dead-letter queue instead of to the caller.
    /// Default: no limit.
    pub max_attempts: Option<u32>,
    /// Where [`Delivery::dead_letter`] sends. Default: nowhere.
    pub dead_letter: Option<Producer>,
    /// Where the queue is, for [`Consumer::config`]. Default: not known.
    pub config: Option<QueueConfig>,
}

impl ConsumerOptions {
    /// The defaults, for the queue named `queue`.
    pub fn new(queue: impl Into<String>) -> Self {
        Self {
            queue: queue.into(),
            prefetch: 0,
            wait: Duration::from_secs(20),
            max_lease: Duration::from_secs(3_600),
            settle_linger: Duration::from_millis(20),
            max_attempts: None,
            dead_letter: None,
            config: None,
        }
    }

    /// The defaults, changed as `options` say. The dead-letter producer stays to be set.
    pub fn from_queue_options(queue: impl Into<String>, options: &QueueOptions) -> Self {
        let default = Self::new(queue);
        Self {
            prefetch: options.prefetch.unwrap_or(default.prefetch),
            wait: options.wait.unwrap_or(default.wait),
            max_lease: options.max_lease.unwrap_or(default.max_lease),
            settle_linger: options.settle_linger.unwrap_or(default.settle_linger),
            max_attempts: options.max_attempts,
            ..default
        }
    }
}

/// Receives messages from one queue. Cloning is cheap; clones share everything.
///
/// The lease of every [`Delivery`] is kept alive for as long as it lives, and of every prefetched
/// message too.
#[derive(Clone)]
pub struct Consumer {
    shared: Arc<Shared>,
    pump: Option<Arc<pump::Pump>>,
}

/// What a consumer and its deliveries share. The tasks behind it end when it is dropped.
pub(crate) struct Shared {
    driver: Arc<dyn driver::Consumer>,
    options: ConsumerOptions,
    leases: Arc<lease::Registry>,
    settler: mpsc::UnboundedSender<settle::Command>,
    /// Settlements that go out without the settler, because they fill a request.
    settlements: TaskTracker,
    /// Bounds the settlement requests under way.
    slots: Arc<Semaphore>,
    closing: CancellationToken,
    tasks: TaskTracker,
    releases: releases::Releases,
    /// Whether several messages of an ordering key may come together, to be handed out in turn.
    has_turns: bool,
    /// Told when a message may be handed out whose turn it was not, or may not any more.
    turns: Notify,
    _keeper: DropGuard,
}

impl Consumer {
    /// The portable form of a driver's receiving half.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) when a limit on attempts is wanted and the queue
    /// does not count them; [`InvalidConfig`](ErrorKind::InvalidConfig) when there is a limit and
    /// no dead-letter queue, and outside a Tokio runtime.
    pub fn new(driver: Arc<dyn driver::Consumer>, options: ConsumerOptions) -> Result<Self> {
        let invalid = |text: &str| Error::new(ErrorKind::InvalidConfig, text);
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(invalid(
                "a consumer is made inside a Tokio runtime, and there is none",
            ));
        }
        if options.max_attempts.is_some() {
            if driver.capabilities().attempts == Attempts::Uncounted {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "max_attempts is set, and the queue {} does not count attempts; give it a \
                         dead-letter policy, or leave max_attempts out",
                        options.queue
                    ),
                ));
            }
            if options.dead_letter.is_none() {
                return Err(invalid(
                    "max_attempts is set without a dead-letter queue; add dead_letter=NAME",
                ));
            }
        }
        let keeper_stop = CancellationToken::new();
        let leases = Arc::new(lease::Registry::new());
        let tasks = TaskTracker::new();
        tasks.spawn(lease::keep(
            leases.clone(),
            driver.clone(),
            keeper_stop.clone(),
        ));
        let (settler, commands) = mpsc::unbounded_channel();
        let linger = if driver.capabilities().gather {
            options.settle_linger
        } else {
            Duration::ZERO
        };
        let slots = Arc::new(Semaphore::new(settle::REQUESTS));
        tasks.spawn(settle::run(driver.clone(), linger, slots.clone(), commands));
        let needs_pump = options.prefetch > 0 || !driver.capabilities().cancel_safe_receive;
        let has_turns = needs_pump && driver.capabilities().ordering;
        let shared = Arc::new(Shared {
            driver,
            options,
            leases,
            settler,
            settlements: TaskTracker::new(),
            slots,
            closing: CancellationToken::new(),
            tasks,
            releases: releases::Releases::default(),
            has_turns,
            turns: Notify::new(),
            _keeper: keeper_stop.drop_guard(),
        });
        let pump = needs_pump.then(|| Arc::new(pump::Pump::start(&shared)));
        Ok(Self { shared, pump })
    }

    /// What the queue can do.
    pub fn capabilities(&self) -> &Capabilities {
        self.shared.capabilities()
    }

    /// The name of the queue.
    pub fn queue(&self) -> &str {
        self.shared.queue_name()
    }

    /// Where the queue is and how it is used; `None` for a consumer that was made from a driver
    /// and not told.
    pub fn config(&self) -> Option<&QueueConfig> {
        self.shared.options.config.as_ref()
    }

    /// The limit on attempts, where there is one.
    pub fn max_attempts(&self) -> Option<u32> {
        self.shared.options.max_attempts
    }

    /// Gives back what was fetched ahead, and fetches nothing until somebody receives again. For
    /// callers that pause.
    pub fn release_prefetched(&self) {
        if let Some(pump) = &self.pump {
            pump.rest();
        }
    }

    /// The producer of the dead-letter queue, where there is one.
    pub fn dead_letter(&self) -> Option<&Producer> {
        self.shared.dead_letter()
    }

    /// The longest that a message is held in all.
    pub fn max_lease(&self) -> Duration {
        self.shared.max_hold()
    }

    /// Waits for the next message, for as long as it takes.
    ///
    /// # Errors
    ///
    /// What the queue reports; calling again after a retryable error is right. After
    /// [`close`](Self::close): [`Closed`](ErrorKind::Closed).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no message is lost or held up when the future is dropped.
    pub async fn receive(&self) -> Result<Delivery> {
        loop {
            let mut batch = self.receive_batch(1, self.shared.options.wait).await?;
            if let Some(delivery) = batch.pop() {
                return Ok(delivery);
            }
        }
    }

    /// Takes up to `max` messages (at least 1), and waits up to `wait` for the first of them. An
    /// empty list means that there was none.
    ///
    /// # Errors
    ///
    /// As [`receive`](Self::receive).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no message is lost or held up when the future is dropped.
    pub async fn receive_batch(&self, max: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let max = NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN);
        match &self.pump {
            Some(pump) => pump.receive(max, wait).await,
            None => self.shared.receive(max, wait).await,
        }
    }

    /// Acks many deliveries: the result at `i` is the fate of `deliveries[i]`.
    ///
    /// # Errors
    ///
    /// As [`Delivery::ack`], per delivery.
    ///
    /// # Cancel safety
    ///
    /// As [`Delivery::ack`].
    pub async fn ack_batch(
        &self,
        deliveries: Vec<Delivery>,
    ) -> Vec<Result<AckStatus, SettleError>> {
        let Some(first) = deliveries.first() else {
            return Vec::new();
        };
        let shared = LeaseRef::consumer(first.as_ref()).clone();
        let status = shared.ack_status();
        let releases = &shared.releases;
        if !shared.capabilities().gather {
            let conclude = |delivery: Delivery, result: Result<()>| match result {
                Ok(()) => {
                    releases.forget(&delivery.envelope().id);
                    Ok(status)
                }
                Err(error) => {
                    let is_held = error.kind() != ErrorKind::LeaseLost;
                    let delivery = is_held.then(|| Box::new(delivery));
                    Err(SettleError { error, delivery })
                }
            };
            let driver = &*shared.driver;
            return settle::directly(driver, deliveries, settle::Operation::Ack, conclude).await;
        }
        let (envelopes, leases): (Vec<_>, Vec<_>) =
            deliveries.into_iter().map(Delivery::into_parts).unzip();
        let results = settle::submit_batch(leases, settle::Operation::Ack).await;
        envelopes
            .into_iter()
            .zip(results)
            .map(|(envelope, result)| match result {
                Ok(()) => {
                    releases.forget(&envelope.id);
                    Ok(status)
                }
                Err((error, lease)) => Err(SettleError {
                    error,
                    delivery: lease.map(|lease| Box::new(Delivery::new(envelope, lease))),
                }),
            })
            .collect()
    }

    /// Stops receiving, releases what was fetched ahead, finishes the settlements that were begun,
    /// and closes the queue's receiving half for all clones. Closing twice is fine.
    ///
    /// Settle or drop the deliveries in hand before: what is settled later fails with
    /// [`Closed`](ErrorKind::Closed), and the message comes back when its lease runs out.
    ///
    /// A request to the queue that does not end within 2 s (a long poll cannot be called back) goes
    /// on in the background: what it brings is released, and then the receiving half is closed.
    ///
    /// # Errors
    ///
    /// As the backend reports them; the consumer is closed all the same.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the consumer is closed, but settlements may still be on their
    /// way.
    pub async fn close(&self) -> Result<()> {
        let shared = &self.shared;
        shared.closing.cancel();
        let stragglers = match &self.pump {
            Some(pump) => pump.stop().await,
            None => None,
        };
        settle::flush(shared).await;
        let Some(stragglers) = stragglers else {
            return shared.driver.close().await;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            stragglers.close();
            stragglers.wait().await;
            settle::flush(&shared).await;
            if let Err(error) = shared.driver.close().await {
                tracing::warn!(%error, queue = shared.queue_name(), "closing failed");
            }
        });
        Ok(())
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("queue", &self.shared.options.queue)
            .field("driver", &self.shared.driver)
            .finish()
    }
}

impl Shared {
    pub(crate) fn capabilities(&self) -> &Capabilities {
        self.driver.capabilities()
    }

    pub(crate) fn ack_status(&self) -> AckStatus {
        self.driver.capabilities().ack
    }

    pub(crate) fn queue_name(&self) -> &str {
        &self.options.queue
    }

    pub(crate) fn dead_letter(&self) -> Option<&Producer> {
        self.options.dead_letter.as_ref()
    }

    /// What this process gave back unhandled.
    pub(crate) fn releases(&self) -> &releases::Releases {
        &self.releases
    }

    fn max_hold(&self) -> Duration {
        self.options
            .max_lease
            .min(self.capabilities().lease.max_total())
    }

    fn lease_duration(&self) -> Option<Duration> {
        match &self.capabilities().lease {
            Lease::Extended { duration, .. } => Some(*duration),
            Lease::Managed { .. } => None,
        }
    }

    /// Receives by the caller's own future, for drivers whose `receive` may be dropped.
    async fn receive(self: &Arc<Self>, max: NonZeroUsize, wait: Duration) -> Result<Vec<Delivery>> {
        let begun = Instant::now();
        let mut left = wait;
        loop {
            if self.closing.is_cancelled() {
                return Err(closed("receive"));
            }
            let received = tokio::select! {
                biased;
                // Dropping the driver's receive is safe here; see `cancel_safe_receive`.
                received = self.call_receive(max, left) => received?,
                () = self.closing.cancelled() => return Err(closed("receive")),
            };
            let is_empty = received.is_empty();
            // In process, an answer does not wait for us.
            let deliveries = self.admit(received, None);
            // When all were beyond the limit on attempts, there is still nothing for the caller.
            if !deliveries.is_empty() || (is_empty && left <= self.capabilities().limits.wait) {
                return Ok(deliveries);
            }
            left = wait.saturating_sub(begun.elapsed());
        }
    }

    async fn call_receive(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>> {
        let limits = &self.capabilities().limits;
        let max = max.min(NonZeroUsize::new(limits.receive_batch).unwrap_or(NonZeroUsize::MIN));
        self.driver.receive(max, wait.min(limits.wait)).await
    }

    /// Turns what was received into deliveries with leases, which began at `latest` at the latest.
    /// What is beyond the limit on attempts goes to the dead-letter queue instead.
    fn admit(self: &Arc<Self>, received: Vec<Received>, latest: Option<Instant>) -> Vec<Delivery> {
        let deliveries = lease::register(self, received, latest);
        let Some(most) = self.options.max_attempts else {
            return deliveries;
        };
        let is_beyond = |d: &Delivery| d.attempt().is_some_and(|attempt| attempt > most);
        if !deliveries.iter().any(is_beyond) {
            return deliveries;
        }
        let (beyond, within): (Vec<_>, Vec<_>) = deliveries.into_iter().partition(is_beyond);
        for delivery in beyond {
            self.tasks.spawn(async move {
                let reason = format!(
                    "{} attempts were allowed, and none of them settled the message",
                    most
                );
                let id = delivery.envelope().id.clone();
                match delivery.dead_letter(FailureClass::AttemptsExhausted, reason).await {
                    Ok(_) => tracing::warn!(%id, "a message used up its attempts and was dead-lettered"),
                    Err(error) => tracing::error!(%id, %error, "a message that used up its attempts could not be dead-lettered; it stays in the queue"),
                }
            });
        }
        within
    }
}

/// Waits for `future` until `deadline`; `None` is no deadline.
async fn until<T>(deadline: Option<Instant>, future: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}
