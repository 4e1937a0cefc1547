//! The messages that were moved last.

use std::{collections::HashSet, mem};

use towpath_core::MessageId;

/// So many are remembered at least, and twice as many at most.
const LEAST: usize = 200_000;

/// The messages that were moved last, by the broker's ids.
#[derive(Debug, Default)]
pub(super) struct Recent {
    newer: HashSet<MessageId>,
    older: HashSet<MessageId>,
}

impl Recent {
    pub(super) fn contains(&self, id: &MessageId) -> bool {
        self.newer.contains(id) || self.older.contains(id)
    }

    pub(super) fn insert(&mut self, id: MessageId) {
        if self.newer.len() >= LEAST {
            self.older = mem::take(&mut self.newer);
        }
        self.newer.insert(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_the_last_stay() {
        let mut recent = Recent::default();
        let last = 3 * LEAST as u64;
        for id in 0..=last {
            recent.insert(id.into());
            assert!(recent.newer.len() + recent.older.len() <= 2 * LEAST);
        }
        assert!(!recent.contains(&0.into()));
        let least = last - LEAST as u64 + 1;
        assert!((least..=last).all(|id| recent.contains(&id.into())));
    }
}
