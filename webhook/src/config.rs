//! What a receiver receives, and where it goes.

use std::{
    collections::BTreeMap,
    fs, io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, de::Error as _};
use toml::{Table, Value};
use towpath_core::{Error, ErrorKind, QueueConfig, Result, config::Secret};

pub(crate) mod mistakes;
pub(crate) mod source;
mod spool;
pub(crate) mod verify;

use mistakes::Mistakes;
use source::{SchemaSettings, Source};
pub(crate) use spool::SpoolSettings;

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
    pub(crate) spool: Option<SpoolSettings>,
    /// What relative paths are relative to.
    pub(crate) folder: PathBuf,
}

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

    /// Sets the file in which events wait while their queue cannot be reached: `path` of the table
    /// `[spool]`, for programs that have it from elsewhere. Its other keys stay as they are.
    #[must_use]
    pub fn with_spool(mut self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        match &mut self.spool {
            Some(spool) => spool.path = path,
            None => self.spool = Some(SpoolSettings::new(path)),
        }
        self
    }

    /// The names of the sources, sorted.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.sources.keys().map(String::as_str)
    }

    /// The spool, with the whole path of its file.
    pub(crate) fn spool(&self) -> Option<SpoolSettings> {
        let mut spool = self.spool.clone()?;
        spool.path = self.folder.join(spool.path);
        Some(spool)
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
        mistakes.drop_unknown(
            "",
            &mut table,
            &["max_in_flight", "queues", "sources", "spool"],
        );
        let mut config = Self::default();
        if let Some(value) = table.remove("max_in_flight") {
            match NonZeroUsize::deserialize(value) {
                Ok(number) => config.max_in_flight = Some(number),
                Err(error) => mistakes.add("max_in_flight", error.message()),
            }
        }
        if let Some(value) = table.remove("spool") {
            config.spool = SpoolSettings::read(value, &mut mistakes);
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
