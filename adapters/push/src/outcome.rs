//! Handling one message, and what is answered.

use std::{panic::AssertUnwindSafe, time::Duration};

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use futures::FutureExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use towpath_core::{Attempt, Envelope, Failure, FailureClass, Outcome};

use crate::endpoint::Settings;

/// How long a handler has to end by itself after it was cancelled.
const GRACE: Duration = Duration::from_millis(200);

/// Handles the message and answers. Only 204 acks.
pub(crate) async fn handle(settings: &Settings, queue: &str, envelope: Envelope) -> Response<Body> {
    let id = &envelope.id;
    let (number, most) = (envelope.attempt, settings.max_attempts);
    if number.zip(most).is_some_and(|(number, most)| number > most) {
        let reason = format!(
            "{} attempts were allowed, and none of them settled the message",
            most.unwrap_or_default()
        );
        return dead_letter(
            settings,
            queue,
            &envelope,
            FailureClass::AttemptsExhausted,
            &reason,
        )
        .await;
    }
    match attempt(settings, queue, &envelope).await {
        Outcome::Ack => acked(),
        Outcome::DeadLetter { class, reason } => {
            dead_letter(settings, queue, &envelope, class, &reason).await
        }
        Outcome::Retry { reason, .. }
            if number
                .zip(most)
                .is_some_and(|(number, most)| number >= most) =>
        {
            dead_letter(
                settings,
                queue,
                &envelope,
                FailureClass::AttemptsExhausted,
                &reason,
            )
            .await
        }
        Outcome::Retry { after, reason } => {
            tracing::warn!(%id, queue, attempt = number, %reason, "an attempt failed; the message comes back");
            not_acked(StatusCode::SERVICE_UNAVAILABLE, after)
        }
        Outcome::Release { after, reason } => {
            tracing::debug!(%id, queue, %reason, "given back untried");
            not_acked(StatusCode::TOO_MANY_REQUESTS, after)
        }
    }
}

/// Runs the handler. A panic is a failed attempt.
async fn attempt(settings: &Settings, queue: &str, envelope: &Envelope) -> Outcome {
    let token = CancellationToken::new();
    // When the request is given up, what the handler has started is told.
    let _cancel = token.clone().drop_guard();
    let attempt = Attempt::new(envelope.clone(), queue).with_cancellation(token.clone());
    // Within the block, since `handle` itself may panic where it is written by hand.
    let work = AssertUnwindSafe(async { settings.handler.handle(attempt).await }).catch_unwind();
    tokio::pin!(work);
    let result = match timeout(settings.timeout, &mut work).await {
        Ok(result) => result,
        Err(_) => {
            token.cancel();
            match timeout(GRACE, &mut work).await {
                Ok(Ok(Outcome::Ack)) => return Outcome::Ack,
                _ => {
                    return retry(format!(
                        "timed out after {}",
                        humantime::format_duration(settings.timeout)
                    ));
                }
            }
        }
    };
    result.unwrap_or_else(|panic| {
        let failure = Failure::panicked(&*panic);
        tracing::error!(id = %envelope.id, queue, %failure, "the handler panicked");
        failure.into()
    })
}

fn retry(reason: String) -> Outcome {
    Outcome::Retry {
        after: None,
        reason,
    }
}

/// Copies to the dead-letter queue. The message is acked only when the copy was accepted.
async fn dead_letter(
    settings: &Settings,
    queue: &str,
    envelope: &Envelope,
    class: FailureClass,
    reason: &str,
) -> Response<Body> {
    let id = &envelope.id;
    let Some(target) = &settings.dead_letter else {
        tracing::error!(%id, queue, reason, "a message failed for good, and there is no dead-letter queue; it comes back");
        return not_acked(StatusCode::SERVICE_UNAVAILABLE, None);
    };
    let copy = envelope.dead_letter_copy(queue, class, reason, target.capabilities());
    match target.send(copy).await {
        Ok(_) => {
            tracing::warn!(%id, queue, reason, "dead-lettered");
            acked()
        }
        Err(error) => {
            tracing::error!(%id, queue, reason, %error, "a message could not be dead-lettered; it comes back");
            not_acked(StatusCode::SERVICE_UNAVAILABLE, None)
        }
    }
}

fn acked() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn not_acked(status: StatusCode, after: Option<Duration>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if let Some(after) = after {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
