//! Delays between retries of calls to a backend.

use std::time::Duration;

use backon::BackoffBuilder;

use crate::Error;

/// Growing, jittered delays from 50 ms to 5 s, without end.
pub(crate) struct Backoff(backon::ExponentialBackoff);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(
            backon::ExponentialBuilder::new()
                .with_min_delay(Duration::from_millis(50))
                .with_max_delay(Duration::from_secs(5))
                .with_jitter()
                .without_max_times()
                .build(),
        )
    }

    /// The next delay, and never less than one of `errors` asks for. What failed together is one
    /// failure: a batch that fails as a whole waits no longer than a single entry.
    pub(crate) fn next<'e>(&mut self, errors: impl IntoIterator<Item = &'e Error>) -> Duration {
        let delay = self.0.next().unwrap_or(Duration::from_secs(5));
        errors
            .into_iter()
            .filter_map(Error::retry_after)
            .fold(delay, Duration::max)
    }
}
