//! Bounds how many attempts start per time.

use std::{
    convert::Infallible,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tower_layer::Layer;
use tower_service::Service;
use towpath_core::{Attempt, Outcome};

use crate::{AttemptService, OutcomeFuture, service::take_ready};

/// Bounds how many attempts start per time, in everything that this layer, or a clone of it, is
/// around. Up to one period's worth can start at once after a quiet time.
///
/// What is over the rate waits here with its lease kept; what would wait for longer than
/// `longest_wait` is [released](Outcome::Release), which is no attempt.
#[derive(Clone, Debug)]
pub struct RateLimitLayer {
    rate: Arc<Rate>,
    longest_wait: Duration,
}

impl RateLimitLayer {
    /// At most `attempts` start in any `period`, over the long run.
    pub fn new(attempts: NonZeroU32, period: Duration) -> Self {
        Self {
            rate: Arc::new(Rate::new(attempts, period)),
            longest_wait: Duration::from_secs(30),
        }
    }

    /// The longest time that an attempt waits here. Default: 30 s.
    #[must_use]
    pub fn longest_wait(mut self, limit: Duration) -> Self {
        self.longest_wait = limit;
        self
    }
}

/// A rate with a burst of one period (the generic cell rate algorithm).
#[derive(Debug)]
pub(crate) struct Rate {
    interval: Duration,
    burst: Duration,
    /// When the next attempt may start if it is not part of a burst.
    next: Mutex<Instant>,
}

impl Rate {
    pub(crate) fn new(number: NonZeroU32, period: Duration) -> Self {
        let interval = period / number.get();
        Self {
            interval,
            burst: period.saturating_sub(interval),
            next: Mutex::new(Instant::now()),
        }
    }

    /// Without bursts.
    pub(crate) fn steady(number: NonZeroU32, period: Duration) -> Self {
        Self {
            burst: Duration::ZERO,
            ..Self::new(number, period)
        }
    }

    /// When the caller may start, and takes that place; `Err` with the wait when it is too long.
    pub(crate) fn take(&self, longest_wait: Duration) -> Result<Instant, Duration> {
        let now = Instant::now();
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (*next).max(now);
        let start = at.checked_sub(self.burst).map_or(now, |at| at.max(now));
        let wait = start - now;
        if wait > longest_wait {
            return Err(wait);
        }
        *next = at + self.interval;
        Ok(start)
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit {
            inner,
            settings: self.clone(),
        }
    }
}

/// The service of [`RateLimitLayer`].
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    inner: S,
    settings: RateLimitLayer,
}

impl<S: AttemptService> Service<Attempt> for RateLimit<S> {
    type Response = Outcome;
    type Error = Infallible;
    type Future = OutcomeFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, attempt: Attempt) -> OutcomeFuture {
        match self.settings.rate.take(self.settings.longest_wait) {
            Ok(start) => {
                let mut inner = take_ready(&mut self.inner);
                Box::pin(async move {
                    if start > Instant::now() {
                        sleep_until(start).await;
                    }
                    inner.call(attempt).await
                })
            }
            Err(wait) => Box::pin(async move {
                Ok(Outcome::Release {
                    after: Some(wait),
                    reason: "the rate is used up".to_owned(),
                })
            }),
        }
    }
}
