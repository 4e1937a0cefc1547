//! The bounds of a spool.

use std::time::Duration;

/// The bounds of a [`Spool`](super::Spool), and how it is drained.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SpoolOptions {
    /// The most messages that it holds. Default 100 000; each takes about 150 bytes of memory.
    pub max_messages: usize,
    /// The most bytes of bodies, attributes and keys that it holds. Default 1 GiB. The file may
    /// be twice as large, and does not shrink while it is open.
    pub max_bytes: u64,
    /// How long a queue may take for one batch of a drain. Default 30 s.
    pub publish_timeout: Duration,
    /// The longest pause between two tries to reach a queue; the first is 100 ms. Default 30 s.
    pub max_backoff: Duration,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            max_messages: 100_000,
            max_bytes: 1 << 30,
            publish_timeout: Duration::from_secs(30),
            max_backoff: Duration::from_secs(30),
        }
    }
}
