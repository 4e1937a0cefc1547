//! One source, opened.

use std::{
    collections::{BTreeMap, HashMap},
    num::{NonZeroU32, NonZeroUsize},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName};
use serde_json::Value;

use super::{metrics::SourceMetrics, target::Target};
use crate::{
    BodyRules, Config, Profile, Refusal, Schema,
    config::{
        mistakes::Mistakes,
        source::{self as settings, DedupSettings, RateLimitSettings, is_json},
        verify::{Opened, header},
    },
    dedup::Dedup,
    rate_limit::RateLimit,
    signature::{Verified, Verifier, replay::TokenStore},
};

/// The largest body, unless said otherwise or the queue carries less.
const DEFAULT_BODY_BYTES: usize = 512 * 1_024;
const DEFAULT_BODY_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(10);
const DEFAULT_CAPACITY: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// One source, opened.
#[derive(Debug)]
pub(super) struct Source {
    name: String,
    pub(super) scheme: &'static str,
    pub(super) verifier: Option<Arc<dyn Verifier>>,
    /// What the secrets are called, never what they are.
    secrets: Vec<String>,
    /// The secrets that were used already, a bit each; those beyond 63 share the last.
    used: AtomicU64,
    pub(super) rules: BodyRules,
    pub(super) schema: Option<Schema>,
    pub(super) tokens: Option<Arc<Tokens>>,
    pub(super) dedup: Option<Arc<Events>>,
    id_from: IdFrom,
    pub(super) rate_limit: Option<Arc<Limit>>,
    profile: Profile,
    pub(super) publish_timeout: Duration,
    pub(super) retry_after: Duration,
    pub(super) headers: Vec<HeaderName>,
    queue: Arc<Target>,
    route: Option<Route>,
    pub(super) ordering_key: Option<String>,
    pub(super) needs_document: bool,
    pub(super) metrics: SourceMetrics,
}

/// Where the id of an event stands.
#[derive(Debug)]
enum IdFrom {
    Verified,
    Header(HeaderName),
    Pointer(String),
}

#[derive(Debug)]
struct Route {
    by: By,
    queues: HashMap<String, Arc<Target>>,
}

#[derive(Debug)]
enum By {
    Header(HeaderName),
    Pointer(String),
}

/// What outlives a reload, with the settings that it was made with.
#[derive(Debug)]
pub(super) struct Kept<S, T> {
    settings: S,
    pub(super) value: T,
}

pub(super) type Tokens = Kept<(NonZeroUsize, Duration), TokenStore>;
pub(super) type Events = Kept<(NonZeroUsize, Duration), Dedup>;
pub(super) type Limit = Kept<RateLimitSettings, RateLimit>;

/// What was kept, where the settings are still the same.
fn kept<S: PartialEq, T>(
    before: Option<&Arc<Kept<S, T>>>,
    settings: S,
    make: impl FnOnce(&S) -> T,
) -> Arc<Kept<S, T>> {
    match before {
        Some(kept) if kept.settings == settings => Arc::clone(kept),
        _ => {
            let value = make(&settings);
            Arc::new(Kept { settings, value })
        }
    }
}

impl Source {
    /// Opens a source; `before` is the one of this name that it takes the place of.
    pub(super) fn open(
        name: &str,
        source: &settings::Source,
        config: &Config,
        targets: &BTreeMap<String, Arc<Target>>,
        before: Option<&Arc<Self>>,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let at = |key: &str| format!("sources.{name}.{key}");
        let settings = &source.settings;
        let opened = source.verify.open(&at("verify"), mistakes);
        let schema = match &source.schema {
            None => Some(None),
            Some(schema) => read_schema(&at("schema"), schema, config, mistakes).map(Some),
        };
        let queue = targets.get(&settings.queue);
        let route = match &source.route {
            None => Some(None),
            Some(route) => open_route(route, targets).map(Some),
        };
        let (Some(queue), Some(route)) = (queue, route) else {
            return None; // told where the queue was looked for
        };
        let max_body_bytes = check_targets(at, source, queue, route.as_ref(), mistakes);
        let Opened {
            verifier,
            secrets,
            single_use,
        } = opened?;
        let schema = schema?;

        let DedupSettings {
            horizon, capacity, ..
        } = &source.dedup;
        let capacity = capacity.unwrap_or(DEFAULT_CAPACITY);
        let horizon = horizon.unwrap_or(source.verify.default_horizon());
        let tokens = single_use.map(|window| {
            let before = before.and_then(|before| before.tokens.as_ref());
            kept(before, (capacity, window), |(capacity, window)| {
                TokenStore::new(*capacity, *window)
            })
        });
        let dedup = (!horizon.is_zero()).then(|| {
            let before = before.and_then(|before| before.dedup.as_ref());
            kept(before, (capacity, horizon), |(capacity, horizon)| {
                Dedup::new(*capacity, *horizon)
            })
        });
        let rate_limit = match &source.rate_limit {
            None => None,
            Some(settings) => {
                let before = before.and_then(|before| before.rate_limit.clone());
                match before.filter(|before| before.settings == *settings) {
                    Some(before) => Some(before),
                    None => Some(Arc::new(Kept {
                        value: limit(settings)?,
                        settings: settings.clone(),
                    })),
                }
            }
        };
        let id_from = match (&source.dedup.id_header, &source.dedup.id_pointer) {
            (Some(name), _) => IdFrom::Header(header(name).ok()?),
            (None, Some(pointer)) => IdFrom::Pointer(pointer.clone()),
            (None, None) => IdFrom::Verified,
        };
        let by_pointer = matches!(
            &route,
            Some(Route {
                by: By::Pointer(_),
                ..
            })
        );
        Some(Self {
            name: name.to_owned(),
            scheme: source.verify.scheme(),
            verifier,
            metrics: SourceMetrics::new(name, names(queue, route.as_ref())),
            secrets,
            used: AtomicU64::new(0),
            rules: BodyRules::default()
                .with_max_bytes(max_body_bytes)
                .with_media_types(content_types(settings))
                .with_timeout(settings.body_timeout.unwrap_or(DEFAULT_BODY_TIMEOUT)),
            needs_document: schema.is_some()
                || by_pointer
                || settings.ordering_key.is_some()
                || matches!(id_from, IdFrom::Pointer(_)),
            schema,
            tokens,
            dedup,
            id_from,
            rate_limit,
            profile: (settings.profile.clone()).unwrap_or_else(|| source.verify.default_profile()),
            publish_timeout: (settings.publish_timeout)
                .unwrap_or_else(|| source.verify.default_publish_timeout()),
            retry_after: settings.retry_after.unwrap_or(DEFAULT_RETRY_AFTER),
            headers: settings
                .headers
                .iter()
                .filter_map(|name| name.parse().ok())
                .collect(),
            queue: Arc::clone(queue),
            route,
            ordering_key: settings.ordering_key.clone(),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The queue for a request: where its route leads, else the source's own.
    pub(super) fn target(&self, headers: &HeaderMap, document: Option<&Value>) -> &Arc<Target> {
        let routed = self.route.as_ref().and_then(|route| {
            let value = match &route.by {
                By::Header(name) => headers.get(name)?.to_str().ok().map(str::to_owned),
                By::Pointer(pointer) => document?.pointer(pointer).and_then(scalar),
            };
            route.queues.get(value?.as_str())
        });
        routed.unwrap_or(&self.queue)
    }

    /// The provider's id of the event.
    pub(super) fn event_id(
        &self,
        verified: &Verified,
        headers: &HeaderMap,
        document: Option<&Value>,
    ) -> Option<String> {
        let id = match &self.id_from {
            IdFrom::Verified => verified.event_id.clone(),
            IdFrom::Header(name) => headers.get(name)?.to_str().ok().map(str::to_owned),
            IdFrom::Pointer(pointer) => document?.pointer(pointer).and_then(scalar),
        };
        id.filter(|id| !id.is_empty())
    }

    /// Logs the first use of each secret, so that one that is rotated out can be seen to rest.
    pub(super) fn note_secret(&self, key: usize) {
        if self.verifier.is_none() {
            return;
        }
        let bit = 1_u64 << key.min(63);
        let secret = self.secrets.get(key).map_or("", String::as_str);
        if self.used.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
            tracing::info!(
                source = self.name,
                key,
                secret,
                "a request was signed with this secret"
            );
        }
    }

    pub(super) fn note_refusal(&self, refusal: &Refusal, why: &str) {
        self.metrics.refused(&self.name, refusal.as_str());
        tracing::warn!(
            source = self.name,
            reason = refusal.as_str(),
            why,
            "refused"
        );
    }
}

/// A value of JSON as text, where it is not a structure.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn content_types(settings: &settings::Settings) -> Vec<String> {
    match &settings.content_types {
        Some(types) => types.clone(),
        None => vec!["application/json".to_owned()],
    }
}

/// Whether the body is JSON, by its content type, which is accepted already.
pub(super) fn has_json_body(headers: &HeaderMap) -> bool {
    let value = headers.get(http::header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok()).unwrap_or("");
    is_json(text.split(';').next().unwrap_or(""))
}

fn limit(settings: &RateLimitSettings) -> Option<RateLimit> {
    let burst: NonZeroU32 = settings.burst.unwrap_or(settings.requests);
    RateLimit::new(settings.requests, settings.per(), burst)
}

fn read_schema(
    place: &str,
    settings: &settings::SchemaSettings,
    config: &Config,
    mistakes: &mut Mistakes,
) -> Option<Schema> {
    let text = config
        .read_schema(settings)
        .map_err(|error| {
            let file = settings.file.clone().unwrap_or_default();
            let message = format!(
                "cannot read {}: {error}",
                config.folder.join(file).display()
            );
            mistakes.add(place, message);
        })
        .ok()?;
    let schema = mistakes.take(place, Schema::parse(&text))?;
    Some(match settings.max_depth {
        Some(depth) => schema.with_max_depth(depth),
        None => schema,
    })
}

fn open_route(
    settings: &settings::RouteSettings,
    targets: &BTreeMap<String, Arc<Target>>,
) -> Option<Route> {
    let by = match (&settings.header, &settings.pointer) {
        (Some(name), _) => By::Header(header(name).ok()?),
        (None, pointer) => By::Pointer(pointer.clone()?),
    };
    let mut queues = HashMap::new();
    for (value, queue) in &settings.queues {
        queues.insert(value.clone(), Arc::clone(targets.get(queue)?));
    }
    Some(Route { by, queues })
}

/// The queues of a source.
fn names<'a>(queue: &'a Target, route: Option<&'a Route>) -> impl Iterator<Item = &'a str> {
    let routed = route.into_iter().flat_map(|route| route.queues.values());
    std::iter::once(queue.name()).chain(routed.map(|target| target.name()))
}

/// Checks that all queues of a source carry what it receives. Returns the largest body.
fn check_targets(
    at: impl Fn(&str) -> String,
    source: &settings::Source,
    queue: &Target,
    route: Option<&Route>,
    mistakes: &mut Mistakes,
) -> usize {
    let routed = route.into_iter().flat_map(|route| route.queues.values());
    let mut least = usize::MAX;
    for target in std::iter::once(queue).chain(routed.map(|target| &**target)) {
        if source.settings.ordering_key.is_some() && !target.producer().capabilities().ordering {
            let message = format!(
                "the queue {:?} keeps no order; remove the key, or use an ordered queue",
                target.name()
            );
            mistakes.add(&at("ordering_key"), message);
        }
        let most = target.max_body_bytes();
        if let Some(wanted) = source.settings.max_body_bytes
            && wanted > most
        {
            let message = format!(
                "{wanted} is more than the queue {:?} carries, which is {most}",
                target.name()
            );
            mistakes.add(&at("max_body_bytes"), message);
        }
        least = least.min(most);
    }
    let default = DEFAULT_BODY_BYTES.min(least);
    source.settings.max_body_bytes.unwrap_or(default)
}
