//! Handles a message once, however often it is delivered.

use std::{
    convert::Infallible,
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower_layer::Layer;
use tower_service::Service;
use towpath_core::{Attempt, Outcome};
use uuid::Uuid;

use crate::{AttemptService, OutcomeFuture, service::take_ready};

mod memory;
mod store;

pub use memory::MemoryStore;
pub use store::{Claim, IdempotencyStore};

/// How long a message waits whose twin is being handled.
const TWIN: Duration = Duration::from_secs(5);

/// Handles a message once by its [idempotency key](towpath_core::Message::idempotency_key): a
/// delivery that comes after the handler returned [`Ack`](Outcome::Ack) is acked and not handled.
///
/// The key is claimed before the handler runs, so that of two deliveries at the same time only one
/// is handled; the other is [released](Outcome::Release) for a while. A failed attempt gives the
/// claim up.
///
/// This bounds repeated effects and does not rule them out: a process can die between the effect
/// and the note of it. Effects in the same database as the store can have both in one transaction;
/// for all others, send the key along.
///
/// Where the handler's future is dropped (a lost lease, a timeout, the end of the worker), the claim
/// is given up in a task of its own.
pub struct IdempotencyLayer {
    store: Arc<dyn IdempotencyStore>,
    scope: Option<Arc<str>>,
    claim: Duration,
}

impl IdempotencyLayer {
    /// Remembers in `store`.
    pub fn new(store: impl IdempotencyStore) -> Self {
        Self {
            store: Arc::new(store),
            scope: None,
            claim: Duration::from_secs(900),
        }
    }

    /// What the keys are unique in. Set it where several handlers with effects of their own share a
    /// store. Default: the name of the queue.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<Arc<str>>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// How long a claim holds when its process dies; longer than an attempt can take.
    /// Default: 15 min.
    #[must_use]
    pub fn claim(mut self, limit: Duration) -> Self {
        self.claim = limit;
        self
    }
}

impl Clone for IdempotencyLayer {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            scope: self.scope.clone(),
            claim: self.claim,
        }
    }
}

impl fmt::Debug for IdempotencyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer")
            .field("scope", &self.scope)
            .field("claim", &self.claim)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotency<S>;

    fn layer(&self, inner: S) -> Idempotency<S> {
        Idempotency {
            inner,
            settings: self.clone(),
        }
    }
}

/// The service of [`IdempotencyLayer`].
#[derive(Clone, Debug)]
pub struct Idempotency<S> {
    inner: S,
    settings: IdempotencyLayer,
}

impl<S: AttemptService> Service<Attempt> for Idempotency<S> {
    type Response = Outcome;
    type Error = Infallible;
    type Future = OutcomeFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, attempt: Attempt) -> OutcomeFuture {
        let mut inner = take_ready(&mut self.inner);
        let settings = self.settings.clone();
        Box::pin(async move {
            let scope = settings.scope.as_deref().unwrap_or(attempt.queue());
            let key = format!("{scope}/{}", attempt.envelope().message.idempotency_key());
            let owner = Uuid::from_u128(fastrand::u128(..));
            let failed = |error: towpath_core::Error| Outcome::Retry {
                after: error.retry_after(),
                reason: format!("the idempotency store failed: {error}"),
            };
            match settings.store.claim(&key, owner, settings.claim).await {
                Ok(Claim::Claimed) => {}
                Ok(Claim::Completed) => {
                    tracing::debug!(%key, "handled before; it is acked and not handled again");
                    return Ok(Outcome::Ack);
                }
                Ok(Claim::Held) => {
                    return Ok(Outcome::Release {
                        after: Some(TWIN),
                        reason: "another delivery of the same message is being handled".to_owned(),
                    });
                }
                Err(error) => return Ok(failed(error)),
            }
            let mut claimed = Claimed {
                store: settings.store,
                key,
                owner,
                is_open: true,
            };
            let outcome = inner.call(attempt).await?;
            claimed.is_open = false;
            let Claimed { store, key, .. } = &claimed;
            let noted = match outcome {
                Outcome::Ack => store.complete(key, owner).await,
                _ => store.abandon(key, owner).await,
            };
            if let Err(error) = noted {
                // The work is done or not, whatever the store says.
                tracing::error!(%key, %error, "the idempotency store failed after the attempt; a repeated delivery may be handled again or wait for the claim to end");
            }
            Ok(outcome)
        })
    }
}

/// A claim that is given up when it is dropped.
struct Claimed {
    store: Arc<dyn IdempotencyStore>,
    key: String,
    owner: Uuid,
    is_open: bool,
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        // Without a runtime the claim ends by its time.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let (store, key, owner) = (
            self.store.clone(),
            std::mem::take(&mut self.key),
            self.owner,
        );
        runtime.spawn(async move {
            if let Err(error) = store.abandon(&key, owner).await {
                tracing::warn!(%key, %error, "a claim could not be given up; it ends by its time");
            }
        });
    }
}
