//! When leases run out.

use std::collections::{BTreeMap, VecDeque};

use crate::store::{Address, Nanos, Store};

/// The ends of all leases. Most leases have one length, so their ends come in order and stand in a
/// line; the others are sorted. What was settled or extended since is skipped later.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    line: VecDeque<Expiry>,
    sorted: BTreeMap<(Nanos, u64), Address>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Expiry {
    pub(crate) at: Nanos,
    pub(crate) lease: u64,
    pub(crate) address: Address,
}

impl Expiry {
    fn is_live(&self, store: &Store) -> bool {
        store.is_leased_until(self.address, self.lease, self.at)
    }
}

impl Expiries {
    pub(crate) fn push(&mut self, expiry: Expiry) {
        if self.line.back().is_none_or(|last| last.at <= expiry.at) {
            self.line.push_back(expiry);
        } else {
            self.sorted
                .insert((expiry.at, expiry.lease), expiry.address);
        }
    }

    /// Makes room when most of what is noted is over. `leased` is the number of leases.
    pub(crate) fn tidy(&mut self, store: &Store, leased: usize) {
        let most = 2 * leased + 1_024;
        if self.line.len() > most {
            self.line.retain(|expiry| expiry.is_live(store));
        }
        if self.sorted.len() > most {
            self.sorted
                .retain(|(at, lease), address| store.is_leased_until(*address, *lease, *at));
        }
    }

    /// The next lease that ran out by `now`.
    pub(crate) fn pop_due(&mut self, store: &Store, now: Nanos) -> Option<Expiry> {
        while let Some(first) = self.first() {
            if first.at > now {
                return None;
            }
            self.pop_first();
            if first.is_live(store) {
                return Some(first);
            }
        }
        None
    }

    /// When the next lease runs out.
    pub(crate) fn next(&mut self, store: &Store) -> Option<Nanos> {
        while let Some(first) = self.first() {
            if first.is_live(store) {
                return Some(first.at);
            }
            self.pop_first();
        }
        None
    }

    fn first(&self) -> Option<Expiry> {
        let line = self.line.front().copied();
        let sorted = self
            .sorted
            .first_key_value()
            .map(|((at, lease), address)| Expiry {
                at: *at,
                lease: *lease,
                address: *address,
            });
        match (line, sorted) {
            (Some(line), Some(sorted)) if sorted.at < line.at => Some(sorted),
            (line, sorted) => line.or(sorted),
        }
    }

    fn pop_first(&mut self) {
        let sorted = self.sorted.first_key_value().map(|((at, _), _)| *at);
        match (self.line.front(), sorted) {
            (Some(line), Some(sorted)) if sorted < line.at => {
                self.sorted.pop_first();
            }
            (None, _) => {
                self.sorted.pop_first();
            }
            _ => {
                self.line.pop_front();
            }
        }
    }
}
