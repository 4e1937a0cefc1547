//! Handlers as tower services, and back.

use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use tower_service::Service;
use towpath_core::{Attempt, Handler, Outcome};

/// The future of a middleware: boxed, because its type has no name.
pub type OutcomeFuture = Pin<Box<dyn Future<Output = Result<Outcome, Infallible>> + Send>>;

/// A tower service that handles attempts. Implemented for every service of this shape.
///
/// A failure is an [`Outcome`], never an error of the service, so that none can get lost between
/// two layers.
pub trait AttemptService:
    Service<Attempt, Response = Outcome, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> AttemptService for S where
    S: Service<Attempt, Response = Outcome, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A [`Handler`] as a tower service.
#[derive(Clone)]
pub struct HandlerService(Arc<dyn Handler>);

impl HandlerService {
    /// The service that calls `handler`.
    pub fn new(handler: impl Handler) -> Self {
        Self(Arc::new(handler))
    }

    pub(crate) fn shared(handler: Arc<dyn Handler>) -> Self {
        Self(handler)
    }
}

impl Service<Attempt> for HandlerService {
    type Response = Outcome;
    type Error = Infallible;
    type Future = OutcomeFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, attempt: Attempt) -> OutcomeFuture {
        let handler = self.0.clone();
        Box::pin(async move { Ok(handler.handle(attempt).await) })
    }
}

impl fmt::Debug for HandlerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerService")
    }
}

/// A tower service as a [`Handler`], for the worker, Lambda and push endpoints alike.
#[derive(Clone, Debug)]
pub struct ServiceHandler<S>(S);

impl<S: AttemptService> ServiceHandler<S> {
    /// The handler that calls `service`.
    pub fn new(service: S) -> Self {
        Self(service)
    }
}

#[async_trait]
impl<S: AttemptService> Handler for ServiceHandler<S> {
    async fn handle(&self, attempt: Attempt) -> Outcome {
        let mut service = self.0.clone();
        let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
        let Ok(outcome) = service.call(attempt).await;
        outcome
    }
}

/// Takes the service that is ready, and leaves a clone, which need not be.
pub(crate) fn take_ready<S: Clone>(service: &mut S) -> S {
    let clone = service.clone();
    std::mem::replace(service, clone)
}
