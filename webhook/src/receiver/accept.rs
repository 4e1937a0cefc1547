//! From a request to an answer.

use std::{
    panic::AssertUnwindSafe,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use futures::FutureExt as _;
use http::HeaderMap;
use serde_json::Value;
use towpath_core::{ErrorKind, Message};
use uuid::Uuid;

use super::{
    Receiver, handshake,
    message::message,
    metrics,
    source::{Source, has_json_body},
    target::Target,
};
use crate::{
    BodyError, Overflow, Refusal, SchemaError,
    dedup::{Claim, Claimed, event_key},
    signature::{Verified, replay::TokenUse},
};

/// Accepts a request, or says why not.
pub(super) async fn accept(
    receiver: &Receiver,
    source: &Arc<Source>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let received_at = SystemTime::now();
    match decide(receiver, source, &headers, body, received_at).await {
        Ok(Decision::Answered(response)) => response,
        Ok(Decision::Accepted(id)) => source.profile().accepted(id),
        Err(refusal) => {
            source.note_refusal(&refusal, &refusal.to_string());
            source.profile().refused(&refusal).into_response()
        }
    }
}

enum Decision {
    /// Accepted, now or before.
    Accepted(Uuid),
    /// No event.
    Answered(Response),
}

async fn decide(
    receiver: &Receiver,
    source: &Arc<Source>,
    headers: &HeaderMap,
    body: Body,
    received_at: SystemTime,
) -> Result<Decision, Refusal> {
    let body = source.rules.read(headers, body).await?;
    let verified = match &source.verifier {
        Some(verifier) => verifier.verify(headers, &body, received_at)?,
        None => Verified::default(),
    };
    source.note_secret(verified.key);
    if let Some(limit) = &source.rate_limit {
        limit.value.check().map_err(Refusal::RateLimited)?;
    }
    if let Some(response) = handshake::answer(source.scheme, headers, &body) {
        tracing::info!(
            source = source.name(),
            "the provider asked whether somebody is there"
        );
        return Ok(Decision::Answered(response));
    }
    let document = document(source, headers, &body)?;
    use_token(source, &verified, &body, received_at)?;

    let event_id = source.event_id(&verified, headers, document.as_ref());
    let claimed = match (&source.dedup, &event_id) {
        (Some(dedup), Some(event_id)) => match dedup.value.claim(event_id).await {
            Claim::First(claimed) => Some(claimed),
            Claim::Duplicate(id) => {
                source.metrics.duplicates.increment(1);
                return Ok(Decision::Accepted(id));
            }
            Claim::Abandoned => return Err(Refusal::Unavailable(source.retry_after)),
        },
        _ => None,
    };
    let target = source.target(headers, document.as_ref());
    let mut message = message(source, headers, body, document.as_ref(), received_at);
    if let Some(event_id) = event_id {
        message = message.with_idempotency_key(event_key(source.name(), &event_id));
    }
    let id = message.idempotency_key();
    let publication = Publication {
        source: Arc::clone(source),
        target: Arc::clone(target),
        overflow: receiver.0.overflow.clone(),
        message,
        claimed,
    };
    // A panic of a backend is an answer too: the provider sends again.
    let publishing = AssertUnwindSafe(publication.run()).catch_unwind();
    let panicked = Refusal::Unavailable(source.retry_after);
    let mut publishing =
        Box::pin(async move { publishing.await.unwrap_or_else(|_| Err(panicked)) });
    match futures::poll!(publishing.as_mut()) {
        // As a queue in this process does.
        Poll::Ready(published) => published?,
        // In a task of its own: a client that hangs up must not leave it half done.
        Poll::Pending => {
            let task = receiver.0.publishing.spawn(publishing);
            task.await
                .unwrap_or(Err(Refusal::Unavailable(source.retry_after)))?;
        }
    }
    tracing::debug!(source = source.name(), queue = target.name(), %id, key = verified.key, "accepted");
    Ok(Decision::Accepted(id))
}

/// The body as JSON, where that is needed.
fn document(source: &Source, headers: &HeaderMap, body: &[u8]) -> Result<Option<Value>, Refusal> {
    if !source.needs_document || !has_json_body(headers) {
        return Ok(None);
    }
    if let Some(schema) = &source.schema {
        return Ok(Some(schema.check(body)?));
    }
    let document = serde_json::from_slice(body).map_err(|error| SchemaError::NotJson {
        line: error.line(),
        column: error.column(),
    })?;
    Ok(Some(document))
}

/// Uses up the token of a signature that does not cover the body. After the schema, so that a
/// body that is refused does not spend the token of the right one.
fn use_token(
    source: &Source,
    verified: &Verified,
    body: &[u8],
    received_at: SystemTime,
) -> Result<(), Refusal> {
    if let (Some(tokens), Some(token)) = (&source.tokens, &verified.single_use) {
        let signed_at = verified.signed_at.unwrap_or(received_at);
        match tokens.value.use_once(token, body, signed_at, received_at) {
            TokenUse::First | TokenUse::SameRequest => {}
            TokenUse::Reused | TokenUse::TooOld => return Err(Refusal::Replayed),
        }
    }
    Ok(())
}

/// A message on its way to the queue.
struct Publication {
    source: Arc<Source>,
    target: Arc<Target>,
    overflow: Option<Arc<dyn Overflow>>,
    message: Message,
    claimed: Option<Claimed>,
}

impl Publication {
    async fn run(self) -> Result<(), Refusal> {
        let id = self.message.idempotency_key();
        let result = self.send().await;
        let (source, queue) = (&self.source, self.target.name());
        match &result {
            Ok(()) => {
                source.metrics.accepted(queue);
                if let Some(claimed) = self.claimed {
                    claimed.complete(id);
                }
            }
            // The copies that wait are told so too; the provider sends again.
            Err(Refusal::Unavailable(_)) => {
                if let Some(claimed) = self.claimed {
                    claimed.abandon();
                }
            }
            // A copy may be different, and is judged for itself.
            Err(_) => drop(self.claimed),
        }
        result
    }

    async fn send(&self) -> Result<(), Refusal> {
        let queue = self.target.name();
        // Behind what waits there already, so that the order holds.
        if let Some(overflow) = &self.overflow
            && overflow.holds(queue)
        {
            return self.spool(overflow.as_ref()).await;
        }
        let limit = self.source.publish_timeout;
        match self.target.publish(self.message.clone(), limit).await {
            Ok(()) => Ok(()),
            Err(ErrorKind::TooLarge) => {
                Err(BodyError::TooLarge(self.target.max_body_bytes()).into())
            }
            Err(ErrorKind::InvalidMessage) => Err(Refusal::NotCarried),
            Err(_) => match &self.overflow {
                Some(overflow) => self.spool(overflow.as_ref()).await,
                None => Err(self.unavailable()),
            },
        }
    }

    async fn spool(&self, overflow: &dyn Overflow) -> Result<(), Refusal> {
        let queue = self.target.name();
        let pushed = overflow.push(queue, &self.message).await;
        metrics::spool_depth(overflow.depth());
        pushed.map_err(|error| {
            tracing::error!(queue, %error, "a message could not be spooled");
            self.unavailable()
        })?;
        self.source.metrics.spooled(self.source.name(), queue);
        Ok(())
    }

    fn unavailable(&self) -> Refusal {
        Refusal::Unavailable(self.source.retry_after.max(Duration::from_secs(1)))
    }
}
