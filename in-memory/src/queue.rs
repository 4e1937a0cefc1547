//! The queue itself: a state machine without clock, lock or waiting.
//!
//! Every message is in exactly one place: ready in a lane or in its ordering group, leased in a
//! slot, or delayed. Time is a parameter. A call first makes true what is due by `now`
//! ([`Queue::advance`]), so that nothing has to happen in the background.

use std::{
    collections::BTreeMap,
    ops::Range,
    time::{Duration, SystemTime},
};

use towpath_core::Message;

use crate::{
    dedup::Dedup,
    expiry::Expiries,
    group::Groups,
    store::{Entry, Lane, NO_GROUP, Nanos, Store},
};

mod receive;
mod settle;
#[cfg(test)]
mod tests;

/// What the settings of a queue mean for its messages.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Whether ordering keys are honoured.
    pub(crate) ordered: bool,
    /// Whether attempts are told to the consumer.
    pub(crate) counts_attempts: bool,
    /// After how many deliveries a message that comes back goes to the dead-letter queue.
    pub(crate) max_deliveries: Option<u32>,
    /// How many messages the queue holds.
    pub(crate) max_depth: usize,
    /// The longest that a message is held in all.
    pub(crate) max_total: Nanos,
}

/// A message that waits for its time.
#[derive(Debug)]
enum Delayed {
    Message(Box<Entry>),
    /// The message itself waits in this ordering group.
    Keyed(u32),
    /// The acks of this ordering group were lost.
    Replay(u32),
}

/// What became of a sent message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It is in the queue, as this id.
    Accepted(u64),
    /// A message of this id had the same deduplication id.
    Duplicate(u64),
    /// The queue is full.
    Full,
}

/// Counts by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) ready: usize,
    pub(crate) leased: usize,
    pub(crate) delayed: usize,
    /// When the oldest message was sent.
    pub(crate) oldest: Option<Nanos>,
}

/// How a lease could not be extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ExtendError {
    /// The lease is gone.
    Lost,
    /// The message would be held for longer than the queue allows.
    TooLong,
}

#[derive(Debug)]
pub(crate) struct Queue {
    rules: Rules,
    /// Stands in every receipt, so that one of another queue is not taken for one of this.
    number: u32,
    epoch: SystemTime,
    contents: Contents,
    dedup: Dedup,
    next_id: u64,
    next_lease: u64,
    /// Orders what is delayed until the same time.
    next_delayed: u64,
    prefers_fresh: bool,
    /// Nothing is due before.
    quiet_until: Nanos,
    dead: Vec<Entry>,
}

/// The messages, to be thrown away together.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    store: Store,
    /// Messages that were never delivered, without ordering key.
    fresh: Lane,
    /// Messages that came back, without ordering key.
    again: Lane,
    /// Leased messages with an ordering key.
    keyed: Lane,
    groups: Groups,
    delayed: BTreeMap<(Nanos, u64), Delayed>,
    expiries: Expiries,
    total: usize,
    leased: usize,
    invisible: usize,
}

impl Queue {
    pub(crate) fn new(rules: Rules, number: u32, epoch: SystemTime) -> Self {
        Self {
            rules,
            number,
            epoch,
            contents: Contents::default(),
            dedup: Dedup::default(),
            next_id: 1,
            next_lease: 1,
            next_delayed: 0,
            prefers_fresh: false,
            quiet_until: Nanos::MAX,
            dead: Vec::new(),
        }
    }

    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// The wall clock at `at`.
    pub(crate) fn system_time(&self, at: Nanos) -> SystemTime {
        self.epoch + Duration::from_nanos(at)
    }

    /// Accepts a message.
    pub(crate) fn send(&mut self, message: Message, now: Nanos) -> Sent {
        if let Some(dedup_id) = message.dedup_id() {
            self.dedup.forget(now);
            if let Some(id) = self.dedup.find(dedup_id) {
                return Sent::Duplicate(id);
            }
        }
        if self.contents.total >= self.rules.max_depth {
            return Sent::Full;
        }
        let id = self.next_id;
        self.next_id += 1;
        if let Some(dedup_id) = message.dedup_id() {
            self.dedup.remember(dedup_id, id, now);
        }
        self.admit(message, id, now);
        Sent::Accepted(id)
    }

    /// Accepts messages without ordering key, deduplication id and delay, as far as there is room;
    /// returns their ids.
    pub(crate) fn send_plain(&mut self, batch: &[Message], now: Nanos) -> Range<u64> {
        let room = self.rules.max_depth.saturating_sub(self.contents.total);
        let batch = &batch[..batch.len().min(room)];
        let first = self.next_id;
        self.next_id += batch.len() as u64;
        let entries = batch.iter().enumerate().map(|(i, message)| Entry {
            message: message.clone(),
            id: first + i as u64,
            sent_at: now,
            attempt: 0,
            group: NO_GROUP,
        });
        let contents = &mut self.contents;
        contents.total += batch.len();
        contents.fresh.extend(&mut contents.store, now, entries);
        first..self.next_id
    }

    /// Puts a second copy of an accepted message into the queue, as a broker may do.
    pub(crate) fn duplicate(&mut self, message: Message, id: u64, now: Nanos) {
        self.admit(message, id, now);
    }

    /// Takes a message over from another queue, whatever the limits.
    pub(crate) fn take_over(&mut self, message: Message, now: Nanos) {
        let id = self.next_id;
        self.next_id += 1;
        self.admit(message, id, now);
    }

    fn admit(&mut self, message: Message, id: u64, now: Nanos) {
        let delay = message.delay();
        let visible_at = if delay.is_zero() {
            0
        } else {
            now.saturating_add(nanos(delay))
        };
        let entry = Entry {
            message,
            id,
            sent_at: now,
            attempt: 0,
            group: NO_GROUP,
        };
        self.contents.total += 1;
        if self.rules.ordered
            && let Some(key) = entry.message.ordering_key()
        {
            let key = key.to_owned();
            let group = self.contents.groups.push(&key, entry, visible_at, now);
            if visible_at > now {
                self.delay(visible_at, Delayed::Keyed(group));
            }
        } else if visible_at > now {
            self.delay(visible_at, Delayed::Message(Box::new(entry)));
        } else {
            let contents = &mut self.contents;
            contents.fresh.push(&mut contents.store, entry);
        }
    }

    fn delay(&mut self, until: Nanos, what: Delayed) {
        if !matches!(what, Delayed::Replay(_)) {
            self.contents.invisible += 1;
        }
        self.contents
            .delayed
            .insert((until, self.next_delayed), what);
        self.next_delayed += 1;
        self.quiet_until = self.quiet_until.min(until);
    }

    /// Whether there is a message to hand out.
    pub(crate) fn has_ready(&self) -> bool {
        let contents = &self.contents;
        !contents.fresh.is_empty() || !contents.again.is_empty() || contents.groups.has_ready()
    }

    /// Moves the next new message without ordering key behind the others.
    pub(crate) fn reorder(&mut self) {
        let contents = &mut self.contents;
        if contents.fresh.len() > 1
            && let Some(entry) = contents.fresh.pop(&mut contents.store)
        {
            contents.fresh.push(&mut contents.store, entry);
        }
    }

    /// Makes true what is due by `now`: leases that ran out, delays that are over.
    pub(crate) fn advance(&mut self, now: Nanos) {
        if now < self.quiet_until {
            return;
        }
        while let Some((address, lease)) = self.contents.expiries.pop_due(&self.contents.store, now)
        {
            if let Some(entry) = self.contents.store.take(address, lease) {
                self.contents.leased -= 1;
                self.give_back(entry, Duration::ZERO, now);
            }
        }
        while let Some(first) = self.contents.delayed.first_entry()
            && first.key().0 <= now
        {
            let due = first.remove();
            self.make_visible(due, now);
        }
        self.quiet_until = self.next_event().unwrap_or(Nanos::MAX);
    }

    fn make_visible(&mut self, due: Delayed, now: Nanos) {
        let contents = &mut self.contents;
        match due {
            Delayed::Message(entry) => {
                contents.invisible -= 1;
                let lane = if entry.attempt == 0 {
                    &mut contents.fresh
                } else {
                    &mut contents.again
                };
                lane.push(&mut contents.store, *entry);
            }
            Delayed::Keyed(group) => {
                contents.invisible -= 1;
                contents.groups.refresh(group, now);
            }
            Delayed::Replay(group) => contents.total += contents.groups.replay(group, now),
        }
    }

    /// When a lease runs out or a delay is over next.
    pub(crate) fn next_event(&mut self) -> Option<Nanos> {
        let expiry = self.contents.expiries.next(&self.contents.store);
        let delay = self
            .contents
            .delayed
            .first_key_value()
            .map(|(key, _)| key.0);
        match (expiry, delay) {
            (Some(expiry), Some(delay)) => Some(expiry.min(delay)),
            (expiry, delay) => expiry.or(delay),
        }
    }

    /// Whether messages are to go to the dead-letter queue.
    pub(crate) fn has_dead(&self) -> bool {
        !self.dead.is_empty()
    }

    /// The messages that were delivered too often, for the dead-letter queue.
    pub(crate) fn take_dead(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.dead)
    }

    pub(crate) fn counts(&self) -> Counts {
        let contents = &self.contents;
        let delayed = contents
            .delayed
            .values()
            .filter_map(|delayed| match delayed {
                Delayed::Message(entry) => Some(entry.sent_at),
                _ => None,
            });
        let oldest = [contents.store.oldest(), contents.groups.oldest()];
        Counts {
            ready: contents.total - contents.leased - contents.invisible,
            leased: contents.leased,
            delayed: contents.invisible,
            oldest: delayed.chain(oldest.into_iter().flatten()).min(),
        }
    }

    /// Removes all messages. They are returned, so that they can be dropped without the lock.
    pub(crate) fn purge(&mut self) -> Contents {
        self.quiet_until = Nanos::MAX;
        std::mem::take(&mut self.contents)
    }
}

/// A duration in nanoseconds; 584 years at most.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}
