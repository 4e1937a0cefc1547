//! The public keys of the issuer, fetched and cached.

use std::{collections::HashMap, fmt, time::Duration};

use jsonwebtoken::{Algorithm, DecodingKey, jwk::JwkSet};
use tokio::{sync::Mutex, time::Instant};

/// How long fetched keys are used without looking again.
const FRESH: Duration = Duration::from_secs(3_600);
/// How long keys are used beyond that while new ones cannot be had.
const STALE: Duration = Duration::from_secs(24 * 3_600);
/// The shortest time between two fetches, so that tokens with made-up key ids cause no storm.
const PAUSE: Duration = Duration::from_secs(30);
/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of a key set.
const BYTES: usize = 256 * 1_024;

/// Where keys come from.
pub(crate) struct Keys {
    source: Source,
    cache: Mutex<Cache>,
}

enum Source {
    Url(String, reqwest::Client),
    Fixed,
}

#[derive(Default)]
struct Cache {
    keys: HashMap<String, (Algorithm, DecodingKey)>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The issuer has none of this id.
    Unknown,
    /// The keys cannot be had now.
    Unavailable(String),
}

impl Keys {
    /// Keys of a JSON Web Key Set at `url`.
    pub(crate) fn at(url: String) -> Result<Self, String> {
        let client = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            source: Source::Url(url, client),
            cache: Mutex::default(),
        })
    }

    /// These keys, for ever.
    pub(crate) fn fixed(json: &str) -> Result<Self, String> {
        let cache = Cache {
            keys: parse(json.as_bytes())?,
            ..Cache::default()
        };
        Ok(Self {
            source: Source::Fixed,
            cache: Mutex::new(cache),
        })
    }

    /// The key of this id, and the algorithm that it is for.
    pub(crate) async fn get(&self, id: &str) -> Result<(Algorithm, DecodingKey), NoKey> {
        // Held while fetching, so that one fetch serves all who wait.
        let mut cache = self.cache.lock().await;
        let Source::Url(url, client) = &self.source else {
            return cache.keys.get(id).cloned().ok_or(NoKey::Unknown);
        };
        let now = Instant::now();
        let within = |at: Option<Instant>, time| at.is_some_and(|at| now < at + time);
        let is_fresh = within(cache.fetched, FRESH) && cache.keys.contains_key(id);
        let mut trouble = None;
        if !is_fresh && !within(cache.tried, PAUSE) {
            cache.tried = Some(now);
            match fetch(url, client).await {
                Ok(keys) => {
                    cache.keys = keys;
                    cache.fetched = Some(now);
                }
                Err(error) => {
                    tracing::error!(url, %error, "the keys of the issuer cannot be fetched");
                    trouble = Some(error);
                }
            }
        }
        if !within(cache.fetched, STALE) {
            let why = trouble.unwrap_or_else(|| "the last fetch failed a moment ago".into());
            return Err(NoKey::Unavailable(why));
        }
        match (cache.keys.get(id), trouble) {
            (Some(key), _) => Ok(key.clone()),
            (None, Some(error)) => Err(NoKey::Unavailable(error)),
            (None, None) => Err(NoKey::Unknown),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Url(url, _) => write!(f, "Keys({url})"),
            Source::Fixed => f.write_str("Keys(fixed)"),
        }
    }
}

async fn fetch(
    url: &str,
    client: &reqwest::Client,
) -> Result<HashMap<String, (Algorithm, DecodingKey)>, String> {
    let text = |error: reqwest::Error| error.to_string();
    let mut response = client.get(url).send().await.map_err(text)?;
    if !response.status().is_success() {
        return Err(format!("{url} answered {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(text)? {
        if body.len() + chunk.len() > BYTES {
            return Err(format!("{url} answered more than {BYTES} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    parse(&body)
}

/// The keys that this understands: RSA and P-256, for signatures.
fn parse(json: &[u8]) -> Result<HashMap<String, (Algorithm, DecodingKey)>, String> {
    let set: JwkSet =
        serde_json::from_slice(json).map_err(|error| format!("no JSON Web Key Set: {error}"))?;
    let mut keys = HashMap::new();
    for jwk in &set.keys {
        use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve};
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                Algorithm::ES256
            }
            _ => continue,
        };
        let Some(id) = &jwk.common.key_id else {
            continue;
        };
        let key = DecodingKey::from_jwk(jwk).map_err(|error| format!("key {id:?}: {error}"))?;
        keys.insert(id.clone(), (algorithm, key));
    }
    if keys.is_empty() {
        return Err("no key for RS256 or ES256 is in the set".into());
    }
    Ok(keys)
}
