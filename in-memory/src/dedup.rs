//! Deduplication ids that were seen within the window.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::store::Nanos;

/// How long a deduplication id is remembered: 5 minutes, as on SQS FIFO.
pub(crate) const WINDOW: std::time::Duration = std::time::Duration::from_secs(300);

#[derive(Debug, Default)]
pub(crate) struct Dedup {
    ids: HashMap<Arc<str>, u64>,
    /// In the order of their ends.
    line: VecDeque<(Nanos, Arc<str>)>,
}

impl Dedup {
    /// The id of the message that was accepted with this deduplication id within the window.
    pub(crate) fn find(&self, id: &str) -> Option<u64> {
        self.ids.get(id).copied()
    }

    pub(crate) fn remember(&mut self, id: &str, message: u64, now: Nanos) {
        let id: Arc<str> = id.into();
        self.ids.insert(id.clone(), message);
        self.line
            .push_back((now.saturating_add(WINDOW.as_nanos() as u64), id));
    }

    /// Forgets what is beyond the window.
    pub(crate) fn forget(&mut self, now: Nanos) {
        while let Some((until, _)) = self.line.front()
            && *until <= now
        {
            if let Some((_, id)) = self.line.pop_front() {
                self.ids.remove(&id);
            }
        }
    }
}
