//! The public HTTP side: verifies, checks, enqueues, and answers at once.
//!
//! | request | answer |
//! |---|---|
//! | an event of Mailgun | 200, which Mailgun counts as success |
//! | the same event again | 200 with the same id, and nothing is enqueued |
//! | not the documented shape | 406: Mailgun does not send it again |
//! | a wrong signature | 401: sent again, so that a wrong key here loses nothing |
//! | a contact form | 202 |
//! | too large, wrong type, malformed | 413, 415, 400 |
//! | the queue is down | 503 with `Retry-After`: sent again |

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use towpath::{Message, Producer};
use towpath_webhook::signature::{SignatureError, Verifier, mailgun::Mailgun};
use uuid::Uuid;

use crate::pipeline::{Change, Update};

/// The largest body that is read: Mailgun's events are a few KiB.
const BODY_BYTES: usize = 256 * 1_024;
/// How many accepted events are remembered, to answer those that come again.
const REMEMBERED: usize = 100_000;

/// The receiver's routes.
///
/// # Errors
///
/// When a schema that is compiled in is not a schema.
pub fn router(mailgun: Mailgun, events: Producer, updates: Producer) -> anyhow::Result<Router> {
    let receiver = Receiver {
        mailgun,
        events,
        updates,
        event_schema: schema(include_str!("../schemas/mailgun.json"))?,
        form_schema: schema(include_str!("../schemas/contact-form.json"))?,
        accepted: Mutex::default(),
    };
    Ok(Router::new()
        .route("/hooks/mailgun", post(mailgun_event))
        .route("/forms/contact", post(contact_form))
        .route("/health", get(|| async { "ok" }))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(Arc::new(receiver)))
}

struct Receiver {
    mailgun: Mailgun,
    events: Producer,
    updates: Producer,
    event_schema: jsonschema::Validator,
    form_schema: jsonschema::Validator,
    accepted: Mutex<Accepted>,
}

/// What was accepted before: by event, and the tokens that were used.
#[derive(Default)]
struct Accepted {
    by_event: HashMap<String, Uuid>,
    by_token: HashMap<String, String>,
    order: VecDeque<(String, String)>,
}

impl Accepted {
    fn remember(&mut self, event: &str, token: &str, id: Uuid) {
        if self.by_event.insert(event.to_owned(), id).is_none() {
            self.by_token.insert(token.to_owned(), event.to_owned());
            self.order.push_back((event.to_owned(), token.to_owned()));
        }
        if self.order.len() > REMEMBERED
            && let Some((event, token)) = self.order.pop_front()
        {
            self.by_event.remove(&event);
            self.by_token.remove(&token);
        }
    }
}

/// The answer to what was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The idempotency key of the message; the same when the event comes again.
    pub id: Uuid,
    /// `accepted`, or `duplicate` when it was accepted before.
    pub status: String,
}

/// A refusal, as `application/problem+json` (RFC 9457).
struct Problem {
    status: StatusCode,
    title: &'static str,
    detail: String,
}

impl Problem {
    fn new(status: StatusCode, title: &'static str, detail: impl ToString) -> Self {
        Self {
            status,
            title,
            detail: detail.to_string(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body =
            json!({ "title": self.title, "status": self.status.as_u16(), "detail": self.detail });
        let mut response = (
            self.status,
            [(header::CONTENT_TYPE, "application/problem+json")],
            body.to_string(),
        )
            .into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, header::HeaderValue::from_static("10"));
        }
        response
    }
}

/// A JSON body as it was received, within the size limit.
struct RawJson {
    headers: HeaderMap,
    body: Bytes,
}

impl<S: Send + Sync> FromRequest<S> for RawJson {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let headers = request.headers().clone();
        let media_type = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let essence = media_type.split(';').next().unwrap_or("").trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            let detail = format!("send application/json, not {media_type:?}");
            return Err(Problem::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "wrong content type",
                detail,
            ));
        }
        let body =
            Bytes::from_request(request, state)
                .await
                .map_err(|rejection| match rejection.status() {
                    StatusCode::PAYLOAD_TOO_LARGE => {
                        let detail = format!("at most {BODY_BYTES} bytes are accepted");
                        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body too large", detail)
                    }
                    _ => Problem::new(
                        StatusCode::BAD_REQUEST,
                        "body not readable",
                        rejection.body_text(),
                    ),
                })?;
        Ok(Self { headers, body })
    }
}

async fn mailgun_event(
    State(receiver): State<Arc<Receiver>>,
    request: RawJson,
) -> Result<Response, Problem> {
    let verified = receiver
        .mailgun
        .verify(&request.headers, &request.body, SystemTime::now())
        .map_err(|error| match error {
            SignatureError::Malformed(_) | SignatureError::Missing(_) => Problem::new(
                StatusCode::NOT_ACCEPTABLE,
                "not a signed Mailgun event",
                error,
            ),
            _ => Problem::new(StatusCode::UNAUTHORIZED, "signature not accepted", error),
        })?;
    let body: Value = serde_json::from_slice(&request.body)
        .map_err(|error| Problem::new(StatusCode::NOT_ACCEPTABLE, "not JSON", error))?;
    check(&receiver.event_schema, &body, StatusCode::NOT_ACCEPTABLE)?;
    let (Some(event), Some(token)) = (verified.event_id, verified.single_use) else {
        return Err(Problem::new(
            StatusCode::NOT_ACCEPTABLE,
            "not a signed Mailgun event",
            "the id is missing",
        ));
    };
    // The same for every copy of the event, so that copies that race have one effect.
    let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("mailgun:{event}").as_bytes());
    {
        let accepted = receiver
            .accepted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = accepted.by_event.get(&event) {
            return Ok(answer(StatusCode::OK, *id, "duplicate"));
        }
        if accepted.by_token.contains_key(&token) {
            let detail = "the signature's token was used before for another event";
            return Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "signature not accepted",
                detail,
            ));
        }
    }
    enqueue(
        &receiver.events,
        Message::new(request.body).with_idempotency_key(id),
    )
    .await?;
    receiver
        .accepted
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remember(&event, &token, id);
    Ok(answer(StatusCode::OK, id, "accepted"))
}

#[derive(Deserialize)]
struct ContactForm {
    name: String,
    email: String,
    message: String,
}

async fn contact_form(
    State(receiver): State<Arc<Receiver>>,
    request: RawJson,
) -> Result<Response, Problem> {
    let bad = |error: serde_json::Error| {
        Problem::new(StatusCode::BAD_REQUEST, "not a contact form", error)
    };
    let body: Value = serde_json::from_slice(&request.body).map_err(bad)?;
    check(&receiver.form_schema, &body, StatusCode::BAD_REQUEST)?;
    let form: ContactForm = serde_json::from_value(body).map_err(bad)?;
    let update = Update {
        customer: form.email,
        change: Change::Contact {
            name: form.name,
            message: form.message,
        },
    };
    let message = Message::json(&update)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "not a contact form", error))?;
    let id = message.idempotency_key();
    enqueue(&receiver.updates, message).await?;
    Ok(answer(StatusCode::ACCEPTED, id, "accepted"))
}

/// Accepts only what the queue has confirmed.
async fn enqueue(queue: &Producer, message: Message) -> Result<(), Problem> {
    let sending = tokio::time::timeout(Duration::from_secs(5), queue.send(message));
    let error = match sending.await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the queue did not answer in time".to_owned(),
    };
    tracing::error!(error, "a request could not be enqueued");
    Err(Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not accepted",
        "try again a little later",
    ))
}

fn answer(status: StatusCode, id: Uuid, text: &str) -> Response {
    (
        status,
        Json(Receipt {
            id,
            status: text.to_owned(),
        }),
    )
        .into_response()
}

fn check(schema: &jsonschema::Validator, body: &Value, status: StatusCode) -> Result<(), Problem> {
    schema.validate(body).map_err(|error| {
        Problem::new(
            status,
            "not the expected shape",
            format!("at {:?}: {error}", error.instance_path().to_string()),
        )
    })
}

fn schema(text: &str) -> anyhow::Result<jsonschema::Validator> {
    let schema = serde_json::from_str(text)?;
    jsonschema::validator_for(&schema).map_err(|error| anyhow::anyhow!("{error}"))
}
