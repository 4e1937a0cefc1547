//! What a worker remembers about messages that it gave back.
//!
//! Kept for as long as the process lives: before when a message must not be tried, where the
//! queue's own delay is shorter than that, and how often it failed, where the queue does not count.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;
use towpath_core::MessageId;

/// The most messages to remember; the oldest notes go first.
const MOST: usize = 65_536;

/// The notes of a worker.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    inner: Mutex<Inner>,
    /// How many there are, so that a worker without any does not lock.
    len: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    notes: HashMap<MessageId, Note>,
    order: VecDeque<MessageId>,
}

/// What is known about one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Note {
    /// Attempts that failed here.
    pub(crate) failures: u32,
    /// Before when it must not be tried.
    pub(crate) not_before: Option<Instant>,
}

impl Notes {
    pub(crate) fn of(&self, id: &MessageId) -> Note {
        if self.len.load(Ordering::Acquire) == 0 {
            return Note::default();
        }
        self.lock().notes.get(id).copied().unwrap_or_default()
    }

    pub(crate) fn edit(&self, id: &MessageId, edit: impl FnOnce(&mut Note)) {
        let mut inner = self.lock();
        if let Some(note) = inner.notes.get_mut(id) {
            edit(note);
            return;
        }
        let mut note = Note::default();
        edit(&mut note);
        inner.notes.insert(id.clone(), note);
        inner.order.push_back(id.clone());
        while inner.notes.len() > MOST
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.notes.remove(&oldest);
        }
        // Forgotten messages leave their place in the order behind.
        if inner.order.len() > 2 * inner.notes.len() + 1_024 {
            let Inner { notes, order } = &mut *inner;
            order.retain(|id| notes.contains_key(id));
        }
        self.len.store(inner.notes.len(), Ordering::Release);
    }

    pub(crate) fn forget(&self, id: &MessageId) {
        if self.len.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut inner = self.lock();
        if inner.notes.remove(id).is_some() {
            self.len.store(inner.notes.len(), Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_and_the_newest_stay() {
        let notes = Notes::default();
        let last = MOST as u64 + 10;
        for id in 0..=last {
            notes.edit(&id.into(), |note| note.failures += 1);
        }
        assert_eq!(notes.of(&0.into()), Note::default());
        assert_eq!(notes.of(&last.into()).failures, 1);
        assert_eq!(notes.lock().notes.len(), MOST);
    }

    #[test]
    fn what_is_forgotten_leaves_nothing_behind() {
        let notes = Notes::default();
        for id in 0..10_000u64 {
            notes.edit(&id.into(), |note| note.failures += 1);
            notes.forget(&id.into());
        }
        assert!(notes.lock().order.len() < 2_000);
        assert_eq!(notes.of(&7.into()), Note::default());
    }
}
