//! From options to clients: where to connect to, as whom, and for how long to wait.

use std::{env, time::Duration};

use aws_config::{BehaviorVersion, Region, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_sqs::{
    Client,
    config::{Credentials, StalledStreamProtectionConfig, http::HttpResponse},
    error::{ProvideErrorMetadata, SdkError},
};
use tokio::time::timeout;
use towpath_core::{QueueConfig, Result};
use url::{Host, Url};

use crate::{
    SqsOptions,
    address::{self, Address},
    error::{self, invalid_config},
    operation::Operation,
};

/// How long one request may take unless the options say otherwise.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connecting may take, within the request's time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a call of the control plane is tried.
const CONTROL_ATTEMPTS: u32 = 3;
/// The region of local servers, where none is named.
const LOCAL_REGION: &str = "us-east-1";

/// A queue, and how to get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) address: Address,
    pub(crate) settings: Settings,
}

/// What a connection depends on. Queues with the same settings share one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Settings {
    region: Option<String>,
    profile: Option<String>,
    endpoint: Option<String>,
    request_timeout: Duration,
}

impl Place {
    /// Reads target and options; no I/O.
    pub(crate) fn of(config: &QueueConfig) -> Result<Self> {
        let options: SqsOptions = config.backend_options()?;
        let bad_target = |why: String| invalid_config(format!("{config}: {why}"));
        let mut address = Address::parse(config.target()).map_err(bad_target)?;
        if let Some(owner) = options.owner {
            address::check_account(&owner).map_err(|why| config.bad_option("owner", &why))?;
            match &address.account {
                Some(account) if *account != owner => {
                    let why = format!("the queue's own address says {account}");
                    return Err(config.bad_option("owner", &why));
                }
                _ => address.account = Some(owner),
            }
        }
        if let (Some(said), Some(wanted)) = (&address.region, &options.region)
            && said != wanted
        {
            let why = format!("the queue's own address says {said}");
            return Err(config.bad_option("region", &why));
        }
        if let Some(endpoint) = &options.endpoint {
            check_endpoint(endpoint).map_err(|why| config.bad_option("endpoint", &why))?;
        }
        if options.request_timeout.is_some_and(|limit| limit.is_zero()) {
            return Err(config.bad_option("request_timeout", "must be longer than zero"));
        }
        let settings = Settings {
            region: options.region.or_else(|| address.region.clone()),
            profile: options.profile,
            endpoint: options.endpoint.or_else(|| address.endpoint.clone()),
            request_timeout: options.request_timeout.unwrap_or(REQUEST_TIMEOUT),
        };
        Ok(Self { address, settings })
    }
}

fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let form = "it is written https://HOST or http://127.0.0.1:PORT";
    let url = Url::parse(endpoint).map_err(|error| format!("no URL ({error}); {form}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(format!("no HTTP address; {form}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds credentials; remove them and use the SDK's credential chain".to_owned());
    }
    Ok(())
}

/// Clients for one connection.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    /// For sending, receiving and settling: never repeats a request by itself.
    pub(crate) data: Client,
    /// For reading and changing settings, which may be repeated without harm.
    pub(crate) control: Client,
    /// How long one request may take.
    pub(crate) request_timeout: Duration,
}

impl Settings {
    /// Loads the SDK's configuration. The first request fetches credentials.
    pub(crate) async fn connect(&self) -> Result<Clients> {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(region) = &self.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if self.is_local() && self.profile.is_none() && env::var_os("AWS_PROFILE").is_none() {
            if self.region.is_none() {
                loader = loader.region(Region::new(environment_region()));
            }
            if !has_credentials_in_environment() {
                loader = loader.credentials_provider(local_credentials());
            }
        }
        let limit = self.request_timeout.saturating_mul(CONTROL_ATTEMPTS);
        let loaded = timeout(limit, Box::pin(loader.load())).await.map_err(|_| {
            Operation::Open.error(
                towpath_core::ErrorKind::Timeout,
                "the AWS configuration could not be read in time; name a region, or check the \
                 network",
            )
        })?;
        if loaded.region().is_none() {
            return Err(invalid_config(
                "no AWS region is known; add region=REGION to the queue's URL, or set AWS_REGION",
            ));
        }
        let mut base = aws_sdk_sqs::config::Builder::from(&loaded)
            // Whole calls have deadlines of our own.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(endpoint) = &self.endpoint {
            base = base.endpoint_url(endpoint);
        }
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(self.request_timeout))
            .disable_operation_timeout()
            .disable_read_timeout();
        let data = base
            .clone()
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts.clone().disable_operation_attempt_timeout().build())
            .build();
        let control = base
            .retry_config(RetryConfig::standard().with_max_attempts(CONTROL_ATTEMPTS))
            .timeout_config(
                timeouts
                    .operation_attempt_timeout(self.request_timeout)
                    .build(),
            )
            .build();
        Ok(Clients {
            data: Client::from_conf(data),
            control: Client::from_conf(control),
            request_timeout: self.request_timeout,
        })
    }

    /// Whether the endpoint is a server on this machine.
    fn is_local(&self) -> bool {
        self.endpoint.as_deref().is_some_and(is_loopback)
    }
}

fn is_loopback(endpoint: &str) -> bool {
    match Url::parse(endpoint).ok().as_ref().and_then(Url::host) {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

fn environment_region() -> String {
    ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .into_iter()
        .find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| LOCAL_REGION.to_owned())
}

fn has_credentials_in_environment() -> bool {
    [
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    ]
    .into_iter()
    .any(|name| env::var_os(name).is_some())
}

/// Local servers want some credentials and accept any. AWS accepts these never.
fn local_credentials() -> Credentials {
    Credentials::new("local", "local", None, None, "towpath-local-server")
}

/// Waits for an SDK call about `queue`, for `limit` at most.
///
/// Dropping the future gives the request up, with an unknown effect.
pub(crate) async fn call<T, E>(
    operation: Operation,
    queue: &str,
    limit: Duration,
    request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
) -> Result<T>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match timeout(limit, request).await {
        Ok(result) => result.map_err(|error| error::of_call(operation, queue, error)),
        Err(_) => Err(operation.timed_out(queue, limit)),
    }
}

impl Clients {
    /// Waits for a call of the control client, which may try it several times.
    pub(crate) async fn control_call<T, E>(
        &self,
        operation: Operation,
        queue: &str,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        let limit = self.request_timeout.saturating_mul(CONTROL_ATTEMPTS);
        call(operation, queue, limit, request).await
    }

    /// The URL of the queue at `address`.
    pub(crate) async fn queue_url(
        &self,
        operation: Operation,
        address: &Address,
    ) -> Result<String> {
        if let Some(url) = &address.url {
            return Ok(url.clone());
        }
        let request = self
            .control
            .get_queue_url()
            .queue_name(&address.name)
            .set_queue_owner_aws_account_id(address.account.clone());
        let answer = self
            .control_call(operation, &address.name, request.send())
            .await?;
        answer.queue_url.ok_or_else(|| {
            operation.error(
                towpath_core::ErrorKind::Unknown,
                format!("queue {}: SQS answered without its URL", address.name),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use towpath_core::ErrorKind;

    fn place(url: &str) -> Result<Place> {
        Place::of(&QueueConfig::parse(url).unwrap())
    }

    #[test]
    fn the_address_gives_region_and_endpoint_unless_the_options_do() {
        let at = place("sqs://arn:aws:sqs:eu-west-1:123456789012:orders").unwrap();
        assert_eq!(at.settings.region.as_deref(), Some("eu-west-1"));
        assert_eq!(at.settings.endpoint, None);
        let at = place("sqs://http://127.0.0.1:1/123456789012/orders?endpoint=http://127.0.0.1:2")
            .unwrap();
        assert_eq!(at.settings.endpoint.as_deref(), Some("http://127.0.0.1:2"));
        let at = place("sqs://orders?owner=123456789012&region=eu-west-1").unwrap();
        assert_eq!(at.address.account.as_deref(), Some("123456789012"));
        assert_eq!(at.settings.request_timeout, REQUEST_TIMEOUT);
    }

    #[test]
    fn options_that_contradict_the_address_or_make_no_sense_are_refused() {
        let arn = "sqs://arn:aws:sqs:eu-west-1:123456789012:orders";
        let table = [
            (format!("{arn}?region=us-east-1"), "eu-west-1"),
            (format!("{arn}?owner=210987654321"), "123456789012"),
            ("sqs://orders?owner=me".to_owned(), "12 digits"),
            (
                "sqs://orders?endpoint=localhost:9324".to_owned(),
                "http://127.0.0.1:PORT",
            ),
            (
                "sqs://orders?endpoint=//x".to_owned(),
                "http://127.0.0.1:PORT",
            ),
            (
                "sqs://orders?request_timeout=0s".to_owned(),
                "longer than zero",
            ),
            (
                "sqs://orders?regoin=us-east-1".to_owned(),
                "did you mean \"region\"?",
            ),
            ("sqs://or ders".to_owned(), "no queue name"),
        ];
        for (url, part) in table {
            let error = place(&url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(error.message().contains(part), "{url}: {error}");
        }
        let error = place("sqs://orders?endpoint=http://me:hunter2@h").unwrap_err();
        assert!(error.message().contains("credentials"), "{error}");
    }

    #[test]
    fn only_this_machine_counts_as_local() {
        for (endpoint, expected) in [
            ("http://127.0.0.1:9324", true),
            ("http://[::1]:9324", true),
            ("http://localhost:9324", true),
            ("http://sqs.localhost:9324", true),
            ("https://sqs.us-east-1.amazonaws.com", false),
            ("http://10.0.0.1:9324", false),
            ("http://127.0.0.1.example.com", false),
            ("http://localhost.example.com", false),
        ] {
            assert_eq!(is_loopback(endpoint), expected, "{endpoint}");
        }
    }
}
