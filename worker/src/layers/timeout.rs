//! Bounds the time of an attempt.

use std::{
    convert::Infallible,
    task::{Context, Poll},
    time::Duration,
};

use tower_layer::Layer;
use tower_service::Service;
use towpath_core::{Attempt, Outcome};

use crate::{AttemptService, OutcomeFuture};

/// Drops an attempt that takes longer than the limit and makes it a failed one.
///
/// The worker has a [timeout of its own](crate::WorkerBuilder::handler_timeout), which is checked
/// against the lease; this one is for a part of a stack, and for other runtimes.
#[derive(Clone, Debug)]
pub struct TimeoutLayer(Duration);

impl TimeoutLayer {
    /// Attempts may take as long as `limit`.
    pub fn new(limit: Duration) -> Self {
        Self(limit)
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Timeout<S> {
        Timeout {
            inner,
            limit: self.0,
        }
    }
}

/// The service of [`TimeoutLayer`].
#[derive(Clone, Debug)]
pub struct Timeout<S> {
    inner: S,
    limit: Duration,
}

impl<S: AttemptService> Service<Attempt> for Timeout<S> {
    type Response = Outcome;
    type Error = Infallible;
    type Future = OutcomeFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, attempt: Attempt) -> OutcomeFuture {
        let limit = self.limit;
        // A token of its own: the lease is not lost, and a layer around this one may go on.
        let token = attempt.cancellation().child_token();
        let work = self.inner.call(attempt.with_cancellation(token.clone()));
        Box::pin(async move {
            match tokio::time::timeout(limit, work).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    token.cancel();
                    Ok(Outcome::Retry {
                        after: None,
                        reason: format!("timed out after {}", humantime::format_duration(limit)),
                    })
                }
            }
        })
    }
}
