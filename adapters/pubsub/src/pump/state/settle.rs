//! Acks and nacks of what was handed out.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Entry, Handle, Outcome, Phase, STREAM_LINGER, State, Timer};
use crate::pump::order::Next;

/// How an ack goes on.
pub(in crate::pump) enum Ack<H> {
    /// The message is not held any more.
    Lost,
    /// To be sent; nobody will tell how it ended.
    Submit(Vec<H>),
    /// To be sent, and the outcome reported.
    Confirm(Vec<H>),
    /// It was sent before; this is its outcome.
    Pending(Outcome),
}

/// Why a message cannot be held for a delay.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::pump) enum Unheld {
    /// It is not there any more.
    Lost,
    /// There is no room; the next becomes free then.
    Full(Instant),
}

impl<H: Handle> State<H> {
    /// Begins an ack of what was handed out.
    pub(in crate::pump) fn ack(&mut self, number: u64, now: Instant) -> Ack<H> {
        let Some(entry) = self.entries.get_mut(&number) else {
            return Ack::Lost;
        };
        match &entry.phase {
            Phase::Delivered(_) => {}
            Phase::Confirming(outcome) => return Ack::Pending(outcome.clone()),
            Phase::Waiting | Phase::Ready | Phase::Held | Phase::Early(_) => return Ack::Lost,
        }
        if entry.handles.last().is_some_and(Handle::confirms) {
            return Ack::Confirm(std::mem::take(&mut entry.handles));
        }
        Ack::Submit(self.done(number, now))
    }

    /// Notes where the outcome of an ack that is being confirmed will be.
    pub(in crate::pump) fn confirming(&mut self, number: u64, outcome: Outcome) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.phase = Phase::Confirming(outcome);
        }
    }

    /// The ack of a message was confirmed. Returns what came of it again meanwhile, to be acked.
    pub(in crate::pump) fn done(&mut self, number: u64, now: Instant) -> Vec<H> {
        let Some(entry) = self.remove(number, now) else {
            return Vec::new();
        };
        if let Some(key) = &entry.key {
            let next = self.order.done(key, now);
            self.turn(key, next);
        }
        entry.handles
    }

    /// A message is given back. Returns what to nack: with an ordering key also the messages that
    /// must not overtake it.
    pub(in crate::pump) fn failed(&mut self, number: u64, now: Instant) -> Vec<H> {
        let Some(entry) = self.remove(number, now) else {
            return Vec::new();
        };
        let mut release = entry.handles;
        if let Some(key) = &entry.key {
            let (waiting, until) = self.order.failed(key, &entry.id, now);
            for number in waiting {
                release.extend(self.remove(number, now).into_iter().flat_map(|e| e.handles));
            }
            if let Some(until) = until {
                self.set_timer(until, Timer::Key(key.clone()));
            }
        }
        release
    }

    /// Nacks what was handed out; `None` where it is not held any more.
    pub(in crate::pump) fn nack(&mut self, number: u64, now: Instant) -> Option<Vec<H>> {
        self.is_delivered(number).then(|| self.failed(number, now))
    }

    pub(super) fn is_delivered(&self, number: u64) -> bool {
        let entry = self.entries.get(&number);
        entry.is_some_and(|entry| matches!(entry.phase, Phase::Delivered(_)))
    }

    /// Holds what was handed out until `due`, and gives it back then.
    pub(in crate::pump) fn hold(&mut self, number: u64, due: Instant) -> Result<(), Unheld> {
        if !self.is_delivered(number) {
            return Err(Unheld::Lost);
        }
        if self.held >= self.receiving.max_held {
            return Err(Unheld::Full(self.next_free().unwrap_or(due)));
        }
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.phase = Phase::Held;
            self.held += 1;
            self.set_timer(due, Timer::Held(number));
        }
        Ok(())
    }

    /// When the next of what is held goes.
    pub(super) fn next_free(&self) -> Option<Instant> {
        let is_held = |timer: &Timer| matches!(timer, Timer::Held(_) | Timer::Early(_));
        let mut timers = self.timers.iter();
        timers
            .find(|(_, timer)| is_held(timer))
            .map(|((at, _), _)| *at)
    }

    /// What closes the streams, where nobody asks for messages: so that one that is given back now
    /// goes to somebody else.
    pub(in crate::pump) fn close_unasked(&mut self, now: Instant) -> Vec<CancellationToken> {
        if self.is_asked(now) {
            return Vec::new();
        }
        self.streams.close()
    }

    /// Whether something is to be done before the next plan.
    pub(in crate::pump) fn is_late(&self) -> bool {
        let first = self.timers.first_key_value();
        let has_timer = first.is_some_and(|((at, _), _)| *at < self.planned);
        // Streams that were kept open because nothing could come by them.
        let has_room = self.waiting == 0
            && !self.streams.is_empty()
            && self
                .last_settled
                .is_some_and(|at| at + STREAM_LINGER < self.planned);
        has_timer || has_room
    }

    pub(super) fn turn(&mut self, key: &Arc<str>, next: Next) {
        match next {
            Next::Nobody => {}
            Next::Entry(number) => self.make_ready(Some(number)),
            Next::At(at) => self.set_timer(at, Timer::Key(key.clone())),
        }
    }

    pub(super) fn set_timer(&mut self, at: Instant, timer: Timer) {
        self.timers.insert((at, self.next_timer), timer);
        self.next_timer += 1;
    }

    pub(super) fn remove(&mut self, number: u64, now: Instant) -> Option<Entry<H>> {
        let entry = self.entries.remove(&number)?;
        self.by_id.remove(&entry.id);
        self.bytes -= entry.bytes;
        match entry.phase {
            Phase::Held | Phase::Early(_) => self.held -= 1,
            Phase::Ready => self.ready.retain(|other| *other != number),
            Phase::Waiting | Phase::Delivered(_) | Phase::Confirming(_) => {}
        }
        self.last_settled = Some(now);
        for stream in &entry.streams {
            self.streams.settled(*stream, entry.bytes, now);
        }
        Some(entry)
    }
}
