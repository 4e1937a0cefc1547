//! Spaces calls in time.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::Rate;

/// Hands out moments that are `interval` apart, in the order in which they were asked for; up to
/// `burst` of them at once after a quiet time.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    /// How far in the past the next moment may lie.
    slack: Duration,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// The error names the field.
    pub(crate) fn new(rate: &Rate) -> Result<Self, String> {
        if rate.requests == 0 {
            return Err("rate.requests: must be at least 1".into());
        }
        if rate.burst == 0 {
            return Err("rate.burst: must be at least 1".into());
        }
        if rate.per.is_zero() || rate.per > Duration::from_secs(24 * 3_600) {
            return Err("rate.per: must be longer than zero and at most 24h".into());
        }
        let interval = rate.per / rate.requests;
        Ok(Self {
            interval,
            slack: interval.saturating_mul(rate.burst - 1),
            next: Mutex::new(None),
        })
    }

    /// Waits for the next moment.
    ///
    /// When the future is dropped while it waits, its moment passes unused.
    pub(crate) async fn next(&self) {
        let now = Instant::now();
        let moment = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let moment = next.unwrap_or(now);
            // The clock may be younger than the slack is long.
            let moment = now
                .checked_sub(self.slack)
                .map_or(moment, |earliest| moment.max(earliest));
            *next = Some(moment + self.interval);
            moment
        };
        tokio::time::sleep_until(moment).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn starts(pace: &Pace, count: usize) -> Vec<u128> {
        let start = Instant::now();
        let mut starts = Vec::new();
        for _ in 0..count {
            pace.next().await;
            starts.push(start.elapsed().as_millis());
        }
        starts
    }

    #[tokio::test(start_paused = true)]
    async fn calls_are_evenly_spaced() {
        let pace = Pace::new(&Rate::new(10, Duration::from_secs(1))).unwrap();
        assert_eq!(starts(&pace, 4).await, [0, 100, 200, 300]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(starts(&pace, 3).await, [0, 100, 200]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_let_through_after_a_quiet_time() {
        let pace = Pace::new(&Rate::new(10, Duration::from_secs(1)).burst(3)).unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        pace.next().await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(starts(&pace, 5).await, [0, 0, 0, 100, 200]);
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let second = Duration::from_secs(1);
        for (rate, name) in [
            (Rate::new(0, second), "requests"),
            (Rate::new(1, Duration::ZERO), "per"),
            (Rate::new(1, Duration::MAX), "per"),
            (Rate::new(1, second).burst(0), "burst"),
        ] {
            assert!(Pace::new(&rate).unwrap_err().contains(name));
        }
    }
}
