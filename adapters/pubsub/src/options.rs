//! The options that Pub/Sub adds to the portable ones.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use towpath_core::{QueueConfig, Result, config::duration, portable};

/// The options that `pubsub://` adds to [`QueueOptions`](towpath_core::QueueOptions).
///
/// Credentials are no option: they are Google's application default credentials.
///
/// | option | meaning | default |
/// |---|---|---|
/// | `subscription` | the subscription: a name, or `projects/PROJECT/subscriptions/NAME` | the topic's name |
/// | `endpoint` | the address to connect to: a regional or private endpoint, an emulator | `PUBSUB_EMULATOR_HOST`, else Google's |
/// | `credentials` | `default` (application default credentials) or `anonymous` | `anonymous` where the endpoint is `http://`, else `default` |
/// | `universe` | the universe domain of a sovereign cloud | the credentials' own |
/// | `ordering` | whether ordering keys may be sent where the producer may not read the subscription | `false` |
/// | `request_timeout` | how long one request may take | `10s` |
/// | `batch_messages` | the most messages of one publish request, 1 to 1,000 | 100 |
/// | `batch_bytes` | how many bytes of messages make a publish request full, up to 9,000,000 | 1,000,000 |
/// | `unsent_messages` | how many messages of a producer may be under way; more wait | 10,000 |
/// | `unsent_bytes` | how many bytes of them | 67,108,864 |
/// | `max_outstanding` | how many messages a consumer holds at most, in handlers and fetched ahead | 1,000 |
/// | `max_outstanding_bytes` | how many bytes of them | 67,108,864 |
/// | `max_held` | how many more it holds until they are due; 0: a nack cannot be delayed | 1,000 |
/// | `nack_delay` | how long a message is held for the delay of a nack, up to 24 h; for longer delays a copy is published to the topic, where the subscription is its only one, not ordered, and the account may read and publish to it | `10m` |
/// | `health_interval` | after how long a silence the service is asked whether all is well | `15s` |
/// | `max_deliveries` | after how many deliveries the service itself moves a message to `dead_letter`, for `ensure`; 5 to 100 | with `max_attempts`: twice that, and at least 5 more; else 20 |
/// | `min_backoff` | the service's own delay after a nack or an expiry, for `ensure` | none: at once |
/// | `max_backoff` | where that delay stops growing, for `ensure` | `10m` with `min_backoff` |
///
/// With `linger`, single sends wait so long for company (default: 2 ms).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct PubSubOptions {
    /// The subscription.
    pub subscription: Option<String>,
    /// The address to connect to.
    pub endpoint: Option<String>,
    /// Who connects.
    pub credentials: Option<Access>,
    /// The universe domain of a sovereign cloud.
    pub universe: Option<String>,
    /// Whether ordering keys may be sent where the producer may not read the subscription.
    pub ordering: Option<bool>,
    /// How long one request may take.
    #[serde(with = "duration")]
    pub request_timeout: Option<Duration>,
    /// The most messages of one publish request.
    pub batch_messages: Option<u32>,
    /// How many bytes of messages make a publish request full.
    pub batch_bytes: Option<u32>,
    /// How many messages of a producer may be under way.
    pub unsent_messages: Option<u32>,
    /// How many bytes of messages of a producer may be under way.
    pub unsent_bytes: Option<u32>,
    /// How many messages a consumer holds at most.
    pub max_outstanding: Option<u32>,
    /// How many bytes of messages a consumer holds at most.
    pub max_outstanding_bytes: Option<u32>,
    /// How many more it holds until they are due: for the delay of a nack, and copies that came before
    /// their time.
    pub max_held: Option<u32>,
    /// How long a message is held for the delay of a nack.
    ///
    /// A longer delay takes a copy that waits for its time. It is compared with the clock of the
    /// machine that receives the copy, is never longer than the retention of the subscription, and
    /// makes a duplicate rather than a loss in a crash. A copy that is here is held for this time,
    /// 10 s at least, before another one takes its place. The README has the rules.
    #[serde(with = "duration")]
    pub nack_delay: Option<Duration>,
    /// After how long a silence the service is asked whether all is well.
    #[serde(with = "duration")]
    pub health_interval: Option<Duration>,
    /// After how many deliveries the service itself moves a message to the dead-letter queue.
    pub max_deliveries: Option<u32>,
    /// The service's own delay after a nack or an expiry.
    #[serde(with = "duration")]
    pub min_backoff: Option<Duration>,
    /// Where that delay stops growing.
    #[serde(with = "duration")]
    pub max_backoff: Option<Duration>,
}

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Access {
    /// Google's application default credentials.
    Default,
    /// Nobody: for emulators.
    Anonymous,
}

/// How a producer publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sending {
    pub(crate) batch_messages: u32,
    pub(crate) batch_bytes: u32,
    pub(crate) linger: Duration,
    pub(crate) unsent_messages: u32,
    pub(crate) unsent_bytes: u32,
}

/// How a consumer receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receiving {
    pub(crate) lease: Option<Duration>,
    pub(crate) max_lease: Duration,
    pub(crate) max_outstanding: usize,
    pub(crate) max_outstanding_bytes: usize,
    pub(crate) max_held: usize,
    pub(crate) nack_delay: Duration,
    pub(crate) health_interval: Duration,
}

impl Sending {
    pub(crate) fn of(config: &QueueConfig) -> Result<Self> {
        let own: PubSubOptions = config.backend_options()?;
        let portable = config.queue_options()?;
        let batch_messages = within(config, "batch_messages", own.batch_messages, 100, 1, 1_000)?;
        // A request has 10 MB; the rest is for what frames the messages.
        let batch_bytes = within(
            config,
            "batch_bytes",
            own.batch_bytes,
            1_000_000,
            1,
            9_000_000,
        )?;
        Ok(Self {
            batch_messages,
            batch_bytes,
            linger: portable.linger.unwrap_or(Duration::from_millis(2)),
            unsent_messages: at_least_one(config, "unsent_messages", own.unsent_messages, 10_000)?,
            unsent_bytes: at_least_one(config, "unsent_bytes", own.unsent_bytes, 64 << 20)?,
        })
    }
}

impl Receiving {
    pub(crate) fn of(config: &QueueConfig) -> Result<Self> {
        let own: PubSubOptions = config.backend_options()?;
        let portable = config.queue_options()?;
        if let Some(lease) = portable.lease
            && (!portable::LEASE.contains(&lease) || lease.subsec_nanos() != 0)
        {
            let why = "Pub/Sub has leases of whole seconds from 10s to 10m";
            return Err(config.bad_option("lease", why));
        }
        let nack_delay = own.nack_delay.unwrap_or(portable::NACK_DELAY);
        let longest = Duration::from_secs(86_400);
        if nack_delay > longest {
            let why = "a message is held for the delay, so it can be 24h at most";
            return Err(config.bad_option("nack_delay", why));
        }
        let max_lease = portable.max_lease.unwrap_or(Duration::from_secs(3_600));
        if max_lease > longest {
            return Err(config.bad_option("max_lease", "a message can be held for 24h at most"));
        }
        let health_interval = own.health_interval.unwrap_or(Duration::from_secs(15));
        if health_interval < Duration::from_millis(100) {
            return Err(config.bad_option("health_interval", "must be at least 100ms"));
        }
        let max_outstanding = at_least_one(config, "max_outstanding", own.max_outstanding, 1_000)?;
        let bytes = at_least_one(
            config,
            "max_outstanding_bytes",
            own.max_outstanding_bytes,
            64 << 20,
        )?;
        Ok(Self {
            lease: portable.lease,
            max_lease,
            max_outstanding: max_outstanding as usize,
            max_outstanding_bytes: bytes as usize,
            max_held: own.max_held.unwrap_or(1_000) as usize,
            nack_delay: if own.max_held == Some(0) {
                Duration::ZERO
            } else {
                nack_delay
            },
            health_interval,
        })
    }
}

impl Receiving {
    /// How many bytes a stream may bring that may bring `messages`, before some are settled.
    pub(crate) fn stream_bytes(&self, messages: usize) -> usize {
        let share = self.max_outstanding_bytes / self.max_outstanding.max(1);
        share
            .saturating_mul(messages)
            .clamp(1 << 20, self.max_outstanding_bytes.max(1 << 20))
    }
}

fn at_least_one(config: &QueueConfig, name: &str, value: Option<u32>, default: u32) -> Result<u32> {
    within(config, name, value, default, 1, i32::MAX as u32)
}

fn within(
    config: &QueueConfig,
    name: &str,
    value: Option<u32>,
    default: u32,
    least: u32,
    most: u32,
) -> Result<u32> {
    let value = value.unwrap_or(default);
    if (least..=most).contains(&value) {
        return Ok(value);
    }
    Err(config.bad_option(name, &format!("must be from {least} to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_bounds_are_refused_by_name() {
        for (option, part) in [
            ("lease=9s", "10s to 10m"),
            ("lease=601s", "10s to 10m"),
            ("lease=10500ms", "whole seconds"),
            ("nack_delay=25h", "24h"),
            ("max_lease=25h", "24h"),
            ("health_interval=1ms", "100ms"),
            ("max_outstanding=0", "from 1"),
            ("max_outstanding_bytes=0", "from 1"),
        ] {
            let config = QueueConfig::parse(&format!("pubsub://p/orders?{option}")).unwrap();
            let error = Receiving::of(&config).unwrap_err();
            let (name, _) = option.split_once('=').unwrap();
            assert!(error.message().contains(part), "{error}");
            assert!(error.message().contains(name), "{error}");
        }
        for option in [
            "batch_messages=1001",
            "batch_bytes=10000000",
            "unsent_bytes=0",
        ] {
            let config = QueueConfig::parse(&format!("pubsub://p/orders?{option}")).unwrap();
            assert!(Sending::of(&config).is_err(), "{option}");
        }
    }

    #[test]
    fn without_room_for_held_messages_a_nack_cannot_be_delayed() {
        let config = QueueConfig::parse("pubsub://p/orders?max_held=0").unwrap();
        assert_eq!(Receiving::of(&config).unwrap().nack_delay, Duration::ZERO);
    }
}
