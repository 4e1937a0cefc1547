//! How much is in hand at once: by count and by bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How large a message is taken to be before one was seen.
const FIRST_GUESS: usize = 16 * 1_024;

/// The permits of a worker.
#[derive(Debug)]
pub(crate) struct Permits {
    count: Arc<Semaphore>,
    bytes: Arc<Bytes>,
}

#[derive(Debug)]
struct Bytes {
    most: usize,
    used: AtomicUsize,
    /// The mean size of the messages so far, the latest weighing most.
    mean: AtomicUsize,
    freed: Notify,
}

impl Permits {
    pub(crate) fn new(count: usize, bytes: usize) -> Self {
        Self {
            count: Arc::new(Semaphore::new(count)),
            bytes: Arc::new(Bytes {
                most: bytes,
                used: AtomicUsize::new(0),
                mean: AtomicUsize::new(FIRST_GUESS),
                freed: Notify::new(),
            }),
        }
    }

    /// Waits for at least one permit, and takes up to `most`. Cancel safe.
    ///
    /// The size of a message is known only when it is there, so the number is an estimate by the
    /// sizes so far, and what one receive brings can exceed the bound on bytes.
    pub(crate) async fn acquire(&self, most: usize) -> Grant {
        let room = self.bytes.room().await;
        // The semaphore is never closed.
        let Ok(mut permit) = self.count.clone().acquire_owned().await else {
            std::future::pending().await
        };
        let more = most.min(room).min(self.count.available_permits() + 1) - 1;
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        if more > 0
            && let Ok(rest) = self.count.clone().try_acquire_many_owned(more)
        {
            permit.merge(rest);
        }
        Grant {
            permit,
            bytes: self.bytes.clone(),
        }
    }
}

impl Bytes {
    /// Waits until there is room, and returns for how many messages at least 1.
    async fn room(&self) -> usize {
        loop {
            let freed = self.freed.notified();
            let used = self.used.load(Ordering::Acquire);
            if used < self.most {
                let mean = self.mean.load(Ordering::Relaxed).max(1);
                return ((self.most - used) / mean).max(1);
            }
            freed.await;
        }
    }
}

/// Permits for messages that are to be received.
#[derive(Debug)]
pub(crate) struct Grant {
    permit: OwnedSemaphorePermit,
    bytes: Arc<Bytes>,
}

impl Grant {
    pub(crate) fn len(&self) -> usize {
        self.permit.num_permits()
    }

    /// A permit of a message of `len` bytes; `None` when all are used.
    pub(crate) fn take(&mut self, len: usize) -> Option<Permit> {
        let count = self.permit.split(1)?;
        let bytes = &self.bytes;
        bytes.used.fetch_add(len, Ordering::AcqRel);
        let mean = bytes.mean.load(Ordering::Relaxed);
        // Only the receiving task writes the mean.
        bytes
            .mean
            .store(mean - mean / 8 + len.div_ceil(8), Ordering::Relaxed);
        Some(Permit {
            _count: count,
            len,
            bytes: bytes.clone(),
        })
    }
}

/// The permit of one message in hand. Dropping it makes room for the next.
#[derive(Debug)]
pub(crate) struct Permit {
    _count: OwnedSemaphorePermit,
    len: usize,
    bytes: Arc<Bytes>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let before = self.bytes.used.fetch_sub(self.len, Ordering::AcqRel);
        if before >= self.bytes.most {
            // Kept for a receiver that is about to wait.
            self.bytes.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn no_more_are_granted_than_there_are() {
        let permits = Permits::new(3, usize::MAX);
        let mut grant = permits.acquire(10).await;
        assert_eq!(grant.len(), 3);
        let held = grant.take(1);
        assert!(held.is_some());
        drop(grant);
        assert_eq!(permits.acquire(10).await.len(), 2);
    }

    #[tokio::test]
    async fn used_up_bytes_hold_back_the_next_receive() {
        let permits = Permits::new(10, 100);
        let mut grant = permits.acquire(1).await;
        let held = grant.take(100).unwrap();
        drop(grant);
        assert!(permits.acquire(1).now_or_never().is_none());
        let waiting = permits.acquire(1);
        tokio::pin!(waiting);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        assert_eq!(waiting.await.len(), 1);
    }

    #[tokio::test]
    async fn the_number_follows_the_size_of_the_messages() {
        let permits = Permits::new(1_000, 64 * 1_024);
        assert_eq!(permits.acquire(1_000).await.len(), 4);
        for _ in 0..100 {
            permits.acquire(1).await.take(64);
        }
        assert!(permits.acquire(1_000).await.len() > 500);
    }
}
