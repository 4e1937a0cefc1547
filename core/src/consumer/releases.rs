//! The deliveries that were given back unhandled, so that they do not count as attempts.
//!
//! A broker counts deliveries and does not know why a message came back. This is remembered for as
//! long as the consumer lives; after a restart the broker's count is all there is.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{Envelope, MessageId};

/// The most messages to remember; the oldest are forgotten first.
const MOST: usize = 65_536;

#[derive(Debug, Default)]
pub(crate) struct Releases {
    inner: Mutex<Inner>,
    /// How many messages there are, so that a consumer without any does not lock.
    len: AtomicUsize,
}

#[derive(Debug, Default)]
struct Inner {
    counts: HashMap<MessageId, u32>,
    order: VecDeque<MessageId>,
}

impl Releases {
    pub(crate) fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    /// Notes that a delivery of this message was no attempt.
    pub(crate) fn note(&self, id: &MessageId) {
        let mut inner = self.lock();
        if let Some(count) = inner.counts.get_mut(id) {
            *count += 1;
            return;
        }
        inner.counts.insert(id.clone(), 1);
        inner.order.push_back(id.clone());
        while inner.counts.len() > MOST
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.counts.remove(&oldest);
        }
        // What was forgotten leaves its place in the order behind.
        if inner.order.len() > 2 * inner.counts.len() + 1_024 {
            let Inner { counts, order } = &mut *inner;
            order.retain(|id| counts.contains_key(id));
        }
        self.len.store(inner.counts.len(), Ordering::Release);
    }

    /// Takes the deliveries that were no attempts off the count.
    pub(crate) fn correct(&self, envelope: &mut Envelope) {
        if self.is_empty() {
            return;
        }
        if let Some(attempt) = &mut envelope.attempt
            && let Some(count) = self.lock().counts.get(&envelope.id)
        {
            *attempt = attempt.saturating_sub(*count).max(1);
        }
    }

    /// Forgets a message that does not come back.
    pub(crate) fn forget(&self, id: &MessageId) {
        if self.is_empty() {
            return;
        }
        let mut inner = self.lock();
        if inner.counts.remove(id).is_some() {
            self.len.store(inner.counts.len(), Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    fn attempt(releases: &Releases, id: u64, attempt: u32) -> Option<u32> {
        let mut envelope = Envelope::new(id.into(), Message::new("x")).with_attempt(Some(attempt));
        releases.correct(&mut envelope);
        envelope.attempt
    }

    #[test]
    fn releases_do_not_count_until_they_are_forgotten() {
        let releases = Releases::default();
        releases.note(&1.into());
        releases.note(&1.into());
        assert_eq!(attempt(&releases, 1, 5), Some(3));
        assert_eq!(attempt(&releases, 2, 5), Some(5));
        releases.forget(&1.into());
        assert_eq!(attempt(&releases, 1, 5), Some(5));
    }

    #[test]
    fn memory_is_bounded_and_the_newest_stay() {
        let releases = Releases::default();
        let last = MOST as u64 + 10;
        for id in 0..=last {
            releases.note(&id.into());
        }
        assert_eq!(attempt(&releases, 0, 2), Some(2));
        assert_eq!(attempt(&releases, last, 2), Some(1));
        for id in 0..=last {
            releases.forget(&id.into());
            releases.note(&(id + last).into());
            releases.forget(&(id + last).into());
        }
        assert!(releases.lock().order.len() < 2 * MOST);
    }
}
