//! From what the user wrote to a queue.

use towpath::{Queue, QueueConfig, config::Config};

use crate::Global;

impl Global {
    /// The queue that `text` names: a URL, or a name in the configuration.
    pub(crate) fn queue(&self, text: &str) -> anyhow::Result<Queue> {
        if text.contains("://") {
            return Ok(towpath::registry().open_config(QueueConfig::parse(text)?)?);
        }
        Ok(self.configuration()?.queue(text)?)
    }

    /// The configuration as the global options say.
    pub(crate) fn configuration(&self) -> anyhow::Result<Config> {
        Ok(Config::read(
            towpath::registry(),
            self.config.as_deref(),
            self.profile.clone(),
        )?)
    }
}

/// The queue's name as it is shown.
pub(crate) fn shown(queue: &Queue) -> String {
    queue.config().to_string()
}
