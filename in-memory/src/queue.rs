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

use towpath_core::{
    Envelope, Message,
    driver::{Receipt, Received},
};

use crate::{
    dedup::Dedup,
    expiry::{Expiries, Run},
    group::Groups,
    store::{Address, Entry, Lane, NO_GROUP, Nanos, Slot, Store},
};

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

    /// Leases up to `most` messages for `lease`.
    pub(crate) fn receive(
        &mut self,
        most: usize,
        lease: Nanos,
        now: Nanos,
        received: &mut Vec<Received>,
    ) {
        let mut left = most;
        let until = now.saturating_add(lease);
        received.reserve_exact(most.min(self.contents.total - self.contents.leased));
        while left > 0 {
            let before = left;
            let contents = &mut self.contents;
            let fresh = contents.fresh.first_id(&contents.store);
            let keyed = contents.groups.first_id();
            let is_again = !contents.again.is_empty()
                && !(self.prefers_fresh && (fresh.is_some() || keyed.is_some()));
            // What came back and what is new take turns, so that neither keeps the other waiting.
            if is_again {
                self.prefers_fresh = true;
                left -= self.lease_lane(true, 1, now, until, received);
            } else {
                self.prefers_fresh = false;
                let most = if contents.again.is_empty() { left } else { 1 };
                match (fresh, keyed) {
                    (Some(fresh), Some(keyed)) if keyed < fresh => {
                        left -= self.lease_keyed(now, until, received);
                    }
                    (Some(_), Some(_)) => {
                        left -= self.lease_lane(false, 1, now, until, received);
                    }
                    (Some(_), None) => {
                        left -= self.lease_lane(false, most, now, until, received);
                    }
                    (None, _) => left -= self.lease_keyed(now, until, received),
                }
            }
            if left == before {
                break;
            }
        }
        self.quiet_until = self.quiet_until.min(until);
        self.contents
            .expiries
            .tidy(&self.contents.store, self.contents.leased);
    }

    fn lease_lane(
        &mut self,
        is_again: bool,
        most: usize,
        now: Nanos,
        until: Nanos,
        received: &mut Vec<Received>,
    ) -> usize {
        let Contents {
            store,
            fresh,
            again,
            expiries,
            leased,
            ..
        } = &mut self.contents;
        let lane = if is_again { again } else { fresh };
        let Some((address, slots)) = lane.hand_out(store, most) else {
            return 0;
        };
        let grant = Grant {
            place: place(self.number, address),
            epoch: self.epoch,
            counts_attempts: self.rules.counts_attempts,
            lease: self.next_lease,
            now,
            until,
        };
        let count = slots.len();
        grant.grant(slots, received);
        expiries.push(grant.run(address, count));
        self.next_lease += count as u64;
        *leased += count;
        count
    }

    fn lease_keyed(&mut self, now: Nanos, until: Nanos, received: &mut Vec<Received>) -> usize {
        let Some(entry) = self.contents.groups.take() else {
            return 0;
        };
        let Contents {
            store,
            keyed,
            expiries,
            leased,
            ..
        } = &mut self.contents;
        // Nothing else waits in this lane: what is pushed is handed out at once.
        keyed.push(store, entry);
        let Some((address, slots)) = keyed.hand_out(store, 1) else {
            return 0;
        };
        let grant = Grant {
            place: place(self.number, address),
            epoch: self.epoch,
            counts_attempts: self.rules.counts_attempts,
            lease: self.next_lease,
            now,
            until,
        };
        grant.grant(slots, received);
        expiries.push(grant.run(address, 1));
        self.next_lease += 1;
        *leased += 1;
        1
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

    /// The slot and the lease that a receipt names, when it is one of this queue.
    fn parse(&self, receipt: &Receipt) -> Option<(Address, u64)> {
        let (place, lease) = receipt.numbers().ok()?;
        let is_ours = (place >> 32) as u32 == self.number;
        is_ours.then_some((place as u32, lease))
    }

    /// Whether the lease holds.
    pub(crate) fn holds(&mut self, receipt: &Receipt) -> bool {
        self.parse(receipt)
            .is_some_and(|(address, lease)| self.contents.store.leased(address, lease).is_some())
    }

    fn take(&mut self, receipt: &Receipt) -> Option<Entry> {
        let (address, lease) = self.parse(receipt)?;
        let entry = self.contents.store.take(address, lease)?;
        self.contents.leased -= 1;
        Some(entry)
    }

    /// Removes a message; `false` when the lease is gone.
    pub(crate) fn ack(&mut self, receipt: &Receipt, now: Nanos) -> bool {
        let Some((address, lease)) = self.parse(receipt) else {
            return false;
        };
        let Some(slot) = self.contents.store.leased(address, lease) else {
            return false;
        };
        let group = slot.group();
        self.contents.leased -= 1;
        self.contents.total -= 1;
        if group == NO_GROUP {
            self.contents.store.remove(address);
        } else if let Some(entry) = self.contents.store.take(address, lease) {
            if self.contents.groups.is_replaying(group) {
                self.contents.groups.keep(entry, now);
            } else {
                self.contents.groups.settled(group, now);
            }
        }
        true
    }

    /// Loses an ack: the message comes back at the end of its lease, and in an ordered queue the
    /// later ones of its key with it; `false` when the lease is gone.
    pub(crate) fn lose_ack(&mut self, receipt: &Receipt, now: Nanos) -> bool {
        let Some((address, lease)) = self.parse(receipt) else {
            return false;
        };
        let Some(slot) = self.contents.store.leased(address, lease) else {
            return false;
        };
        let until = slot.until();
        if slot.group() != NO_GROUP
            && let Some(entry) = self.take(receipt)
        {
            self.contents.total -= 1;
            if !self.contents.groups.is_replaying(entry.group) {
                self.delay(until, Delayed::Replay(entry.group));
            }
            self.contents.groups.keep(entry, now);
        }
        true
    }

    /// Gives a message back; `false` when the lease is gone.
    pub(crate) fn nack(&mut self, receipt: &Receipt, delay: Duration, now: Nanos) -> bool {
        match self.take(receipt) {
            Some(entry) => {
                self.give_back(entry, delay, now);
                true
            }
            None => false,
        }
    }

    /// Makes a lease last until `lease` from now.
    pub(crate) fn extend(
        &mut self,
        receipt: &Receipt,
        lease: Duration,
        now: Nanos,
    ) -> Result<(), ExtendError> {
        let (address, number) = self.parse(receipt).ok_or(ExtendError::Lost)?;
        let slot = self
            .contents
            .store
            .leased(address, number)
            .ok_or(ExtendError::Lost)?;
        let until = now.saturating_add(nanos(lease));
        if until > slot.since().saturating_add(self.rules.max_total) {
            return Err(ExtendError::TooLong);
        }
        slot.extend(until);
        self.contents.expiries.push(Run {
            at: until,
            lease: number,
            address,
            count: 1,
        });
        self.quiet_until = self.quiet_until.min(until);
        Ok(())
    }

    fn give_back(&mut self, entry: Entry, delay: Duration, now: Nanos) {
        let is_dead = self
            .rules
            .max_deliveries
            .is_some_and(|most| entry.attempt >= most);
        if is_dead {
            self.contents.total -= 1;
            if entry.group != NO_GROUP {
                self.contents.groups.settled(entry.group, now);
            }
            self.dead.push(entry);
            return;
        }
        let visible_at = now.saturating_add(nanos(delay));
        let group = entry.group;
        if group != NO_GROUP {
            self.contents.groups.returned(entry, visible_at, now);
            if visible_at > now {
                self.delay(visible_at, Delayed::Keyed(group));
            }
        } else if visible_at > now {
            self.delay(visible_at, Delayed::Message(Box::new(entry)));
        } else {
            let contents = &mut self.contents;
            contents.again.push(&mut contents.store, entry);
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

/// What a receipt says about where its message is.
fn place(number: u32, address: Address) -> u64 {
    u64::from(number) << 32 | u64::from(address)
}

/// Leases consecutive slots.
struct Grant {
    /// Of the first slot.
    place: u64,
    /// Of the first slot.
    lease: u64,
    epoch: SystemTime,
    counts_attempts: bool,
    now: Nanos,
    until: Nanos,
}

impl Grant {
    fn grant(&self, slots: &mut [Slot], received: &mut Vec<Received>) {
        received.extend(slots.iter_mut().zip(0..).map(|(slot, i)| {
            let entry = slot.grant(self.lease + i, self.now, self.until);
            let receipt = Receipt::token(self.place + i, self.lease + i);
            let envelope = Envelope::new(entry.id.into(), entry.message.clone());
            let mut received = Received::new(envelope, receipt);
            // Set in place: the builder methods would copy the envelope each time.
            received.envelope.attempt = self.counts_attempts.then_some(entry.attempt);
            received.envelope.sent_at = Some(self.epoch + Duration::from_nanos(entry.sent_at));
            received
        }));
    }

    fn run(&self, address: Address, count: usize) -> Run {
        Run {
            at: self.until,
            lease: self.lease,
            address,
            count: count as u32,
        }
    }
}

/// A duration in nanoseconds; 584 years at most.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}
