//! Which dead letters are meant, and where they are.

use std::time::{Duration, SystemTime};

use anyhow::ensure;
use towpath::{Consumer, Delivery, Envelope, Queue};

use crate::{Global, commands::send::pair, output, signal};

/// The queue whose dead letters are meant.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Place {
    /// The queue whose dead letters are meant (a URL or a configured name with `dead_letter`), or
    /// the dead-letter queue itself
    queue: String,
    /// How long to wait for more before the queue counts as read to its end
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    pub(super) idle: Duration,
}

/// Which dead letters.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Selection {
    /// Only those whose reason contains this text, in upper or lower case
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Only those of this class: permanent, attempts_exhausted, too_old, undecodable, or another
    /// word that a worker wrote
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Only those that failed at least this long ago, e.g. 1h
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Only those with this attribute; said twice, with both
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    attribute: Vec<(String, String)>,
    /// Only the one with this idempotency key or message id; said twice, both
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
}

impl Place {
    /// The dead-letter queue, and the queues whose dead letters it has, as far as known: the one
    /// that was named, or those of the configuration file.
    pub(super) fn open(&self, global: &Global) -> anyhow::Result<(Queue, Vec<Queue>)> {
        let named = global.queue(&self.queue)?;
        if let Some(dead_letters) = named.dead_letter()? {
            return Ok((dead_letters, vec![named]));
        }
        let mut sources = Vec::new();
        if let Ok(config) = global.configuration() {
            for name in config.names() {
                let source = config.queue(name)?;
                let parks_here = source
                    .dead_letter()?
                    .is_some_and(|queue| queue.config().is_same_queue(named.config()));
                if parks_here {
                    sources.push(source);
                }
            }
        }
        Ok((named, sources))
    }

    /// The dead-letter queue.
    pub(super) fn dead_letters(&self, global: &Global) -> anyhow::Result<Queue> {
        Ok(self.open(global)?.0)
    }

    /// Leases what is in the queue, up to its end or until `limit` match, and keeps what matches.
    /// What does not match is held until then too, so that nothing is seen twice, and given back.
    pub(super) async fn collect(
        &self,
        consumer: &Consumer,
        selection: &Selection,
        limit: usize,
    ) -> anyhow::Result<Vec<Delivery>> {
        let bar = output::progress(None, "reading");
        let stopped = signal::stopped();
        tokio::pin!(stopped);
        let (mut matching, mut other) = (Vec::new(), Vec::new());
        while matching.len() < limit {
            let batch = tokio::select! {
                batch = consumer.receive_batch(100, self.idle) => batch?,
                // Dropping the receive loses nothing; see its cancel safety.
                () = &mut stopped => break,
            };
            if batch.is_empty() {
                break;
            }
            bar.inc(batch.len() as u64);
            for delivery in batch {
                if selection.matches(delivery.envelope()) && matching.len() < limit {
                    matching.push(delivery);
                } else {
                    other.push(delivery);
                }
            }
        }
        bar.finish_and_clear();
        Ok(matching)
    }

    /// The one dead letter with this idempotency key or message id.
    pub(super) async fn one(&self, consumer: &Consumer, id: &str) -> anyhow::Result<Delivery> {
        let selection = Selection {
            id: vec![id.to_owned()],
            ..Selection::default()
        };
        let mut found = self.collect(consumer, &selection, 1).await?;
        ensure!(
            !found.is_empty(),
            "there is no dead letter {id} in {}; `towpath dlq list {}` shows what there is, and one \
             that was shown a moment ago can be leased still",
            consumer.queue(),
            self.queue
        );
        Ok(found.remove(0))
    }
}

impl Selection {
    pub(super) fn matches(&self, envelope: &Envelope) -> bool {
        let message = &envelope.message;
        let failure = message.failure();
        let has_reason = |text: &String| {
            let text = text.to_lowercase();
            failure.is_some_and(|f| f.reason.to_lowercase().contains(&text))
        };
        let has_class = |class: &String| {
            failure
                .is_some_and(|f| serde_json::to_value(&f.class).is_ok_and(|c| c == class.as_str()))
        };
        let is_old = |age: Duration| {
            // Without a record, when it was sent is the next best.
            let failed = failed_at(envelope).or(envelope.sent_at);
            failed.is_some_and(|at| at.elapsed().unwrap_or_default() >= age)
        };
        let is_id = |id: &String| {
            *id == envelope.id.to_string() || *id == message.idempotency_key().to_string()
        };
        self.reason.as_ref().is_none_or(has_reason)
            && self.class.as_ref().is_none_or(has_class)
            && self.older_than.is_none_or(is_old)
            && (self.id.is_empty() || self.id.iter().any(is_id))
            && self
                .attribute
                .iter()
                .all(|(name, value)| message.attributes().get(name) == Some(value.as_str()))
    }
}

/// When the message failed for the last time, where that is known.
pub(super) fn failed_at(envelope: &Envelope) -> Option<SystemTime> {
    let failure = envelope.message.failure()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(failure.failed_ms))
}

/// The names by which failure records call a queue: its target as consumers know it, its short
/// name, and on Pub/Sub the subscription, which is what the service itself writes down.
pub(super) fn names_of(queue: &Queue) -> Vec<String> {
    let last = |text: &str| text.rsplit('/').next().unwrap_or(text).to_owned();
    let config = queue.config();
    let mut names = vec![config.target().to_owned(), last(config.target())];
    if let Some(subscription) = config.option("subscription") {
        names.extend([subscription.to_owned(), last(subscription)]);
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use towpath::{FailureClass, FailureRecord, Message};

    use super::*;

    fn letter() -> Envelope {
        let mut record = FailureRecord::new(FailureClass::TooOld, "CRM: Timed out", "orders");
        record.failed_ms -= 60_000;
        let message = Message::new("x")
            .with_attribute("tenant", "a")
            .with_failure(Some(record));
        Envelope::new("m-1".into(), message)
    }

    #[test]
    fn every_condition_is_a_condition() {
        let letter = letter();
        let key = letter.message.idempotency_key().to_string();
        let new = Selection::default;
        let pair = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        let minute = Duration::from_secs(60);
        for (selection, is_met) in [
            (new(), true),
            (
                Selection {
                    reason: Some("timed OUT".into()),
                    ..new()
                },
                true,
            ),
            (
                Selection {
                    reason: Some("refused".into()),
                    ..new()
                },
                false,
            ),
            (
                Selection {
                    class: Some("too_old".into()),
                    ..new()
                },
                true,
            ),
            (
                Selection {
                    class: Some("permanent".into()),
                    ..new()
                },
                false,
            ),
            (
                Selection {
                    older_than: Some(minute),
                    ..new()
                },
                true,
            ),
            (
                Selection {
                    older_than: Some(2 * minute),
                    ..new()
                },
                false,
            ),
            (
                Selection {
                    attribute: pair("tenant", "a"),
                    ..new()
                },
                true,
            ),
            (
                Selection {
                    attribute: pair("tenant", "b"),
                    ..new()
                },
                false,
            ),
            (
                Selection {
                    id: vec!["m-1".into()],
                    ..new()
                },
                true,
            ),
            (
                Selection {
                    id: vec!["m-2".into(), key],
                    ..new()
                },
                true,
            ),
            (
                Selection {
                    id: vec!["m-2".into()],
                    ..new()
                },
                false,
            ),
        ] {
            assert_eq!(selection.matches(&letter), is_met, "{selection:?}");
        }
    }

    #[test]
    fn a_queue_has_the_names_that_records_call_it_by() {
        for (url, wanted) in [
            ("memory://orders", vec!["orders"]),
            ("sqs://orders?region=eu-west-1", vec!["orders"]),
            ("pubsub://p/orders", vec!["orders", "p/orders"]),
            (
                "pubsub://p/orders?subscription=billing",
                vec!["billing", "orders", "p/orders"],
            ),
        ] {
            let queue = towpath::open(url).unwrap();
            assert_eq!(names_of(&queue), wanted);
        }
    }
}
