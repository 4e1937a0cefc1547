//! A topic with a subscription.

use google_cloud_auth::credentials::{Credentials, anonymous};
use google_cloud_pubsub::client::{SubscriptionAdmin, TopicAdmin};
use towpath_benches::Error;

/// The project of all runs: what omniqueue's client takes for a local server, and nothing else.
pub(crate) const PROJECT: &str = "local-project";

pub(crate) fn topic(name: &str) -> String {
    format!("projects/{PROJECT}/topics/{name}")
}

pub(crate) fn subscription(name: &str) -> String {
    format!("projects/{PROJECT}/subscriptions/{name}")
}

/// No credentials, as local servers want them.
pub(crate) fn nobody() -> Credentials {
    anonymous::Builder::new().build()
}

/// A topic and a subscription of one run.
pub(crate) struct Queue {
    topics: TopicAdmin,
    subscriptions: SubscriptionAdmin,
    pub(crate) name: String,
}

impl Queue {
    pub(crate) async fn create(endpoint: &str, name: String) -> Result<Self, Error> {
        let topics = TopicAdmin::builder()
            .with_endpoint(endpoint)
            .with_credentials(nobody());
        let topics = topics.build().await?;
        let subscriptions = SubscriptionAdmin::builder()
            .with_endpoint(endpoint)
            .with_credentials(nobody());
        let subscriptions = subscriptions.build().await?;
        let topic = topic(&name);
        topics.create_topic().set_name(&topic).send().await?;
        subscriptions
            .create_subscription()
            .set_name(subscription(&name))
            .set_topic(&topic)
            .set_ack_deadline_seconds(60)
            .send()
            .await?;
        Ok(Self {
            topics,
            subscriptions,
            name,
        })
    }

    pub(crate) async fn delete(&self) -> Result<(), Error> {
        let deletion = self.subscriptions.delete_subscription();
        let name = subscription(&self.name);
        deletion.set_subscription(name).send().await?;
        let deletion = self.topics.delete_topic();
        deletion.set_topic(topic(&self.name)).send().await?;
        Ok(())
    }
}
