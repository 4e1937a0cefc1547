//! The settings of a queue, as SQS has them.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::types::QueueAttributeName as Name;
use serde::{Deserialize, Serialize};
use towpath_core::Result;

use crate::{address::Address, connect::Clients, error::invalid_config, operation::Operation};

/// All attributes of a queue.
#[derive(Clone, Debug)]
pub(crate) struct QueueSettings(HashMap<Name, String>);

/// A queue's redrive policy: where messages go that were received too often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RedrivePolicy {
    /// The dead-letter queue.
    pub(crate) dead_letter_target_arn: String,
    /// A message is moved when it was received more often than this.
    #[serde(deserialize_with = "number_or_text")]
    pub(crate) max_receive_count: u32,
}

/// A dead-letter queue's own policy: which queues may move messages to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RedriveAllowPolicy {
    /// `allowAll`, `denyAll` or `byQueue`.
    pub(crate) redrive_permission: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) source_queue_arns: Vec<String>,
}

impl RedriveAllowPolicy {
    /// Only the queues `arns` may use the dead-letter queue.
    pub(crate) fn by_queue(arns: Vec<String>) -> Self {
        Self {
            redrive_permission: "byQueue".to_owned(),
            source_queue_arns: arns,
        }
    }

    pub(crate) fn allows(&self, arn: &str) -> bool {
        match self.redrive_permission.as_str() {
            "allowAll" => true,
            "byQueue" => self.source_queue_arns.iter().any(|allowed| allowed == arn),
            _ => false,
        }
    }
}

/// SQS writes the number as a number, and keeps it as text where it was set as text.
fn number_or_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(u32),
        Text(String),
    }
    match Form::deserialize(deserializer)? {
        Form::Number(number) => Ok(number),
        Form::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

impl QueueSettings {
    pub(crate) fn new(attributes: HashMap<Name, String>) -> Self {
        Self(attributes)
    }

    /// Reads the settings of the queue at `url`.
    pub(crate) async fn read(
        clients: &Clients,
        operation: Operation,
        address: &Address,
        url: &str,
    ) -> Result<Self> {
        let request = clients
            .control
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(Name::All);
        let answer = clients
            .control_call(operation, &address.name, request.send())
            .await?;
        Ok(Self::new(answer.attributes.unwrap_or_default()))
    }

    pub(crate) fn get(&self, name: Name) -> Option<&str> {
        self.0.get(&name).map(String::as_str)
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: Name) -> Option<T> {
        self.get(name)?.parse().ok()
    }

    fn seconds(&self, name: Name) -> Option<Duration> {
        self.number(name).map(Duration::from_secs)
    }

    pub(crate) fn arn(&self) -> Result<&str> {
        self.get(Name::QueueArn)
            .ok_or_else(|| invalid_config("SQS did not tell the queue's ARN"))
    }

    pub(crate) fn visibility_timeout(&self) -> Option<Duration> {
        self.seconds(Name::VisibilityTimeout)
    }

    pub(crate) fn retention(&self) -> Option<Duration> {
        self.seconds(Name::MessageRetentionPeriod)
    }

    pub(crate) fn is_fifo(&self) -> bool {
        self.get(Name::FifoQueue) == Some("true")
    }

    /// The redrive policy; an error when it is there and cannot be read.
    pub(crate) fn redrive_policy(&self) -> Result<Option<RedrivePolicy>> {
        self.policy(Name::RedrivePolicy)
    }

    /// The redrive allow policy; an error when it is there and cannot be read.
    pub(crate) fn redrive_allow_policy(&self) -> Result<Option<RedriveAllowPolicy>> {
        self.policy(Name::RedriveAllowPolicy)
    }

    fn policy<T: serde::de::DeserializeOwned>(&self, name: Name) -> Result<Option<T>> {
        let Some(text) = self.get(name.clone()).filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        serde_json::from_str(text).map(Some).map_err(|error| {
            invalid_config(format!("the queue's {name} cannot be read: {error}")).with_source(error)
        })
    }

    /// Names and values, in SQS's own words.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(name: Name, value: &str) -> QueueSettings {
        QueueSettings::new(HashMap::from([(name, value.to_owned())]))
    }

    #[test]
    fn a_redrive_policy_is_read_with_a_number_or_a_text() {
        for count in ["7", "\"7\""] {
            let text = format!(
                r#"{{"deadLetterTargetArn":"arn:aws:sqs:r:1:dlq","maxReceiveCount":{count}}}"#
            );
            let policy = settings(Name::RedrivePolicy, &text)
                .redrive_policy()
                .unwrap();
            let policy = policy.unwrap();
            assert_eq!(policy.max_receive_count, 7);
            assert_eq!(policy.dead_letter_target_arn, "arn:aws:sqs:r:1:dlq");
        }
        assert_eq!(
            settings(Name::RedrivePolicy, "").redrive_policy().unwrap(),
            None
        );
        assert!(settings(Name::RedrivePolicy, "{").redrive_policy().is_err());
    }

    #[test]
    fn a_redrive_allow_policy_says_which_queues_may_use_the_queue() {
        let policy = |text| {
            let policy = settings(Name::RedriveAllowPolicy, text).redrive_allow_policy();
            policy.unwrap().unwrap()
        };
        assert!(policy(r#"{"redrivePermission":"allowAll"}"#).allows("a"));
        assert!(!policy(r#"{"redrivePermission":"denyAll"}"#).allows("a"));
        let some = policy(r#"{"redrivePermission":"byQueue","sourceQueueArns":["a","b"]}"#);
        assert!(some.allows("a") && some.allows("b") && !some.allows("c"));
    }
}
