//! When a failed message is tried again, and when it no longer is.

use std::time::Duration;

/// The delays between attempts, and the limits after which a message is dead-lettered.
///
/// The default is exponential from 1 s to 5 min with full jitter, and no limits of its own: the
/// consumer's `max_attempts` then decides.
///
/// The `after` of a handler's [`Outcome::Retry`](towpath_core::Outcome::Retry), as of `Retry-After`,
/// is a floor: the delay is never shorter, not by jitter nor by the policy's longest delay.
///
/// ```
/// use std::time::Duration;
/// use towpath_worker::{Backoff, RetryPolicy};
///
/// let policy = RetryPolicy::new(Backoff::exponential(
///     Duration::from_millis(500),
///     Duration::from_secs(600),
/// ))
/// .max_attempts(8)
/// .max_age(Duration::from_secs(86_400));
/// assert!(policy.delay(1, None) <= Duration::from_millis(500));
/// assert!(policy.delay(1, Some(Duration::from_secs(90))) >= Duration::from_secs(90));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryPolicy {
    backoff: Backoff,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) max_age: Option<Duration>,
}

impl RetryPolicy {
    /// Retries with these delays, and without limits of its own.
    pub fn new(backoff: Backoff) -> Self {
        Self {
            backoff,
            max_attempts: None,
            max_age: None,
        }
    }

    /// Dead-letters a message when this many attempts have failed. At least 1. Default: the
    /// consumer's `max_attempts`.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// Dead-letters a message that fails when it was sent longer ago than this. Default: no limit.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// The delays.
    pub fn backoff(&self) -> &Backoff {
        &self.backoff
    }

    /// A delay before the attempt that follows `attempt` (1 is the first), never below `floor`.
    pub fn delay(&self, attempt: u32, floor: Option<Duration>) -> Duration {
        self.backoff.delay(attempt).max(floor.unwrap_or_default())
    }
}

/// How the delays between attempts grow.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backoff {
    /// Doubles from `first` up to `most`; each delay is drawn between zero and that (full jitter),
    /// so that messages that failed together do not come back together.
    Exponential {
        /// The upper bound of the first delay.
        first: Duration,
        /// The upper bound of all delays.
        most: Duration,
    },
    /// Each delay is drawn between `first` and three times the one before, up to `most`.
    Decorrelated {
        /// The shortest delay.
        first: Duration,
        /// The longest delay.
        most: Duration,
    },
    /// Always the same.
    Fixed(Duration),
    /// These, in turn; the last one is repeated. An empty list is no delay.
    List(Vec<Duration>),
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(Duration::from_secs(1), Duration::from_secs(300))
    }
}

impl Backoff {
    /// [`Exponential`](Self::Exponential), with full jitter.
    pub fn exponential(first: Duration, most: Duration) -> Self {
        Self::Exponential { first, most }
    }

    /// [`Decorrelated`](Self::Decorrelated) jitter.
    pub fn decorrelated(first: Duration, most: Duration) -> Self {
        Self::Decorrelated { first, most }
    }

    /// The longest delay there is.
    pub fn longest(&self) -> Duration {
        match self {
            Self::Exponential { most, .. } | Self::Decorrelated { most, .. } => *most,
            Self::Fixed(delay) => *delay,
            Self::List(delays) => delays.iter().max().copied().unwrap_or_default(),
        }
    }

    /// A delay after the failure of `attempt`; 1 is the first.
    pub fn delay(&self, attempt: u32) -> Duration {
        let failed = attempt.max(1);
        match self {
            Self::Exponential { first, most } => {
                let doubled = 1u32.checked_shl(failed - 1).unwrap_or(u32::MAX);
                between(Duration::ZERO, first.saturating_mul(doubled).min(*most))
            }
            Self::Decorrelated { first, most } => {
                // The delays before were drawn in other deliveries, perhaps by other processes, so
                // the walk is drawn anew. It is at its bound long before 64 steps.
                let mut delay = *first;
                for _ in 0..failed.min(64) {
                    delay = between(*first, delay.saturating_mul(3)).min(*most);
                }
                delay
            }
            Self::Fixed(delay) => *delay,
            Self::List(delays) => {
                let index = usize::try_from(failed - 1).unwrap_or(usize::MAX);
                let last = delays.last();
                delays.get(index).or(last).copied().unwrap_or_default()
            }
        }
    }
}

fn between(low: Duration, high: Duration) -> Duration {
    low + high.saturating_sub(low).mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn full_jitter_spreads_up_to_the_doubled_bound() {
        let backoff = Backoff::exponential(SECOND, 60 * SECOND);
        for (attempt, bound) in [(1, 1), (2, 2), (4, 8), (7, 60), (33, 60), (u32::MAX, 60)] {
            let drawn: Vec<_> = (0..200).map(|_| backoff.delay(attempt)).collect();
            let bound = bound * SECOND;
            assert!(drawn.iter().all(|d| *d <= bound), "attempt {attempt}");
            assert!(drawn.iter().any(|d| *d > bound / 2), "attempt {attempt}");
            assert!(drawn.iter().any(|d| *d < bound / 2), "attempt {attempt}");
        }
    }

    #[test]
    fn decorrelated_stays_between_its_bounds_and_grows() {
        let backoff = Backoff::decorrelated(SECOND, 50 * SECOND);
        let mean = |attempt| (0..500).map(|_| backoff.delay(attempt)).sum::<Duration>() / 500;
        for attempt in [1, 2, 10, u32::MAX] {
            let delay = backoff.delay(attempt);
            assert!((SECOND..=50 * SECOND).contains(&delay), "{delay:?}");
        }
        assert!(mean(6) > 2 * mean(1));
    }

    #[test]
    fn a_list_repeats_its_last_delay() {
        let backoff = Backoff::List(vec![SECOND, 10 * SECOND]);
        assert_eq!(backoff.delay(1), SECOND);
        assert_eq!(backoff.delay(2), 10 * SECOND);
        assert_eq!(backoff.delay(99), 10 * SECOND);
        assert_eq!(Backoff::List(vec![]).delay(3), Duration::ZERO);
    }

    #[test]
    fn jitter_and_the_longest_delay_never_undercut_the_floor() {
        let policy = RetryPolicy::new(Backoff::exponential(SECOND, 5 * SECOND));
        for attempt in 1..20 {
            assert!(policy.delay(attempt, Some(60 * SECOND)) >= 60 * SECOND);
        }
    }
}
