//! A queue of a case.

use std::sync::Arc;

use towpath_core::{Admin, Capabilities, Consumer, Producer, Queue, QueueSpec, driver};

use super::Context;
use crate::CaseError;

/// A queue of a case, which is deleted at its end.
///
/// # Cancel safety
///
/// Any of its futures may be dropped; they open halves and change nothing.
#[derive(Clone, Debug)]
pub struct TestQueue {
    pub(super) queue: Queue,
    pub(super) spec: QueueSpec,
    pub(super) context: Context,
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
    /// As [`Registry::open_config`](towpath_core::Registry::open_config).
    pub fn with_option(&self, name: &str, value: impl Into<String>) -> Result<Self, CaseError> {
        let config = self.queue.config().clone().with_option(name, value);
        self.context.handle(config, self.spec.clone())
    }

    /// The same queue, used without the portable bounds.
    ///
    /// # Errors
    ///
    /// As [`Registry::open_config`](towpath_core::Registry::open_config).
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
