//! What the specification and the options ask for, within what Pub/Sub can do.

use std::{ops::RangeInclusive, time::Duration};

use google_cloud_pubsub::model::{DeadLetterPolicy, Subscription};
use towpath_core::{DeadLetterSpec, ErrorKind, QueueConfig, QueueSpec, Result, portable};

use super::{bare_subscription, retry_policy, seconds, wkt_duration};
use crate::{PubSubOptions, address::Address, error::Operation};

/// How long messages can be kept.
const RETENTION: RangeInclusive<Duration> =
    Duration::from_secs(600)..=Duration::from_secs(31 * 86_400);
/// The service's own delays.
const BACKOFF: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(600);
/// After how many deliveries the service moves a message, where nothing says so.
const DELIVERIES: u32 = 20;

/// What the specification and the options ask for. What they do not ask for is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(super) lease: Option<Duration>,
    pub(super) ordered: bool,
    pub(super) exactly_once: bool,
    pub(super) retention: Option<Duration>,
    pub(super) dead_letter: Option<DeadLetter>,
    pub(super) backoff: Option<(Duration, Duration)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeadLetter {
    pub(super) address: Address,
    max_deliveries: u32,
}

impl Wanted {
    pub(crate) fn new(config: &QueueConfig, address: &Address, spec: &QueueSpec) -> Result<Self> {
        let portable = config.queue_options()?;
        let own: PubSubOptions = config.backend_options()?;
        let wrong = |text: String| {
            Err(Operation::Ensure.error(
                ErrorKind::InvalidConfig,
                format!("queue {}: {text}", address.topic),
            ))
        };
        let lease = spec.lease.or(portable.lease);
        for (what, value, range) in [
            ("lease", lease, portable::LEASE),
            ("retention", spec.retention, RETENTION),
            ("min_backoff", own.min_backoff, BACKOFF),
            ("max_backoff", own.max_backoff, BACKOFF),
        ] {
            if let Some(value) = value
                && (!range.contains(&value) || value.subsec_nanos() != 0)
            {
                return wrong(format!(
                    "{what} is {}, and Pub/Sub takes whole seconds from {} to {}",
                    humantime::format_duration(value),
                    humantime::format_duration(*range.start()),
                    humantime::format_duration(*range.end())
                ));
            }
        }
        let backoff = match (own.min_backoff, own.max_backoff) {
            (None, None) => None,
            (min, max) => Some((
                min.unwrap_or(Duration::from_secs(10)),
                max.unwrap_or(*BACKOFF.end()),
            )),
        };
        if let Some((min, max)) = backoff
            && min > max
        {
            return wrong("min_backoff is longer than max_backoff".to_owned());
        }
        let policy = match &spec.dead_letter {
            Some(policy) => Some(policy.clone()),
            None => portable
                .dead_letter
                .filter(|name| !name.contains("://"))
                .map(|queue| DeadLetterSpec {
                    queue,
                    max_deliveries: own
                        .max_deliveries
                        .unwrap_or_else(|| deliveries(portable.max_attempts)),
                }),
        };
        let dead_letter = match policy {
            None => None,
            Some(policy) => {
                if !portable::ATTEMPTS.contains(&policy.max_deliveries) {
                    return wrong(format!(
                        "a message is moved after {} deliveries, and Pub/Sub takes {} to {}",
                        policy.max_deliveries,
                        portable::ATTEMPTS.start(),
                        portable::ATTEMPTS.end()
                    ));
                }
                let target = match address.beside(&policy.queue) {
                    Ok(target) => target,
                    Err(why) => return wrong(why),
                };
                if target.topic_name() == address.topic_name() {
                    return wrong("a queue cannot be its own dead-letter queue".to_owned());
                }
                Some(DeadLetter {
                    address: target,
                    max_deliveries: policy.max_deliveries,
                })
            }
        };
        Ok(Self {
            lease,
            ordered: spec.ordered,
            exactly_once: spec.exactly_once,
            retention: spec.retention,
            dead_letter,
            backoff,
        })
    }

    /// A subscription with all that is wanted.
    pub(super) fn subscription(&self, address: &Address) -> Subscription {
        let mut new = bare_subscription(address)
            .set_enable_message_ordering(self.ordered)
            .set_enable_exactly_once_delivery(self.exactly_once)
            .set_or_clear_message_retention_duration(self.retention.map(wkt_duration))
            .set_or_clear_dead_letter_policy(self.dead_letter.as_ref().map(DeadLetter::policy))
            .set_or_clear_retry_policy(self.backoff.map(retry_policy));
        if let Some(lease) = self.lease {
            new = new.set_ack_deadline_seconds(seconds(lease));
        }
        new
    }
}

impl DeadLetter {
    pub(super) fn policy(&self) -> DeadLetterPolicy {
        DeadLetterPolicy::new()
            .set_dead_letter_topic(self.address.topic_name())
            .set_max_delivery_attempts(i32::try_from(self.max_deliveries).unwrap_or(i32::MAX))
    }
}

/// The backstop is set well above the consumer's own limit.
fn deliveries(max_attempts: Option<u32>) -> u32 {
    max_attempts.map_or(DELIVERIES, |most| {
        most.saturating_mul(2)
            .max(most.saturating_add(5))
            .clamp(*portable::ATTEMPTS.start(), *portable::ATTEMPTS.end())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(url: &str, spec: QueueSpec) -> Result<Wanted> {
        let config = QueueConfig::parse(url).unwrap();
        let address = Address::parse(config.target(), None).unwrap();
        Wanted::new(&config, &address, &spec)
    }

    #[test]
    fn bounds_of_pubsub_are_refused_before_any_call() {
        let spec = QueueSpec::new;
        for (url, spec) in [
            (
                "pubsub://p/orders",
                spec().with_lease(Duration::from_secs(9)),
            ),
            (
                "pubsub://p/orders",
                spec().with_lease(Duration::from_millis(10_500)),
            ),
            (
                "pubsub://p/orders",
                spec().with_retention(Duration::from_secs(599)),
            ),
            ("pubsub://p/orders", spec().with_dead_letter("dlq", 4)),
            ("pubsub://p/orders", spec().with_dead_letter("dlq", 101)),
            ("pubsub://p/orders", spec().with_dead_letter("orders", 5)),
            ("pubsub://p/orders", spec().with_dead_letter("x", 5)),
            ("pubsub://p/orders?min_backoff=601s", spec()),
            ("pubsub://p/orders?min_backoff=20s&max_backoff=10s", spec()),
            ("pubsub://p/orders?dead_letter=dlq&max_deliveries=3", spec()),
        ] {
            let error = wanted(url, spec.clone()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url} {spec:?}");
        }
    }

    #[test]
    fn a_dead_letter_queue_of_the_url_gets_a_policy_above_the_consumer_s_own_limit() {
        for (url, deliveries) in [
            ("pubsub://p/orders?dead_letter=dlq", 20),
            ("pubsub://p/orders?dead_letter=dlq&max_attempts=2", 7),
            ("pubsub://p/orders?dead_letter=dlq&max_attempts=8", 16),
            ("pubsub://p/orders?dead_letter=dlq&max_attempts=90", 100),
            (
                "pubsub://p/orders?dead_letter=dlq&max_attempts=8&max_deliveries=9",
                9,
            ),
        ] {
            let wanted = wanted(url, QueueSpec::new()).unwrap();
            let dead_letter = wanted.dead_letter.unwrap();
            assert_eq!(dead_letter.max_deliveries, deliveries, "{url}");
            assert_eq!(dead_letter.address.topic_name(), "projects/p/topics/dlq");
        }
        let elsewhere = "pubsub://p/orders?dead_letter=sqs%3A%2F%2Fdlq";
        assert_eq!(
            wanted(elsewhere, QueueSpec::new()).unwrap().dead_letter,
            None
        );
    }
}
