//! From a URL to a queue.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    Admin, Consumer, ConsumerOptions, Error, ErrorKind, Producer, ProducerOptions, QueueConfig,
    QueueOptions, Result, config::nearest, driver::Backend,
};

/// The backends that are there, by URL scheme.
///
/// The facade's `Registry::default()` has those that were compiled in; a backend of your own is
/// added with [`with`](Self::with).
#[derive(Clone, Default)]
pub struct Registry(Arc<BTreeMap<&'static str, Arc<dyn Backend>>>);

impl Registry {
    /// No backends.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a backend, and replaces the one that had its scheme.
    #[must_use]
    pub fn with(mut self, backend: impl Backend) -> Self {
        Arc::make_mut(&mut self.0).insert(backend.scheme(), Arc::new(backend));
        self
    }

    /// The schemes, sorted.
    pub fn schemes(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// A handle on the queue at `url`; no I/O yet.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) for a URL that names no queue, a scheme that is
    /// not registered, an unknown option or a bad value; the message says what would be right.
    pub fn open(&self, url: &str) -> Result<Queue> {
        self.open_config(QueueConfig::parse(url)?)
    }

    /// A handle on the queue of `config`; no I/O yet.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_config(&self, config: QueueConfig) -> Result<Queue> {
        let backend = self.backend(&config)?;
        backend.check(&config)?;
        let options = config.queue_options()?;
        let queue = Queue {
            registry: self.clone(),
            backend,
            config,
            options,
        };
        if let Some(dead_letter) = queue.dead_letter_config()? {
            self.backend(&dead_letter)?.check(&dead_letter)?;
        }
        Ok(queue)
    }

    fn backend(&self, config: &QueueConfig) -> Result<Arc<dyn Backend>> {
        self.0.get(config.scheme()).cloned().ok_or_else(|| {
            let schemes: Vec<_> = self.schemes().collect();
            let hint = nearest(config.scheme(), &schemes)
                .map(|scheme| format!("; did you mean {scheme:?}?"))
                .unwrap_or_default();
            Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "scheme {:?} of {config} is not registered{hint} (available: {}); backends are compiled in by the features of the \
                     crate towpath",
                    config.scheme(),
                    if schemes.is_empty() {
                        "none".to_owned()
                    } else {
                        schemes.join(", ")
                    },
                ),
            )
        })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.schemes()).finish()
    }
}

/// A handle on one queue, from which its halves are opened.
#[derive(Clone, Debug)]
pub struct Queue {
    registry: Registry,
    backend: Arc<dyn Backend>,
    config: QueueConfig,
    options: QueueOptions,
}

impl Queue {
    /// Where the queue is and how it is used.
    pub fn config(&self) -> &QueueConfig {
        &self.config
    }

    /// The options that every backend understands.
    pub fn options(&self) -> &QueueOptions {
        &self.options
    }

    /// The backend that opens it, for tests and tools that work with the driver itself.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Opens the sending half.
    ///
    /// # Errors
    ///
    /// As the backend reports them, for instance [`NotFound`](ErrorKind::NotFound).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn producer(&self) -> Result<Producer> {
        let driver = self.backend.producer(&self.config).await?;
        Ok(Producer::new(driver, self.producer_options()))
    }

    fn producer_options(&self) -> ProducerOptions {
        let mut options = ProducerOptions::from(&self.options);
        options.config = Some(self.config.clone());
        options
    }

    /// Opens the receiving half, and the sending half of its dead-letter queue.
    ///
    /// # Errors
    ///
    /// As the backend reports them, for instance [`NotFound`](ErrorKind::NotFound), and as
    /// [`Consumer::new`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn consumer(&self) -> Result<Consumer> {
        let driver = self.backend.consumer(&self.config).await?;
        let mut options = ConsumerOptions::from_queue_options(self.config.target(), &self.options);
        options.config = Some(self.config.clone());
        if let Some(queue) = self.dead_letter()? {
            // Validated when it was sent first, and a dead letter must never be refused.
            let mut sending = queue.producer_options();
            sending.validation = crate::Validation::Native;
            let driver = queue.backend.producer(&queue.config).await?;
            options.dead_letter = Some(Producer::new(driver, sending));
        }
        Consumer::new(driver, options)
    }

    /// Opens the administrating half. The queue need not exist yet.
    ///
    /// # Errors
    ///
    /// As the backend reports them.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn admin(&self) -> Result<Admin> {
        Ok(Admin::new(self.backend.admin(&self.config).await?))
    }

    /// A handle on the dead-letter queue, where one is configured.
    ///
    /// # Errors
    ///
    /// As [`Registry::open_config`].
    pub fn dead_letter(&self) -> Result<Option<Self>> {
        self.dead_letter_config()?
            .map(|config| self.registry.open_config(config))
            .transpose()
    }

    fn dead_letter_config(&self) -> Result<Option<QueueConfig>> {
        let Some(name) = &self.options.dead_letter else {
            return Ok(None);
        };
        if name.contains("://") {
            return QueueConfig::parse(name).map(Some);
        }
        self.backend.dead_letter(&self.config, name).map(Some)
    }
}
