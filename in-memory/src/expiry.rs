//! When leases run out.

use std::collections::{BTreeMap, VecDeque};

use crate::store::{Address, Nanos, Store};

/// The ends of all leases. Most leases have one length, so their ends come in order and stand in a
/// line; the others are sorted. What was settled or extended since is skipped later.
#[derive(Debug, Default)]
pub(crate) struct Expiries {
    line: VecDeque<Run>,
    sorted: BTreeMap<(Nanos, u64), Address>,
}

/// Leases that were granted together: consecutive numbers, in slots of consecutive addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) at: Nanos,
    pub(crate) lease: u64,
    pub(crate) address: Address,
    pub(crate) count: u32,
}

impl Run {
    /// Leaves out what is over at the beginning; `false` when all is over.
    fn trim(&mut self, store: &Store) -> bool {
        while self.count > 0 && !store.is_leased_until(self.address, self.lease, self.at) {
            self.skip();
        }
        self.count > 0
    }

    fn skip(&mut self) {
        self.lease += 1;
        self.address += 1;
        self.count -= 1;
    }
}

impl Expiries {
    pub(crate) fn push(&mut self, run: Run) {
        if self.line.back().is_none_or(|last| last.at <= run.at) {
            self.line.push_back(run);
            return;
        }
        let mut run = run;
        while run.count > 0 {
            self.sorted.insert((run.at, run.lease), run.address);
            run.skip();
        }
    }

    /// How many runs and single leases are noted.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.line.len() + self.sorted.len()
    }

    /// Makes room when most of what is noted is over. `leased` is the number of leases.
    pub(crate) fn tidy(&mut self, store: &Store, leased: usize) {
        let most = 2 * leased + 256;
        if self.line.len() > most {
            self.line.retain_mut(|run| run.trim(store));
        }
        if self.sorted.len() > most {
            self.sorted
                .retain(|(at, lease), address| store.is_leased_until(*address, *lease, *at));
        }
    }

    /// The next lease that ran out by `now`: slot and number.
    pub(crate) fn pop_due(&mut self, store: &Store, now: Nanos) -> Option<(Address, u64)> {
        let at = self.next(store)?;
        if at > now {
            return None;
        }
        match self.line.front_mut() {
            Some(run) if run.at == at => {
                let due = (run.address, run.lease);
                run.skip();
                Some(due)
            }
            _ => {
                let ((_, lease), address) = self.sorted.pop_first()?;
                Some((address, lease))
            }
        }
    }

    /// When the next lease runs out.
    pub(crate) fn next(&mut self, store: &Store) -> Option<Nanos> {
        while let Some(run) = self.line.front_mut()
            && !run.trim(store)
        {
            self.line.pop_front();
        }
        while let Some(first) = self.sorted.first_entry() {
            let (at, lease) = *first.key();
            if store.is_leased_until(*first.get(), lease, at) {
                break;
            }
            first.remove();
        }
        let line = self.line.front().map(|run| run.at);
        let sorted = self.sorted.first_key_value().map(|((at, _), _)| *at);
        match (line, sorted) {
            (Some(line), Some(sorted)) => Some(line.min(sorted)),
            (line, sorted) => line.or(sorted),
        }
    }
}
