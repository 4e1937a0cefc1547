//! The table `[spool]`: where events wait while their queue cannot be reached.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;
use toml::Value;
use towpath_core::config::duration;

use super::mistakes::Mistakes;
use crate::spool::SpoolOptions;

/// The keys of `[spool]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct SpoolSettings {
    pub(crate) path: PathBuf,
    max_messages: Option<NonZeroUsize>,
    max_bytes: Option<NonZeroU64>,
    #[serde(default, with = "duration")]
    publish_timeout: Option<Duration>,
    #[serde(default, with = "duration")]
    max_backoff: Option<Duration>,
}

impl SpoolSettings {
    /// The defaults, in this file.
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            max_messages: None,
            max_bytes: None,
            publish_timeout: None,
            max_backoff: None,
        }
    }

    pub(super) fn read(value: Value, mistakes: &mut Mistakes) -> Option<Self> {
        let Value::Table(table) = value else {
            mistakes.add("spool", "must be a table");
            return None;
        };
        let settings: Self = mistakes.read("spool", table)?;
        if settings.path.as_os_str().is_empty() {
            mistakes.add("spool.path", "is empty; name a file");
        }
        for (key, value) in [
            ("publish_timeout", settings.publish_timeout),
            ("max_backoff", settings.max_backoff),
        ] {
            if value.is_some_and(|value| value.is_zero()) {
                mistakes.add(&format!("spool.{key}"), "must be longer than zero");
            }
        }
        Some(settings)
    }

    pub(crate) fn options(&self) -> SpoolOptions {
        let default = SpoolOptions::default();
        SpoolOptions {
            max_messages: self.max_messages.map_or(default.max_messages, usize::from),
            max_bytes: self.max_bytes.map_or(default.max_bytes, u64::from),
            publish_timeout: self.publish_timeout.unwrap_or(default.publish_timeout),
            max_backoff: self.max_backoff.unwrap_or(default.max_backoff),
        }
    }
}
