//! Who may post to a source.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::HeaderName;
use serde::Deserialize;
use toml::{Table, Value};
use towpath_core::{Result, config::Secret};

use super::mistakes::{Mistakes, unknown};
use crate::{
    Profile,
    signature::{
        Key, Verifier,
        basic::Basic,
        bearer::Bearer,
        github::Github,
        hmac::{Encoding, Hash, Template, TemplateConfig},
        mailgun::Mailgun,
        shopify::Shopify,
        slack::Slack,
        standard_webhooks::StandardWebhooks,
        stripe::Stripe,
    },
};

/// How requests are verified; the keys beside `scheme` belong to the scheme.
#[derive(Clone, Debug)]
pub(crate) enum Verify {
    Mailgun(Timed),
    StandardWebhooks(Standard),
    Github(Untimed),
    Stripe(Timed),
    Shopify(Untimed),
    Slack(Timed),
    Hmac(Box<Hmac>),
    Basic(Users),
    Bearer(Token),
    None,
}

const SCHEMES: [&str; 10] = [
    "mailgun",
    "standard_webhooks",
    "github",
    "stripe",
    "shopify",
    "slack",
    "hmac",
    "basic",
    "bearer",
    "none",
];

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Timed {
    secrets: Vec<Secret>,
    #[serde(default, with = "towpath_core::config::duration")]
    tolerance: Option<Duration>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Untimed {
    secrets: Vec<Secret>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Standard {
    secrets: Vec<Secret>,
    #[serde(default, with = "towpath_core::config::duration")]
    tolerance: Option<Duration>,
    #[serde(default)]
    svix_headers: bool,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Hmac {
    secrets: Vec<Secret>,
    #[serde(default, with = "towpath_core::config::duration")]
    tolerance: Option<Duration>,
    header: String,
    #[serde(default)]
    hash: Hash,
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    encoding: Encoding,
    content: Option<String>,
    timestamp_header: Option<String>,
    id_header: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Users {
    users: BTreeMap<String, Secret>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Token {
    secrets: Vec<Secret>,
    header: Option<String>,
}

/// A verifier with its keys, and what they are called in logs.
pub(crate) struct Opened {
    pub(crate) verifier: Option<Arc<dyn Verifier>>,
    pub(crate) secrets: Vec<String>,
    /// How long a signature is accepted that does not cover the body.
    pub(crate) single_use: Option<Duration>,
}

impl Verify {
    /// Reads the table at `place`; `none` alone is short for the scheme of this name.
    pub(super) fn read(place: &str, value: Value, mistakes: &mut Mistakes) -> Option<Self> {
        let mut table = match value {
            Value::Table(table) => table,
            Value::String(scheme) => Table::from_iter([("scheme".to_owned(), scheme.into())]),
            _ => {
                mistakes.add(
                    place,
                    "must be a table with `scheme` and the keys of the scheme",
                );
                return None;
            }
        };
        let scheme = match table.remove("scheme") {
            Some(Value::String(scheme)) => scheme,
            _ => {
                let message = format!("`scheme` is missing; it is one of {}", SCHEMES.join(", "));
                mistakes.add(place, message);
                return None;
            }
        };
        // Not left to the types, whose errors show the value.
        for (key, is_right, form) in [
            (
                "secrets",
                Value::is_array as fn(&Value) -> bool,
                "a list: [{ env = \"NAME\" }]",
            ),
            (
                "users",
                Value::is_table,
                "a table: { NAME = { env = \"PASSWORD\" } }",
            ),
        ] {
            if table.get(key).is_some_and(|value| !is_right(value)) {
                mistakes.add(&format!("{place}.{key}"), format!("must be {form}"));
                return None;
            }
        }
        Some(match scheme.as_str() {
            "mailgun" => Self::Mailgun(mistakes.read(place, table)?),
            "standard_webhooks" => Self::StandardWebhooks(mistakes.read(place, table)?),
            "github" => Self::Github(mistakes.read(place, table)?),
            "stripe" => Self::Stripe(mistakes.read(place, table)?),
            "shopify" => Self::Shopify(mistakes.read(place, table)?),
            "slack" => Self::Slack(mistakes.read(place, table)?),
            "hmac" => Self::Hmac(mistakes.read(place, table)?),
            "basic" => Self::Basic(mistakes.read(place, table)?),
            "bearer" => Self::Bearer(mistakes.read(place, table)?),
            "none" => {
                mistakes.drop_unknown(place, &mut table, &[]);
                Self::None
            }
            _ => {
                mistakes.add(
                    &format!("{place}.scheme"),
                    unknown("scheme", &scheme, &SCHEMES),
                );
                return None;
            }
        })
    }

    pub(crate) fn scheme(&self) -> &'static str {
        match self {
            Self::Mailgun(_) => "mailgun",
            Self::StandardWebhooks(_) => "standard_webhooks",
            Self::Github(_) => "github",
            Self::Stripe(_) => "stripe",
            Self::Shopify(_) => "shopify",
            Self::Slack(_) => "slack",
            Self::Hmac(_) => "hmac",
            Self::Basic(_) => "basic",
            Self::Bearer(_) => "bearer",
            Self::None => "none",
        }
    }

    /// For how long the provider sends an event again, with some room.
    pub(crate) fn default_horizon(&self) -> Duration {
        let hours = match self {
            // Sent again for eight hours.
            Self::Mailgun(_) => 9,
            // Sent again for three days; by hand for as long at GitHub.
            Self::StandardWebhooks(_) | Self::Stripe(_) | Self::Github(_) => 73,
            // Sent again for four hours.
            Self::Shopify(_) => 5,
            // Sent again for an hour.
            Self::Slack(_) => 2,
            Self::Hmac(_) | Self::Basic(_) | Self::Bearer(_) | Self::None => 24,
        };
        Duration::from_secs(hours * 3_600)
    }

    /// What the provider waits for an answer, less some room for the way.
    pub(crate) fn default_publish_timeout(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Slack(_) => 2,   // of 3
            Self::Shopify(_) => 3, // of 5
            _ => 5,
        })
    }

    pub(crate) fn default_profile(&self) -> Profile {
        match self {
            Self::Mailgun(_) => Profile::mailgun(),
            _ => Profile::standard(),
        }
    }

    pub(super) fn secrets_mut(&mut self) -> Option<&mut Vec<Secret>> {
        match self {
            Self::Mailgun(timed) | Self::Stripe(timed) | Self::Slack(timed) => {
                Some(&mut timed.secrets)
            }
            Self::Github(untimed) | Self::Shopify(untimed) => Some(&mut untimed.secrets),
            Self::StandardWebhooks(standard) => Some(&mut standard.secrets),
            Self::Hmac(hmac) => Some(&mut hmac.secrets),
            Self::Bearer(token) => Some(&mut token.secrets),
            Self::Basic(_) | Self::None => None,
        }
    }

    /// The live secrets, in order.
    pub(crate) fn secrets(&self) -> Vec<&Secret> {
        match self {
            Self::Mailgun(timed) | Self::Stripe(timed) | Self::Slack(timed) => {
                timed.secrets.iter().collect()
            }
            Self::Github(untimed) | Self::Shopify(untimed) => untimed.secrets.iter().collect(),
            Self::StandardWebhooks(standard) => standard.secrets.iter().collect(),
            Self::Hmac(hmac) => hmac.secrets.iter().collect(),
            Self::Basic(basic) => basic.users.values().collect(),
            Self::Bearer(token) => token.secrets.iter().collect(),
            Self::None => Vec::new(),
        }
    }

    /// Reads the secrets and makes the verifier.
    pub(crate) fn open(&self, place: &str, mistakes: &mut Mistakes) -> Option<Opened> {
        let before = self.secrets();
        if before.is_empty() && !matches!(self, Self::None) {
            let key = match self {
                Self::Basic(_) => "users",
                _ => "secrets",
            };
            mistakes.add(
                &format!("{place}.{key}"),
                "is empty; nothing would be accepted",
            );
            return None;
        }
        let mut keys = Vec::with_capacity(before.len());
        for (i, secret) in before.iter().enumerate() {
            let place = match self {
                Self::Basic(basic) => {
                    let user = basic.users.keys().nth(i).map_or("", String::as_str);
                    format!("{place}.users.{user}")
                }
                _ => format!("{place}.secrets[{i}]"),
            };
            keys.extend(mistakes.take(&place, Key::read(secret)));
        }
        if keys.len() < before.len() {
            return None;
        }
        let secrets = match self {
            Self::Basic(basic) => basic.users.keys().cloned().collect(),
            _ => before.iter().map(|secret| format!("{secret:?}")).collect(),
        };
        let verifier = mistakes.take(place, self.verifier(keys))?;
        let single_use = match self {
            Self::Mailgun(timed) => Some(timed.tolerance.unwrap_or(Mailgun::DEFAULT_TOLERANCE)),
            _ => None,
        };
        Some(Opened {
            verifier,
            secrets,
            single_use,
        })
    }

    fn verifier(&self, keys: Vec<Key>) -> Result<Option<Arc<dyn Verifier>>> {
        macro_rules! timed {
            ($verifier:expr, $tolerance:expr) => {{
                let verifier = $verifier;
                match $tolerance {
                    Some(tolerance) => Arc::new(verifier.with_tolerance(tolerance)),
                    None => Arc::new(verifier),
                }
            }};
        }
        Ok(Some(match self {
            Self::Mailgun(timed) => match timed.tolerance {
                // The clocks differ no more for a longer past.
                Some(past) => Arc::new(Mailgun::new(keys).with_tolerance(
                    crate::signature::Tolerance {
                        past,
                        ..Default::default()
                    },
                )),
                None => Arc::new(Mailgun::new(keys)),
            },
            Self::StandardWebhooks(standard) => {
                let mut verifier = StandardWebhooks::new(keys)?;
                if standard.svix_headers {
                    verifier = verifier.with_svix_headers();
                }
                timed!(verifier, standard.tolerance)
            }
            Self::Github(_) => Arc::new(Github::new(keys)),
            Self::Stripe(timed) => timed!(Stripe::new(keys), timed.tolerance),
            Self::Shopify(_) => Arc::new(Shopify::new(keys)),
            Self::Slack(timed) => timed!(Slack::new(keys), timed.tolerance),
            Self::Hmac(hmac) => timed!(Template::new(&hmac.template(), keys)?, hmac.tolerance),
            Self::Basic(basic) => {
                let users = basic.users.keys().cloned().zip(keys);
                Arc::new(Basic::new(users)?)
            }
            Self::Bearer(token) => match &token.header {
                Some(name) => Arc::new(Bearer::new(keys).with_header(header(name)?)),
                None => Arc::new(Bearer::new(keys)),
            },
            Self::None => return Ok(None),
        }))
    }
}

impl Hmac {
    fn template(&self) -> TemplateConfig {
        let mut template = TemplateConfig::new(self.header.as_str());
        template.hash = self.hash;
        template.prefix.clone_from(&self.prefix);
        template.encoding = self.encoding;
        if let Some(content) = &self.content {
            template.content.clone_from(content);
        }
        template.timestamp_header.clone_from(&self.timestamp_header);
        template.id_header.clone_from(&self.id_header);
        template
    }
}

/// The name of a header.
pub(crate) fn header(name: &str) -> Result<HeaderName> {
    name.parse().map_err(|_| {
        let message = format!("{name:?} is not the name of a header");
        towpath_core::Error::new(towpath_core::ErrorKind::InvalidConfig, message)
    })
}
