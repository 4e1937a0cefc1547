//! The HTTP side of a queue.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use http::{HeaderValue, Method, StatusCode, header};
use tokio_util::task::TaskTracker;
use towpath_core::{Producer, Registry, Result};

use crate::{Config, Overflow, Problem, Refusal, config::SpoolSettings, spool::Spool};

mod accept;
mod handshake;
mod health;
mod message;
mod metrics;
mod source;
mod spooling;
mod table;
mod target;
mod watch;

pub use metrics::describe as describe_metrics;
pub use watch::Watch;

use spooling::Draining;
use table::Table;

/// Receives webhooks into queues, as a [`Config`] says. Cloning is cheap; clones share everything.
///
/// A request is answered with success only after the queue, or the spool, has the message:
///
/// 1. the body is read, within its bounds;
/// 2. the signature is verified, over the exact bytes;
/// 3. the rate limit of the source is checked: requests that anybody can forge use none of it;
/// 4. the body is checked against the schema;
/// 5. copies of an event that was accepted get its answer, and copies of one that is being accepted
///    wait for it;
/// 6. the message is published, or kept by the spool or your own [`Overflow`]; else the answer is 503 with `Retry-After`,
///    and the event is not remembered.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> towpath_core::Result<()> {
/// use towpath_core::Registry;
/// use towpath_memory::MemoryBackend;
/// use towpath_webhook::{Config, Receiver};
///
/// let config = Config::parse(r#"
///     [queues]
///     pushes = "memory://pushes"
///
///     [sources.github]
///     path = "/hooks/github"
///     queue = "pushes"
///     verify = { scheme = "github", secrets = ["for tests only"] }
/// "#)?;
/// let receiver = Receiver::builder()
///     .registry(Registry::new().with(MemoryBackend::shared()))
///     .start(config)
///     .await?;
/// let app: axum::Router = receiver.router();
/// // axum::serve(listener, app).with_graceful_shutdown(signal).await?;
/// receiver.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

struct Inner {
    registry: Registry,
    producers: BTreeMap<String, Producer>,
    overflow: Option<Arc<dyn Overflow>>,
    /// The spool of the configuration, which is open until the end.
    spool: Option<SpoolSettings>,
    draining: Mutex<Option<Draining>>,
    table: RwLock<Arc<Table>>,
    /// One reload at a time; what became of the last one.
    reloading: tokio::sync::Mutex<()>,
    loaded: RwLock<Loaded>,
    /// Publishing goes on when a client hangs up; `close` waits for it.
    publishing: TaskTracker,
}

/// What became of the configuration.
#[derive(Clone, Debug)]
struct Loaded {
    at: SystemTime,
    rejected: Option<(SystemTime, String)>,
}

/// Makes a [`Receiver`].
#[derive(Debug, Default)]
#[must_use]
pub struct ReceiverBuilder {
    registry: Registry,
    producers: BTreeMap<String, Producer>,
    overflow: Option<Arc<dyn Overflow>>,
}

impl ReceiverBuilder {
    /// The backends that open the queues of the configuration. None by default.
    pub fn registry(mut self, registry: Registry) -> Self {
        self.registry = registry;
        self
    }

    /// Adds a queue that was opened elsewhere; it takes the place of one of that name in the
    /// configuration, and [`close`](Receiver::close) leaves it open.
    pub fn producer(mut self, name: impl Into<String>, producer: Producer) -> Self {
        self.producers.insert(name.into(), producer);
        self
    }

    /// Where messages go while their queue cannot be reached, instead of the `[spool]` of the
    /// configuration. Without either, they are answered with 503.
    pub fn overflow(mut self, overflow: Arc<dyn Overflow>) -> Self {
        self.overflow = Some(overflow);
        self
    }

    /// Reads the secrets and schemas, opens the queues, and the spool where the configuration has
    /// one.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` with every mistake and its place, also when a queue or the spool cannot be
    /// opened, and when there are a spool and an [`overflow`](Self::overflow).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn start(self, config: Config) -> Result<Receiver> {
        let settings = config.spool();
        if settings.is_some() && self.overflow.is_some() {
            return Err(spooling::invalid(
                "spool: the program keeps events elsewhere already; remove the table, or the call \
                 of `ReceiverBuilder::overflow`",
            ));
        }
        let table = Table::open(&config, &self.registry, &self.producers, None).await?;
        let spool = match &settings {
            Some(settings) => Some(spooling::open(settings).await?),
            None => None,
        };
        let overflow = spool.clone().map(|spool| Arc::new(spool) as _);
        let receiver = Receiver(Arc::new(Inner {
            registry: self.registry,
            producers: self.producers,
            overflow: overflow.or(self.overflow),
            spool: settings,
            draining: Mutex::default(),
            table: RwLock::new(Arc::new(table)),
            reloading: tokio::sync::Mutex::default(),
            loaded: RwLock::new(Loaded {
                at: SystemTime::now(),
                rejected: None,
            }),
            publishing: TaskTracker::new(),
        }));
        if let Some(spool) = spool {
            receiver.drain(spool);
        }
        Ok(receiver)
    }
}

impl Receiver {
    /// A receiver of nothing yet.
    pub fn builder() -> ReceiverBuilder {
        ReceiverBuilder::default()
    }

    /// The paths of all sources, and [`health`](Self::health). May be merged with routes of your
    /// own, which win over the paths of sources.
    pub fn router(&self) -> Router {
        self.health().merge(self.hooks())
    }

    /// The paths of all sources alone. A path that no source has is answered with 404.
    pub fn hooks(&self) -> Router {
        Router::new()
            .route("/{*path}", any(receive))
            .with_state(self.clone())
    }

    /// `GET /livez` and `GET /readyz` alone, for a listener that is not public.
    ///
    /// Ready (200, else 503) means that every queue can be reached, or the overflow has room. The
    /// answers are JSON and say why; they name queues, but show neither URLs nor error texts.
    pub fn health(&self) -> Router {
        Router::new()
            .route("/livez", get(health::live))
            .route("/readyz", get(health::ready))
            .with_state(self.clone())
    }

    /// Takes over another configuration: all of it, or nothing. Requests under way finish on the
    /// old one.
    ///
    /// Events and tokens that were seen stay remembered for sources that keep their name and their
    /// settings of `dedup`, `rate_limit` and `verify.tolerance`. Queues that did not change stay
    /// open.
    ///
    /// # Errors
    ///
    /// As [`ReceiverBuilder::start`]; the old configuration stays. Also when its spool is another
    /// one: that needs a restart.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the old configuration stays.
    pub async fn reload(&self, config: Config) -> Result<()> {
        let _one = self.0.reloading.lock().await;
        if config.spool() != self.0.spool {
            let what = "spool: it is opened at the start; start again to change it";
            self.note_rejected(what);
            return Err(spooling::invalid(what));
        }
        let old = self.table();
        let opened = Table::open(&config, &self.0.registry, &self.0.producers, Some(&old)).await;
        let mut table = match opened {
            Ok(table) => table,
            Err(error) => {
                self.note_rejected(error.message());
                return Err(error);
            }
        };
        if let Some(overflow) = &self.0.overflow {
            table.keep_targets(&old, |queue| overflow.holds(queue));
        }
        *self.0.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        *self
            .0
            .loaded
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Loaded {
            at: SystemTime::now(),
            rejected: None,
        };
        Ok(())
    }

    /// The producer of a queue, for whoever sends on what the [`Overflow`] keeps.
    pub fn producer(&self, queue: &str) -> Option<Producer> {
        let table = self.table();
        table.target(queue).map(|target| target.producer().clone())
    }

    /// Waits until everything that was begun is published or refused, stops sending on from the
    /// spool of the configuration, then closes the queues that the receiver opened. Stop the server
    /// first.
    ///
    /// # Errors
    ///
    /// As the queues report them; all are closed.
    ///
    /// # Cancel safety
    ///
    /// What is being published goes on; queues may be left open.
    pub async fn close(&self) -> Result<()> {
        self.0.publishing.close();
        self.0.publishing.wait().await;
        let draining = self.draining().take();
        if let Some(draining) = draining {
            draining.stop().await;
        }
        self.table().close().await
    }

    /// Sends on what is in the spool, until the receiver is closed or dropped.
    fn drain(&self, spool: Spool) {
        let receiver = Arc::downgrade(&self.0);
        let lookup = move |queue: &str| Self(receiver.upgrade()?).producer(queue);
        *self.draining() = Some(Draining::start(spool, lookup));
    }

    fn draining(&self) -> MutexGuard<'_, Option<Draining>> {
        let draining = self.0.draining.lock();
        draining.unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> Arc<Table> {
        let table = self.0.table.read();
        Arc::clone(&table.unwrap_or_else(PoisonError::into_inner))
    }

    fn loaded(&self) -> Loaded {
        let loaded = self.0.loaded.read();
        loaded.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_rejected(&self, why: &str) {
        let mut loaded = self
            .0
            .loaded
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        loaded.rejected = Some((SystemTime::now(), why.to_owned()));
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("table", &self.table())
            .field("overflow", &self.0.overflow)
            .finish_non_exhaustive()
    }
}

async fn receive(State(receiver): State<Receiver>, request: Request) -> Response {
    let table = receiver.table();
    let Some(source) = table.source(request.uri().path()) else {
        let detail = "no source has this path; is the URL right at the sender?";
        return Problem::new(StatusCode::NOT_FOUND, "not_found", detail).into_response();
    };
    if request.method() != Method::POST {
        let detail = "send a POST request";
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail);
        let mut response = problem.into_response();
        let post = HeaderValue::from_static("POST");
        response.headers_mut().insert(header::ALLOW, post);
        return response;
    }
    let Ok(_permit) = table.in_flight().try_acquire() else {
        let refusal = Refusal::Unavailable(Duration::from_secs(1));
        source.note_refusal(
            &refusal,
            "too many requests are under way; see max_in_flight",
        );
        return source.profile().refused(&refusal).into_response();
    };
    let (parts, body) = request.into_parts();
    accept::accept(&receiver, source, parts.headers, body).await
}
