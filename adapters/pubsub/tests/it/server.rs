//! The servers that the environment names.

use std::{env, num::NonZeroUsize, sync::Arc, time::Duration};

use google_cloud_auth::credentials::{Credentials, anonymous};
use google_cloud_pubsub::client::{SubscriptionAdmin, TopicAdmin};
use libtest_mimic::{Failed, Trial};
use tokio::time::{Instant, timeout};
use towpath_core::{
    EnsureMode, QueueConfig, QueueSpec, Registry, Result,
    driver::{self, Backend as _, Received},
};
use towpath_pubsub::PubSub;

use crate::{Outcome, ServerFn, run};

/// Set where a missing server is a failure.
const REQUIRED: &str = "CONFORMANCE_REQUIRED";
/// The project of all tests.
pub(crate) const PROJECT: &str = "towpath-test";
/// How long a message may take to come.
const ARRIVAL: Duration = Duration::from_secs(30);

/// A server that speaks Pub/Sub.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    variable: &'static str,
    pub(crate) endpoint: String,
}

/// Google's emulator, and pstest.
pub(crate) fn all() -> [Server; 2] {
    [
        ("gcloud", "TOWPATH_PUBSUB_EMULATOR_ENDPOINT"),
        ("pstest", "TOWPATH_PSTEST_ENDPOINT"),
    ]
    .map(|(name, variable)| Server {
        name,
        variable,
        endpoint: env::var(variable).unwrap_or_default(),
    })
}

impl Server {
    pub(crate) fn trial(&self, group: &str, name: &str, test: ServerFn, limit: Duration) -> Trial {
        let name = format!("{}::{group}::{name}", self.name);
        let variable = self.variable;
        if !self.endpoint.is_empty() {
            let server = self.clone();
            return Trial::test(name, move || run(limit, test(server)));
        }
        if env::var(REQUIRED).is_ok_and(|value| value == "1") {
            let why = format!("{variable} is not set, and {REQUIRED} is");
            return Trial::test(name, move || Err(Failed::from(why)));
        }
        Trial::test(name, || Ok(()))
            .with_kind(format!("{variable} is not set"))
            .with_ignored_flag(true)
    }

    /// The queue `name` of this server.
    pub(crate) fn config(&self, name: &str) -> QueueConfig {
        QueueConfig::parse(&format!("pubsub://{PROJECT}/{name}"))
            .expect("a name")
            .with_option("endpoint", &self.endpoint)
    }

    /// The library's own client for topics: another program.
    pub(crate) async fn topics(&self) -> TopicAdmin {
        TopicAdmin::builder()
            .with_endpoint(&self.endpoint)
            .with_credentials(nobody())
            .build()
            .await
            .expect("a client")
    }

    /// The library's own client for subscriptions: another program.
    pub(crate) async fn subscriptions(&self) -> SubscriptionAdmin {
        SubscriptionAdmin::builder()
            .with_endpoint(&self.endpoint)
            .with_credentials(nobody())
            .build()
            .await
            .expect("a client")
    }

    /// Creates a queue of its own for a test, and deletes it with its dead-letter queue.
    pub(crate) async fn with_queue<F>(
        self,
        spec: QueueSpec,
        test: impl FnOnce(TestQueue) -> F,
    ) -> Outcome
    where
        F: Future<Output = Outcome>,
    {
        let config = self.config(&unique());
        let pubsub = PubSub::new();
        let admin = pubsub.admin(&config).await?;
        admin.ensure(&spec, EnsureMode::Create).await?;
        let queue = TestQueue {
            pubsub: pubsub.clone(),
            config,
        };
        let outcome = test(queue).await;
        admin.delete().await?;
        if let Some(dead_letter) = &spec.dead_letter {
            let config = self.config(&dead_letter.queue);
            pubsub.admin(&config).await?.delete().await?;
        }
        outcome
    }
}

/// No credentials, as local servers want them.
pub(crate) fn nobody() -> Credentials {
    anonymous::Builder::new().build()
}

pub(crate) fn topic(name: &str) -> String {
    format!("projects/{PROJECT}/topics/{name}")
}

pub(crate) fn subscription(name: &str) -> String {
    format!("projects/{PROJECT}/subscriptions/{name}")
}

/// A name that no other test uses.
pub(crate) fn unique() -> String {
    format!("towpath-it-{:016x}", fastrand::u64(..))
}

/// A queue of a test.
#[derive(Clone, Debug)]
pub(crate) struct TestQueue {
    pub(crate) pubsub: PubSub,
    pub(crate) config: QueueConfig,
}

impl TestQueue {
    /// The short name of its topic and its subscription.
    pub(crate) fn name(&self) -> &str {
        let target = self.config.target();
        target.rsplit('/').next().unwrap_or(target)
    }

    /// The same queue with another option.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.config = self.config.with_option(name, value);
        self
    }

    /// The same queue through `endpoint`, with connections of its own.
    pub(crate) fn through(mut self, endpoint: &str) -> Self {
        self.pubsub = PubSub::new();
        self.with("endpoint", endpoint)
    }

    pub(crate) fn open(&self) -> Result<towpath_core::Queue> {
        Registry::new()
            .with(self.pubsub.clone())
            .open_config(self.config.clone())
    }

    pub(crate) async fn producer(&self) -> Result<Arc<dyn driver::Producer>> {
        self.pubsub.producer(&self.config).await
    }

    pub(crate) async fn consumer(&self) -> Result<Arc<dyn driver::Consumer>> {
        self.pubsub.consumer(&self.config).await
    }

    pub(crate) async fn admin(&self) -> Result<Arc<dyn driver::Admin>> {
        self.pubsub.admin(&self.config).await
    }

    /// Sends messages with the numbers of `range` as bodies, each of which must be accepted.
    pub(crate) async fn send(&self, range: std::ops::Range<usize>) -> Outcome {
        let messages: Vec<_> = range.map(|i| i.to_string().into()).collect();
        self.send_all(&messages).await
    }

    /// Sends a message, and receives it.
    pub(crate) async fn receive_first(&self) -> Outcome<(Arc<dyn driver::Consumer>, Received)> {
        self.send(0..1).await?;
        let consumer = self.consumer().await?;
        let received = receive_one(&*consumer).await?;
        Ok((consumer, received))
    }

    pub(crate) async fn send_all(&self, messages: &[towpath_core::Message]) -> Outcome {
        for result in self.producer().await?.send(messages).await {
            result?;
        }
        Ok(())
    }
}

/// Receives until there are `count` messages.
pub(crate) async fn receive(
    consumer: &dyn driver::Consumer,
    count: usize,
) -> Outcome<Vec<Received>> {
    let mut all = Vec::new();
    let end = Instant::now() + ARRIVAL;
    while let Some(left) = NonZeroUsize::new(count - all.len()) {
        if Instant::now() > end {
            return Err(format!("{} of {count} messages within {ARRIVAL:?}", all.len()).into());
        }
        all.extend(consumer.receive(left, Duration::from_secs(1)).await?);
    }
    Ok(all)
}

pub(crate) async fn receive_one(consumer: &dyn driver::Consumer) -> Outcome<Received> {
    Ok(receive(consumer, 1).await?.remove(0))
}

/// Receives nothing for `time`.
pub(crate) async fn is_empty(consumer: &dyn driver::Consumer, time: Duration) -> Result<bool> {
    let received = consumer.receive(NonZeroUsize::MIN, time).await?;
    Ok(received.is_empty())
}

pub(crate) async fn ack(consumer: &dyn driver::Consumer, received: Received) -> Result<()> {
    consumer.ack(&[received.receipt]).await.remove(0)
}

pub(crate) async fn nack(
    consumer: &dyn driver::Consumer,
    received: Received,
    delay: Duration,
) -> Result<()> {
    consumer.nack(&[received.receipt], delay).await.remove(0)
}

/// The bodies, as text.
pub(crate) fn bodies(received: &[Received]) -> Vec<String> {
    received.iter().map(body).collect()
}

pub(crate) fn body(received: &Received) -> String {
    String::from_utf8_lossy(received.envelope.message.body()).into_owned()
}

/// Fails when `call` does not end within `time`.
pub(crate) async fn within<T>(
    time: Duration,
    what: &str,
    call: impl Future<Output = T>,
) -> Result<T, String> {
    timeout(time, call)
        .await
        .map_err(|_| format!("{what} did not end within {time:?}"))
}
