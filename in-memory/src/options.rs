//! The options that the in-memory backend adds to the portable ones.

use serde::{Deserialize, Serialize};

use crate::{Faults, Profile};

/// The options that `memory://` adds to [`QueueOptions`](towpath_core::QueueOptions).
///
/// They are settings of the queue: the first to name one fixes it, and a later handle that names
/// another value is refused.
///
/// | option | meaning | default |
/// |---|---|---|
/// | `profile` | the cloud whose limits and guarantees hold: `strict`, `sqs`, `sqs-fifo`, `pubsub`, `pubsub-ordered`, `pubsub-exactly-once` | `strict` |
/// | `ordered` | whether ordering keys are honoured | as the profile: `strict`, `sqs-fifo` and `pubsub-ordered` do |
/// | `max_depth` | how many messages the queue holds; more are `Throttled` | no limit |
/// | `max_deliveries` | after how many deliveries the queue itself moves a message that comes back to `dead_letter` | with `max_attempts`: twice that, and at least 5 more |
/// | `create` | whether opening creates the queue when it is missing; `false`: `NotFound` | `true` |
/// | `faults` | what goes wrong, and how often: see [`Faults`] | nothing |
/// | `seed` | where the faults' source of chance starts | 0 |
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct MemoryOptions {
    /// The cloud whose limits and guarantees hold.
    pub profile: Option<Profile>,
    /// Whether ordering keys are honoured.
    pub ordered: Option<bool>,
    /// How many messages the queue holds.
    pub max_depth: Option<usize>,
    /// After how many deliveries the queue itself moves a message to the dead-letter queue.
    pub max_deliveries: Option<u32>,
    /// Whether opening creates the queue when it is missing.
    pub create: Option<bool>,
    /// What goes wrong, and how often.
    pub faults: Option<Faults>,
    /// Where the faults' source of chance starts.
    pub seed: Option<u64>,
}
