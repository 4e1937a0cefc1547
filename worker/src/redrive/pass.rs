//! One pass over a dead-letter queue.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use futures::future::join_all;
use tokio::time::{Instant, sleep_until};
use towpath_core::{Delivery, FailureRecord, Message, MessageId, Producer, Result};

use super::{
    Fate, Redrive, RedriveReport, Redriven,
    copy::{copy_with, record_of},
};

/// One pass over the dead-letter queue.
pub(super) struct Pass<'a> {
    redrive: &'a Redrive,
    pub(super) report: RedriveReport,
    /// What stays, and is released at the end.
    held: Vec<Delivery>,
    /// What was sent on. A queue whose acks are not confirmed may give such a message out again.
    sent: HashSet<MessageId>,
    /// What came again, and is removed again at the end: until then it stays away.
    again: Vec<Delivery>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(redrive: &'a Redrive) -> Self {
        Self {
            redrive,
            report: RedriveReport::new(redrive.is_dry),
            held: Vec::new(),
            sent: HashSet::new(),
            again: Vec::new(),
        }
    }

    /// Redrives a batch. Fails when nothing of it could be sent.
    pub(super) async fn step(&mut self, batch: Vec<Delivery>) -> Result<()> {
        let mut groups: BTreeMap<&str, (&Producer, Vec<Delivery>, Vec<Message>)> = BTreeMap::new();
        for delivery in batch {
            self.report.seen += 1;
            let record = record_of(delivery.envelope(), self.redrive.from.queue());
            if self.sent.contains(&delivery.envelope().id) {
                let mut audited = Redriven::new(delivery.envelope(), &record, None);
                audited.fate = Fate::CameAgain;
                self.audit(&audited);
                self.again.push(delivery);
                continue;
            }
            if !self.redrive.filter.admits(delivery.envelope(), &record) {
                self.hold(delivery, &record, Fate::FilteredOut);
                continue;
            }
            let Some((name, target)) = self.redrive.target(&record) else {
                self.hold(delivery, &record, Fate::NoRoute);
                continue;
            };
            if self.redrive.is_dry {
                self.hold(delivery, &record, Fate::WouldRedrive);
                continue;
            }
            let message = copy_with(delivery.envelope(), record, target);
            let group = groups
                .entry(name)
                .or_insert_with(|| (target, Vec::new(), Vec::new()));
            group.1.push(delivery);
            group.2.push(message);
        }
        let (mut sent, mut failed) = (0, None);
        for (name, (target, deliveries, messages)) in groups {
            self.pace(messages.len()).await;
            let results = target.send_batch(&messages).await;
            let mut done = Vec::with_capacity(deliveries.len());
            for (delivery, result) in deliveries.into_iter().zip(results) {
                match result {
                    Ok(_) => {
                        self.sent.insert(delivery.envelope().id.clone());
                        done.push(delivery);
                    }
                    Err(error) => {
                        let record = record_of(delivery.envelope(), self.redrive.from.queue());
                        tracing::error!(target: "towpath::redrive", key = %delivery.envelope().message.idempotency_key(), to = name, %error, "not sent; it stays in the dead-letter queue");
                        self.hold(delivery, &record, Fate::NotSent);
                        failed = Some(error);
                    }
                }
            }
            sent += done.len();
            self.ack(done, name).await;
        }
        match failed {
            Some(error) if sent == 0 => Err(error),
            _ => Ok(()),
        }
    }

    async fn pace(&self, messages: usize) {
        let Some(rate) = &self.redrive.rate else {
            return;
        };
        let mut start = Instant::now();
        for _ in 0..messages {
            // Waits for as long as it takes; the leases are kept.
            if let Ok(at) = rate.take(Duration::MAX) {
                start = at;
            }
        }
        sleep_until(start).await;
    }

    async fn ack(&mut self, deliveries: Vec<Delivery>, target: &str) {
        let from = self.redrive.from.queue();
        let audited: Vec<_> = deliveries
            .iter()
            .map(|delivery| {
                let record = record_of(delivery.envelope(), from);
                Redriven::new(delivery.envelope(), &record, Some(target))
            })
            .collect();
        let results = self.redrive.from.ack_batch(deliveries).await;
        for (mut audited, result) in audited.into_iter().zip(results) {
            audited.fate = match result {
                Ok(_) => Fate::Redriven,
                Err(error) => {
                    tracing::error!(target: "towpath::redrive", key = %audited.idempotency_key, %error, "sent, and not removed from the dead-letter queue; it is in both");
                    Fate::Unacked
                }
            };
            metrics::counter!("towpath_redriven_total", "queue" => from.to_owned()).increment(1);
            self.audit(&audited);
        }
    }

    fn hold(&mut self, delivery: Delivery, record: &FailureRecord, fate: Fate) {
        let mut audited = Redriven::new(delivery.envelope(), record, None);
        audited.fate = fate;
        self.audit(&audited);
        self.held.push(delivery);
    }

    fn audit(&mut self, audited: &Redriven) {
        self.report.count(audited.fate);
        match audited.fate {
            Fate::FilteredOut => {
                tracing::debug!(target: "towpath::redrive", %audited, "left out");
            }
            _ => tracing::info!(target: "towpath::redrive", %audited, "dead letter"),
        }
        if let Some(audit) = &self.redrive.audit {
            audit(audited);
        }
    }

    /// How many deliveries are in hand.
    pub(super) fn in_hand(&self) -> usize {
        self.held.len() + self.again.len()
    }

    /// Gives back what stays, and removes what came again. When this fails it comes back by the end
    /// of its lease.
    pub(super) async fn release(&mut self) {
        let again = std::mem::take(&mut self.again);
        for result in self.redrive.from.ack_batch(again).await {
            if let Err(error) = result {
                tracing::error!(target: "towpath::redrive", %error, "a redriven message came again and could not be removed; it is in both queues");
            }
        }
        let held = std::mem::take(&mut self.held).into_iter();
        for result in join_all(held.map(|delivery| delivery.release(Duration::ZERO))).await {
            if let Err(error) = result {
                tracing::warn!(target: "towpath::redrive", %error, "a message that stays was not released; it comes back when its lease runs out");
            }
        }
    }
}
