//! Makes a panic a failed attempt.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
};

use futures::FutureExt;
use tower_layer::Layer;
use tower_service::Service;
use towpath_core::{Attempt, Failure, Outcome};

use crate::{AttemptService, OutcomeFuture};

/// Makes a panic of the handler a failed attempt that is retried.
///
/// The worker does so anyhow. With this layer the layers around it see an [`Outcome`], and it holds
/// in other runtimes, too.
#[derive(Clone, Copy, Debug, Default)]
pub struct CatchPanicLayer(());

impl CatchPanicLayer {
    /// Catches panics.
    pub fn new() -> Self {
        Self::default()
    }
}

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic(inner)
    }
}

/// The service of [`CatchPanicLayer`].
#[derive(Clone, Debug)]
pub struct CatchPanic<S>(S);

impl<S: AttemptService> Service<Attempt> for CatchPanic<S> {
    type Response = Outcome;
    type Error = Infallible;
    type Future = OutcomeFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, attempt: Attempt) -> OutcomeFuture {
        let id = attempt.envelope().id.clone();
        let failed = move |panic: Box<dyn std::any::Any + Send>| {
            let failure = Failure::panicked(&*panic);
            tracing::error!(%id, %failure, "the handler panicked");
            Outcome::from(failure)
        };
        // The call may panic as well as its future.
        match catch_unwind(AssertUnwindSafe(|| self.0.call(attempt))) {
            Ok(work) => Box::pin(async move {
                match AssertUnwindSafe(work).catch_unwind().await {
                    Ok(outcome) => outcome,
                    Err(panic) => Ok(failed(panic)),
                }
            }),
            Err(panic) => {
                let outcome = failed(panic);
                Box::pin(async move { Ok(outcome) })
            }
        }
    }
}
