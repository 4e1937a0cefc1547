//! Queues as wanted: what is missing or different, and making it so.

use std::{ops::RangeInclusive, time::Duration};

use google_cloud_pubsub::model::{DeadLetterPolicy, ExpirationPolicy, RetryPolicy, Subscription};
use google_cloud_wkt::FieldMask;
use towpath_core::{
    Change, DeadLetterSpec, EnsureMode, ErrorKind, QueueConfig, QueueSpec, Result, portable,
};

use crate::{
    PubSubOptions,
    address::{Address, short},
    admin::PubSubAdmin,
    error::Operation,
};

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
    lease: Option<Duration>,
    ordered: bool,
    exactly_once: bool,
    retention: Option<Duration>,
    dead_letter: Option<DeadLetter>,
    backoff: Option<(Duration, Duration)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct DeadLetter {
    address: Address,
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
    fn subscription(&self, address: &Address) -> Subscription {
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
    fn policy(&self) -> DeadLetterPolicy {
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

/// A subscription that never expires, with the cloud's defaults else.
fn bare_subscription(address: &Address) -> Subscription {
    Subscription::new()
        .set_name(&address.subscription)
        .set_topic(address.topic_name())
        .set_expiration_policy(ExpirationPolicy::new())
}

fn retry_policy((min, max): (Duration, Duration)) -> RetryPolicy {
    RetryPolicy::new()
        .set_minimum_backoff(wkt_duration(min))
        .set_maximum_backoff(wkt_duration(max))
}

fn wkt_duration(duration: Duration) -> google_cloud_wkt::Duration {
    google_cloud_wkt::Duration::clamp(i64::from(seconds(duration)), 0)
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

/// A duration of the service's, as one of ours.
pub(crate) fn std_duration(duration: Option<google_cloud_wkt::Duration>) -> Option<Duration> {
    Duration::try_from(duration?).ok()
}

/// What is to be done for one change.
#[derive(Debug)]
enum Step {
    CreateTopic(String),
    CreateSubscription(Box<Subscription>),
}

/// What differs at the live subscription.
#[derive(Debug, Default)]
struct Differences {
    changes: Vec<Change>,
    /// The names of the fields to set.
    fields: Vec<&'static str>,
    /// What can be had by a new subscription only.
    fixed: Vec<String>,
}

pub(crate) async fn run(
    admin: &PubSubAdmin,
    wanted: &Wanted,
    mode: EnsureMode,
) -> Result<Vec<Change>> {
    let operation = Operation::Ensure;
    let own = &admin.address;
    let mut changes = Vec::new();
    let mut steps = Vec::new();
    if let Some(dead_letter) = &wanted.dead_letter {
        let target = &dead_letter.address;
        missing(
            admin,
            target,
            bare_subscription(target),
            &mut changes,
            &mut steps,
        )
        .await?;
    }
    let new = wanted.subscription(own);
    let live = missing(admin, own, new.clone(), &mut changes, &mut steps).await?;
    let found = live.map_or_else(Differences::default, |live| differences(own, wanted, &live));
    if mode != EnsureMode::Plan && !found.fixed.is_empty() {
        return Err(operation.error(
            ErrorKind::InvalidConfig,
            format!(
                "subscription {}: {}; delete it and create it anew, or use another one",
                short(&own.subscription),
                found.fixed.join("; ")
            ),
        ));
    }
    if mode == EnsureMode::Create && !found.changes.is_empty() {
        return Err(operation.error(
            ErrorKind::InvalidConfig,
            format!(
                "subscription {} exists with other settings: {}; apply the changes, or ask for \
                 what there is",
                short(&own.subscription),
                list(&found.changes)
            ),
        ));
    }
    changes.extend(found.changes);
    if mode == EnsureMode::Plan {
        return Ok(changes);
    }
    // In an order in which each step finds what it needs, and which can be repeated when it was
    // interrupted.
    for step in steps {
        match step {
            Step::CreateTopic(name) => {
                let topics = admin.clients.topics().await?;
                let call = topics.create_topic().set_name(&name).send();
                admin.clients.call(operation, &name, call).await?;
            }
            Step::CreateSubscription(new) => {
                let name = new.name.clone();
                let subscriptions = admin.clients.subscriptions().await?;
                let call = subscriptions
                    .create_subscription()
                    .with_request(*new)
                    .send();
                admin.clients.call(operation, &name, call).await?;
            }
        }
    }
    if !found.fields.is_empty() {
        let subscriptions = admin.clients.subscriptions().await?;
        let call = subscriptions
            .update_subscription()
            .set_subscription(new)
            .set_update_mask(FieldMask::default().set_paths(found.fields))
            .send();
        admin
            .clients
            .call(operation, &own.subscription, call)
            .await?;
    }
    Ok(changes)
}

/// Notes what has to be created of a queue. Returns its subscription where it exists.
async fn missing(
    admin: &PubSubAdmin,
    address: &Address,
    new: Subscription,
    changes: &mut Vec<Change>,
    steps: &mut Vec<Step>,
) -> Result<Option<Subscription>> {
    let operation = Operation::Ensure;
    let topic = address.topic_name();
    if admin.topic(operation, &topic).await?.is_none() {
        changes.push(created("topic", &address.topic));
        steps.push(Step::CreateTopic(topic.clone()));
    }
    let name = &address.subscription;
    let live = admin.subscription(operation, name).await?;
    match &live {
        None => {
            changes.push(created("subscription", short(name)));
            steps.push(Step::CreateSubscription(Box::new(new)));
        }
        Some(live) if live.topic != topic => {
            return Err(operation.error(
                ErrorKind::InvalidConfig,
                format!(
                    "subscription {name} is of {}, and {topic} was asked for; a subscription \
                     stays with its topic, so use another name",
                    live.topic
                ),
            ));
        }
        Some(_) => {}
    }
    Ok(live)
}

fn differences(address: &Address, wanted: &Wanted, live: &Subscription) -> Differences {
    let name = short(&address.subscription);
    let mut found = Differences::default();
    let mut differs = |field: &'static str, setting: &str, from: Option<String>, to: String| {
        if from.as_ref() != Some(&to) {
            found.changes.push(Change {
                setting: format!("{name} {setting}"),
                from: Some(from.unwrap_or_else(|| "none".to_owned())),
                to,
            });
            found.fields.push(field);
        }
    };
    let shown = |duration: Duration| humantime::format_duration(duration).to_string();
    if let Some(lease) = wanted.lease {
        let is = Duration::from_secs(u64::try_from(live.ack_deadline_seconds).unwrap_or(0));
        differs(
            "ack_deadline_seconds",
            "lease",
            Some(shown(is)),
            shown(lease),
        );
    }
    if let Some(retention) = wanted.retention {
        let is = std_duration(live.message_retention_duration).map(shown);
        differs(
            "message_retention_duration",
            "retention",
            is,
            shown(retention),
        );
    }
    if let Some(dead_letter) = &wanted.dead_letter {
        let is = live.dead_letter_policy.as_ref().map(policy);
        differs(
            "dead_letter_policy",
            "dead letter",
            is,
            policy(&dead_letter.policy()),
        );
    }
    if let Some((min, max)) = wanted.backoff {
        let is = live.retry_policy.as_ref().map(|policy| {
            let bound = |bound| std_duration(bound).map_or_else(|| "?".to_owned(), shown);
            format!(
                "{} to {}",
                bound(policy.minimum_backoff),
                bound(policy.maximum_backoff)
            )
        });
        let to = format!("{} to {}", shown(min), shown(max));
        differs("retry_policy", "backoff", is, to);
    }
    if wanted.exactly_once {
        let is = live.enable_exactly_once_delivery.to_string();
        differs(
            "enable_exactly_once_delivery",
            "exactly once",
            Some(is),
            true.to_string(),
        );
    }
    if let Some(ttl) = expiry(live) {
        differs(
            "expiration_policy",
            "expiration",
            Some(shown(ttl)),
            "never".to_owned(),
        );
    }
    if wanted.ordered && !live.enable_message_ordering {
        found.changes.push(Change {
            setting: format!("{name} ordered"),
            from: Some(false.to_string()),
            to: true.to_string(),
        });
        found
            .fixed
            .push("it has no ordering, which cannot be changed".to_owned());
    }
    found
}

/// After how long without use the subscription is deleted; `None` is never.
pub(crate) fn expiry(live: &Subscription) -> Option<Duration> {
    std_duration(live.expiration_policy.as_ref()?.ttl)
}

fn policy(policy: &DeadLetterPolicy) -> String {
    format!(
        "{} after {} deliveries",
        policy.dead_letter_topic, policy.max_delivery_attempts
    )
}

fn created(what: &str, name: &str) -> Change {
    Change {
        setting: format!("{what} {name}"),
        from: None,
        to: "created".to_owned(),
    }
}

fn list(changes: &[Change]) -> String {
    changes
        .iter()
        .map(|change| {
            format!(
                "{} is {} and {} was asked for",
                change.setting,
                change.from.as_deref().unwrap_or("missing"),
                change.to
            )
        })
        .collect::<Vec<_>>()
        .join("; ")
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

    #[test]
    fn what_is_not_asked_for_is_left_as_it_is() {
        let address = Address::parse("p/orders", None).unwrap();
        let live = Subscription::new()
            .set_ack_deadline_seconds(77)
            .set_enable_message_ordering(true)
            .set_enable_exactly_once_delivery(true)
            .set_dead_letter_policy(DeadLetterPolicy::new());
        let nothing = wanted("pubsub://p/orders", QueueSpec::new()).unwrap();
        assert_eq!(differences(&address, &nothing, &live).changes, []);
    }

    #[test]
    fn every_difference_is_found_and_ordering_cannot_be_changed() {
        let address = Address::parse("p/orders", None).unwrap();
        let spec = QueueSpec::new()
            .with_lease(Duration::from_secs(20))
            .with_retention(Duration::from_secs(3_600))
            .with_dead_letter("dlq", 5)
            .with_exactly_once()
            .with_ordering();
        let wanted = wanted("pubsub://p/orders?min_backoff=1s", spec).unwrap();
        let expires = ExpirationPolicy::new().set_ttl(wkt_duration(Duration::from_secs(86_400)));
        let live = Subscription::new().set_expiration_policy(expires);
        let found = differences(&address, &wanted, &live);
        assert_eq!(
            found.fields,
            [
                "ack_deadline_seconds",
                "message_retention_duration",
                "dead_letter_policy",
                "retry_policy",
                "enable_exactly_once_delivery",
                "expiration_policy",
            ]
        );
        assert_eq!(found.changes.len(), 7);
        assert_eq!(found.fixed.len(), 1);
        let as_wanted = wanted.subscription(&address);
        assert_eq!(differences(&address, &wanted, &as_wanted).changes, []);
    }
}
