//! Opens queues that live in this process.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use towpath_core::{
    QueueConfig, Result,
    driver::{self, Backend},
};

use crate::{
    Faults,
    admin::MemoryAdmin,
    consumer::MemoryConsumer,
    producer::MemoryProducer,
    queues::Queues,
    settings::{Settings, Wanted, check_name},
};

/// The URL scheme.
pub(crate) const SCHEME: &str = "memory";

/// Queues in memory, opened by URLs such as `memory://orders?lease=30s&profile=sqs`.
///
/// Cloning is cheap; clones share their queues.
#[derive(Clone, Debug, Default)]
pub struct MemoryBackend {
    queues: Arc<Queues>,
}

impl MemoryBackend {
    /// A backend with queues of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// The backend whose queues are shared by name within the process.
    pub fn shared() -> Self {
        static SHARED: OnceLock<MemoryBackend> = OnceLock::new();
        SHARED.get_or_init(Self::new).clone()
    }

    /// A backend with queues of its own, whose queues have `faults` from `seed` unless their URL
    /// names others.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](towpath_core::ErrorKind::InvalidConfig) when a rate is not between 0 and 1.
    pub fn with_faults(faults: Faults, seed: u64) -> Result<Self> {
        faults.check()?;
        Ok(Self {
            queues: Arc::new(Queues::new(Some((faults, seed)))),
        })
    }

    fn wanted(config: &QueueConfig) -> Result<Wanted> {
        check_name(config.target())?;
        Wanted::read(config)
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn scheme(&self) -> &'static str {
        SCHEME
    }

    fn check(&self, config: &QueueConfig) -> Result<()> {
        Settings::new(&Self::wanted(config)?).map(drop)
    }

    async fn producer(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Producer>> {
        let shared = self.queues.open(config.target(), &Self::wanted(config)?)?;
        Ok(Arc::new(MemoryProducer::new(self.queues.clone(), shared)))
    }

    async fn consumer(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Consumer>> {
        let wanted = Self::wanted(config)?;
        let shared = self.queues.open(config.target(), &wanted)?;
        Ok(Arc::new(MemoryConsumer::new(
            self.queues.clone(),
            shared,
            &wanted,
        )))
    }

    async fn admin(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Admin>> {
        let wanted = Self::wanted(config)?;
        let name = config.target().to_owned();
        Ok(Arc::new(MemoryAdmin::new(
            self.queues.clone(),
            name,
            wanted,
        )))
    }

    fn dead_letter(&self, config: &QueueConfig, name: &str) -> Result<QueueConfig> {
        check_name(name).map_err(|error| config.bad_option("dead_letter", error.message()))?;
        let mut dead_letter = QueueConfig::parse(&format!("{SCHEME}://{name}"))?;
        if let Some(create) = config.option("create") {
            dead_letter = dead_letter.with_option("create", create);
        }
        Ok(dead_letter)
    }
}
