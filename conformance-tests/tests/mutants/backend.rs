//! The in-memory backend with one bug.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::Notify;
use towpath_conformance::{Harness, Timing};
use towpath_core::{
    Attempts, Capabilities, Error, ErrorKind, Lease, Precision, QueueConfig, Registry, Result,
    driver::{self, Backend, Receipt, Received},
};
use towpath_memory::MemoryBackend;

use crate::{admin::MutantAdmin, bug::Bug, consumer::MutantConsumer, producer::MutantProducer};

/// What the mutants of one kind share.
#[derive(Debug, Default)]
pub(crate) struct World {
    queues: Mutex<HashMap<String, Arc<State>>>,
}

/// What the bugs remember about one queue.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) sent: AtomicUsize,
    pub(crate) held: AtomicUsize,
    pub(crate) is_cut: AtomicBool,
    pub(crate) cut: Notify,
    /// The lease that was asked for.
    pub(crate) lease: Mutex<Option<Duration>>,
    /// The latest receipt of each message.
    pub(crate) latest: Mutex<HashMap<String, Receipt>>,
    /// Handed out, and to be handed out again.
    pub(crate) again: Mutex<Vec<Received>>,
    pub(crate) dedup_ids: Mutex<Vec<String>>,
}

impl World {
    fn state(&self, name: &str) -> Arc<State> {
        lock(&self.queues)
            .entry(name.to_owned())
            .or_default()
            .clone()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

#[derive(Clone, Debug)]
pub(crate) struct Mutant {
    bug: Bug,
    profile: &'static str,
    timing: Timing,
    memory: MemoryBackend,
    world: Arc<World>,
}

impl Mutant {
    pub(crate) fn new(bug: Bug, profile: &'static str) -> Self {
        Self {
            bug,
            profile,
            timing: Timing::paused(),
            memory: MemoryBackend::new(),
            world: Arc::default(),
        }
    }

    fn state(&self, config: &QueueConfig) -> Arc<State> {
        self.world.state(config.target())
    }

    /// The configuration for the real backend, or the error of an endpoint that does not work.
    fn inner(&self, config: &QueueConfig) -> Result<QueueConfig> {
        let error = |kind, text: &str| Error::new(kind, text).with_backend("memory");
        match config.option("rig") {
            Some("down") if self.bug == Bug::UnreachableIsFinal => {
                return Err(error(ErrorKind::Unknown, "nobody answers"));
            }
            Some("down") => return Err(error(ErrorKind::Unavailable, "nobody answers")),
            Some("denied") if self.bug == Bug::DeniedIsRetryable => {
                return Err(error(ErrorKind::Unavailable, "refused").with_retryable(true));
            }
            Some("denied") => return Err(error(ErrorKind::Unauthenticated, "refused")),
            _ => {}
        }
        let config = config.clone().without_option("rig");
        Ok(if self.bug == Bug::MissingIsCreated {
            config.without_option("create")
        } else {
            config
        })
    }

    fn capabilities(&self, inner: &Capabilities, state: &State) -> Capabilities {
        let mut claims = inner.clone();
        let limits = &mut claims.limits;
        match self.bug {
            Bug::OrderingOverclaimed => claims.ordering = true,
            Bug::PolicyOverclaimed => claims.broker_dead_letter = true,
            Bug::SizeOverclaimed => limits.message_bytes *= 2,
            Bug::AttributesOverclaimed => limits.attributes *= 2,
            Bug::BatchOverclaimed => limits.send_batch *= 2,
            Bug::DelayOverclaimed => limits.delay *= 2,
            Bug::NackDelayOverclaimed => limits.nack_delay *= 2,
            Bug::AttemptsUnderclaimed => claims.attempts = Attempts::Uncounted,
            Bug::DepthUnderclaimed => claims.depth = Precision::Unknown,
            _ => {}
        }
        if let Lease::Extended { duration, .. } = &mut claims.lease {
            match self.bug {
                Bug::LeaseOverclaimed => *duration *= 2,
                Bug::LeaseEndsEarly | Bug::LeaseNeverEnds => {
                    *duration = lock(&state.lease).unwrap_or(*duration);
                }
                _ => {}
            }
        }
        claims
    }
}

#[async_trait]
impl Backend for Mutant {
    fn scheme(&self) -> &'static str {
        self.memory.scheme()
    }

    fn check(&self, config: &QueueConfig) -> Result<()> {
        self.memory.check(&config.clone().without_option("rig"))
    }

    async fn producer(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Producer>> {
        let config = self.inner(config)?;
        let inner = self.memory.producer(&config).await?;
        let state = self.state(&config);
        Ok(Arc::new(MutantProducer {
            bug: self.bug,
            claims: self.capabilities(inner.capabilities(), &state),
            admin: self.memory.admin(&config).await?,
            inner,
            state,
        }))
    }

    async fn consumer(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Consumer>> {
        let config = self.inner(config)?;
        let inner = self.memory.consumer(&config).await?;
        let state = self.state(&config);
        Ok(Arc::new(MutantConsumer {
            bug: self.bug,
            claims: self.capabilities(inner.capabilities(), &state),
            producer: self.memory.producer(&config).await?,
            inner,
            state,
            is_closed: AtomicBool::new(false),
            buffered: Mutex::default(),
            held: Mutex::default(),
        }))
    }

    async fn admin(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Admin>> {
        let config = self.inner(config)?;
        let dead_letter = match config.option("dead_letter") {
            Some(name) => Some(self.memory.dead_letter(&config, name)?),
            None => None,
        };
        Ok(Arc::new(MutantAdmin {
            bug: self.bug,
            inner: self.memory.admin(&config).await?,
            state: self.state(&config),
            memory: self.memory.clone(),
            config,
            dead_letter,
        }))
    }

    fn dead_letter(&self, config: &QueueConfig, name: &str) -> Result<QueueConfig> {
        self.memory.dead_letter(config, name)
    }
}

#[async_trait]
impl Harness for Mutant {
    fn name(&self) -> &str {
        "mutant"
    }

    fn timing(&self) -> &Timing {
        &self.timing
    }

    fn registry(&self) -> Registry {
        Registry::new().with(self.clone())
    }

    fn queue(&self, name: &str) -> Result<QueueConfig> {
        QueueConfig::parse(&format!("memory://{name}?profile={}", self.profile))
    }

    fn missing(&self, name: &str) -> Result<QueueConfig> {
        Ok(self.queue(name)?.with_option("create", "false"))
    }

    fn unreachable(&self, name: &str) -> Option<QueueConfig> {
        Some(self.queue(name).ok()?.with_option("rig", "down"))
    }

    fn denied(&self, name: &str) -> Option<QueueConfig> {
        Some(self.queue(name).ok()?.with_option("rig", "denied"))
    }

    async fn cuttable(&self, queue: &QueueConfig) -> Result<QueueConfig> {
        Ok(queue.clone())
    }

    async fn cut(&self, queue: &QueueConfig) -> Result<()> {
        let state = self.state(queue);
        state
            .is_cut
            .store(true, std::sync::atomic::Ordering::Relaxed);
        state.cut.notify_waiters();
        Ok(())
    }
}
