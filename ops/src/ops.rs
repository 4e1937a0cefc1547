//! The page as a whole: what it shows, and serving it.

use std::{collections::BTreeMap, fmt, io, sync::Arc};

use axum::Router;
use tokio::net::TcpListener;

use crate::{Status, WatchedQueue, guard::Guard, routes};

type Probe = Box<dyn Fn() -> Status + Send + Sync>;

/// The operator's page, see the [crate](crate).
#[must_use = "the page is not served until `serve` or `router` is called"]
pub struct Ops {
    title: String,
    queues: BTreeMap<String, WatchedQueue>,
    statuses: Vec<(String, Probe)>,
    token: Option<String>,
    mistakes: Vec<String>,
}

/// Why the page is not served.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpsError {
    /// What it was told to show, or how, is wrong; says what would be right.
    Config(String),
    /// The listener failed.
    Io(io::Error),
}

impl Ops {
    /// A page of this title, with nothing on it yet.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            queues: BTreeMap::new(),
            statuses: Vec::new(),
            token: None,
            mistakes: Vec::new(),
        }
    }

    /// Shows a queue.
    pub fn queue(mut self, queue: WatchedQueue) -> Self {
        let name = queue.name.clone();
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || name.starts_with('.') || !name.bytes().all(legal) {
            self.mistakes.push(format!(
                "a queue is shown as {name:?}; use letters, digits, `-`, `_` and `.`"
            ));
        }
        if self.queues.insert(name.clone(), queue).is_some() {
            self.mistakes
                .push(format!("two queues are shown as {name:?}"));
        }
        self
    }

    /// Shows what `probe` says each time somebody looks: of a breaker, a spool, a connection. It
    /// must return at once.
    pub fn status(
        mut self,
        name: impl Into<String>,
        probe: impl Fn() -> Status + Send + Sync + 'static,
    ) -> Self {
        self.statuses.push((name.into(), Box::new(probe)));
        self
    }

    /// Shows the page only to who has this token, of at least 16 characters. Needed where others
    /// than this machine can reach it. Default: none.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        let token = token.into();
        if token.len() < 16 {
            self.mistakes.push(
                "the token of the ops page has fewer than 16 characters; take a random one, as of \
                 `openssl rand -hex 16`"
                    .to_owned(),
            );
        }
        self.token = Some(token);
        self
    }

    /// The page as a router of its own, for a server that is there already. It works at the root
    /// of a host name, not below a path.
    ///
    /// # Errors
    ///
    /// [`OpsError::Config`] for a bad or doubled name of a queue and for a short token; `Io` when
    /// the system has no randomness.
    pub fn router(self) -> Result<Router, OpsError> {
        if let Some(mistake) = self.mistakes.into_iter().next() {
            return Err(OpsError::Config(mistake));
        }
        let guard = Guard::new(self.token.as_deref()).map_err(OpsError::Io)?;
        Ok(routes::router(Arc::new(State {
            title: self.title,
            queues: self.queues,
            statuses: self.statuses,
            guard,
        })))
    }

    /// Serves the page until the future is dropped.
    ///
    /// # Errors
    ///
    /// [`OpsError::Config`] as [`router`](Self::router), and when the listener is not on loopback
    /// although no [token](Self::token) is set; [`OpsError::Io`] when the listener fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the listening; requests that are answered just then may be cut. A
    /// redrive that is cut leaves no message lost: what was sent and not yet removed is in both
    /// queues, with one idempotency key.
    pub async fn serve(self, listener: TcpListener) -> Result<(), OpsError> {
        let address = listener.local_addr().map_err(OpsError::Io)?;
        if self.token.is_none() && !address.ip().is_loopback() {
            return Err(OpsError::Config(format!(
                "the ops page would be open to everybody on {address}; listen on 127.0.0.1, or set \
                 a token"
            )));
        }
        let router = self.router()?;
        tracing::info!("the ops page is on http://{address}/");
        axum::serve(listener, router).await.map_err(OpsError::Io)
    }
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops")
            .field("title", &self.title)
            .field("queues", &self.queues)
            .field("has_token", &self.token.is_some())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for OpsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(mistake) => f.write_str(mistake),
            Self::Io(error) => write!(f, "the ops page cannot be served: {error}"),
        }
    }
}

impl std::error::Error for OpsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(_) => None,
            Self::Io(error) => Some(error),
        }
    }
}

/// What the requests share.
pub(crate) struct State {
    pub(crate) title: String,
    pub(crate) queues: BTreeMap<String, WatchedQueue>,
    statuses: Vec<(String, Probe)>,
    pub(crate) guard: Guard,
}

impl State {
    pub(crate) fn statuses(&self) -> Vec<(&str, Status)> {
        let ask = |(name, probe): &'_ (String, Probe)| probe_of(name, probe);
        self.statuses
            .iter()
            .map(|entry| (entry.0.as_str(), ask(entry)))
            .collect()
    }
}

/// A probe that panics is bad news of its own, not the end of the page.
fn probe_of(name: &str, probe: &Probe) -> Status {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(probe)).unwrap_or_else(|_| {
        tracing::error!(name, "a status of the ops page panicked");
        Status::bad("unknown: the probe panicked")
    })
}
