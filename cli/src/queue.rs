//! From what the user wrote to a queue.

use towpath::{Consumer, Queue, QueueConfig, config::Config};

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

/// Works with a consumer and closes it then, also when the work failed: what the work held goes back
/// to the queue at once, and not by the end of its lease.
pub(crate) async fn consuming<T>(
    consumer: Consumer,
    work: impl AsyncFnOnce(&Consumer) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let result = work(&consumer).await;
    let closed = consumer.close().await;
    let value = result?;
    closed?;
    Ok(value)
}

/// The queue's name as it is shown.
pub(crate) fn shown(queue: &Queue) -> String {
    queue.config().to_string()
}
