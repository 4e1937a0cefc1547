//! Copies that came before their time: held until it comes, or until the next copy takes over.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};
use towpath_core::{Envelope, Result, wire::Delayed};

use super::{Arrival, Entry, Handle, Outcome, Phase, State, Timer, planning::Plan, settle::Unheld};
use crate::pump::{order::Rank, streams::StreamId};

/// For how long a copy is held at least before another one takes its place, so that a long delay
/// takes few of them.
const SHORTEST: Duration = Duration::from_secs(10);
/// For how long a copy is held where all places are taken: others need them, too.
const CROWDED: Duration = Duration::from_secs(60);
/// When a copy that could not be replaced is looked at again.
const AGAIN: Duration = Duration::from_secs(60);

/// What is known of a copy that came before its time.
#[derive(Debug)]
pub(in crate::pump) struct Early {
    pub(in crate::pump) due: Instant,
    pub(in crate::pump) delayed: Delayed,
    /// Where it stands in its ordering key.
    pub(in crate::pump) rank: Rank,
}

/// A copy that has to be replaced by the next one.
pub(in crate::pump) struct Renewal {
    pub(in crate::pump) entry: u64,
    pub(in crate::pump) copy: Envelope,
    pub(in crate::pump) early: Box<Early>,
    pub(in crate::pump) report: watch::Sender<Option<Result<()>>>,
}

/// Whether a message can be replaced by a copy.
pub(in crate::pump) enum Replace {
    /// By a copy of this one; it may stay handed out until then.
    Now(Envelope, Instant),
    /// That is being done, or it is being acked; this is the outcome.
    Pending(Outcome),
    Not(Unheld),
}

impl<H: Handle> State<H> {
    /// A copy came before its time.
    pub(super) fn came_early(
        &mut self,
        stream: StreamId,
        arrival: Arrival<H>,
        early: Box<Early>,
        now: Instant,
    ) {
        let number = self.next_entry;
        self.next_entry += 1;
        self.by_id.insert(arrival.id.clone(), number);
        self.bytes += arrival.bytes;
        let entry = Entry {
            id: arrival.id,
            key: arrival.key.filter(|_| self.is_ordered),
            envelope: Some(arrival.envelope),
            bytes: arrival.bytes,
            handles: vec![arrival.handle],
            streams: vec![stream],
            came: now,
            phase: Phase::Waiting,
        };
        self.entries.insert(number, entry);
        let longest = if self.is_crowded() {
            CROWDED
        } else {
            self.receiving.nack_delay.max(SHORTEST)
        };
        self.hold_early(number, early, now + longest);
    }

    /// Whether no more should be held: all places are taken, or so many bytes are here that reading
    /// could stop.
    fn is_crowded(&self) -> bool {
        let most = self.receiving.max_outstanding_bytes;
        self.held >= self.receiving.max_held || self.bytes >= most + most / 2
    }

    fn hold_early(&mut self, number: u64, early: Box<Early>, until: Instant) {
        if let Some(entry) = self.entries.get_mut(&number) {
            let at = early.due.min(until);
            entry.phase = Phase::Early(early);
            self.held += 1;
            self.set_timer(at, Timer::Early(number));
        }
    }

    /// The time of a copy has come, or that of the next copy.
    pub(super) fn wake_early(&mut self, number: u64, now: Instant, plan: &mut Plan<H>) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        let Phase::Early(early) = std::mem::replace(&mut entry.phase, Phase::Waiting) else {
            return;
        };
        self.held -= 1;
        if early.due <= now {
            entry.came = now;
            let (id, key) = (entry.id.clone(), entry.key.clone());
            let turn = match key {
                Some(key) => self.order.arrive(&key, number, &id, early.rank),
                None => Some(number),
            };
            self.make_ready(turn);
            return;
        }
        let Some(copy) = entry.envelope.clone() else {
            return;
        };
        let (report, outcome) = watch::channel(None);
        entry.phase = Phase::Confirming(outcome);
        plan.renew_copies.push(Renewal {
            entry: number,
            copy,
            early,
            report,
        });
    }

    /// A copy could not be replaced. Returns what is given back, because it was held for too long.
    pub(in crate::pump) fn hold_on(
        &mut self,
        number: u64,
        early: Box<Early>,
        now: Instant,
    ) -> Vec<H> {
        let longest = self.receiving.max_lease;
        let entry = self.entries.get(&number);
        if self.is_closed || entry.is_none_or(|entry| now >= entry.came + longest) {
            return self.failed(number, now);
        }
        self.hold_early(number, early, now + AGAIN);
        Vec::new()
    }

    /// Begins to replace what was handed out by a copy; `outcome` is where the end will be told.
    pub(in crate::pump) fn replace(
        &mut self,
        number: u64,
        outcome: Outcome,
        now: Instant,
    ) -> Replace {
        let next = self
            .is_crowded()
            .then(|| self.next_free().unwrap_or(now + AGAIN));
        let Some(entry) = self.entries.get_mut(&number) else {
            return Replace::Not(Unheld::Lost);
        };
        match (&entry.phase, &entry.envelope, next) {
            (Phase::Confirming(outcome), _, _) => Replace::Pending(outcome.clone()),
            // It would come right back, to be held here.
            (Phase::Delivered(_), _, Some(next)) => Replace::Not(Unheld::Full(next)),
            (Phase::Delivered(until), Some(envelope), None) => {
                let replace = Replace::Now(envelope.clone(), *until);
                entry.phase = Phase::Confirming(outcome);
                replace
            }
            _ => Replace::Not(Unheld::Lost),
        }
    }

    /// The copy was not published: the message stays with its caller.
    pub(in crate::pump) fn keep(&mut self, number: u64, until: Instant) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.phase = Phase::Delivered(until);
        }
    }

    /// Takes what acks a message.
    pub(in crate::pump) fn handles(&mut self, number: u64) -> Vec<H> {
        let entry = self.entries.get_mut(&number);
        entry.map_or_else(Vec::new, |entry| std::mem::take(&mut entry.handles))
    }
}
