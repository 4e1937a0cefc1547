//! Runs the handler again in place.

use std::{
    convert::Infallible,
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::sleep;
use tower_layer::Layer;
use tower_service::Service;
use towpath_core::{Attempt, Outcome};

use crate::{AttemptService, Backoff, OutcomeFuture, service::take_ready};

/// Runs a failed attempt again in place, while the lease is kept: for short blips that are not
/// worth a way through the queue.
///
/// The runs of one delivery are one attempt for the worker and for its limits. A failure that asks
/// for a longer pause than `longest_wait` is passed on at once, and so is the last one.
#[derive(Clone, Debug)]
pub struct RetryLayer {
    runs: u32,
    backoff: Backoff,
    longest_wait: Duration,
}

impl RetryLayer {
    /// Runs the handler up to `runs` times in all, with pauses as `backoff` says.
    pub fn new(runs: u32, backoff: Backoff) -> Self {
        Self {
            runs: runs.max(1),
            backoff,
            longest_wait: Duration::from_secs(5),
        }
    }

    /// The longest pause that is waited for here. Default: 5 s.
    #[must_use]
    pub fn longest_wait(mut self, limit: Duration) -> Self {
        self.longest_wait = limit;
        self
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = RetryInPlace<S>;

    fn layer(&self, inner: S) -> RetryInPlace<S> {
        RetryInPlace {
            inner,
            settings: self.clone(),
        }
    }
}

/// The service of [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct RetryInPlace<S> {
    inner: S,
    settings: RetryLayer,
}

impl<S: AttemptService> Service<Attempt> for RetryInPlace<S> {
    type Response = Outcome;
    type Error = Infallible;
    type Future = OutcomeFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, attempt: Attempt) -> OutcomeFuture {
        let mut inner = take_ready(&mut self.inner);
        let settings = self.settings.clone();
        Box::pin(async move {
            let mut run = 1;
            loop {
                let outcome = inner.call(attempt.clone()).await?;
                let Outcome::Retry { after, reason } = &outcome else {
                    return Ok(outcome);
                };
                let pause = settings.backoff.delay(run).max(after.unwrap_or_default());
                if run >= settings.runs || pause > settings.longest_wait {
                    return Ok(outcome);
                }
                tracing::debug!(id = %attempt.envelope().id, run, %reason, ?pause, "failed; it runs again in place");
                tokio::select! {
                    () = sleep(pause) => {}
                    // The lease is gone, or the worker stops.
                    () = attempt.cancellation().cancelled() => return Ok(outcome),
                }
                run += 1;
                poll_fn(|cx| inner.poll_ready(cx)).await?;
            }
        })
    }
}
