//! A queue as it is, and what about it makes messages vanish.

use std::{collections::BTreeMap, time::Duration};

use google_cloud_pubsub::model::{Subscription, Topic};
use towpath_core::{DeadLetterSpec, ErrorKind, QueueInfo, Result};

use crate::{
    address::short,
    admin::{PubSubAdmin, found},
    ensure::{expiry, std_duration},
    error::Operation,
};

/// What the service names the topic of a subscription whose topic was deleted.
pub(crate) const DELETED_TOPIC: &str = "_deleted-topic_";
/// Who moves messages to dead-letter topics.
const SERVICE_AGENT: &str = "gcp-sa-pubsub.iam.gserviceaccount.com";

const OPERATION: Operation = Operation::Inspect;

pub(crate) async fn run(admin: &PubSubAdmin) -> Result<QueueInfo> {
    let name = &admin.address.subscription;
    let Some(live) = admin.subscription(OPERATION, name).await? else {
        return Err(OPERATION.error(
            ErrorKind::NotFound,
            format!("there is no subscription {name}; create it with ensure"),
        ));
    };
    let topic = admin.topic(OPERATION, &admin.address.topic_name()).await?;
    let mut info = QueueInfo::new(name);
    info.lease = Some(seconds(live.ack_deadline_seconds));
    info.ordered = live.enable_message_ordering;
    info.exactly_once = live.enable_exactly_once_delivery;
    info.retention = std_duration(live.message_retention_duration);
    info.dead_letter = live
        .dead_letter_policy
        .as_ref()
        .map(|policy| DeadLetterSpec {
            queue: name_beside(admin, &policy.dead_letter_topic),
            max_deliveries: u32::try_from(policy.max_delivery_attempts).unwrap_or(0),
        });
    info.settings = settings(&live, topic.as_ref());
    info.warnings = warnings(&live, topic.as_ref());
    if live.dead_letter_policy.is_some() {
        dead_letter_warnings(admin, &live, &mut info.warnings).await?;
    }
    Ok(info)
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The short name of a topic of the same project, else the full one.
fn name_beside(admin: &PubSubAdmin, topic: &str) -> String {
    let beside = admin.address.beside(short(topic));
    if beside.is_ok_and(|beside| beside.topic_name() == topic) {
        short(topic).to_owned()
    } else {
        topic.to_owned()
    }
}

fn settings(live: &Subscription, topic: Option<&Topic>) -> BTreeMap<String, String> {
    let shown = |duration: Duration| humantime::format_duration(duration).to_string();
    let mut settings = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        settings.insert(name.to_owned(), value);
    };
    set("topic", live.topic.clone());
    set(
        "ack_deadline_seconds",
        live.ack_deadline_seconds.to_string(),
    );
    set(
        "retain_acked_messages",
        live.retain_acked_messages.to_string(),
    );
    set(
        "expiration",
        expiry(live).map_or_else(|| "never".to_owned(), shown),
    );
    let backoff = live.retry_policy.as_ref().map(|policy| {
        let bound = |bound| std_duration(bound).map_or_else(|| "?".to_owned(), shown);
        format!(
            "{} to {}",
            bound(policy.minimum_backoff),
            bound(policy.maximum_backoff)
        )
    });
    set(
        "retry_policy",
        backoff.unwrap_or_else(|| "at once".to_owned()),
    );
    if !live.filter.is_empty() {
        set("filter", live.filter.clone());
    }
    if let Some(push) = &live.push_config
        && !push.push_endpoint.is_empty()
    {
        set("push_endpoint", push.push_endpoint.clone());
    }
    if let Some(retention) = topic.and_then(|topic| std_duration(topic.message_retention_duration))
    {
        set("topic_retention", shown(retention));
    }
    settings
}

/// What the settings alone say.
fn warnings(live: &Subscription, topic: Option<&Topic>) -> Vec<String> {
    let mut warnings = Vec::new();
    if live.topic == DELETED_TOPIC || topic.is_none() {
        warnings.push(
            "the topic was deleted, so no new message comes; create the queue anew".to_owned(),
        );
    }
    if let Some(ttl) = expiry(live) {
        warnings.push(format!(
            "the subscription is deleted with its messages when nobody uses it for {}; run ensure \
             to keep it",
            humantime::format_duration(ttl)
        ));
    }
    if live.dead_letter_policy.is_none() {
        warnings.push(
            "there is no dead-letter policy: attempts are not counted, and a message whose consumer \
             crashes each time comes back until it is too old, and is lost then; run ensure with a \
             dead-letter queue"
                .to_owned(),
        );
    }
    if !live.filter.is_empty() {
        warnings.push(format!(
            "the filter {:?} drops all messages that do not match it",
            live.filter
        ));
    }
    if live.detached {
        warnings
            .push("the subscription is detached from its topic and gets no messages".to_owned());
    }
    if !live.message_transforms.is_empty() {
        warnings.push(
            "the subscription has message transforms, which may change or drop messages".to_owned(),
        );
    }
    if let Some(why) = not_pulled(live) {
        warnings.push(format!("{why}, so that a consumer gets nothing"));
    }
    warnings
}

/// Why messages of this subscription cannot be received, if so.
pub(crate) fn not_pulled(live: &Subscription) -> Option<&'static str> {
    if live
        .push_config
        .as_ref()
        .is_some_and(|push| !push.push_endpoint.is_empty())
    {
        return Some("the subscription pushes its messages to a web address");
    }
    if live.bigquery_config.is_some() {
        return Some("the subscription writes its messages to BigQuery");
    }
    if live.cloud_storage_config.is_some() {
        return Some("the subscription writes its messages to Cloud Storage");
    }
    if live.bigtable_config.is_some() {
        return Some("the subscription writes its messages to Bigtable");
    }
    None
}

/// What stands in the way of dead letters, as far as it is visible.
async fn dead_letter_warnings(
    admin: &PubSubAdmin,
    live: &Subscription,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let Some(policy) = &live.dead_letter_policy else {
        return Ok(());
    };
    let topic = &policy.dead_letter_topic;
    match found(admin.subscriptions_of(OPERATION, topic).await) {
        Ok(None) => warnings.push(format!(
            "the dead-letter topic {topic} does not exist; run ensure to create it"
        )),
        Ok(Some(subscriptions)) if subscriptions.is_empty() => warnings.push(format!(
            "the dead-letter topic {topic} has no subscription, so dead letters vanish; run ensure \
             to create one"
        )),
        Ok(Some(_)) => {}
        // The topic can be another project's, or out of sight.
        Err(error) if is_hidden(&error) => warnings.push(format!(
            "whether the dead-letter topic {topic} has a subscription is not visible; without one, \
             dead letters vanish"
        )),
        Err(error) => return Err(error),
    }
    if admin.clients.is_anonymous() {
        return Ok(());
    }
    for (resource, role) in [
        (topic, "roles/pubsub.publisher"),
        (&live.name, "roles/pubsub.subscriber"),
    ] {
        if has_grant(admin, resource, role).await? == Some(false) {
            warnings.push(format!(
                "{resource} does not itself grant {role} to Pub/Sub's service agent \
                 (service-PROJECT_NUMBER@{SERVICE_AGENT}); unless the project does, the service \
                 moves no dead letters"
            ));
        }
    }
    Ok(())
}

fn is_hidden(error: &towpath_core::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::Unsupported | ErrorKind::NotFound
    )
}

/// Whether the policy of a resource lets the service agent in; `None` where it may not be read.
async fn has_grant(admin: &PubSubAdmin, resource: &str, role: &str) -> Result<Option<bool>> {
    let policies = admin.clients.policies().await?;
    let call = policies.get_iam_policy().set_resource(resource).send();
    match admin.clients.call(OPERATION, resource, call).await {
        Ok(policy) => Ok(Some(policy.bindings.iter().any(|binding| {
            let is_enough = [
                role,
                "roles/pubsub.editor",
                "roles/pubsub.admin",
                "roles/owner",
            ]
            .contains(&binding.role.as_str());
            let is_agent = |member: &String| member.ends_with(SERVICE_AGENT);
            is_enough && binding.members.iter().any(is_agent)
        }))),
        Err(error) if is_hidden(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use google_cloud_pubsub::model::{DeadLetterPolicy, ExpirationPolicy, PushConfig};

    use super::*;

    #[test]
    fn what_makes_messages_vanish_is_warned_of() {
        let topic = Topic::new();
        let good = Subscription::new()
            .set_dead_letter_policy(DeadLetterPolicy::new())
            .set_expiration_policy(ExpirationPolicy::new());
        assert_eq!(warnings(&good, Some(&topic)), Vec::<String>::new());
        let ttl = google_cloud_wkt::Duration::clamp(31 * 86_400, 0);
        let push = PushConfig::new().set_push_endpoint("https://example.com");
        for (live, part) in [
            (good.clone().set_topic(DELETED_TOPIC), "topic was deleted"),
            (
                good.clone()
                    .set_expiration_policy(ExpirationPolicy::new().set_ttl(ttl)),
                "nobody uses it for 1month",
            ),
            (
                good.clone()
                    .set_or_clear_dead_letter_policy(None::<DeadLetterPolicy>),
                "no dead-letter policy",
            ),
            (good.clone().set_filter("attributes:a"), "filter"),
            (good.clone().set_detached(true), "detached"),
            (good.clone().set_push_config(push), "pushes"),
        ] {
            let found = warnings(&live, Some(&topic));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(part), "{found:?}");
        }
        assert!(warnings(&good, None)[0].contains("topic was deleted"));
    }
}
