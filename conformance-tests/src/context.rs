//! What a case works with: queues of its own, and ways to wait.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, timeout_at};
use towpath_core::{
    Admin, Capabilities, Consumer, Delivery, EnsureMode, Envelope, ErrorKind, Message, Producer,
    Queue, QueueConfig, QueueSpec, Registry,
    driver::{self, Received},
};

use crate::{Case, CaseError, Harness, Need, Timing};

/// How often the broker's own policy delivers before it moves a message, where a case waits for it.
pub(crate) const BROKER_DELIVERIES: u32 = 5;
/// The broker's own limit where consumers move messages before it does.
const BACKSTOP_DELIVERIES: u32 = 50;
/// The lease of queues on which no lease is to run out.
const LONG_LEASE: Duration = Duration::from_secs(120);

/// What a case works with: queues of its own, and ways to wait. Cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    harness: Arc<dyn Harness>,
    registry: Registry,
    case: Case,
    created: Mutex<Vec<QueueConfig>>,
}

impl Context {
    pub(crate) fn new(harness: Arc<dyn Harness>, case: Case) -> Self {
        Self(Arc::new(Inner {
            registry: harness.registry(),
            harness,
            case,
            created: Mutex::default(),
        }))
    }

    /// The harness.
    pub fn harness(&self) -> &Arc<dyn Harness> {
        &self.0.harness
    }

    /// How time passes.
    pub fn timing(&self) -> &Timing {
        self.0.harness.timing()
    }

    /// The shortest lease, which queues of [`short_queue`](Self::short_queue) have.
    pub fn lease(&self) -> Duration {
        self.timing().lease
    }

    /// A short delay.
    pub fn delay(&self) -> Duration {
        self.timing().delay
    }

    /// How late "at once" may be.
    pub fn slack(&self) -> Duration {
        self.timing().slack
    }

    /// How long to wait for what must come, before the case fails.
    pub fn patience(&self) -> Duration {
        self.timing().slack * 10 + self.lease() / 2
    }

    fn needs(&self, need: Need) -> bool {
        self.0.case.needs.contains(&need)
    }

    /// A name that no queue has. It says when it was made, for clean-ups.
    pub fn fresh_name(&self) -> String {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let chance = fastrand::u32(..);
        format!("{}-{now:x}-{chance:08x}", self.0.harness.prefix())
    }

    /// A new queue with what the case needs, and a lease that is long enough never to run out.
    ///
    /// # Errors
    ///
    /// [`CaseError::Ignored`] when the backend cannot do what the case needs.
    pub async fn queue(&self) -> Result<TestQueue, CaseError> {
        self.queue_with_lease(LONG_LEASE.max(self.lease())).await
    }

    /// A new queue with what the case needs, and the shortest lease.
    ///
    /// # Errors
    ///
    /// As [`queue`](Self::queue).
    pub async fn short_queue(&self) -> Result<TestQueue, CaseError> {
        self.queue_with_lease(self.lease()).await
    }

    /// A new queue with what the case needs, and this lease.
    ///
    /// # Errors
    ///
    /// As [`queue`](Self::queue).
    pub async fn queue_with_lease(&self, lease: Duration) -> Result<TestQueue, CaseError> {
        self.check_harness()?;
        let base = self.fresh_name();
        let suffix = self.0.harness.suffix();
        let name = format!("{base}{suffix}");
        let mut spec = self.0.harness.spec().with_lease(lease);
        spec.ordered |= self.needs(Need::Ordering);
        spec.exactly_once |= self.needs(Need::ConfirmedAck);
        let mut config = self.0.harness.queue(&name)?;
        let needs_broker = self.needs(Need::BrokerDeadLetter);
        // Attempts are counted everywhere where there is a policy, and not everywhere without.
        let with_dead_letter =
            needs_broker || self.needs(Need::DeadLetter) || self.needs(Need::Attempts);
        if with_dead_letter {
            let dead_letter = format!("{base}-dlq{suffix}");
            let most = if needs_broker {
                BROKER_DELIVERIES
            } else {
                BACKSTOP_DELIVERIES
            };
            config = config.with_option("dead_letter", &dead_letter);
            spec = spec.with_dead_letter(dead_letter, most);
        }
        let queue = self.handle(config, spec)?;
        self.create(&queue, with_dead_letter && !needs_broker)
            .await?;
        self.check_needs(&queue).await?;
        Ok(queue)
    }

    async fn create(&self, queue: &TestQueue, may_lack_policy: bool) -> Result<(), CaseError> {
        let dead_letter = queue.queue.dead_letter()?;
        self.note(queue.queue.config());
        if let Some(dead_letter) = &dead_letter {
            self.note(dead_letter.config());
        }
        let admin = queue.admin().await?;
        let asked = self.needs(Need::Ordering)
            || self.needs(Need::ConfirmedAck)
            || self.needs(Need::BrokerDeadLetter);
        let mut created = admin.ensure(&queue.spec, EnsureMode::Create).await;
        if may_lack_policy
            && created
                .as_ref()
                .is_err_and(|error| error.kind() == ErrorKind::Unsupported)
            && let Some(dead_letter) = dead_letter
        {
            // A broker without a policy: two queues, and consumers that move messages.
            let mut spec = queue.spec.clone();
            spec.dead_letter = None;
            created = admin.ensure(&spec, EnsureMode::Create).await;
            if created.is_ok() {
                let admin = dead_letter.admin().await?;
                created = admin.ensure(&spec, EnsureMode::Create).await;
            }
        }
        match created {
            Ok(_) => Ok(()),
            Err(error)
                if asked
                    && matches!(
                        error.kind(),
                        ErrorKind::Unsupported | ErrorKind::InvalidConfig
                    ) =>
            {
                Err(CaseError::ignored(format!(
                    "there is no such queue: {}",
                    error.message()
                )))
            }
            Err(error) => Err(CaseError::failed(format!(
                "the queue could not be created: {error}"
            ))),
        }
    }

    fn check_harness(&self) -> Result<(), CaseError> {
        if self.needs(Need::PausedClock) && !self.timing().is_paused {
            return Err(CaseError::ignored("it would take too long in real time"));
        }
        Ok(())
    }

    /// What was asked for when the queue was created must hold; what was not may be missing.
    async fn check_needs(&self, queue: &TestQueue) -> Result<(), CaseError> {
        if self.0.case.needs.is_empty() {
            return Ok(());
        }
        let driver = queue.driver_consumer().await?;
        let capabilities = driver.capabilities();
        for need in self.0.case.needs {
            let Some(what) = need.missing(capabilities) else {
                continue;
            };
            let was_asked = matches!(
                need,
                Need::Ordering | Need::BrokerDeadLetter | Need::ConfirmedAck
            );
            return Err(if was_asked {
                CaseError::failed(format!("the queue was created with {need}, but {what}"))
            } else {
                CaseError::ignored(what)
            });
        }
        driver.close().await?;
        Ok(())
    }

    fn note(&self, config: &QueueConfig) {
        self.0.harness.creating(config);
        self.0
            .created
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(config.clone());
    }

    /// A handle on a queue that was not created, and is deleted at the end when it exists then.
    ///
    /// # Errors
    ///
    /// As [`Registry::open_config`].
    pub fn handle(&self, config: QueueConfig, spec: QueueSpec) -> Result<TestQueue, CaseError> {
        Ok(TestQueue {
            queue: self.0.registry.open_config(config)?,
            spec,
            context: self.clone(),
        })
    }

    /// A handle on a new queue that is still to be created.
    ///
    /// # Errors
    ///
    /// As [`handle`](Self::handle).
    pub fn absent(&self) -> Result<TestQueue, CaseError> {
        let name = format!("{}{}", self.fresh_name(), self.0.harness.suffix());
        let spec = self
            .0
            .harness
            .spec()
            .with_lease(LONG_LEASE.max(self.lease()));
        let config = self.0.harness.missing(&name)?;
        self.note(&config);
        self.handle(config, spec)
    }

    /// The same queue by a registry of its own, as another process would open it.
    ///
    /// # Errors
    ///
    /// As [`handle`](Self::handle).
    pub fn reopen(&self, queue: &TestQueue) -> Result<TestQueue, CaseError> {
        let registry = self.0.harness.registry();
        Ok(TestQueue {
            queue: registry.open_config(queue.queue.config().clone())?,
            spec: queue.spec.clone(),
            context: self.clone(),
        })
    }

    /// The next message; it must be there at once, or come soon.
    ///
    /// # Errors
    ///
    /// [`CaseError::Failed`] when none comes.
    pub async fn receive(&self, consumer: &Consumer) -> Result<Delivery, CaseError> {
        self.receive_within(consumer, self.patience()).await
    }

    /// The next message, which must come within `limit`.
    ///
    /// # Errors
    ///
    /// [`CaseError::Failed`] when none comes.
    pub async fn receive_within(
        &self,
        consumer: &Consumer,
        limit: Duration,
    ) -> Result<Delivery, CaseError> {
        match timeout_at(Instant::now() + limit, consumer.receive()).await {
            Ok(delivery) => Ok(delivery?),
            Err(_) => Err(CaseError::failed(format!(
                "no message came within {}",
                humantime::format_duration(limit)
            ))),
        }
    }

    /// Takes `count` messages and keeps all of them.
    ///
    /// # Errors
    ///
    /// [`CaseError::Failed`] when they do not come.
    pub async fn receive_many(
        &self,
        consumer: &Consumer,
        count: usize,
    ) -> Result<Vec<Delivery>, CaseError> {
        let deadline = Instant::now() + self.patience();
        let mut deliveries: Vec<Delivery> = Vec::with_capacity(count);
        while deliveries.len() < count {
            let missing = count - deliveries.len();
            let left = deadline.saturating_duration_since(Instant::now());
            let received = match timeout_at(
                deadline + self.slack(),
                consumer.receive_batch(missing, left),
            )
            .await
            {
                Ok(received) => received?,
                Err(_) => Vec::new(),
            };
            if received.is_empty() && Instant::now() >= deadline {
                return Err(CaseError::failed(format!(
                    "{} of {count} messages came within {}",
                    deliveries.len(),
                    humantime::format_duration(self.patience())
                )));
            }
            deliveries.extend(received);
        }
        Ok(deliveries)
    }

    /// Nothing may be delivered for `time`.
    ///
    /// # Errors
    ///
    /// [`CaseError::Failed`] when something is, with `why` it must not.
    pub async fn nothing(
        &self,
        consumer: &Consumer,
        time: Duration,
        why: &str,
    ) -> Result<(), CaseError> {
        let begun = Instant::now();
        let deadline = begun + time;
        while Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            let received =
                match timeout_at(deadline + self.slack(), consumer.receive_batch(1, left)).await {
                    Ok(received) => received?,
                    Err(_) => break,
                };
            if let Some(delivery) = received.first() {
                return Err(CaseError::failed(format!(
                    "{} was delivered after {:?} (attempt {:?}), but {why}",
                    shown(delivery.envelope()),
                    begun.elapsed(),
                    delivery.attempt(),
                )));
            }
        }
        Ok(())
    }

    /// The next message by the driver itself, whose lease nobody keeps alive.
    ///
    /// # Errors
    ///
    /// [`CaseError::Failed`] when none comes.
    pub async fn receive_raw(&self, driver: &dyn driver::Consumer) -> Result<Received, CaseError> {
        let mut received = self.receive_raw_many(driver, 1).await?;
        received
            .pop()
            .ok_or_else(|| CaseError::failed("the driver returned more than was asked for"))
    }

    /// Takes `count` messages by the driver itself.
    ///
    /// # Errors
    ///
    /// [`CaseError::Failed`] when they do not come.
    pub async fn receive_raw_many(
        &self,
        driver: &dyn driver::Consumer,
        count: usize,
    ) -> Result<Vec<Received>, CaseError> {
        let limits = &driver.capabilities().limits;
        let deadline = Instant::now() + self.patience();
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let missing = (count - all.len()).min(limits.receive_batch);
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(CaseError::failed(format!(
                    "{} of {count} messages came within {}",
                    all.len(),
                    humantime::format_duration(self.patience())
                )));
            }
            // To its end, because dropping a driver's receive may strand messages.
            let max = NonZeroUsize::new(missing).unwrap_or(NonZeroUsize::MIN);
            all.extend(driver.receive(max, left.min(limits.wait)).await?);
        }
        Ok(all)
    }

    /// Deletes what was created.
    pub(crate) async fn clean_up(&self) {
        let created: Vec<_> = {
            let mut created = self
                .0
                .created
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            created.drain(..).collect()
        };
        for config in created {
            let deleted = async {
                let admin = self.0.registry.open_config(config.clone())?.admin().await?;
                admin.delete().await
            };
            match deleted.await {
                Ok(()) => self.0.harness.deleted(&config),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.0.harness.deleted(&config);
                }
                // It stays in the harness's notes, for a later clean-up.
                Err(_) => {}
            }
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("case", &self.0.case.name)
            .field("harness", &self.0.harness)
            .finish()
    }
}

/// A queue of a case, which is deleted at its end.
#[derive(Clone, Debug)]
pub struct TestQueue {
    queue: Queue,
    spec: QueueSpec,
    context: Context,
}

impl TestQueue {
    /// The handle.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// What it was created with.
    pub fn spec(&self) -> &QueueSpec {
        &self.spec
    }

    /// The same queue, used with one more option of the URL.
    ///
    /// # Errors
    ///
    /// As [`Registry::open_config`].
    pub fn with_option(&self, name: &str, value: impl Into<String>) -> Result<Self, CaseError> {
        let config = self.queue.config().clone().with_option(name, value);
        self.context.handle(config, self.spec.clone())
    }

    /// The same queue, used without the portable bounds.
    ///
    /// # Errors
    ///
    /// As [`Registry::open_config`].
    pub fn native(&self) -> Result<Self, CaseError> {
        self.with_option("validation", "native")
    }

    /// The sending half.
    ///
    /// # Errors
    ///
    /// As [`Queue::producer`].
    pub async fn producer(&self) -> Result<Producer, CaseError> {
        Ok(self.queue.producer().await?)
    }

    /// The receiving half.
    ///
    /// # Errors
    ///
    /// As [`Queue::consumer`].
    pub async fn consumer(&self) -> Result<Consumer, CaseError> {
        Ok(self.queue.consumer().await?)
    }

    /// Both halves.
    ///
    /// # Errors
    ///
    /// As [`Queue::producer`] and [`Queue::consumer`].
    pub async fn halves(&self) -> Result<(Producer, Consumer), CaseError> {
        Ok((self.producer().await?, self.consumer().await?))
    }

    /// The administrating half.
    ///
    /// # Errors
    ///
    /// As [`Queue::admin`].
    pub async fn admin(&self) -> Result<Admin, CaseError> {
        Ok(self.queue.admin().await?)
    }

    /// The driver's sending half.
    ///
    /// # Errors
    ///
    /// As [`driver::Backend::producer`].
    pub async fn driver_producer(&self) -> Result<Arc<dyn driver::Producer>, CaseError> {
        Ok(self.queue.backend().producer(self.queue.config()).await?)
    }

    /// The driver's receiving half.
    ///
    /// # Errors
    ///
    /// As [`driver::Backend::consumer`].
    pub async fn driver_consumer(&self) -> Result<Arc<dyn driver::Consumer>, CaseError> {
        Ok(self.queue.backend().consumer(self.queue.config()).await?)
    }

    /// What the queue can do, as its receiving half says.
    ///
    /// # Errors
    ///
    /// As [`driver::Backend::consumer`].
    pub async fn capabilities(&self) -> Result<Capabilities, CaseError> {
        let driver = self.driver_consumer().await?;
        let capabilities = driver.capabilities().clone();
        driver.close().await?;
        Ok(capabilities)
    }

    /// The dead-letter queue.
    ///
    /// # Errors
    ///
    /// [`CaseError::Failed`] when the case did not ask for one.
    pub fn dead_letter(&self) -> Result<Self, CaseError> {
        let queue = self.queue.dead_letter()?.ok_or_else(|| {
            CaseError::failed("the case asks for a dead-letter queue and does not say so")
        })?;
        Ok(Self {
            queue,
            spec: QueueSpec::new(),
            context: self.context.clone(),
        })
    }
}

/// A message without its body, for error messages.
pub(crate) fn shown(envelope: &Envelope) -> String {
    let body = envelope.message.body();
    match std::str::from_utf8(body) {
        Ok(text) if text.len() <= 40 => format!("{text:?}"),
        _ => format!("a message of {} bytes", body.len()),
    }
}

/// The body as text.
pub(crate) fn text(delivery: &Delivery) -> String {
    String::from_utf8_lossy(delivery.body()).into_owned()
}

/// `count` messages with bodies `PREFIX-0`, `PREFIX-1`, ...
pub(crate) fn numbered(prefix: &str, count: usize) -> Vec<Message> {
    (0..count)
        .map(|i| Message::new(format!("{prefix}-{i}")))
        .collect()
}
