//! The deduplication ids of FIFO queues.
//!
//! A message without an id of its own gets a random one: two sends are two messages, also when one
//! is a copy of the other, so that a message that is received and sent again is never swallowed. Only
//! the retry of a send that failed, or whose fate is unknown, uses its id again, so that the message
//! is there once.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio::time::Instant;
use uuid::Uuid;

use crate::capabilities::DEDUP_WINDOW;

/// From how many sends on those are looked for whose window is over.
const PRUNE: usize = 1_024;

/// The ids of sends that did not succeed yet, by idempotency key.
#[derive(Debug, Default)]
pub(crate) struct DedupIds(Mutex<HashMap<Uuid, Pending>>);

#[derive(Debug)]
struct Pending {
    id: String,
    since: Instant,
}

impl DedupIds {
    /// The id to send the message of `key` with.
    pub(crate) fn begin(&self, key: Uuid) -> String {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = pending.get(&key)
            && earlier.since.elapsed() < DEDUP_WINDOW
        {
            return earlier.id.clone();
        }
        if pending.len() >= PRUNE {
            pending.retain(|_, earlier| earlier.since.elapsed() < DEDUP_WINDOW);
        }
        let id = format!("{key}-{:016x}", fastrand::u64(..));
        let since = Instant::now();
        pending.insert(
            key,
            Pending {
                id: id.clone(),
                since,
            },
        );
        id
    }

    /// Notes that the message of `key` was accepted, or refused for good: the next send of it is a
    /// new one.
    pub(crate) fn end(&self, key: Uuid) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn only_a_send_that_did_not_succeed_yet_keeps_its_id() {
        let (ids, key) = (DedupIds::default(), Uuid::from_u128(7));
        let first = ids.begin(key);
        assert_eq!(ids.begin(key), first);
        assert_ne!(ids.begin(Uuid::from_u128(8)), first);
        ids.end(key);
        let second = ids.begin(key);
        assert_ne!(second, first);
        // SQS would not know it any more either.
        tokio::time::advance(Duration::from_secs(301)).await;
        assert_ne!(ids.begin(key), second);
    }

    #[tokio::test(start_paused = true)]
    async fn sends_that_never_ended_are_forgotten() {
        let ids = DedupIds::default();
        for n in 0..5_000 {
            ids.begin(Uuid::from_u128(n));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!(ids.0.lock().unwrap().len() <= PRUNE);
    }
}
