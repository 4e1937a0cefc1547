//! What is different about queues that exist.

use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName as Name;
use towpath_core::{Change, DeadLetterSpec, QueueSpec, Result};

use super::{seconds, to_json};
use crate::{
    SqsAdmin,
    error::invalid_config,
    settings::{QueueSettings, RedriveAllowPolicy},
};

/// The most queues that a redrive allow policy lists.
const ALLOWED_QUEUES: usize = 10;

/// The settings that `spec` asks for: SQS's name, our name, and the value.
pub(super) fn wanted_settings(
    spec: &QueueSpec,
) -> impl Iterator<Item = (Name, &'static str, String)> {
    let settings = [
        (Name::VisibilityTimeout, "lease", spec.lease),
        (Name::MessageRetentionPeriod, "retention", spec.retention),
    ];
    settings
        .into_iter()
        .filter_map(|(name, what, value)| Some((name, what, seconds(value?))))
}

pub(super) fn differences(
    queue: &str,
    spec: &QueueSpec,
    settings: &QueueSettings,
) -> Result<Vec<(Change, Name, String)>> {
    let mut found = Vec::new();
    for (name, what, wanted) in wanted_settings(spec) {
        let is = settings.get(name.clone());
        if is == Some(wanted.as_str()) {
            continue;
        }
        let change = Change {
            setting: format!("{queue} {what}"),
            from: is.map(readable),
            to: readable(&wanted),
        };
        found.push((change, name, wanted));
    }
    Ok(found)
}

/// Seconds as SQS writes them, for people.
fn readable(seconds: &str) -> String {
    seconds.parse().map_or_else(
        |_| seconds.to_owned(),
        |seconds| humantime::format_duration(Duration::from_secs(seconds)).to_string(),
    )
}

/// `arn` is that of the dead-letter queue, where it exists.
pub(super) fn redrive_difference(
    admin: &SqsAdmin,
    target: &SqsAdmin,
    wanted: &DeadLetterSpec,
    arn: Option<&str>,
    settings: &QueueSettings,
) -> Result<Option<Change>> {
    let is = settings.redrive_policy()?;
    if let Some(is) = &is
        && Some(is.dead_letter_target_arn.as_str()) == arn
        && is.max_receive_count == wanted.max_deliveries
    {
        return Ok(None);
    }
    let shown = |queue: &str, count: u32| format!("{queue} after {count} deliveries");
    Ok(Some(Change {
        setting: format!("{} dead letter", admin.address.name),
        from: is.map(|is| shown(&is.dead_letter_target_arn, is.max_receive_count)),
        to: shown(arn.unwrap_or(&target.address.name), wanted.max_deliveries),
    }))
}

/// Without a policy all queues of the account may use the dead-letter queue, which is enough.
pub(super) fn allow_difference(
    target: &str,
    own_arn: &str,
    settings: &QueueSettings,
) -> Result<Option<(Change, RedriveAllowPolicy)>> {
    let Some(is) = settings.redrive_allow_policy()? else {
        return Ok(None);
    };
    if is.allows(own_arn) {
        return Ok(None);
    }
    let mut arns = is.source_queue_arns.clone();
    arns.push(own_arn.to_owned());
    if arns.len() > ALLOWED_QUEUES {
        return Err(invalid_config(format!(
            "queue {target}: its RedriveAllowPolicy lists {ALLOWED_QUEUES} queues already, and \
             SQS allows no more; use another dead-letter queue, or allow all"
        )));
    }
    let policy = RedriveAllowPolicy::by_queue(arns);
    let change = Change {
        setting: format!("{target} redrive allow policy"),
        from: Some(to_json(&is)?),
        to: to_json(&policy)?,
    };
    Ok(Some((change, policy)))
}
