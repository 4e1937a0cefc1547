//! From options to clients: where to connect to, as whom, and for how long to wait.

use std::{
    collections::HashMap,
    env, fmt,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use google_cloud_auth::credentials::{self, Credentials, anonymous};
use google_cloud_gax::{
    Result as SdkResult,
    exponential_backoff::ExponentialBackoffBuilder,
    retry_policy::{Aip194Strict, NeverRetry, RetryPolicyExt},
};
use google_cloud_pubsub::client::{
    BasePublisher, SchemaService, Subscriber, SubscriptionAdmin, TopicAdmin,
};
use tokio::{
    sync::{OnceCell, watch},
    time::timeout,
};
use towpath_core::{QueueConfig, Result};
use url::{Host, Url};

use crate::{
    Access, PubSubOptions,
    address::Address,
    error::{self, Operation, invalid_config},
};

/// How long one request may take unless the options say otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a call that reads or changes settings is tried within its time.
const ADMIN_ATTEMPTS: u32 = 3;

/// A queue, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: Address,
    pub(crate) settings: Settings,
}

/// What a connection depends on. Queues with the same settings share clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Settings {
    endpoint: Option<String>,
    access: Access,
    universe: Option<String>,
    pub(crate) request_timeout: Duration,
}

impl Place {
    /// Reads target, options and environment; no I/O.
    pub(crate) fn of(config: &QueueConfig) -> Result<Self> {
        Self::with_emulator(config, env::var("PUBSUB_EMULATOR_HOST").ok())
    }

    fn with_emulator(config: &QueueConfig, emulator: Option<String>) -> Result<Self> {
        let options: PubSubOptions = config.backend_options()?;
        let address = Address::parse(config.target(), options.subscription.as_deref())
            .map_err(|why| invalid_config(format!("{config}: {why}")))?;
        let endpoint = match (options.endpoint, emulator.filter(|host| !host.is_empty())) {
            (Some(endpoint), _) => {
                check_endpoint(&endpoint).map_err(|why| config.bad_option("endpoint", &why))?;
                Some(endpoint)
            }
            (None, Some(host)) => Some(emulator_endpoint(&host)?),
            (None, None) => None,
        };
        let is_plain = endpoint
            .as_deref()
            .is_some_and(|endpoint| endpoint.starts_with("http://"));
        let access = options.credentials.unwrap_or(if is_plain {
            Access::Anonymous
        } else {
            Access::Default
        });
        if access == Access::Default && is_plain && !endpoint.as_deref().is_some_and(is_loopback) {
            let why = "the endpoint is http://, where everybody on the way could read them; use \
                       https://, or credentials=anonymous";
            return Err(config.bad_option("credentials", why));
        }
        let request_timeout = options.request_timeout.unwrap_or(REQUEST_TIMEOUT);
        if request_timeout.is_zero() {
            return Err(config.bad_option("request_timeout", "must be longer than zero"));
        }
        Ok(Self {
            address,
            settings: Settings {
                endpoint,
                access,
                universe: options.universe,
                request_timeout,
            },
        })
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let form = "it is written https://HOST or http://127.0.0.1:PORT";
    let url = Url::parse(endpoint).map_err(|error| format!("no URL ({error}); {form}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(format!("no HTTP address; {form}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds credentials; remove them".to_owned());
    }
    Ok(())
}

/// The variable holds `host:port`, as Google's own tools set it.
fn emulator_endpoint(host: &str) -> Result<String> {
    let endpoint = if host.contains("://") {
        host.to_owned()
    } else {
        format!("http://{host}")
    };
    check_endpoint(&endpoint)
        .map_err(|why| invalid_config(format!("PUBSUB_EMULATOR_HOST={host:?}: {why}")))?;
    Ok(endpoint)
}

fn is_loopback(endpoint: &str) -> bool {
    match Url::parse(endpoint).ok().as_ref().and_then(Url::host) {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// Clients for one connection, each made at its first use. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Clients(Arc<Inner>);

struct Inner {
    settings: Settings,
    credentials: OnceCell<Credentials>,
    publisher: OnceCell<BasePublisher>,
    topics: OnceCell<TopicAdmin>,
    subscriptions: OnceCell<SubscriptionAdmin>,
    policies: OnceCell<SchemaService>,
    purges: Mutex<HashMap<String, watch::Sender<Option<SystemTime>>>>,
}

/// Sets what all builders have in common; their types share no trait for it.
macro_rules! configured {
    ($builder:expr, $self:expr) => {{
        let settings = &$self.0.settings;
        let mut builder = $builder.with_credentials($self.credentials().await?);
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(universe) = &settings.universe {
            builder = builder.with_universe_domain(universe);
        }
        builder
    }};
}

/// As [`configured`], for a client whose calls read or change settings and can be repeated.
macro_rules! administrating {
    ($client:ty, $self:expr) => {{
        let limit = $self.0.settings.request_timeout;
        configured!(<$client>::builder(), $self)
            .with_retry_policy(Aip194Strict.with_attempt_limit(ADMIN_ATTEMPTS))
            .with_backoff_policy(
                ExponentialBackoffBuilder::new()
                    .with_initial_delay(Duration::from_millis(100))
                    .with_maximum_delay(Duration::from_secs(1))
                    .clamp(),
            )
            .with_attempt_timeout(limit)
            .build()
            .await
            .map_err(error::of_builder)
    }};
}

impl Clients {
    pub(crate) fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner {
            settings,
            credentials: OnceCell::new(),
            publisher: OnceCell::new(),
            topics: OnceCell::new(),
            subscriptions: OnceCell::new(),
            policies: OnceCell::new(),
            purges: Mutex::default(),
        }))
    }

    /// How long one request may take.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.0.settings.request_timeout
    }

    /// Whether nobody in particular connects.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.0.settings.access == Access::Anonymous
    }

    async fn credentials(&self) -> Result<Credentials> {
        self.0
            .credentials
            .get_or_try_init(|| async { make_credentials(&self.0.settings) })
            .await
            .cloned()
    }

    /// The client that publishes. It never repeats a request by itself: the caller decides.
    pub(crate) async fn publisher(&self) -> Result<BasePublisher> {
        self.0
            .publisher
            .get_or_try_init(|| async {
                let limit = self.0.settings.request_timeout;
                configured!(BasePublisher::builder(), self)
                    .with_retry_policy(NeverRetry.with_time_limit(limit))
                    .build()
                    .await
                    .map_err(error::of_builder)
            })
            .await
            .cloned()
    }

    /// A new client that receives, with a connection of its own: an open stream on a queue without
    /// messages takes one of the few requests that a connection has under way.
    pub(crate) async fn subscriber(&self) -> Result<Subscriber> {
        configured!(Subscriber::builder(), self)
            .build()
            .await
            .map_err(error::of_builder)
    }

    /// The client for topics.
    pub(crate) async fn topics(&self) -> Result<&TopicAdmin> {
        self.0
            .topics
            .get_or_try_init(|| async { administrating!(TopicAdmin, self) })
            .await
    }

    /// The client for subscriptions.
    pub(crate) async fn subscriptions(&self) -> Result<&SubscriptionAdmin> {
        self.0
            .subscriptions
            .get_or_try_init(|| async { administrating!(SubscriptionAdmin, self) })
            .await
    }

    /// The client for IAM policies, which the library has at its schema service only.
    pub(crate) async fn policies(&self) -> Result<&SchemaService> {
        self.0
            .policies
            .get_or_try_init(|| async { administrating!(SchemaService, self) })
            .await
    }

    /// When this subscription was last purged from here: what a consumer has fetched ahead of that is
    /// not to be handed out.
    pub(crate) fn purges(&self, subscription: &str) -> watch::Receiver<Option<SystemTime>> {
        self.purged(subscription, None)
    }

    /// Tells the consumers of this subscription that it was purged of what was sent before `time`.
    pub(crate) fn purged(
        &self,
        subscription: &str,
        time: Option<SystemTime>,
    ) -> watch::Receiver<Option<SystemTime>> {
        let mut purges = self.0.purges.lock().unwrap_or_else(PoisonError::into_inner);
        let purges = purges
            .entry(subscription.to_owned())
            .or_insert_with(|| watch::channel(None).0);
        purges.send_if_modified(|last| {
            let is_later = time > *last;
            if is_later {
                *last = time;
            }
            is_later
        });
        purges.subscribe()
    }

    /// Makes a call about `what`, and gives it up when its time is over.
    pub(crate) async fn call<T>(
        &self,
        operation: Operation,
        what: &str,
        call: impl Future<Output = SdkResult<T>>,
    ) -> Result<T> {
        let limit = self.request_timeout();
        // The library's futures are large.
        match timeout(limit, Box::pin(call)).await {
            Ok(result) => result.map_err(|error| error::of_call(operation, what, error)),
            Err(_) => Err(operation.timed_out(what, limit)),
        }
    }
}

fn make_credentials(settings: &Settings) -> Result<Credentials> {
    if settings.access == Access::Anonymous {
        return Ok(anonymous::Builder::new().build());
    }
    let mut builder = credentials::Builder::default();
    if let Some(universe) = &settings.universe {
        builder = builder.with_universe_domain(universe);
    }
    builder
        .build()
        .map_err(|error| error::no_credentials(&error).with_source(error))
}

/// Shows where, never as whom.
impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clients").field(&self.0.settings).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use towpath_core::ErrorKind;

    fn place(url: &str, emulator: Option<&str>) -> Result<Settings> {
        let config = QueueConfig::parse(url).unwrap();
        Place::with_emulator(&config, emulator.map(str::to_owned)).map(|place| place.settings)
    }

    #[test]
    fn only_an_emulator_is_met_without_credentials() {
        for (url, emulator, endpoint, access) in [
            ("pubsub://p/orders", None, None, Access::Default),
            (
                "pubsub://p/orders",
                Some("127.0.0.1:8085"),
                Some("http://127.0.0.1:8085"),
                Access::Anonymous,
            ),
            ("pubsub://p/orders", Some(""), None, Access::Default),
            (
                "pubsub://p/orders?endpoint=http://127.0.0.1:9000",
                Some("127.0.0.1:8085"),
                Some("http://127.0.0.1:9000"),
                Access::Anonymous,
            ),
            (
                "pubsub://p/orders?endpoint=https://europe-west1-pubsub.googleapis.com",
                Some("127.0.0.1:8085"),
                Some("https://europe-west1-pubsub.googleapis.com"),
                Access::Default,
            ),
            (
                "pubsub://p/orders?endpoint=https://emulator.test&credentials=anonymous",
                None,
                Some("https://emulator.test"),
                Access::Anonymous,
            ),
        ] {
            let settings = place(url, emulator).unwrap();
            assert_eq!(settings.endpoint.as_deref(), endpoint, "{url} {emulator:?}");
            assert_eq!(settings.access, access, "{url} {emulator:?}");
        }
    }

    #[test]
    fn credentials_are_not_sent_in_clear_text_over_a_network() {
        let error = place(
            "pubsub://p/orders?endpoint=http://pubsub.internal&credentials=default",
            None,
        );
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidConfig);
        let local = "pubsub://p/orders?endpoint=http://localhost:1&credentials=default";
        assert_eq!(place(local, None).unwrap().access, Access::Default);
    }

    #[test]
    fn endpoints_that_are_none_are_refused() {
        for url in [
            "pubsub://p/orders?endpoint=127.0.0.1:8085",
            "pubsub://p/orders?endpoint=ftp://x",
            "pubsub://p/orders?endpoint=http://user:pw@x",
            "pubsub://p/orders?request_timeout=0s",
        ] {
            let error = place(url, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
        }
        assert!(place("pubsub://p/orders", Some("not a host")).is_err());
    }
}
