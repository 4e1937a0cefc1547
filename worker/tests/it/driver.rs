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
    Capabilities, Consumer, ConsumerOptions, Error, Result,
    driver::{self, Backend, Receipt, Received},
};

use crate::support::Setup;

#[derive(Clone, Debug)]
pub(crate) struct StubbornDriver {
    inner: Arc<dyn driver::Consumer>,
    pub(crate) acks: Arc<Acks>,
    options: ConsumerOptions,
}

/// What happens with acks.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    is_closed: watch::Sender<bool>,
    waiting: AtomicUsize,
    failure: Mutex<Option<Error>>,
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

    /// Acks fail with this, or succeed again.
    pub(crate) fn fail(&self, error: Option<Error>) {
        *self.failure.lock().unwrap() = error;
    }
}

impl StubbornDriver {
    pub(crate) async fn new(setup: &Setup) -> Self {
        let config = setup.queue.config();
        Self {
            inner: setup.backend.consumer(config).await.unwrap(),
            acks: Arc::default(),
            options: ConsumerOptions::from_queue_options("orders", setup.queue.options()),
        }
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
        self.inner.receive(max, wait).await
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Result<()>> {
        self.acks.waiting.fetch_add(1, Ordering::SeqCst);
        let mut gate = self.acks.is_closed.subscribe();
        gate.wait_for(|is_closed| !is_closed).await.unwrap();
        self.acks.waiting.fetch_sub(1, Ordering::SeqCst);
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
