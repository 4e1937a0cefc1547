//! Opens queues of the scheme `sqs`.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use tokio::sync::Mutex;
use towpath_core::{QueueConfig, Result, driver};

use crate::{
    SqsAdmin,
    address::{self, Address},
    capabilities,
    connect::{Clients, Place, Settings},
    consumer::SqsConsumer,
    error::invalid_config,
    operation::BACKEND,
    producer::SqsProducer,
    queue::OpenQueue,
};

/// The backend of Amazon SQS, for the scheme `sqs`.
///
/// Queues with the same region, profile and endpoint share connections and credentials. Cloning is
/// cheap, and clones share them too.
///
/// ```
/// use towpath_core::Registry;
/// use towpath_sqs::Sqs;
///
/// let registry = Registry::new().with(Sqs::new());
/// // No I/O yet: opening a half of the queue connects.
/// let queue = registry.open("sqs://orders?region=us-east-1")?;
/// # Ok::<(), towpath_core::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Sqs {
    connections: Arc<Mutex<HashMap<Settings, Clients>>>,
}

impl Sqs {
    /// A backend without connections yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The administrating half with what only SQS has: see [`SqsAdmin`].
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](towpath_core::ErrorKind::InvalidConfig) for a target or an option that
    /// makes no sense, and when no region is known.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn sqs_admin(&self, config: &QueueConfig) -> Result<SqsAdmin> {
        driver::Backend::check(self, config)?;
        let place = Place::of(config)?;
        let clients = self.clients(&place).await?;
        Ok(SqsAdmin::new(
            clients,
            place.address,
            config.queue_options()?,
        ))
    }

    async fn clients(&self, place: &Place) -> Result<Clients> {
        let mut connections = self.connections.lock().await;
        if let Some(clients) = connections.get(&place.settings) {
            return Ok(clients.clone());
        }
        let clients = place.settings.connect().await?;
        connections.insert(place.settings.clone(), clients.clone());
        Ok(clients)
    }

    async fn open(&self, config: &QueueConfig) -> Result<OpenQueue> {
        driver::Backend::check(self, config)?;
        let place = Place::of(config)?;
        let clients = self.clients(&place).await?;
        OpenQueue::open(clients, &place.address, &config.queue_options()?).await
    }
}

impl fmt::Debug for Sqs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sqs")
    }
}

#[async_trait]
impl driver::Backend for Sqs {
    fn scheme(&self) -> &'static str {
        BACKEND
    }

    fn check(&self, config: &QueueConfig) -> Result<()> {
        let options = config.queue_options()?;
        capabilities::check_lease(options.lease).map_err(|why| config.bad_option("lease", &why))?;
        Place::of(config).map(drop)
    }

    async fn producer(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Producer>> {
        Ok(Arc::new(SqsProducer::new(self.open(config).await?)))
    }

    async fn consumer(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Consumer>> {
        Ok(Arc::new(SqsConsumer::new(self.open(config).await?)))
    }

    async fn admin(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Admin>> {
        Ok(Arc::new(self.sqs_admin(config).await?))
    }

    /// Connection and sending options are kept; what is about the source queue is not.
    fn dead_letter(&self, config: &QueueConfig, name: &str) -> Result<QueueConfig> {
        let target = address::sibling(config.target(), name);
        let source = Place::of(config)?.address;
        let address =
            Address::parse(&target).map_err(|why| config.bad_option("dead_letter", &why))?;
        if source.name == address.name && source.account == address.account {
            return Err(invalid_config(format!(
                "{config}: a queue cannot be its own dead-letter queue"
            )));
        }
        let mut config = config.clone().with_target(target);
        for option in [
            "dead_letter",
            "max_attempts",
            "lease",
            "max_lease",
            "prefetch",
        ] {
            config = config.without_option(option);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use towpath_core::{ErrorKind, driver::Backend};

    #[test]
    fn a_dead_letter_queue_is_in_the_same_place_with_the_same_connection() {
        let config = QueueConfig::parse(
            "sqs://orders?region=eu-west-1&linger=5ms&lease=30s&dead_letter=dlq&max_attempts=5",
        );
        let dead_letter = Sqs::new().dead_letter(&config.unwrap(), "dlq").unwrap();
        assert_eq!(
            dead_letter.to_string(),
            "sqs://dlq?linger=5ms&region=eu-west-1"
        );
    }

    #[test]
    fn a_dead_letter_queue_that_cannot_be_is_refused() {
        for (source, name) in [("sqs://orders", "orders"), ("sqs://orders", "no name")] {
            let config = QueueConfig::parse(source).unwrap();
            let error = Sqs::new().dead_letter(&config, name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{source} {name}");
        }
    }

    #[tokio::test]
    async fn queues_with_the_same_settings_share_clients() {
        let sqs = Sqs::new();
        for url in [
            "sqs://a?endpoint=http://127.0.0.1:1",
            "sqs://b?endpoint=http://127.0.0.1:1&lease=30s",
            "sqs://c?endpoint=http://127.0.0.1:2",
        ] {
            let place = Place::of(&QueueConfig::parse(url).unwrap()).unwrap();
            sqs.clone().clients(&place).await.unwrap();
        }
        assert_eq!(sqs.connections.lock().await.len(), 2);
    }

    #[test]
    fn a_lease_that_sqs_does_not_have_is_refused_without_io() {
        for lease in ["500ms", "13h"] {
            let config = QueueConfig::parse(&format!("sqs://orders?lease={lease}")).unwrap();
            let error = Sqs::new().check(&config).unwrap_err();
            assert!(error.message().contains("whole seconds"), "{error}");
        }
    }
}
