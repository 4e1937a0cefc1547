//! A complete backend of one's own: a queue that is a directory on disk.
//!
//! ```text
//! ROOT/orders/
//!   settings.json                                    how long a lease is
//!   new/                                             messages that are being written
//!   messages/00001763856000123-000002-<id>.json      visible from, attempts so far, id
//! ```
//!
//! The name of a message's file is all of its state. Leasing it, giving it back and extending the
//! lease are a rename each, which the file system does for one caller only, so that several
//! processes share a queue without a lock. A crash leaves the file as it is: the message comes back
//! when the time in its name has passed.
//!
//! | file | what it is |
//! |---|---|
//! | `lib.rs` | the backend: URL, options, opening |
//! | `store.rs` | the directory: every operation on files |
//! | `halves.rs` | producer, consumer and admin on top of it |
//! | `tests/conformance.rs` | the proof, in a dozen lines |
//!
//! The guide is `docs/src/extend/writing-a-backend.md`.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use serde::Deserialize;
use towpath_core::{
    Error, ErrorKind, QueueConfig, Result,
    driver::{self, Backend},
};

mod halves;
mod store;

use halves::Half;
use store::Store;

/// The backend of `directory://NAME?root=PATH`.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectoryBackend;

/// The options of `directory://`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// The directory that holds the queues.
    root: Option<PathBuf>,
}

impl DirectoryBackend {
    fn store(config: &QueueConfig) -> Result<Store> {
        let options: Options = config.backend_options()?;
        let root = options.root.ok_or_else(|| {
            config.bad_option(
                "root",
                "name the directory that holds the queues: root=/var/lib/queues",
            )
        })?;
        let name = config.target();
        // A name is one component of a path, and never leads out of the root.
        let is_legal = (1..=80).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !is_legal {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!("{name:?} cannot name a queue: use 1 to 80 of A-Z, a-z, 0-9, `-` and `_`"),
            ));
        }
        Ok(Store::new(root.join(name)))
    }

    async fn open(config: &QueueConfig) -> Result<Arc<Half>> {
        let lease = config.queue_options()?.lease;
        Ok(Arc::new(Half::open(Self::store(config)?, lease).await?))
    }
}

#[async_trait]
impl Backend for DirectoryBackend {
    fn scheme(&self) -> &'static str {
        "directory"
    }

    fn check(&self, config: &QueueConfig) -> Result<()> {
        Self::store(config).map(|_| ())
    }

    async fn producer(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Producer>> {
        Ok(Self::open(config).await?)
    }

    async fn consumer(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Consumer>> {
        Ok(Self::open(config).await?)
    }

    async fn admin(&self, config: &QueueConfig) -> Result<Arc<dyn driver::Admin>> {
        Ok(Arc::new(halves::Settings(Self::store(config)?)))
    }

    fn dead_letter(&self, config: &QueueConfig, name: &str) -> Result<QueueConfig> {
        let mut dead_letter = QueueConfig::parse(&format!("directory://{name}"))?;
        if let Some(root) = config.option("root") {
            dead_letter = dead_letter.with_option("root", root);
        }
        Ok(dead_letter)
    }
}
