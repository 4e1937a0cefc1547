//! What a case works with: queues of its own, and ways to wait.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use towpath_core::{
    Delivery, EnsureMode, Envelope, ErrorKind, Message, QueueConfig, QueueSpec, Registry,
};

use crate::{Case, CaseError, Harness, Need, Timing};
pub use queue::TestQueue;

mod queue;
mod waits;

/// How often the broker's own policy delivers before it moves a message, where a case waits for it.
pub(crate) const BROKER_DELIVERIES: u32 = 5;
/// The broker's own limit where consumers move messages before it does.
const BACKSTOP_DELIVERIES: u32 = 50;
/// The lease of queues on which no lease is to run out.
const LONG_LEASE: Duration = Duration::from_secs(120);

/// What a case works with: queues of its own, and ways to wait. Cheap to clone.
///
/// # Cancel safety
///
/// Any of its futures may be dropped. A queue that was being created is deleted at the end of the
/// case, and what was being received comes back: by the driver itself when its lease runs out.
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
