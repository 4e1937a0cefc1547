//! A queue named by a URL with options, or by the same options in a table.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind, Result, Validation};

mod names;
mod secret;

pub use names::{field_names, nearest};
pub use secret::Secret;

/// Where a queue is and how it is used: `scheme://target?option=value&..`.
///
/// The same options may stand in a table, for TOML and the environment:
///
/// ```
/// use towpath_core::QueueConfig;
///
/// let url: QueueConfig = "memory://orders?lease=30s&dead_letter=orders-dlq".parse()?;
/// # #[derive(serde::Deserialize)] struct File { queues: std::collections::BTreeMap<String, QueueConfig> }
/// let file: File = toml::from_str(r#"
///     [queues.orders]
///     url = "memory://orders"
///     lease = "30s"
///     dead_letter = "orders-dlq"
/// "#).unwrap();
/// assert_eq!(file.queues["orders"], url);
/// # Ok::<(), towpath_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct QueueConfig {
    scheme: String,
    target: String,
    options: BTreeMap<String, String>,
}

impl QueueConfig {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) when it is not a URL, names no queue, names an
    /// option twice, or holds credentials (they belong in the cloud's own credential chain).
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            invalid(format!(
                "{text:?} {why}; a queue is named like memory://orders?lease=30s"
            ))
        };
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| wrong("has no scheme"))?;
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"+-.".contains(&b);
        if scheme.is_empty() || !scheme.bytes().all(legal) {
            return Err(wrong("has no legal scheme"));
        }
        let (target, query) = rest.split_once('?').unwrap_or((rest, ""));
        if query.contains('#') || target.contains('#') {
            return Err(wrong("has a fragment (`#`)"));
        }
        // Not echoed: what stands before the `@` may be a password.
        if target
            .split('/')
            .next()
            .is_some_and(|host| host.contains('@'))
        {
            return Err(invalid(
                "a queue URL holds no credentials; remove what stands before the `@` and use the \
                 cloud's own credential chain",
            ));
        }
        if target.trim_matches('/').is_empty() {
            return Err(wrong("names no queue"));
        }
        let mut options = BTreeMap::new();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if options
                .insert(name.to_string(), value.into_owned())
                .is_some()
            {
                return Err(wrong(&format!("has the option {name:?} twice")));
            }
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            target: target.to_owned(),
            options,
        })
    }

    /// The scheme, which chooses the backend.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// What stands between `://` and `?`.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }

    /// Sets an option.
    #[must_use]
    pub fn with_option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    /// Replaces the target.
    #[must_use]
    pub fn with_target(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    /// Removes an option.
    #[must_use]
    pub fn without_option(mut self, name: &str) -> Self {
        self.options.remove(name);
        self
    }

    /// Whether both name one queue, as far as their texts tell: scheme and target are the same,
    /// and neither `endpoint` nor `region` differs where both have it. Other options say how a
    /// queue is used, not where it is. Two names of one queue, such as its name and its full URL,
    /// are not seen through.
    pub fn is_same_queue(&self, other: &Self) -> bool {
        let agree = |name| match (self.option(name), other.option(name)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        self.scheme == other.scheme
            && self.target == other.target
            && agree("endpoint")
            && agree("region")
    }

    /// The options that every backend understands.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) that names the option and what would be right.
    pub fn queue_options(&self) -> Result<QueueOptions> {
        let options: QueueOptions = self.read(|name, known| known.contains(&name))?;
        if options.max_attempts == Some(0) {
            return Err(self.bad_option("max_attempts", "at least 1 attempt is needed"));
        }
        if options.max_attempts.is_some() && options.dead_letter.is_none() {
            return Err(self.bad_option(
                "max_attempts",
                "messages that fail too often need a place; add dead_letter=NAME",
            ));
        }
        for (name, value) in [
            ("lease", options.lease),
            ("max_lease", options.max_lease),
            ("send_timeout", options.send_timeout),
        ] {
            if value.is_some_and(|value| value.is_zero()) {
                return Err(self.bad_option(name, "must be longer than zero"));
            }
        }
        Ok(options)
    }

    /// The options that one backend adds, as its own struct.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) for an option that neither the backend nor
    /// [`QueueOptions`] knows, with the nearest name and the list; and for a value of the wrong
    /// form.
    pub fn backend_options<T: DeserializeOwned>(&self) -> Result<T> {
        let portable = field_names::<QueueOptions>();
        let known = field_names::<T>();
        for name in self.options.keys() {
            if !portable.contains(&name.as_str()) && !known.contains(&name.as_str()) {
                return Err(self.unknown_option(name, portable.iter().chain(known).copied()));
            }
        }
        self.read(|name, known| known.contains(&name))
    }

    fn read<T: DeserializeOwned>(&self, take: impl Fn(&str, &[&str]) -> bool) -> Result<T> {
        let known = field_names::<T>();
        let taken = self.options.iter().filter(|(name, _)| take(name, known));
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(taken)
            .finish();
        let pairs = serde_html_form::Deserializer::from_bytes(query.as_bytes());
        serde_path_to_error::deserialize(pairs)
            .map_err(|error| self.bad_option(&error.path().to_string(), &error.inner().to_string()))
    }

    /// An error about the value of one option, which names the place.
    pub fn bad_option(&self, name: &str, why: &str) -> Error {
        let value = self.option(name).unwrap_or_default();
        invalid(format!(
            "option {name}={value:?} of {}://{}: {why}",
            self.scheme, self.target
        ))
    }

    fn unknown_option<'a>(&self, name: &str, known: impl Iterator<Item = &'a str>) -> Error {
        let mut known: Vec<&str> = known.collect();
        known.sort_unstable();
        known.dedup();
        let nearest = nearest(name, &known)
            .map(|name| format!("; did you mean {name:?}?"))
            .unwrap_or_default();
        invalid(format!(
            "unknown option {name:?} of {}://{}{nearest} (known: {})",
            self.scheme,
            self.target,
            known.join(", ")
        ))
    }
}

impl FromStr for QueueConfig {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// The URL with all options.
impl fmt::Display for QueueConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.target)?;
        if !self.options.is_empty() {
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            write!(f, "?{}", query.extend_pairs(&self.options).finish())?;
        }
        Ok(())
    }
}

impl fmt::Debug for QueueConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QueueConfig({self})")
    }
}

impl Serialize for QueueConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// From a URL, or from a table with `url` and options.
impl<'de> Deserialize<'de> for QueueConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;

        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a queue URL, or a table with `url` and options")]
        enum Form {
            Url(String),
            Table(BTreeMap<String, Value>),
        }
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a string, a number or a boolean")]
        enum Value {
            Text(String),
            Integer(i64),
            Boolean(bool),
        }

        let (url, table) = match Form::deserialize(deserializer)? {
            Form::Url(url) => (url, BTreeMap::new()),
            Form::Table(mut table) => match table.remove("url") {
                Some(Value::Text(url)) => (url, table),
                Some(_) => return Err(D::Error::custom("`url` must be a string")),
                None => return Err(D::Error::missing_field("url")),
            },
        };
        let mut config = Self::parse(&url).map_err(|error| D::Error::custom(error.message()))?;
        for (name, value) in table {
            let value = match value {
                Value::Text(text) => text,
                Value::Integer(number) => number.to_string(),
                Value::Boolean(flag) => flag.to_string(),
            };
            if config.options.insert(name.clone(), value).is_some() {
                return Err(D::Error::custom(format!(
                    "option {name:?} stands both in the URL and beside it; keep one"
                )));
            }
        }
        Ok(config)
    }
}

/// The options that every backend understands. Durations are written `250ms`, `30s`, `5m`, `1h`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct QueueOptions {
    /// How long a lease lasts before it is extended. Default: the queue's own setting.
    #[serde(with = "duration")]
    pub lease: Option<Duration>,
    /// The longest that a message is held in all. Default: 1 h, or less where the cloud says so.
    #[serde(with = "duration")]
    pub max_lease: Option<Duration>,
    /// After how many attempts a message is dead-lettered. Needs `dead_letter`. Default: never.
    pub max_attempts: Option<u32>,
    /// The dead-letter queue: a name in the same account, or a URL. Default: none.
    pub dead_letter: Option<String>,
    /// How many messages are fetched ahead of demand. Default: none.
    pub prefetch: Option<usize>,
    /// How long one receive call waits at the broker. Default: 20 s, or less where the cloud says
    /// so.
    #[serde(with = "duration")]
    pub wait: Option<Duration>,
    /// How long a single send waits for company before a request goes out. Default: 2 ms where
    /// requests cost, else none.
    #[serde(with = "duration")]
    pub linger: Option<Duration>,
    /// How long a settlement waits for company before a request goes out. Default: 20 ms where
    /// requests cost, else none.
    #[serde(with = "duration")]
    pub settle_linger: Option<Duration>,
    /// How long a send is retried. Default: 30 s.
    #[serde(with = "duration")]
    pub send_timeout: Option<Duration>,
    /// Which bounds a message must keep: `portable` (default) or `native`.
    pub validation: Validation,
}

/// Durations as text such as `250ms`, `30s`, `1h 30m`, for `#[serde(with = "duration")]` on
/// `Option<Duration>`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Reads a duration.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Option::<String>::deserialize(deserializer)?
            .map(|text| {
                humantime::parse_duration(&text).map_err(|error| {
                    D::Error::custom(format!("{error}; write it like 250ms, 30s or 5m"))
                })
            })
            .transpose()
    }

    /// Writes a duration.
    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.collect_str(&humantime::format_duration(*duration)),
            None => serializer.serialize_none(),
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

#[cfg(test)]
mod tests;
