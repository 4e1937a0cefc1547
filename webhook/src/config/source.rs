//! One source: its keys, and what they must be.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;
use toml::{Table, Value};
use towpath_core::config::{duration, field_names};

use super::{
    mistakes::Mistakes,
    verify::{self, Verify},
};
use crate::Profile;

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
const OWN_PATHS: [&str; 2] = ["/livez", "/readyz"];

impl Source {
    pub(super) fn read(place: &str, mut table: Table, mistakes: &mut Mistakes) -> Option<Self> {
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
const OWN_ATTRIBUTES: [&str; 4] = [
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
