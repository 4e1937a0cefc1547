//! When a breaker opens, and for how long.

use std::time::Duration;

use serde::Deserialize;

use crate::config::duration;

/// The longest cool-down there is.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// When a [`Breaker`](super::Breaker) opens, and for how long.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// Opens after so many failures in a row. Default: 5.
    pub consecutive_failures: u32,
    /// Opens when so large a part of the last `window` calls failed, above 0 and up to 1.
    /// Default: not used.
    pub failure_ratio: Option<f64>,
    /// How many calls `failure_ratio` looks at; it is not used before there were so many.
    /// Default: 20.
    pub window: usize,
    /// How long it stays open before one call is let through. Default: 30 s.
    #[serde(with = "duration")]
    pub cool_down: Duration,
    /// The cool-down doubles with every failed try, up to this. Default: 5 min; at most 24 h.
    #[serde(with = "duration")]
    pub max_cool_down: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_ratio: None,
            window: 20,
            cool_down: Duration::from_secs(30),
            max_cool_down: Duration::from_secs(300),
        }
    }
}

impl BreakerConfig {
    /// Sets after how many failures in a row it opens.
    #[must_use]
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = failures;
        self
    }

    /// Sets which part of the last `window` calls must fail for it to open.
    #[must_use]
    pub fn failure_ratio(mut self, ratio: f64) -> Self {
        self.failure_ratio = Some(ratio);
        self
    }

    /// Sets how many calls `failure_ratio` looks at.
    #[must_use]
    pub fn window(mut self, calls: usize) -> Self {
        self.window = calls;
        self
    }

    /// Sets how long it stays open before one call is let through.
    #[must_use]
    pub fn cool_down(mut self, cool_down: Duration) -> Self {
        self.cool_down = cool_down;
        self
    }

    /// Sets the longest cool-down.
    #[must_use]
    pub fn max_cool_down(mut self, max_cool_down: Duration) -> Self {
        self.max_cool_down = max_cool_down;
        self
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        if self.consecutive_failures == 0 {
            return Err("breaker.consecutive_failures: must be at least 1".into());
        }
        if self
            .failure_ratio
            .is_some_and(|ratio| !(ratio > 0.0 && ratio <= 1.0))
        {
            return Err("breaker.failure_ratio: must be above 0 and at most 1".into());
        }
        if !(1..=10_000).contains(&self.window) {
            return Err("breaker.window: must be 1 to 10000 calls".into());
        }
        if self.cool_down.is_zero() {
            return Err("breaker.cool_down: must be longer than zero".into());
        }
        if self.max_cool_down < self.cool_down {
            return Err("breaker.max_cool_down: must be at least cool_down".into());
        }
        if self.max_cool_down > LONGEST {
            return Err("breaker.max_cool_down: must be at most 24h".into());
        }
        Ok(())
    }
}
