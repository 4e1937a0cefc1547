//! The servers that the environment names.

use std::{env, num::NonZeroUsize, sync::Arc, time::Duration};

use aws_sdk_sqs::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    types::QueueAttributeName,
};
use libtest_mimic::{Failed, Trial};
use towpath_core::{
    EnsureMode, Message, QueueConfig, QueueSpec, Registry,
    driver::{self, Backend as _, Received},
};
use towpath_sqs::Sqs;

use crate::{Outcome, ServerFn, run};

/// Set where a missing server is a failure.
const REQUIRED: &str = "CONFORMANCE_REQUIRED";

/// A server that speaks SQS.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) variable: &'static str,
    pub(crate) endpoint: String,
}

pub(crate) fn all() -> Vec<Server> {
    [
        ("fauxqs", "TOWPATH_FAUXQS_ENDPOINT"),
        ("elasticmq", "TOWPATH_ELASTICMQ_ENDPOINT"),
    ]
    .map(|(name, variable)| Server {
        name,
        variable,
        endpoint: env::var(variable).unwrap_or_default(),
    })
    .to_vec()
}

impl Server {
    pub(crate) fn trial(&self, group: &str, name: &str, test: ServerFn) -> Trial {
        let name = format!("{}::{group}::{name}", self.name);
        let variable = self.variable;
        if !self.endpoint.is_empty() {
            let server = self.clone();
            return Trial::test(name, move || run(test(server)));
        }
        missing(name, variable)
    }

    /// The queue `name` of this server.
    pub(crate) fn config(&self, name: &str) -> QueueConfig {
        config(&self.endpoint, name)
    }

    /// A client of the SDK itself: another program.
    pub(crate) fn foreign(&self) -> Client {
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(&self.endpoint)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("a", "b", None, None, "test"))
            .build();
        Client::from_conf(config)
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
        let suffix = if spec.ordered { ".fifo" } else { "" };
        let name = unique(suffix);
        let config = self.config(&name);
        let sqs = Sqs::new();
        let admin = sqs.admin(&config).await?;
        admin.ensure(&spec, EnsureMode::Create).await?;
        let queue = TestQueue {
            server: self.clone(),
            registry: Registry::new().with(sqs.clone()),
            sqs: sqs.clone(),
            url: admin.inspect().await?.name,
            config,
        };
        let outcome = test(queue).await;
        admin.delete().await?;
        if let Some(dead_letter) = &spec.dead_letter {
            let config = self.config(&dead_letter.queue);
            sqs.admin(&config).await?.delete().await?;
        }
        outcome
    }
}

/// A test that needs what `variable` would name: ignored, or failed where it is required.
pub(crate) fn missing(name: String, variable: &str) -> Trial {
    if env::var(REQUIRED).is_ok_and(|value| value == "1") {
        let why = format!("{variable} is not set, and {REQUIRED} is");
        return Trial::test(name, move || Err(Failed::from(why)));
    }
    Trial::test(name, || Ok(()))
        .with_kind(format!("{variable} is not set"))
        .with_ignored_flag(true)
}

/// The queue `name` at `endpoint`.
pub(crate) fn config(endpoint: &str, name: &str) -> QueueConfig {
    QueueConfig::parse(&format!("sqs://{name}"))
        .expect("a name")
        .with_option("endpoint", endpoint)
        .with_option("region", "us-east-1")
}

/// A name that no other test uses.
pub(crate) fn unique(suffix: &str) -> String {
    format!("towpath-it-{:016x}{suffix}", fastrand::u64(..))
}

/// A queue of a test.
#[derive(Clone, Debug)]
pub(crate) struct TestQueue {
    pub(crate) server: Server,
    pub(crate) registry: Registry,
    pub(crate) sqs: Sqs,
    pub(crate) config: QueueConfig,
    /// As SQS names it.
    pub(crate) url: String,
}

impl TestQueue {
    pub(crate) fn name(&self) -> &str {
        self.config.target()
    }

    pub(crate) fn open(&self) -> towpath_core::Result<towpath_core::Queue> {
        self.registry.open_config(self.config.clone())
    }

    pub(crate) async fn producer(&self) -> towpath_core::Result<Arc<dyn driver::Producer>> {
        self.sqs.producer(&self.config).await
    }

    pub(crate) async fn consumer(&self) -> towpath_core::Result<Arc<dyn driver::Consumer>> {
        self.sqs.consumer(&self.config).await
    }

    /// Sends a message, which must be accepted.
    pub(crate) async fn send(&self, message: impl Into<Message>) -> towpath_core::Result<()> {
        let producer = self.producer().await?;
        producer.send(&[message.into()]).await.remove(0).map(drop)
    }

    /// Changes settings as another program would.
    pub(crate) async fn set(&self, name: QueueAttributeName, value: &str) -> Outcome {
        let client = self.server.foreign();
        let request = client.set_queue_attributes().queue_url(&self.url);
        request.attributes(name, value).send().await?;
        Ok(())
    }
}

/// Receives until there are `count` messages, for 10 s at most.
pub(crate) async fn receive(
    consumer: &dyn driver::Consumer,
    count: usize,
) -> towpath_core::Result<Vec<Received>> {
    let mut all = Vec::new();
    for _ in 0..10 {
        let Some(left) = NonZeroUsize::new(count - all.len()) else {
            break;
        };
        all.extend(consumer.receive(left, Duration::from_secs(1)).await?);
    }
    Ok(all)
}

/// Receives nothing for `time`.
pub(crate) async fn is_empty(
    consumer: &dyn driver::Consumer,
    time: Duration,
) -> towpath_core::Result<bool> {
    let received = consumer.receive(NonZeroUsize::MIN, time).await?;
    Ok(received.is_empty())
}
