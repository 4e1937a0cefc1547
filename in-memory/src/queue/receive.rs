//! Leasing messages.

use std::time::{Duration, SystemTime};

use towpath_core::{
    Envelope,
    driver::{Receipt, Received},
};

use super::{Contents, Queue};
use crate::{
    expiry::Run,
    store::{Address, Nanos, Slot},
};

impl Queue {
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
