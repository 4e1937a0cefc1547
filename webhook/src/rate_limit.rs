//! How many requests a source may send.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

/// So many requests in a time, with bursts.
#[derive(Debug)]
pub(crate) struct RateLimit {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>,
    clock: TokioClock,
}

impl RateLimit {
    /// `requests` in the time `per`, evenly; after a pause up to `burst` at once. `None` when `per`
    /// is too short to be divided.
    pub(crate) fn new(requests: NonZeroU32, per: Duration, burst: NonZeroU32) -> Option<Self> {
        let quota = Quota::with_period(per / requests.get())?.allow_burst(burst);
        let clock = TokioClock(Instant::now());
        Some(Self {
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
        })
    }

    /// Counts a request.
    ///
    /// # Errors
    ///
    /// One too many; when the next one is accepted.
    pub(crate) fn check(&self) -> Result<(), Duration> {
        let result = self.limiter.check();
        result.map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

/// Tokio's clock, which tests can pause.
#[derive(Clone, Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_as_many_as_the_rate_allows() {
        let number = |n| NonZeroU32::new(n).unwrap();
        let limit = RateLimit::new(number(10), Duration::from_secs(1), number(3)).unwrap();
        for _ in 0..3 {
            assert_eq!(limit.check(), Ok(()));
        }
        assert_eq!(limit.check(), Err(Duration::from_millis(100)));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(limit.check(), Ok(()));
        assert!(limit.check().is_err());
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!((0..10).filter(|_| limit.check().is_ok()).count(), 3);
    }
}
