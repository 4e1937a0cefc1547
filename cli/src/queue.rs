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

/// The queue as it is shown: a URL with the options that say where it is, not how it is used.
pub(crate) fn shown(queue: &Queue) -> String {
    let config = queue.config();
    let mut text = format!("{}://{}", config.scheme(), config.target());
    let mut separator = '?';
    for name in ["region", "endpoint", "subscription"] {
        if let Some(value) = config.option(name) {
            text.push_str(&format!("{separator}{name}={value}"));
            separator = '&';
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_shown_by_where_it_is() {
        let url = "sqs://orders?lease=40s&region=eu-west-1&endpoint=http://127.0.0.1:9324";
        let queue = towpath::open(url).unwrap();
        let wanted = "sqs://orders?region=eu-west-1&endpoint=http://127.0.0.1:9324";
        assert_eq!(shown(&queue), wanted);
        assert!(
            queue
                .config()
                .is_same_queue(towpath::open(wanted).unwrap().config())
        );
    }
}
