//! What is configured: destinations, and how a message chooses one.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{BreakerConfig, Secret};

/// The configuration of an [`Updater`](crate::Updater).
///
/// ```
/// use towpath_updater::UpdaterConfig;
///
/// let config: UpdaterConfig = toml::from_str(r#"
///     [destinations.crm]
///     url = "https://crm.example/contacts/{/customer/email}/activities"
///     auth = { bearer = { env = "CRM_TOKEN" } }
///     timeout = "5s"
///     rate = { requests = 20, per = "1s" }
///     concurrency = 4
///
///     [destinations.crm.body.json]
///     subject = "Mail {/event}"
///     at = "{/timestamp}"
///     note = "{/note?}"
/// "#).unwrap();
/// assert_eq!(config.destinations["crm"].concurrency, 4);
/// ```
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct UpdaterConfig {
    /// The destinations by name. Names go to logs, metrics and failure reasons.
    pub destinations: BTreeMap<String, Destination>,
    /// How a message chooses its destination. Needed where there is more than one.
    #[serde(default)]
    pub route: Option<Route>,
    /// The longest that the queue lets a message be held: the consumer's `max_lease`.
    /// Default: 1 h, as the consumer's.
    #[serde(default = "default_max_lease", with = "duration")]
    pub max_lease: Duration,
    /// The longest that a message waits for an open breaker, a rate or a free place, before it is
    /// given back. Default: 80 % of `max_lease`.
    #[serde(default, with = "towpath_core::config::duration")]
    pub max_wait: Option<Duration>,
}

impl UpdaterConfig {
    /// One destination, or none yet.
    pub fn new() -> Self {
        Self {
            destinations: BTreeMap::new(),
            route: None,
            max_lease: default_max_lease(),
            max_wait: None,
        }
    }

    /// Adds a destination.
    #[must_use]
    pub fn destination(mut self, name: impl Into<String>, destination: Destination) -> Self {
        self.destinations.insert(name.into(), destination);
        self
    }

    /// Sets how a message chooses its destination.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.route = Some(route);
        self
    }

    /// Sets the longest that the queue lets a message be held.
    #[must_use]
    pub fn max_lease(mut self, max_lease: Duration) -> Self {
        self.max_lease = max_lease;
        self
    }

    /// Sets the longest that a message waits before it is given back.
    #[must_use]
    pub fn max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = Some(max_wait);
        self
    }
}

impl Default for UpdaterConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// How a message chooses its destination: the value of an attribute, or what a JSON pointer finds
/// in the body, is the destination's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Route {
    /// The attribute that names the destination.
    pub attribute: Option<String>,
    /// The JSON pointer to the name of the destination. Not together with `attribute`.
    pub pointer: Option<String>,
    /// The destination of messages that name none. Default: they are dead-lettered.
    pub default: Option<String>,
}

impl Route {
    /// The value of the attribute `name` is the name of the destination.
    pub fn attribute(name: impl Into<String>) -> Self {
        Self {
            attribute: Some(name.into()),
            ..Self::default()
        }
    }

    /// What is at `pointer` in the body is the name of the destination.
    pub fn pointer(pointer: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.into()),
            ..Self::default()
        }
    }

    /// Sets the destination of messages that name none.
    #[must_use]
    pub fn with_default(mut self, destination: impl Into<String>) -> Self {
        self.default = Some(destination.into());
        self
    }
}

/// Where to write, and how.
///
/// Placeholders in `url`, `headers` and `body`:
///
/// | placeholder | value |
/// |---|---|
/// | `{/customer/email}` | what the JSON pointer finds in the message's body |
/// | `{attribute.NAME}` | an attribute of the message |
/// | `{idempotency_key}` | the message's idempotency key |
/// | `{ordering_key}` | the message's ordering key |
/// | `{message_id}`, `{queue}` | the broker's id, and the queue that it came from |
///
/// A `?` at the end (`{/note?}`) makes a value optional; without it, a message that lacks the value
/// is dead-lettered. `{{` and `}}` stand for braces.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Destination {
    /// The URL. Placeholders may stand in the path and in the query; their values are
    /// percent-encoded. Scheme, host and port are fixed.
    pub url: String,
    /// The HTTP method. Default: `POST`.
    #[serde(default = "default_method")]
    pub method: String,
    /// How to authenticate. Default: not at all.
    #[serde(default)]
    pub auth: Auth,
    /// Headers; placeholders may stand in the values. Secrets belong into `auth`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What to send. Default: the message's body as it is.
    #[serde(default)]
    pub body: Body,
    /// The time from connecting to the end of the answer. Default: 10 s.
    #[serde(default = "default_timeout", with = "duration")]
    pub timeout: Duration,
    /// How many requests may start in a time. Default: no limit.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// How many requests may run at once. Default: 8.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// When to stop sending to a destination that fails, and for how long.
    #[serde(default)]
    pub breaker: BreakerConfig,
    /// What is asked, while the breaker is open, before a message is risked: a URL of the same host
    /// that answers a `GET` with 2xx when the destination is well, or `none`. Default: a `HEAD` of
    /// the URL up to its first placeholder, where any answer but 408, 429, 502, 503, 504 and 52x
    /// will do.
    #[serde(default)]
    pub probe: Option<String>,
    /// What a status means, where it is not the [usual](Class).
    #[serde(default, deserialize_with = "classes")]
    pub classes: BTreeMap<u16, Class>,
    /// The longest `Retry-After` that is honoured; longer ones are cut to it. Default: 1 h.
    #[serde(default = "default_max_retry_after", with = "duration")]
    pub max_retry_after: Duration,
    /// The header that carries the message's idempotency key; empty for none.
    /// Default: `Idempotency-Key`.
    #[serde(default = "default_idempotency_header")]
    pub idempotency_header: String,
    /// How many redirects (307 and 308, within the same scheme, host and port) are followed.
    /// Default: none.
    #[serde(default)]
    pub redirects: usize,
    /// Whether addresses that are not public are allowed: private, loopback, link-local (which has
    /// the clouds' metadata services), and the like. Default: no.
    #[serde(default)]
    pub allow_private: bool,
    /// Whether plain `http` is allowed. Default: no.
    #[serde(default)]
    pub allow_http: bool,
}

impl Destination {
    /// A destination with the defaults.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: default_method(),
            auth: Auth::None,
            headers: BTreeMap::new(),
            body: Body::PassThrough,
            timeout: default_timeout(),
            rate: None,
            concurrency: default_concurrency(),
            breaker: BreakerConfig::default(),
            probe: None,
            classes: BTreeMap::new(),
            max_retry_after: default_max_retry_after(),
            idempotency_header: default_idempotency_header(),
            redirects: 0,
            allow_private: false,
            allow_http: false,
        }
    }

    /// Sets the HTTP method.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = method.into();
        self
    }

    /// Sets how to authenticate.
    #[must_use]
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = auth;
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Sets what to send.
    #[must_use]
    pub fn body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// Sets the time from connecting to the end of the answer.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many requests may start in a time.
    #[must_use]
    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = Some(rate);
        self
    }

    /// Sets how many requests may run at once.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Sets when to stop sending, and for how long.
    #[must_use]
    pub fn breaker(mut self, breaker: BreakerConfig) -> Self {
        self.breaker = breaker;
        self
    }

    /// Sets the URL that tells whether the destination is well, or `none`.
    #[must_use]
    pub fn probe(mut self, url: impl Into<String>) -> Self {
        self.probe = Some(url.into());
        self
    }

    /// Sets what a status means.
    #[must_use]
    pub fn class(mut self, status: u16, class: Class) -> Self {
        self.classes.insert(status, class);
        self
    }

    /// Sets the longest `Retry-After` that is honoured.
    #[must_use]
    pub fn max_retry_after(mut self, max_retry_after: Duration) -> Self {
        self.max_retry_after = max_retry_after;
        self
    }

    /// Sets the header that carries the idempotency key; empty for none.
    #[must_use]
    pub fn idempotency_header(mut self, name: impl Into<String>) -> Self {
        self.idempotency_header = name.into();
        self
    }

    /// Sets how many redirects are followed.
    #[must_use]
    pub fn redirects(mut self, redirects: usize) -> Self {
        self.redirects = redirects;
        self
    }

    /// Allows addresses that are not public.
    #[must_use]
    pub fn allow_private(mut self, allow: bool) -> Self {
        self.allow_private = allow;
        self
    }

    /// Allows plain `http`.
    #[must_use]
    pub fn allow_http(mut self, allow: bool) -> Self {
        self.allow_http = allow;
        self
    }
}

/// How to authenticate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Auth {
    /// Not at all.
    #[default]
    None,
    /// `Authorization: Bearer ..`.
    Bearer(Secret),
    /// `Authorization: Basic ..`.
    Basic {
        /// The user, without a colon.
        user: String,
        /// The password.
        password: Secret,
    },
    /// Headers of the destination's own, for instance `x-api-key`.
    Header(BTreeMap<String, Secret>),
}

/// What to send.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Body {
    /// The message's body as it is, with the message's `content-type` attribute, or
    /// `application/octet-stream`.
    #[default]
    PassThrough,
    /// Nothing.
    Empty,
    /// JSON with placeholders in its strings. A string that is one placeholder is replaced by the
    /// value, with its type; when it is optional and there is no value, the field is left out.
    Json(serde_json::Value),
    /// Form fields with placeholders in their values. A field that is one optional placeholder
    /// without a value is left out.
    Form(BTreeMap<String, String>),
}

/// How many requests may start in a time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Rate {
    /// The number of requests.
    pub requests: u32,
    /// The time. Default: 1 s.
    #[serde(default = "default_per", with = "duration")]
    pub per: Duration,
    /// How many may start at once after a quiet time. Default: 1.
    #[serde(default = "default_burst")]
    pub burst: u32,
}

impl Rate {
    /// `requests` in each `per`, evenly spaced.
    pub fn new(requests: u32, per: Duration) -> Self {
        Self {
            requests,
            per,
            burst: default_burst(),
        }
    }

    /// Sets how many may start at once after a quiet time.
    #[must_use]
    pub fn burst(mut self, burst: u32) -> Self {
        self.burst = burst;
        self
    }
}

/// What an answer means for the message.
///
/// The usual: 2xx is a success. 408, 409, 423, 425, 429 and 5xx are transient, as are timeouts and
/// errors of the network. All others are permanent, redirects too where they are not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Class {
    /// Written: the message is acked.
    Success,
    /// A later attempt may succeed: the message is tried again.
    Transient,
    /// No attempt can succeed: the message is dead-lettered.
    Permanent,
}

impl Class {
    /// The usual class of a status.
    pub fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Success,
            408 | 409 | 423 | 425 | 429 | 500..=599 => Self::Transient,
            _ => Self::Permanent,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Transient => "transient",
            Self::Permanent => "permanent",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn classes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u16, Class>, D::Error> {
    BTreeMap::<String, Class>::deserialize(deserializer)?
        .into_iter()
        .map(|(text, class)| match text.parse::<u16>() {
            Ok(status) => Ok((status, class)),
            Err(_) => Err(D::Error::custom(format!(
                "{text:?} is no HTTP status; write it like \"404\" = \"transient\""
            ))),
        })
        .collect()
}

fn default_max_lease() -> Duration {
    Duration::from_secs(3_600)
}

fn default_method() -> String {
    "POST".into()
}

fn default_timeout() -> Duration {
    Duration::from_secs(10)
}

fn default_concurrency() -> usize {
    8
}

fn default_max_retry_after() -> Duration {
    Duration::from_secs(3_600)
}

fn default_idempotency_header() -> String {
    "Idempotency-Key".into()
}

fn default_per() -> Duration {
    Duration::from_secs(1)
}

fn default_burst() -> u32 {
    1
}

/// Durations that have a default of their own, written as in core.
pub(crate) mod duration {
    use std::time::Duration;

    use serde::{Deserializer, de::Error};

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        towpath_core::config::duration::deserialize(deserializer)?
            .ok_or_else(|| D::Error::custom("a duration is written like 250ms, 30s or 5m"))
    }
}
