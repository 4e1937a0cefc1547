//! The administrating half.

use std::time::SystemTime;

use async_trait::async_trait;
use google_cloud_gax::paginator::ItemPaginator;
use google_cloud_pubsub::model::{Subscription, Topic};
use google_cloud_wkt::Timestamp;
use towpath_core::{
    Change, Depth, EnsureMode, ErrorKind, QueueConfig, QueueInfo, QueueSpec, Result, driver,
};

use crate::{
    address::Address,
    connect::{Clients, Place},
    ensure::{self, Wanted},
    error::Operation,
    inspect,
};

/// Creates, inspects, purges and deletes one topic with one subscription.
#[derive(Debug)]
pub(crate) struct PubSubAdmin {
    pub(crate) clients: Clients,
    pub(crate) address: Address,
    config: QueueConfig,
}

impl PubSubAdmin {
    pub(crate) fn new(clients: Clients, place: Place, config: QueueConfig) -> Self {
        Self {
            clients,
            address: place.address,
            config,
        }
    }

    /// The topic, where it exists.
    pub(crate) async fn topic(&self, operation: Operation, name: &str) -> Result<Option<Topic>> {
        topic(&self.clients, operation, name).await
    }

    /// The subscription, where it exists.
    pub(crate) async fn subscription(
        &self,
        operation: Operation,
        name: &str,
    ) -> Result<Option<Subscription>> {
        subscription(&self.clients, operation, name).await
    }

    /// The names of the topic's subscriptions.
    pub(crate) async fn subscriptions_of(
        &self,
        operation: Operation,
        topic: &str,
    ) -> Result<Vec<String>> {
        subscriptions_of(&self.clients, operation, topic).await
    }

    fn missing(&self, operation: Operation) -> towpath_core::Error {
        operation.error(
            ErrorKind::NotFound,
            format!(
                "there is no subscription {}; create it with ensure",
                self.address.subscription
            ),
        )
    }
}

/// Turns "it does not exist" into `None`.
pub(crate) fn found<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The topic, where it exists.
pub(crate) async fn topic(
    clients: &Clients,
    operation: Operation,
    name: &str,
) -> Result<Option<Topic>> {
    let call = clients.topics().await?.get_topic().set_topic(name).send();
    found(clients.call(operation, name, call).await)
}

/// The subscription, where it exists.
pub(crate) async fn subscription(
    clients: &Clients,
    operation: Operation,
    name: &str,
) -> Result<Option<Subscription>> {
    let admin = clients.subscriptions().await?;
    let call = admin.get_subscription().set_subscription(name).send();
    found(clients.call(operation, name, call).await)
}

/// The names of the topic's subscriptions.
pub(crate) async fn subscriptions_of(
    clients: &Clients,
    operation: Operation,
    topic: &str,
) -> Result<Vec<String>> {
    let admin = clients.topics().await?;
    let mut names = admin.list_topic_subscriptions().set_topic(topic).by_item();
    let all = async {
        let mut all = Vec::new();
        while let Some(name) = names.next().await {
            all.push(name?);
        }
        Ok(all)
    };
    clients.call(operation, topic, all).await
}

#[async_trait]
impl driver::Admin for PubSubAdmin {
    async fn ensure(&self, spec: &QueueSpec, mode: EnsureMode) -> Result<Vec<Change>> {
        let wanted = Wanted::new(&self.config, &self.address, spec)?;
        ensure::run(self, &wanted, mode).await
    }

    async fn inspect(&self) -> Result<QueueInfo> {
        inspect::run(self).await
    }

    async fn depth(&self) -> Result<Depth> {
        Err(Operation::Depth.error(
            ErrorKind::Unsupported,
            "Pub/Sub counts messages in Cloud Monitoring only: see \
             subscription/num_undelivered_messages there",
        ))
    }

    async fn purge(&self) -> Result<()> {
        let name = &self.address.subscription;
        let now = SystemTime::now();
        let time = Timestamp::try_from(now).map_err(|error| {
            Operation::Purge
                .error(ErrorKind::Unknown, "the clock of this machine is wrong")
                .with_source(error)
        })?;
        let admin = self.clients.subscriptions().await?;
        let call = admin.seek().set_subscription(name).set_time(time).send();
        self.clients.call(Operation::Purge, name, call).await?;
        self.clients.purged(name, Some(now));
        Ok(())
    }

    async fn delete(&self) -> Result<()> {
        let operation = Operation::Delete;
        let (topic, subscription) = (self.address.topic_name(), &self.address.subscription);
        let admin = self.clients.subscriptions().await?;
        let call = admin
            .delete_subscription()
            .set_subscription(subscription)
            .send();
        let deleted = found(self.clients.call(operation, subscription, call).await)?;
        // Another subscription is another queue, which lives by the topic, too.
        let others = found(self.subscriptions_of(operation, &topic).await)?;
        let Some(others) = others else {
            return deleted.ok_or_else(|| self.missing(operation));
        };
        if others.iter().any(|other| other != subscription) {
            return deleted.ok_or_else(|| self.missing(operation));
        }
        let admin = self.clients.topics().await?;
        let call = admin.delete_topic().set_topic(&topic).send();
        let without_topic = found(self.clients.call(operation, &topic, call).await)?;
        deleted
            .or(without_topic)
            .ok_or_else(|| self.missing(operation))
    }
}
