//! Named queues from a TOML file and the environment, so that swapping the cloud is one line.
//!
//! ```toml
//! # towpath.toml
//! [queues.orders]
//! url = "memory://orders"
//! max_attempts = 5
//! dead_letter = "orders-dlq"
//!
//! [profiles.aws.queues.orders]
//! url = "sqs://orders?region=eu-central-1"
//!
//! [profiles.gcp.queues.orders]
//! url = "pubsub://my-project/orders?subscription=orders-worker"
//! ```
//!
//! What is said later wins:
//!
//! 1. the file: `TOWPATH_CONFIG`, else `towpath.toml` in the working directory;
//! 2. the table `profiles.NAME` of the chosen profile: `TOWPATH_PROFILE`, else `profile` in the
//!    file, else none;
//! 3. the environment: `TOWPATH_QUEUES__ORDERS__URL=sqs://orders`, also for a queue that stands in
//!    no file. In a variable, `_` stands for `-` too: `TOWPATH_QUEUES__ORDER_EVENTS__URL` sets the
//!    queue `order-events` where there is one of that name.
//!
//! ```no_run
//! # fn main() -> towpath::Result<()> {
//! let config = towpath::config::load()?;
//! let queue = config.queue("orders")?;
//! assert_eq!(queue.config().scheme(), "memory");
//! # Ok(())
//! # }
//! ```

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use figment::{
    Figment,
    providers::{Env, Format, Toml},
};
use serde::{Deserialize, Serialize};
use towpath_core::{Error, ErrorKind, Queue, Registry, Result};

pub use towpath_core::config::*;

/// The variable that names the file.
pub const CONFIG_VARIABLE: &str = "TOWPATH_CONFIG";
/// The variable that names the profile.
pub const PROFILE_VARIABLE: &str = "TOWPATH_PROFILE";
/// The file that is read unless [`CONFIG_VARIABLE`] names another.
pub const DEFAULT_FILE: &str = "towpath.toml";

const QUEUE_VARIABLES: &str = "TOWPATH_QUEUES__";

/// Named queues.
#[derive(Clone, Debug)]
pub struct Config {
    registry: Registry,
    queues: BTreeMap<String, QueueConfig>,
    profile: Option<String>,
    source: String,
    settings: Vec<Setting>,
}

/// One setting of a queue, and where it was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// The name of the queue.
    pub queue: String,
    /// The name of the option, or `url`.
    pub option: String,
    /// The value, as text.
    pub value: String,
    /// The file, or the name of the variable.
    pub source: String,
}

/// What a file may hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    queues: BTreeMap<String, QueueConfig>,
    #[serde(default)]
    profile: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

/// What a profile may hold. Its queues need no `url` of their own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    #[serde(default, rename = "queues")]
    _queues: BTreeMap<String, figment::value::Dict>,
}

/// Reads the file that [`CONFIG_VARIABLE`] names, else [`DEFAULT_FILE`] where it is there, then the
/// chosen profile, then the environment; opens queues with the backends that were compiled in.
///
/// # Errors
///
/// [`InvalidConfig`](ErrorKind::InvalidConfig) that names the file or variable and what would be
/// right: a file that cannot be read, an unknown key, profile, scheme or option, a bad value.
pub fn load() -> Result<Config> {
    let path = std::env::var_os(CONFIG_VARIABLE).map(PathBuf::from);
    let profile = std::env::var(PROFILE_VARIABLE).ok();
    Config::read(crate::registry(), path.as_deref(), profile)
}

impl Config {
    /// As [`load`], from `path` (which must be there), else [`DEFAULT_FILE`] where it is there; with
    /// `profile`, else the file's own.
    ///
    /// # Errors
    ///
    /// As [`load`].
    pub fn read(registry: Registry, path: Option<&Path>, profile: Option<String>) -> Result<Self> {
        if let Some(path) = path
            && !path.is_file()
        {
            return Err(invalid(format!(
                "there is no configuration file {}",
                path.display()
            )));
        }
        let path = path.unwrap_or(Path::new(DEFAULT_FILE));
        let mut figment = Figment::from(Toml::file_exact(path));
        if !path.is_file() {
            figment = Figment::new();
        }

        let file: File = extract(&figment)?;
        let profile = profile.or(file.profile);
        if let Some(name) = &profile {
            if !file.profiles.contains_key(name) {
                let known: Vec<&str> = file.profiles.keys().map(String::as_str).collect();
                return Err(invalid(format!(
                    "there is no profile {name:?} in {}{}",
                    path.display(),
                    hint(name, &known)
                )));
            }
            let base = figment.clone();
            figment = base.merge(figment.focus(&format!("profiles.{name}")));
        }
        let variables = variables(&figment);
        figment = figment.merge(variables);

        let queues = extract::<File>(&figment)?.queues;
        let settings = settings(&figment, &queues);
        let source = path.display().to_string();
        let config = Self {
            registry,
            queues,
            profile,
            source,
            settings,
        };
        // A mistake in any queue is told now, not when the queue is used for the first time.
        for name in config.names() {
            config.queue(name)?;
        }
        Ok(config)
    }

    /// A handle on the queue of this name; no I/O yet.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) when no queue has this name; the message lists
    /// those that there are.
    pub fn queue(&self, name: &str) -> Result<Queue> {
        let Some(config) = self.queues.get(name) else {
            let known: Vec<&str> = self.names().collect();
            return Err(invalid(format!(
                "no queue {name:?} is configured in {}{}; add it there, or set {QUEUE_VARIABLES}{}__URL",
                self.source,
                hint(name, &known),
                name.to_ascii_uppercase().replace('-', "_"),
            )));
        };
        self.registry.open_config(config.clone()).map_err(|error| {
            invalid(format!("queue {name:?}: {}", error.message())).with_source(error)
        })
    }

    /// The names of the queues, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.queues.keys().map(String::as_str)
    }

    /// Every setting of every queue, and where it was made.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// The profile that was chosen.
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }
}

fn settings(figment: &Figment, queues: &BTreeMap<String, QueueConfig>) -> Vec<Setting> {
    let mut settings = Vec::new();
    for (queue, config) in queues {
        let table = figment.find_value(&format!("queues.{queue}")).ok();
        for option in table
            .iter()
            .filter_map(|table| table.as_dict())
            .flat_map(|table| table.keys())
        {
            let source = figment.find_metadata(&format!("queues.{queue}.{option}"));
            settings.push(Setting {
                queue: queue.clone(),
                option: option.clone(),
                value: match option.as_str() {
                    "url" => format!("{}://{}", config.scheme(), config.target()),
                    option => config.option(option).unwrap_or_default().to_owned(),
                },
                source: match source.and_then(|metadata| metadata.source.as_ref()) {
                    Some(file) => file.to_string(),
                    // The environment is the only other provider.
                    None => variable(queue, option),
                },
            });
        }
    }
    settings
}

/// The variable of one option of a queue.
fn variable(queue: &str, option: &str) -> String {
    let upper = |text: &str| text.to_ascii_uppercase().replace('-', "_");
    format!("{QUEUE_VARIABLES}{}__{}", upper(queue), upper(option))
}

/// The variables of queues, with names as they stand in the files.
fn variables(files: &Figment) -> Env {
    let named: Vec<String> = files
        .find_value("queues")
        .ok()
        .and_then(|queues| queues.into_dict())
        .map(|queues| queues.into_keys().collect())
        .unwrap_or_default();
    Env::prefixed(QUEUE_VARIABLES)
        .map(move |variable| {
            let variable = variable.as_str().to_ascii_lowercase();
            let (queue, option) = variable.split_once("__").unwrap_or((&variable, ""));
            let name = named
                .iter()
                .find(|name| name.replace('-', "_").eq_ignore_ascii_case(queue));
            format!("queues.{}.{option}", name.map_or(queue, String::as_str)).into()
        })
        .lowercase(false)
}

fn extract<T: serde::de::DeserializeOwned>(figment: &Figment) -> Result<T> {
    figment.extract().map_err(|error| {
        let hint = match &error.kind {
            figment::error::Kind::UnknownField(name, known) => hint(name, known),
            _ => String::new(),
        };
        invalid(format!("{error}{hint}")).with_source(error)
    })
}

fn hint(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(nearest) => format!("; did you mean {nearest:?}?"),
        None if known.is_empty() => String::new(),
        None => format!(" (known: {})", known.join(", ")),
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    #![expect(clippy::result_large_err, reason = "the error type of the jail")]

    use figment::Jail;

    use super::*;

    const FILE: &str = r#"
        [queues.order-events]
        url = "memory://order-events"
        lease = "40s"

        [profiles.far.queues.order-events]
        url = "memory://far-events?wait=1s"
    "#;

    fn with_file(file: &str, check: impl FnOnce(&mut Jail) -> figment::error::Result<()>) {
        Jail::expect_with(|jail| {
            jail.clear_env();
            jail.create_file(DEFAULT_FILE, file)?;
            check(jail)
        });
    }

    fn target(config: &Config) -> String {
        config.queue("order-events").unwrap().config().to_string()
    }

    #[test]
    fn a_profile_changes_the_url_and_keeps_the_options() {
        with_file(FILE, |jail| {
            assert_eq!(target(&load().unwrap()), "memory://order-events?lease=40s");
            jail.set_env(PROFILE_VARIABLE, "far");
            let config = load().unwrap();
            assert_eq!(config.profile(), Some("far"));
            assert_eq!(target(&config), "memory://far-events?lease=40s&wait=1s");
            Ok(())
        });
    }

    #[test]
    fn the_environment_wins_and_needs_no_file() {
        with_file(FILE, |jail| {
            jail.set_env("TOWPATH_QUEUES__ORDER_EVENTS__URL", "memory://from-env");
            let config = load().unwrap();
            assert_eq!(target(&config), "memory://from-env?lease=40s");
            let url = config
                .settings()
                .iter()
                .find(|setting| setting.option == "url");
            assert_eq!(url.unwrap().source, "TOWPATH_QUEUES__ORDER_EVENTS__URL");
            Ok(())
        });
        Jail::expect_with(|jail| {
            jail.clear_env();
            jail.set_env("TOWPATH_QUEUES__MAIL__URL", "memory://mail");
            assert_eq!(load().unwrap().names().collect::<Vec<_>>(), ["mail"]);
            Ok(())
        });
    }

    #[test]
    fn mistakes_name_the_place_and_the_nearest_right_name() {
        let table = [
            (
                "[queue.orders]\nurl = 'memory://x'",
                "did you mean \"queues\"?",
            ),
            (
                "[queues.orders]\nurl = 'memory://x'\nleese = '3s'",
                "did you mean \"lease\"?",
            ),
            (
                "[queues.orders]\nurl = 'memry://x'",
                "did you mean \"memory\"?",
            ),
            ("[queues.orders]\nlease = '3s'", "url"),
            ("profile = 'gpc'\n[profiles.gcp]", "did you mean \"gcp\"?"),
        ];
        for (file, wanted) in table {
            with_file(file, |_| {
                let error = load().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidConfig);
                assert!(error.to_string().contains(wanted), "{file}: {error}");
                Ok(())
            });
        }
        with_file(FILE, |jail| {
            let error = load()
                .unwrap()
                .queue("order-event")
                .unwrap_err()
                .to_string();
            assert!(error.contains("did you mean \"order-events\"?"), "{error}");
            jail.set_env(CONFIG_VARIABLE, "nowhere.toml");
            assert!(load().unwrap_err().to_string().contains("nowhere.toml"));
            Ok(())
        });
    }
}
