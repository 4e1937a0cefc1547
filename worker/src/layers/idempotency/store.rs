//! What an idempotency store has to do.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use towpath_core::Result;
use uuid::Uuid;

/// Remembers which messages were handled. Implement it over what all your processes share: a table
/// with a unique key, or `SET key value NX PX` in Redis.
///
/// Every call must be atomic. A claim that timed out is nobody's, and the next one gets it.
#[async_trait]
pub trait IdempotencyStore: Send + Sync + 'static {
    /// Claims `key` for `owner`, for `limit` at most.
    ///
    /// # Errors
    ///
    /// What the store reports. The attempt then fails and is retried.
    async fn claim(&self, key: &str, owner: Uuid, limit: Duration) -> Result<Claim>;

    /// Notes that the message of `key` was handled, whoever holds the claim by now.
    ///
    /// # Errors
    ///
    /// What the store reports.
    async fn complete(&self, key: &str, owner: Uuid) -> Result<()>;

    /// Gives the claim up, if it is still `owner`'s and not completed.
    ///
    /// # Errors
    ///
    /// What the store reports.
    async fn abandon(&self, key: &str, owner: Uuid) -> Result<()>;
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is the caller's: handle the message, then complete or abandon.
    Claimed,
    /// The message was handled before.
    Completed,
    /// Somebody else is handling it.
    Held,
}

/// A shared store is a store.
#[async_trait]
impl<T: IdempotencyStore + ?Sized> IdempotencyStore for Arc<T> {
    async fn claim(&self, key: &str, owner: Uuid, limit: Duration) -> Result<Claim> {
        (**self).claim(key, owner, limit).await
    }

    async fn complete(&self, key: &str, owner: Uuid) -> Result<()> {
        (**self).complete(key, owner).await
    }

    async fn abandon(&self, key: &str, owner: Uuid) -> Result<()> {
        (**self).abandon(key, owner).await
    }
}
