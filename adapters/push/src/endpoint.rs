//! The endpoint: a handler with its settings, as a router.

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Response, StatusCode, header},
    routing::post,
};
use tokio::sync::Semaphore;
use towpath_core::{Error, ErrorKind, Handler, Producer, Result};

use crate::{TokenVerifier, outcome, problem::Problem, request};

/// An endpoint that runs a handler on the push requests of a subscription. Cloning is cheap; clones
/// share everything.
#[derive(Clone)]
pub struct PushEndpoint(Arc<Settings>);

pub(crate) struct Settings {
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) dead_letter: Option<Producer>,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) timeout: Duration,
    verifier: TokenVerifier,
    subscription: Option<String>,
    max_bytes: usize,
    places: Semaphore,
}

impl PushEndpoint {
    /// Builds an endpoint that runs `handler` on requests that `verifier` accepts.
    pub fn builder(handler: impl Handler, verifier: TokenVerifier) -> PushEndpointBuilder {
        PushEndpointBuilder {
            handler: Arc::new(handler),
            verifier,
            subscription: None,
            dead_letter: None,
            max_attempts: None,
            timeout: Duration::from_secs(9),
            concurrency: 64,
            max_bytes: 16 * 1_024 * 1_024,
        }
    }

    /// A router that takes push requests at `path`, for instance `/push`.
    ///
    /// # Panics
    ///
    /// When `path` is no path of a route: it begins with `/`.
    pub fn router(&self, path: &str) -> Router {
        Router::new()
            .route(path, post(take))
            .with_state(self.clone())
    }

    /// Answers one push request, for routers of your own.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, so is the handler, and the message comes back.
    pub async fn handle(&self, request: Request) -> Response<Body> {
        match self.answer(request).await {
            Ok(response) => response,
            Err(problem) => {
                tracing::warn!(
                    status = problem.status.as_u16(),
                    detail = problem.detail,
                    "a push request is refused"
                );
                problem.response()
            }
        }
    }

    async fn answer(&self, request: Request) -> std::result::Result<Response<Body>, Problem> {
        let settings = &self.0;
        let (parts, body) = request.into_parts();
        // Before any work on the body.
        settings.verifier.verify(&parts.headers).await?;
        let _place = settings.places.try_acquire().map_err(|_| {
            Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "as many messages as allowed are being handled",
            )
        })?;
        let too_large = || {
            Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a request has at most {} bytes here", settings.max_bytes),
            )
        };
        let announced = parts
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|bytes| bytes > settings.max_bytes) {
            return Err(too_large());
        }
        let body = to_bytes(body, settings.max_bytes)
            .await
            .map_err(|_| too_large())?;
        let pushed = request::read(&parts.headers, body)
            .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error))?;
        let subscription = pushed.subscription.unwrap_or_default();
        if let Some(expected) = &settings.subscription
            && *expected != subscription
        {
            return Err(Problem::new(
                StatusCode::FORBIDDEN,
                "the request is of another subscription",
            ));
        }
        let queue = subscription.rsplit('/').next().unwrap_or_default();
        Ok(outcome::handle(settings, queue, pushed.envelope).await)
    }
}

async fn take(State(endpoint): State<PushEndpoint>, request: Request) -> Response<Body> {
    endpoint.handle(request).await
}

impl fmt::Debug for PushEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushEndpoint")
            .field("verifier", &self.0.verifier)
            .field("subscription", &self.0.subscription)
            .field("dead_letter", &self.0.dead_letter)
            .field("max_attempts", &self.0.max_attempts)
            .field("timeout", &self.0.timeout)
            .field("max_bytes", &self.0.max_bytes)
            .finish_non_exhaustive()
    }
}

/// Builds a [`PushEndpoint`]. Made by [`PushEndpoint::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct PushEndpointBuilder {
    handler: Arc<dyn Handler>,
    verifier: TokenVerifier,
    subscription: Option<String>,
    dead_letter: Option<Producer>,
    max_attempts: Option<u32>,
    timeout: Duration,
    concurrency: usize,
    max_bytes: usize,
}

impl PushEndpointBuilder {
    /// Takes messages of this subscription only: `projects/PROJECT/subscriptions/NAME`. Default: of
    /// every one whose token is accepted.
    pub fn subscription(mut self, name: impl Into<String>) -> Self {
        self.subscription = Some(name.into());
        self
    }

    /// Where messages go that failed for good, with the reason. Default: nowhere; they come back,
    /// until the subscription's own dead-letter policy moves them.
    pub fn dead_letter(mut self, producer: Producer) -> Self {
        self.dead_letter = Some(producer);
        self
    }

    /// Dead-letters a message when this many attempts have failed, with the reason of the last one.
    /// Below the limit of the subscription's dead-letter policy, without which attempts are not
    /// counted. Needs [`dead_letter`](Self::dead_letter). Default: no limit.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = Some(attempts);
        self
    }

    /// How long a handler may take; below the subscription's acknowledgement deadline. Default: 9 s,
    /// which is below Pub/Sub's default of 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many messages are handled at once, at most; further requests are answered with 429, and
    /// Pub/Sub slows down. Default: 64.
    pub fn concurrency(mut self, messages: usize) -> Self {
        self.concurrency = messages;
        self
    }

    /// The largest request in bytes. Default: 16 MiB, which holds a wrapped message of 10 MB.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// The endpoint.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) for a limit on attempts without a dead-letter
    /// queue, and for limits of 0.
    pub fn build(self) -> Result<PushEndpoint> {
        let invalid = |text: &str| Err(Error::new(ErrorKind::InvalidConfig, text));
        if !(1..=Semaphore::MAX_PERMITS).contains(&self.concurrency) {
            return invalid("concurrency: must be at least 1");
        }
        if self.max_bytes == 0 || self.timeout.is_zero() {
            return invalid("max_bytes and timeout: must be more than zero");
        }
        match self.max_attempts {
            Some(0) => return invalid("max_attempts: at least 1 attempt is needed"),
            Some(_) if self.dead_letter.is_none() => {
                return invalid(
                    "max_attempts: messages that fail too often need a place; set dead_letter",
                );
            }
            _ => {}
        }
        Ok(PushEndpoint(Arc::new(Settings {
            handler: self.handler,
            dead_letter: self.dead_letter,
            max_attempts: self.max_attempts,
            timeout: self.timeout,
            verifier: self.verifier,
            subscription: self.subscription,
            max_bytes: self.max_bytes,
            places: Semaphore::new(self.concurrency),
        })))
    }
}

impl fmt::Debug for PushEndpointBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PushEndpointBuilder")
            .field("verifier", &self.verifier)
            .field("subscription", &self.subscription)
            .finish_non_exhaustive()
    }
}
