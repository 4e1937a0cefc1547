//! The idempotency store of one process.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;
use towpath_core::Result;
use uuid::Uuid;

use super::{Claim, IdempotencyStore};

/// Remembers in this process, for a time. For one process, and for tests.
#[derive(Debug)]
pub struct MemoryStore {
    ttl: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: HashMap<String, Entry>,
    /// At this size what is over is swept out.
    sweep_at: usize,
}

#[derive(Debug)]
struct Entry {
    /// `None` when it is completed.
    owner: Option<Uuid>,
    until: Instant,
}

impl MemoryStore {
    /// Remembers handled messages for `ttl`: longer than a message can come back.
    pub fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            inner: Mutex::default(),
        }
    }

    /// How many keys are remembered.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl IdempotencyStore for MemoryStore {
    async fn claim(&self, key: &str, owner: Uuid, limit: Duration) -> Result<Claim> {
        let now = Instant::now();
        let mut inner = self.lock();
        if let Some(entry) = inner.entries.get(key)
            && now < entry.until
        {
            return Ok(match entry.owner {
                None => Claim::Completed,
                Some(_) => Claim::Held,
            });
        }
        let entry = Entry {
            owner: Some(owner),
            until: now + limit,
        };
        inner.entries.insert(key.to_owned(), entry);
        if inner.entries.len() >= inner.sweep_at {
            inner.entries.retain(|_, entry| now < entry.until);
            // Twice what is left, so that a sweep costs little per claim.
            inner.sweep_at = (2 * inner.entries.len()).max(1_024);
        }
        Ok(Claim::Claimed)
    }

    async fn complete(&self, key: &str, _owner: Uuid) -> Result<()> {
        let entry = Entry {
            owner: None,
            until: Instant::now() + self.ttl,
        };
        self.lock().entries.insert(key.to_owned(), entry);
        Ok(())
    }

    async fn abandon(&self, key: &str, owner: Uuid) -> Result<()> {
        let mut inner = self.lock();
        let is_ours = |entry: &Entry| entry.owner == Some(owner);
        if inner.entries.get(key).is_some_and(is_ours) {
            inner.entries.remove(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    async fn claim(store: &MemoryStore, owner: Uuid) -> Claim {
        store.claim("a", owner, HOUR).await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_that_timed_out_goes_to_the_next_and_its_owner_cannot_give_it_up() {
        let store = MemoryStore::new(HOUR);
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(claim(&store, first).await, Claim::Claimed);
        assert_eq!(claim(&store, second).await, Claim::Held);
        tokio::time::advance(HOUR).await;
        assert_eq!(claim(&store, second).await, Claim::Claimed);
        store.abandon("a", first).await.unwrap();
        assert_eq!(claim(&store, first).await, Claim::Held);
        store.complete("a", second).await.unwrap();
        assert_eq!(claim(&store, first).await, Claim::Completed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_over_is_swept_out() {
        let store = MemoryStore::new(HOUR);
        for n in 0..50_000 {
            store.complete(&n.to_string(), Uuid::nil()).await.unwrap();
        }
        tokio::time::advance(HOUR).await;
        store.claim("next", Uuid::nil(), HOUR).await.unwrap();
        assert_eq!(store.len(), 1);
    }
}
