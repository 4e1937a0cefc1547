//! Bounds how many attempts run at once.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::sync::Semaphore;
use tower_layer::Layer;
use tower_service::Service;
use towpath_core::{Attempt, Outcome};

use crate::{AttemptService, OutcomeFuture};

/// Bounds how many attempts run at once in everything that this layer, or a clone of it, is around:
/// for a resource that several workers or several parts of one share.
///
/// For one worker, its own [`concurrency`](crate::WorkerBuilder::concurrency) is better: what waits
/// here has been received already.
#[derive(Clone, Debug)]
pub struct ConcurrencyLayer(Arc<Semaphore>);

impl ConcurrencyLayer {
    /// At most `attempts` run at once; at least 1.
    pub fn new(attempts: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            attempts.clamp(1, Semaphore::MAX_PERMITS),
        )))
    }
}

impl<S> Layer<S> for ConcurrencyLayer {
    type Service = Concurrency<S>;

    fn layer(&self, inner: S) -> Concurrency<S> {
        Concurrency {
            inner,
            permits: self.0.clone(),
        }
    }
}

/// The service of [`ConcurrencyLayer`].
#[derive(Clone, Debug)]
pub struct Concurrency<S> {
    inner: S,
    permits: Arc<Semaphore>,
}

impl<S: AttemptService> Service<Attempt> for Concurrency<S> {
    type Response = Outcome;
    type Error = Infallible;
    type Future = OutcomeFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, attempt: Attempt) -> OutcomeFuture {
        let mut inner = crate::service::take_ready(&mut self.inner);
        let permits = self.permits.clone();
        Box::pin(async move {
            // An error means a closed semaphore, and this one is never closed.
            let _permit = permits.acquire().await;
            inner.call(attempt).await
        })
    }
}
