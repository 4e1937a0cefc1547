//! Opens queues of the scheme `pubsub`.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use google_cloud_pubsub::model::{Subscription, Topic};
use towpath_core::{ErrorKind, QueueConfig, Result, driver};

use crate::{
    PubSubOptions, admin,
    admin::PubSubAdmin,
    capabilities,
    connect::{Clients, Place, Settings},
    consumer::PubSubConsumer,
    error::{BACKEND, Operation, invalid_config},
    inspect,
    options::{Receiving, Sending},
    producer::PubSubProducer,
    publishers::Publishers,
    pump::{Copier, Pump},
};

/// The backend of Google Cloud Pub/Sub, for the scheme `pubsub`.
///
/// Queues with the same endpoint and credentials share clients. Cloning is cheap, and clones share
/// them too.
///
/// ```
/// use towpath_core::Registry;
/// use towpath_pubsub::PubSub;
///
/// let registry = Registry::new().with(PubSub::new());
/// // No I/O yet: opening a half of the queue connects.
/// let queue = registry.open("pubsub://my-project/orders?subscription=orders-worker")?;
/// # Ok::<(), towpath_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct PubSub {
    connections: Arc<Mutex<HashMap<Settings, Clients>>>,
}

impl PubSub {
    /// A backend without connections yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn clients(&self, settings: &Settings) -> Clients {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(settings.clone())
            .or_insert_with(|| Clients::new(settings.clone()))
            .clone()
    }

    fn place(&self, config: &QueueConfig) -> Result<Place> {
        driver::Backend::check(self, config)?;
        Place::of(config)
    }
}

impl fmt::Debug for PubSub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PubSub")
    }
}

#[async_trait]
impl driver::Backend for PubSub {
    fn scheme(&self) -> &'static str {
        BACKEND
    }

    fn check(&self, config: &QueueConfig) -> Result<()> {
        config.queue_options()?;
        Sending::of(config)?;
        Receiving::of(config)?;
        Place::of(config).map(drop)
    }

    /// Reads topic and subscription where that is allowed: an account that may publish only need
    /// not be able to look.
    async fn producer(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Producer>> {
        let place = self.place(config)?;
        let clients = self.clients(&place.settings);
        let own: PubSubOptions = config.backend_options()?;
        let topic = place.address.topic_name();
        let (live_topic, live) = tokio::try_join!(
            visible(admin::topic(&clients, Operation::Open, &topic)),
            visible(admin::subscription(
                &clients,
                Operation::Open,
                &place.address.subscription
            )),
        )?;
        if let Seen::Missing = live_topic {
            return Err(not_found(&format!("topic {topic}")));
        }
        let live = match live {
            Seen::Found(live) if live.topic == topic => Some(live),
            Seen::Found(_) | Seen::Missing | Seen::Hidden => None,
        };
        if live.is_none() {
            check_audience(&clients, &topic, &live_topic).await?;
        }
        let capabilities = capabilities::of_queue(
            live.as_ref(),
            &Receiving::of(config)?,
            own.ordering.unwrap_or(false),
        );
        let sending = Sending::of(config)?;
        let base = clients.publisher().await?;
        let publishers = Publishers::new(base, topic, sending.clone());
        Ok(Arc::new(PubSubProducer::new(
            capabilities,
            publishers,
            &place.address.topic,
            &sending,
            clients.request_timeout(),
        )))
    }

    /// Reads the subscription, which decides what the queue can do.
    async fn consumer(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Consumer>> {
        let place = self.place(config)?;
        let clients = self.clients(&place.settings);
        let name = place.address.subscription.clone();
        let live = admin::subscription(&clients, Operation::Open, &name)
            .await?
            .ok_or_else(|| not_found(&format!("subscription {name}")))?;
        check_pulled(&live, &place.address.topic_name())?;
        let receiving = Receiving::of(config)?;
        let mut capabilities = capabilities::of_queue(Some(&live), &receiving, false);
        let topic = place.address.topic_name();
        let sending = Sending::of(config)?;
        let copier = Copier::open(&clients, &topic, &live, &receiving, &sending).await?;
        if let Some(copier) = &copier {
            capabilities.limits.nack_delay = copier.longest();
        }
        let deadline = u64::try_from(live.ack_deadline_seconds).unwrap_or(0);
        let lease = receiving
            .lease
            .unwrap_or(Duration::from_secs(deadline.clamp(10, 600)));
        let request_timeout = clients.request_timeout();
        let pump = Pump::new(clients, name.clone(), &live, receiving, lease, copier);
        Ok(Arc::new(PubSubConsumer::new(
            capabilities,
            pump,
            name,
            request_timeout,
        )))
    }

    async fn admin(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Admin>> {
        let place = self.place(config)?;
        let clients = self.clients(&place.settings);
        Ok(Arc::new(PubSubAdmin::new(clients, place, config.clone())))
    }

    /// A topic and a subscription of the same name. Options of the connection and of sending are
    /// kept; what is about the source queue is not.
    fn dead_letter(&self, config: &QueueConfig, name: &str) -> Result<QueueConfig> {
        let source = Place::of(config)?.address;
        let address = source
            .beside(name)
            .map_err(|why| config.bad_option("dead_letter", &why))?;
        if address.topic_name() == source.topic_name() {
            return Err(invalid_config(format!(
                "{config}: a queue cannot be its own dead-letter queue"
            )));
        }
        let target = format!("{}/{}", address.project, address.topic);
        let mut config = config.clone().with_target(target);
        for option in [
            "dead_letter",
            "max_attempts",
            "max_deliveries",
            "lease",
            "max_lease",
            "prefetch",
            "subscription",
            "ordering",
            "min_backoff",
            "max_backoff",
        ] {
            config = config.without_option(option);
        }
        Ok(config)
    }
}

/// What a look found.
enum Seen<T> {
    Found(T),
    Missing,
    /// The account may not look.
    Hidden,
}

async fn visible<T>(look: impl Future<Output = Result<Option<T>>>) -> Result<Seen<T>> {
    match look.await {
        Ok(Some(found)) => Ok(Seen::Found(found)),
        Ok(None) => Ok(Seen::Missing),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            tracing::debug!(%error, "the account may not look");
            Ok(Seen::Hidden)
        }
        Err(error) => Err(error),
    }
}

fn not_found(what: &str) -> towpath_core::Error {
    Operation::Open.error(
        ErrorKind::NotFound,
        format!("{what} does not exist; check the names, or create the queue"),
    )
}

/// Refuses a topic that nobody listens to: what is sent there is accepted and lost.
async fn check_audience(clients: &Clients, topic: &str, live: &Seen<Topic>) -> Result<()> {
    let keeps = matches!(live, Seen::Found(live) if live.message_retention_duration.is_some());
    let names = admin::subscriptions_of(clients, Operation::Open, topic);
    match visible(async { names.await.map(Some) }).await? {
        Seen::Found(names) if names.is_empty() && !keeps => Err(Operation::Open.error(
            ErrorKind::NotFound,
            format!(
                "topic {topic} has no subscription, so what is sent would be lost; create the \
                 queue with ensure, or subscribe to the topic first"
            ),
        )),
        _ => Ok(()),
    }
}

/// Refuses a subscription whose messages cannot be received, or are of another topic.
fn check_pulled(live: &Subscription, topic: &str) -> Result<()> {
    let name = &live.name;
    if let Some(why) = inspect::not_pulled(live) {
        return Err(invalid_config(format!(
            "{name}: {why}; use another subscription of the topic"
        )));
    }
    if live.detached {
        return Err(invalid_config(format!(
            "{name}: it was detached from its topic; create another subscription"
        )));
    }
    if live.topic == inspect::DELETED_TOPIC {
        tracing::warn!(
            subscription = name,
            "the topic was deleted; what is left is received, and nothing new comes"
        );
    } else if live.topic != topic {
        return Err(invalid_config(format!(
            "{name} is of {}, and the URL says {topic}; name the topic of the subscription",
            live.topic
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use google_cloud_pubsub::model::PushConfig;

    use super::*;
    use towpath_core::driver::Backend;

    fn parse(url: &str) -> QueueConfig {
        QueueConfig::parse(url).unwrap()
    }

    #[test]
    fn a_dead_letter_queue_is_in_the_same_place_with_the_same_connection() {
        let config = parse(
            "pubsub://p/orders?subscription=bills&endpoint=http://127.0.0.1:1&lease=30s\
             &linger=5ms&dead_letter=dlq&max_attempts=5&ordering=true",
        );
        let dead_letter = PubSub::new().dead_letter(&config, "dlq").unwrap();
        assert_eq!(dead_letter.target(), "p/dlq");
        assert_eq!(dead_letter.option("endpoint"), Some("http://127.0.0.1:1"));
        assert_eq!(dead_letter.option("linger"), Some("5ms"));
        for option in [
            "subscription",
            "lease",
            "dead_letter",
            "max_attempts",
            "ordering",
        ] {
            assert_eq!(dead_letter.option(option), None, "{option}");
        }
    }

    #[test]
    fn a_dead_letter_queue_that_cannot_be_is_refused() {
        for name in ["orders", "x", "no name"] {
            let config = parse("pubsub://p/orders");
            let error = PubSub::new().dead_letter(&config, name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{name}");
        }
    }

    #[tokio::test]
    async fn bad_options_are_refused_without_io() {
        for url in [
            "pubsub://p/orders?lease=5s",
            "pubsub://p/orders?batch_messages=0",
            "pubsub://p/orders?subscripton=x",
            "pubsub://p/orders?credentials=some",
            "pubsub://p/or",
        ] {
            let error = PubSub::new().check(&parse(url)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
        }
    }

    #[test]
    fn a_subscription_that_cannot_be_pulled_is_refused() {
        let live = Subscription::new().set_topic("t");
        check_pulled(&live, "t").unwrap();
        check_pulled(&live.clone().set_topic(inspect::DELETED_TOPIC), "t").unwrap();
        let push = PushConfig::new().set_push_endpoint("https://example.com");
        for live in [
            live.clone().set_topic("u"),
            live.clone().set_detached(true),
            live.clone().set_push_config(push),
        ] {
            let error = check_pulled(&live, "t").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        }
    }
}
