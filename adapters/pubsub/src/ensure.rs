//! Queues as wanted: what is missing or different, and making it so.

mod wanted;

use std::time::Duration;

use google_cloud_pubsub::model::{DeadLetterPolicy, ExpirationPolicy, RetryPolicy, Subscription};
use google_cloud_wkt::FieldMask;
use towpath_core::{Change, EnsureMode, ErrorKind, Result};

use crate::{
    address::{Address, short},
    admin::PubSubAdmin,
    error::{BACKEND, Operation},
};
pub(crate) use wanted::Wanted;

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
        return Err(Change::refused(&found.changes).with_backend(BACKEND));
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

#[cfg(test)]
mod tests {
    use towpath_core::{QueueConfig, QueueSpec};

    use super::*;

    fn wanted(url: &str, spec: QueueSpec) -> Result<Wanted> {
        let config = QueueConfig::parse(url).unwrap();
        let address = Address::parse(config.target(), None).unwrap();
        Wanted::new(&config, &address, &spec)
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
