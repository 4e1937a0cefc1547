//! The administrating half with one bug.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use async_trait::async_trait;
use towpath_core::{
    Change, Depth, EnsureMode, Error, QueueConfig, QueueInfo, QueueSpec, Result,
    driver::{self, Backend},
};
use towpath_memory::MemoryBackend;

use crate::{
    backend::{State, lock},
    bug::Bug,
};

#[derive(Debug)]
pub(crate) struct MutantAdmin {
    pub(crate) bug: Bug,
    pub(crate) inner: Arc<dyn driver::Admin>,
    pub(crate) state: Arc<State>,
    pub(crate) memory: MemoryBackend,
    pub(crate) config: QueueConfig,
    pub(crate) dead_letter: Option<QueueConfig>,
}

#[async_trait]
impl driver::Admin for MutantAdmin {
    async fn ensure(&self, spec: &QueueSpec, mode: EnsureMode) -> Result<Vec<Change>> {
        let mut spec = spec.clone();
        let mut mode = mode;
        match self.bug {
            Bug::LeaseNeverEnds | Bug::LeaseEndsEarly => {
                *lock(&self.state.lease) = spec.lease;
                spec.lease = spec.lease.map(|lease| match self.bug {
                    Bug::LeaseEndsEarly => lease / 2,
                    _ => Duration::from_secs(86_400),
                });
            }
            Bug::RetentionIgnored => spec.retention = None,
            Bug::PlanCreates if mode == EnsureMode::Plan => {
                let changes = self.inner.ensure(&spec, mode).await?;
                self.inner.ensure(&spec, EnsureMode::Create).await?;
                return Ok(changes);
            }
            Bug::CreateOverwrites if mode == EnsureMode::Create => mode = EnsureMode::Apply,
            Bug::ApplyDoesNothing if mode == EnsureMode::Apply => mode = EnsureMode::Plan,
            _ => {}
        }
        let mut changes = self.inner.ensure(&spec, mode).await?;
        if self.bug == Bug::EnsureAlwaysChanges {
            changes.push(Change {
                setting: "colour".to_owned(),
                from: None,
                to: "blue".to_owned(),
            });
        }
        Ok(changes)
    }

    async fn inspect(&self) -> Result<QueueInfo> {
        let mut info = self.inner.inspect().await.map_err(|error| {
            if self.bug == Bug::ErrorsAreAnonymous {
                Error::new(error.kind(), "failed")
            } else {
                error
            }
        })?;
        match self.bug {
            Bug::LeaseNeverEnds | Bug::LeaseEndsEarly => {
                info.lease = lock(&self.state.lease).or(info.lease);
            }
            Bug::InspectInvents => info.lease = Some(Duration::from_secs(17)),
            Bug::InspectHidesPolicy => info.dead_letter = None,
            _ => {}
        }
        Ok(info)
    }

    async fn depth(&self) -> Result<Depth> {
        let mut depth = self.inner.depth().await?;
        match self.bug {
            Bug::DepthLies => depth.ready += 1,
            Bug::AgeMissing => depth.oldest_age = None,
            _ => {}
        }
        Ok(depth)
    }

    async fn purge(&self) -> Result<()> {
        match self.bug {
            Bug::PurgeLeavesOne => {
                let consumer = self.memory.consumer(&self.config).await?;
                let left = consumer.receive(NonZeroUsize::MIN, Duration::ZERO).await?;
                self.inner.purge().await?;
                let left: Vec<_> = left.into_iter().map(|one| one.envelope.message).collect();
                if !left.is_empty() {
                    self.memory.producer(&self.config).await?.send(&left).await;
                }
                Ok(())
            }
            Bug::PurgeDeletes => self.inner.delete().await,
            _ => self.inner.purge().await,
        }
    }

    async fn delete(&self) -> Result<()> {
        match self.bug {
            Bug::DeleteDoesNothing => Ok(()),
            Bug::DeleteTakesDeadLetters => {
                if let Some(dead_letter) = &self.dead_letter {
                    let admin = self.memory.admin(dead_letter).await?;
                    admin.delete().await?;
                }
                self.inner.delete().await
            }
            _ => self.inner.delete().await,
        }
    }
}
