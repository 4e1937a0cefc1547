//! What a receiver receives, and where it goes.

use std::{
    collections::BTreeMap,
    fs, io,
    num::{NonZeroU32, NonZeroUsize},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::Error as _};
use toml::{Table, Value};
use towpath_core::{
    Error, ErrorKind, QueueConfig, Result,
    config::{Secret, duration, field_names},
};

use crate::Profile;

pub(crate) mod mistakes;
pub(crate) mod verify;

use mistakes::Mistakes;
use verify::Verify;

/// What a [`Receiver`](crate::Receiver) receives, and where it goes: sources and queues, from TOML.
///
/// Every key, with its unit, bounds and default, is in the crate's README. An unknown key is an
/// error that names the nearest right one, and all mistakes are told at once.
///
/// ```
/// use towpath_webhook::Config;
///
/// let config = Config::parse(r#"
///     [queues]
///     pushes = "memory://pushes"
///
///     [sources.github]
///     path = "/hooks/github"
///     queue = "pushes"
///     verify = { scheme = "github", secrets = [{ env = "GITHUB_SECRET" }] }
/// "#)?;
/// assert_eq!(config.sources().collect::<Vec<_>>(), ["github"]);
///
/// let error = Config::parse("[sources.github]\npth = '/hooks/github'").unwrap_err();
/// assert!(error.message().contains("sources.github.pth: unknown key \"pth\"; did you mean \"path\"?"));
/// # Ok::<(), towpath_core::Error>(())
/// ```
///
/// It can be part of a larger configuration too: it implements `Deserialize`.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub(crate) max_in_flight: Option<NonZeroUsize>,
    pub(crate) queues: BTreeMap<String, QueueConfig>,
    pub(crate) sources: BTreeMap<String, Source>,
    /// What relative paths are relative to.
    pub(crate) folder: PathBuf,
}

/// One source, checked as far as it can be without reading secrets and opening queues.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) settings: Settings,
    pub(crate) verify: Verify,
    pub(crate) schema: Option<SchemaSettings>,
    pub(crate) dedup: DedupSettings,
    pub(crate) rate_limit: Option<RateLimitSettings>,
    pub(crate) route: Option<RouteSettings>,
}

/// The keys of a source.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Settings {
    pub(crate) path: String,
    pub(crate) queue: String,
    // Read on their own, so that a mistake is told with its whole place.
    #[serde(default, rename = "verify")]
    _verify: serde::de::IgnoredAny,
    #[serde(default, rename = "schema")]
    _schema: serde::de::IgnoredAny,
    #[serde(default, rename = "dedup")]
    _dedup: serde::de::IgnoredAny,
    #[serde(default, rename = "rate_limit")]
    _rate_limit: serde::de::IgnoredAny,
    #[serde(default, rename = "route")]
    _route: serde::de::IgnoredAny,
    pub(crate) profile: Option<Profile>,
    pub(crate) content_types: Option<Vec<String>>,
    pub(crate) max_body_bytes: Option<usize>,
    #[serde(default, with = "duration")]
    pub(crate) body_timeout: Option<Duration>,
    #[serde(default, with = "duration")]
    pub(crate) publish_timeout: Option<Duration>,
    #[serde(default, with = "duration")]
    pub(crate) retry_after: Option<Duration>,
    #[serde(default)]
    pub(crate) headers: Vec<String>,
    pub(crate) ordering_key: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SchemaSettings {
    pub(crate) file: Option<PathBuf>,
    pub(crate) inline: Option<String>,
    pub(crate) max_depth: Option<usize>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct DedupSettings {
    #[serde(default, with = "duration")]
    pub(crate) horizon: Option<Duration>,
    pub(crate) capacity: Option<NonZeroUsize>,
    pub(crate) id_header: Option<String>,
    pub(crate) id_pointer: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct RateLimitSettings {
    pub(crate) requests: NonZeroU32,
    #[serde(default, with = "duration")]
    pub(crate) per: Option<Duration>,
    pub(crate) burst: Option<NonZeroU32>,
}

impl RateLimitSettings {
    pub(crate) fn per(&self) -> Duration {
        self.per.unwrap_or(Duration::from_secs(1))
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RouteSettings {
    pub(crate) header: Option<String>,
    pub(crate) pointer: Option<String>,
    pub(crate) queues: BTreeMap<String, String>,
}

/// The most headers that travel as attributes: the queues carry eight attributes, and four are
/// ours.
const MAX_HEADERS: usize = 4;
/// Headers that hold what is for the receiver only.
const SECRET_HEADERS: [&str; 4] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key",
];
/// Paths that the receiver answers itself.
pub(crate) const OWN_PATHS: [&str; 2] = ["/livez", "/readyz"];

impl Config {
    /// Reads TOML. Relative paths in it are relative to the working directory.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` with every mistake and its place.
    pub fn parse(text: &str) -> Result<Self> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            // Not the whole error: it shows the line, which may hold a secret.
            let line = error.span().map_or(1, |span| {
                text.as_bytes()[..span.start.min(text.len())]
                    .iter()
                    .filter(|byte| **byte == b'\n')
                    .count()
                    + 1
            });
            let message = format!("line {line} is not TOML: {}", error.message());
            Error::new(ErrorKind::InvalidConfig, message)
        })?;
        Self::from_table(table)
    }

    /// Reads a file of TOML. Relative paths in it are relative to its folder.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` when it cannot be read, or with every mistake and its place.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let at = |error: &str| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("{}: {error}", path.display()),
            )
        };
        let text = fs::read_to_string(path)
            .map_err(|error| at(&format!("cannot be read: {error}")).with_source(error))?;
        let mut config = Self::parse(&text).map_err(|error| at(error.message()))?;
        config.folder = path.parent().unwrap_or(Path::new("")).to_owned();
        Ok(config)
    }

    /// Sets what relative paths in it are relative to.
    #[must_use]
    pub fn with_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = folder.into();
        self
    }

    /// Replaces the secrets of a source, for programs that have them from elsewhere.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` when there is no such source, or its scheme takes no list of secrets.
    pub fn with_secrets(
        mut self,
        source: &str,
        secrets: impl IntoIterator<Item = Secret>,
    ) -> Result<Self> {
        let names: Vec<String> = self.sources.keys().cloned().collect();
        let wrong = |what: String| Error::new(ErrorKind::InvalidConfig, what);
        let found = self.sources.get_mut(source).ok_or_else(|| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            wrong(mistakes::unknown("source", source, &names))
        })?;
        let list = found.verify.secrets_mut().ok_or_else(|| {
            wrong(format!(
                "sources.{source}.verify: the scheme takes no list of secrets"
            ))
        })?;
        *list = secrets.into_iter().collect();
        Ok(self)
    }

    /// The names of the sources, sorted.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// The files that it refers to: secrets and schemas.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for source in self.sources.values() {
            let secrets = source.verify.secrets();
            files.extend(secrets.iter().filter_map(|s| s.path()).map(Path::to_owned));
            let schema = source.schema.as_ref().and_then(|s| s.file.as_ref());
            files.extend(schema.map(|file| self.folder.join(file)));
        }
        files
    }

    pub(crate) fn read_schema(&self, schema: &SchemaSettings) -> io::Result<String> {
        match (&schema.file, &schema.inline) {
            (Some(file), _) => fs::read_to_string(self.folder.join(file)),
            (None, inline) => Ok(inline.clone().unwrap_or_default()),
        }
    }

    fn from_table(mut table: Table) -> Result<Self> {
        let mut mistakes = Mistakes::default();
        mistakes.drop_unknown("", &mut table, &["max_in_flight", "queues", "sources"]);
        let mut config = Self::default();
        if let Some(value) = table.remove("max_in_flight") {
            match NonZeroUsize::deserialize(value) {
                Ok(number) => config.max_in_flight = Some(number),
                Err(error) => mistakes.add("max_in_flight", error.message()),
            }
        }
        for (name, value) in tables("queues", &mut table, &mut mistakes) {
            match QueueConfig::deserialize(value) {
                Ok(queue) => drop(config.queues.insert(name, queue)),
                Err(error) => mistakes.add(&format!("queues.{name}"), error.message()),
            }
        }
        let mut paths: BTreeMap<String, String> = BTreeMap::new();
        for (name, value) in tables("sources", &mut table, &mut mistakes) {
            let place = format!("sources.{name}");
            let Value::Table(source) = value else {
                mistakes.add(&place, "must be a table");
                continue;
            };
            let Some(source) = Source::read(&place, source, &mut mistakes) else {
                continue;
            };
            if let Some(other) = paths.insert(source.settings.path.clone(), name.clone()) {
                let message = format!(
                    "{:?} is the path of sources.{other} too",
                    source.settings.path
                );
                mistakes.add(&format!("{place}.path"), message);
            }
            config.sources.insert(name, source);
        }
        if config.sources.is_empty() && mistakes.is_empty() {
            mistakes.add("sources", "there are none; add a table [sources.NAME]");
        }
        mistakes.into_result()?;
        Ok(config)
    }
}

impl<'de> Deserialize<'de> for Config {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Table::deserialize(deserializer)?;
        Self::from_table(table).map_err(|error| D::Error::custom(error.message()))
    }
}

fn tables(name: &str, table: &mut Table, mistakes: &mut Mistakes) -> Table {
    match table.remove(name) {
        Some(Value::Table(table)) => table,
        None => Table::new(),
        Some(_) => {
            mistakes.add(name, "must be a table");
            Table::new()
        }
    }
}

impl Source {
    fn read(place: &str, mut table: Table, mistakes: &mut Mistakes) -> Option<Self> {
        let at = |key: &str| format!("{place}.{key}");
        // First, so that its unknown keys are told before those within the tables.
        mistakes.drop_unknown(place, &mut table, field_names::<Settings>());
        let verify = match table.remove("verify") {
            Some(value) => Verify::read(&at("verify"), value, mistakes),
            None => {
                let message = "is missing: say how requests are verified, or \"none\"";
                mistakes.add(&at("verify"), message);
                None
            }
        };
        let schema = optional(&at("schema"), table.remove("schema"), mistakes);
        let dedup = optional(&at("dedup"), table.remove("dedup"), mistakes);
        let rate_limit = optional(&at("rate_limit"), table.remove("rate_limit"), mistakes);
        let route = optional(&at("route"), table.remove("route"), mistakes);
        let settings: Option<Settings> = mistakes.read(place, table);
        let source = Self {
            settings: settings?,
            verify: verify?,
            schema: schema?,
            dedup: dedup?.unwrap_or_default(),
            rate_limit: rate_limit?,
            route: route?,
        };
        source.check(at, mistakes);
        Some(source)
    }

    /// Checks what the types do not.
    fn check(&self, at: impl Fn(&str) -> String, mistakes: &mut Mistakes) {
        let settings = &self.settings;
        let path = settings.path.as_str();
        if !path.starts_with('/') || path.len() < 2 || path.contains(['?', '#', '{', '}', '*', ' '])
        {
            let message = format!("{path:?} must be a plain path like \"/hooks/github\"");
            mistakes.add(&at("path"), message);
        } else if OWN_PATHS.contains(&path) {
            mistakes.add(
                &at("path"),
                format!("{path:?} is answered by the receiver itself"),
            );
        }
        if let Some(types) = &settings.content_types {
            if types.is_empty() {
                mistakes.add(&at("content_types"), "is empty; nothing would be accepted");
            }
            for value in types.iter().filter(|t| !t.contains('/') || t.contains(';')) {
                let message = format!(
                    "{value:?} must be a media type like \"application/json\", without parameters"
                );
                mistakes.add(&at("content_types"), message);
            }
        }
        if settings.max_body_bytes == Some(0) {
            mistakes.add(&at("max_body_bytes"), "must be at least 1");
        }
        for (key, value) in [
            ("body_timeout", settings.body_timeout),
            ("publish_timeout", settings.publish_timeout),
            ("retry_after", settings.retry_after),
        ] {
            if value.is_some_and(|value| value.is_zero()) {
                mistakes.add(&at(key), "must be longer than zero");
            }
        }
        self.check_headers(&at, mistakes);
        if let Some(pointer) = &settings.ordering_key {
            check_pointer(&at("ordering_key"), pointer, mistakes);
        }
        if let Some(schema) = &self.schema {
            match (&schema.file, &schema.inline) {
                (Some(_), Some(_)) | (None, None) => {
                    mistakes.add(&at("schema"), "needs either `file` or `inline`");
                }
                _ => {}
            }
            if schema
                .max_depth
                .is_some_and(|depth| !(1..=127).contains(&depth))
            {
                mistakes.add(&at("schema.max_depth"), "must be 1 to 127");
            }
        }
        let needs_json = [
            ("schema", self.schema.is_some()),
            ("ordering_key", settings.ordering_key.is_some()),
            ("dedup.id_pointer", self.dedup.id_pointer.is_some()),
            (
                "route.pointer",
                self.route.as_ref().is_some_and(|r| r.pointer.is_some()),
            ),
        ];
        let has_json = settings
            .content_types
            .as_ref()
            .is_none_or(|t| t.iter().any(|t| is_json(t)));
        for (key, _) in needs_json
            .into_iter()
            .filter(|(_, needs)| *needs && !has_json)
        {
            mistakes.add(&at(key), "needs a JSON type among the content_types");
        }
        let dedup = &self.dedup;
        if dedup.id_header.is_some() && dedup.id_pointer.is_some() {
            mistakes.add(
                &at("dedup"),
                "needs only one of `id_header` and `id_pointer`",
            );
        }
        if let Some(pointer) = &dedup.id_pointer {
            check_pointer(&at("dedup.id_pointer"), pointer, mistakes);
        }
        if let Some(name) = &dedup.id_header {
            mistakes.take(&at("dedup.id_header"), verify::header(name));
        }
        if let Some(limit) = &self.rate_limit
            && limit.per() / limit.requests.get() == Duration::ZERO
        {
            mistakes.add(
                &at("rate_limit.per"),
                "must be longer, at least a nanosecond for each request",
            );
        }
        if let Some(route) = &self.route {
            match (&route.header, &route.pointer) {
                (Some(name), None) => {
                    drop(mistakes.take(&at("route.header"), verify::header(name)))
                }
                (None, Some(pointer)) => check_pointer(&at("route.pointer"), pointer, mistakes),
                _ => mistakes.add(&at("route"), "needs either `header` or `pointer`"),
            }
            if route.queues.is_empty() {
                mistakes.add(
                    &at("route.queues"),
                    "is empty; add a line VALUE = \"QUEUE\"",
                );
            }
        }
    }

    fn check_headers(&self, at: impl Fn(&str) -> String, mistakes: &mut Mistakes) {
        let headers = &self.settings.headers;
        if headers.len() > MAX_HEADERS {
            let message = format!(
                "has {} headers, and at most {MAX_HEADERS} are carried",
                headers.len()
            );
            mistakes.add(&at("headers"), message);
        }
        for name in headers {
            let lower = name.to_ascii_lowercase();
            let is_legal = !lower.is_empty()
                && lower
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            let what = if !is_legal {
                "is not the name of a header that a queue carries: letters, digits, `-` and `_`"
            } else if SECRET_HEADERS.contains(&lower.as_str()) {
                "holds a secret, which must not travel with the message"
            } else if lower.starts_with("goog") || lower == "towpath" {
                "is reserved by the queues"
            } else if lower == "content-type"
                || lower.starts_with("webhook-") && OWN_ATTRIBUTES.contains(&lower.as_str())
            {
                "is an attribute of every message already"
            } else {
                continue;
            };
            mistakes.add(&at("headers"), format!("{name:?} {what}"));
        }
    }
}

/// The attributes that every message has.
pub(crate) const OWN_ATTRIBUTES: [&str; 4] = [
    "content-type",
    "webhook-source",
    "webhook-received-at",
    "webhook-verified",
];

/// Whether a media type, without parameters, is JSON.
pub(crate) fn is_json(media_type: &str) -> bool {
    let media_type = media_type.trim().to_ascii_lowercase();
    media_type == "application/json" || media_type.ends_with("+json")
}

fn check_pointer(place: &str, pointer: &str, mistakes: &mut Mistakes) {
    if !pointer.starts_with('/') {
        mistakes.add(
            place,
            format!("{pointer:?} must be a JSON pointer like \"/data/id\""),
        );
    }
}

/// `None` for a mistake, `Some(None)` where there is nothing.
fn optional<T: serde::de::DeserializeOwned>(
    place: &str,
    value: Option<Value>,
    mistakes: &mut Mistakes,
) -> Option<Option<T>> {
    match value {
        None => Some(None),
        Some(Value::Table(table)) => mistakes.read(place, table).map(Some),
        Some(_) => {
            mistakes.add(place, "must be a table");
            None
        }
    }
}
