//! The in-memory driver with acks that hang or fail on demand.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::watch;
use towpath_core::{
    Capabilities, Consumer, ConsumerOptions, Error, Queue, Result,
    driver::{self, Backend, Receipt, Received},
};

use towpath_memory::MemoryBackend;

use crate::support::Setup;

#[derive(Clone, Debug)]
pub(crate) struct StubbornDriver {
    inner: Arc<dyn driver::Consumer>,
    pub(crate) acks: Arc<Acks>,
    options: ConsumerOptions,
    /// Given to all messages, as if a queue handed out several of one key at once.
    ordering_key: Option<&'static str>,
}

/// What happens with acks.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    is_closed: watch::Sender<bool>,
    waiting: AtomicUsize,
    failure: Mutex<Option<Error>>,
    forgotten: AtomicUsize,
}

impl Acks {
    /// Acks wait until the gate is open again.
    pub(crate) fn close_gate(&self) {
        self.is_closed.send_replace(true);
    }

    pub(crate) fn open_gate(&self) {
        self.is_closed.send_replace(false);
    }

    /// How many acks wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// So many calls are answered with success, and their messages come again.
    pub(crate) fn forget_next(&self, calls: usize) {
        self.forgotten.store(calls, Ordering::SeqCst);
    }

    /// Acks fail with this, or succeed again.
    pub(crate) fn fail(&self, error: Option<Error>) {
        *self.failure.lock().unwrap() = error;
    }
}

impl StubbornDriver {
    pub(crate) async fn new(setup: &Setup) -> Self {
        Self::of(&setup.backend, &setup.queue).await
    }

    pub(crate) async fn of(backend: &MemoryBackend, queue: &Queue) -> Self {
        let name = queue.config().target();
        Self {
            inner: backend.consumer(queue.config()).await.unwrap(),
            acks: Arc::default(),
            options: ConsumerOptions::from_queue_options(name, queue.options()),
            ordering_key: None,
        }
    }

    pub(crate) fn with_ordering_key(mut self, key: &'static str) -> Self {
        self.ordering_key = Some(key);
        self
    }

    pub(crate) fn consumer(&self) -> Consumer {
        Consumer::new(Arc::new(self.clone()), self.options.clone()).unwrap()
    }
}

#[async_trait]
impl driver::Consumer for StubbornDriver {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    async fn receive(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>> {
        let mut batch = self.inner.receive(max, wait).await?;
        if let Some(key) = self.ordering_key {
            for received in &mut batch {
                let message = &mut received.envelope.message;
                *message = message.clone().with_ordering_key(key);
            }
        }
        Ok(batch)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Result<()>> {
        self.acks.waiting.fetch_add(1, Ordering::SeqCst);
        let mut gate = self.acks.is_closed.subscribe();
        gate.wait_for(|is_closed| !is_closed).await.unwrap();
        self.acks.waiting.fetch_sub(1, Ordering::SeqCst);
        let is_forgotten = self
            .acks
            .forgotten
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            })
            .is_ok();
        if is_forgotten {
            return self.inner.nack(receipts, Duration::ZERO).await;
        }
        let failure = self.acks.failure.lock().unwrap().clone();
        match failure {
            Some(error) => vec![Err(error); receipts.len()],
            None => self.inner.ack(receipts).await,
        }
    }

    async fn nack(&self, receipts: &[Receipt], delay: Duration) -> Vec<Result<()>> {
        self.inner.nack(receipts, delay).await
    }

    async fn extend(&self, receipts: &[Receipt], lease: Duration) -> Vec<Result<()>> {
        self.inner.extend(receipts, lease).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
