//! Settling and extending leases.

use std::time::Duration;

use towpath_core::driver::Receipt;

use super::{Delayed, ExtendError, Queue, nanos};
use crate::{
    expiry::Run,
    store::{Address, Entry, NO_GROUP, Nanos},
};

impl Queue {
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

    pub(super) fn give_back(&mut self, entry: Entry, delay: Duration, now: Nanos) {
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
}
