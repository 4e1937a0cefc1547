//! One pass over a dead-letter queue.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep_until};
use towpath_core::{Delivery, Envelope, FailureRecord, Message, Producer, Result};

use super::{
    Fate, Redrive, RedriveReport, Redriven,
    copy::{copy_with, record_of},
};
use crate::transfer::{Transfer, Transferred};

/// One pass over the dead-letter queue.
pub(super) struct Pass<'a> {
    redrive: &'a Redrive,
    pub(super) report: RedriveReport,
    transfer: Transfer,
}

/// What goes to one target.
struct Group<'a> {
    target: &'a Producer,
    copies: Vec<(Delivery, Message)>,
}

impl<'a> Group<'a> {
    fn to(target: &'a Producer) -> Self {
        let copies = Vec::new();
        Self { target, copies }
    }
}

impl<'a> Pass<'a> {
    pub(super) fn new(redrive: &'a Redrive) -> Self {
        Self {
            redrive,
            report: RedriveReport::new(redrive.is_dry),
            transfer: Transfer::new(redrive.from.clone()),
        }
    }

    pub(super) async fn receive(&self, most: usize) -> Result<Vec<Delivery>> {
        self.transfer.receive(most, self.redrive.quiet).await
    }

    /// Redrives a batch. Fails when nothing of it could be sent.
    pub(super) async fn step(&mut self, batch: Vec<Delivery>) -> Result<()> {
        let mut groups = BTreeMap::<&str, Group<'_>>::new();
        for delivery in batch {
            self.report.seen += 1;
            let record = record_of(delivery.envelope(), self.redrive.from.queue());
            if self.transfer.came_again(&delivery) {
                self.hold(delivery, &record, Fate::CameAgain);
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
            let group = groups.entry(name).or_insert_with(|| Group::to(target));
            group.copies.push((delivery, message));
        }
        let (mut has_sent, mut failed) = (false, None);
        for (name, Group { target, copies }) in groups {
            self.pace(copies.len()).await;
            let envelopes: Vec<Envelope> = copies
                .iter()
                .map(|(delivery, _)| delivery.envelope().clone())
                .collect();
            let fates = self.transfer.send(target, copies).await;
            for (envelope, transferred) in envelopes.iter().zip(fates) {
                let key = envelope.message.idempotency_key();
                let fate = match transferred {
                    Transferred::Moved => Fate::Redriven,
                    Transferred::CameAgain => Fate::CameAgain,
                    Transferred::Unacked(error) => {
                        tracing::error!(target: "towpath::redrive", %key, %error, "sent, and not removed from the dead-letter queue; it is in both");
                        Fate::Unacked
                    }
                    Transferred::Unanswered(error) => {
                        tracing::error!(target: "towpath::redrive", %key, to = name, %error, "the send was not answered; it stays in the dead-letter queue, and may be in both");
                        failed = Some(error);
                        Fate::Unanswered
                    }
                    Transferred::NotSent(error) => {
                        tracing::error!(target: "towpath::redrive", %key, to = name, %error, "not sent; it stays in the dead-letter queue");
                        failed = Some(error);
                        Fate::NotSent
                    }
                };
                let is_sent = matches!(fate, Fate::Redriven | Fate::Unacked);
                if is_sent {
                    has_sent = true;
                    let from = self.redrive.from.queue().to_owned();
                    metrics::counter!("towpath_redriven_total", "queue" => from).increment(1);
                }
                self.report.count(fate);
                let record = record_of(envelope, self.redrive.from.queue());
                let target = is_sent.then_some(name);
                self.redrive.tell(envelope, &record, target, fate);
            }
        }
        match failed {
            Some(error) if !has_sent => Err(error),
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

    fn hold(&mut self, delivery: Delivery, record: &FailureRecord, fate: Fate) {
        self.report.count(fate);
        self.redrive.tell(delivery.envelope(), record, None, fate);
        self.transfer.hold(delivery);
    }

    /// How many deliveries are in hand.
    pub(super) fn in_hand(&self) -> usize {
        self.transfer.in_hand()
    }

    /// Removes what was sent and is still there, gives back what stays, and puts the report right.
    pub(super) async fn finish(self) -> RedriveReport {
        let (redrive, mut report) = (self.redrive, self.report);
        for correction in self.transfer.finish().await {
            let envelope = &correction.envelope;
            let record = record_of(envelope, redrive.from.queue());
            let target = redrive.target(&record).map(|(name, _)| name);
            let (less, more, fate) = match &correction.removed {
                Ok(()) => (&mut report.unacked, &mut report.redriven, Fate::Redriven),
                Err(error) => {
                    tracing::error!(target: "towpath::redrive", key = %envelope.message.idempotency_key(), %error, "a redriven message came again and could not be removed; it is in both queues");
                    (&mut report.redriven, &mut report.unacked, Fate::Unacked)
                }
            };
            *less = less.saturating_sub(1);
            *more += 1;
            redrive.tell(envelope, &record, target, fate);
        }
        report
    }
}

impl Redrive {
    /// Tells the log and the audit what became of a dead letter.
    fn tell(&self, envelope: &Envelope, record: &FailureRecord, target: Option<&str>, fate: Fate) {
        let audited = Redriven::new(envelope, record, target, fate);
        match fate {
            Fate::FilteredOut => {
                tracing::debug!(target: "towpath::redrive", %audited, "left out");
            }
            _ => tracing::info!(target: "towpath::redrive", %audited, "dead letter"),
        }
        if let Some(audit) = &self.audit {
            audit(&audited);
        }
    }
}
