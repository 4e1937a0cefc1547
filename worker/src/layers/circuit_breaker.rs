//! Pauses the worker while what it depends on is down.

use std::{
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tower_layer::Layer;
use tower_service::Service;
use towpath_core::{Attempt, Outcome};

use crate::{AttemptService, Gate, Hold, OutcomeFuture};

/// How long a message waits that comes while another one is tried.
const TRIAL: Duration = Duration::from_secs(1);

/// Opens after a number of failures in a row, and pauses a worker for as long.
///
/// While it is open, nothing is received (through the [`Gate`]), and messages in hand are
/// [released](Outcome::Release) untried, which is no attempt. When the cool-down is over, one
/// message is tried: its success closes the breaker, its failure opens it for twice as long, up to
/// the longest cool-down.
///
/// A failure is an [`Outcome::Retry`]. A dead letter is an answer, so it counts as neither.
///
/// ```
/// # async fn example(consumer: towpath_core::Consumer) -> towpath_core::Result<()> {
/// use towpath_core::{Attempt, Failure};
/// use towpath_worker::{Gate, Worker, layers::CircuitBreakerLayer};
///
/// let gate = Gate::new();
/// let worker = Worker::builder(consumer, |_: Attempt| async { Ok::<_, Failure>(()) })
///     .gate(gate.clone())
///     .layer(CircuitBreakerLayer::new("crm").failures(10).pausing(gate))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CircuitBreakerLayer {
    failures: u32,
    cool_down: Duration,
    longest_cool_down: Duration,
    gate: Option<Gate>,
    name: Arc<str>,
    breaker: Arc<Breaker>,
}

impl CircuitBreakerLayer {
    /// A breaker with a name for logs, metrics and the gate. Clones share its state.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        Self {
            failures: 5,
            cool_down: Duration::from_secs(10),
            longest_cool_down: Duration::from_secs(300),
            gate: None,
            breaker: Arc::new(Breaker::new(&name)),
            name,
        }
    }

    /// After how many failures in a row it opens; at least 1. Default: 5.
    #[must_use]
    pub fn failures(mut self, failures: u32) -> Self {
        self.failures = failures.max(1);
        self
    }

    /// For how long it stays open at first, and at most. Default: 10 s and 5 min.
    #[must_use]
    pub fn cool_down(mut self, first: Duration, longest: Duration) -> Self {
        self.cool_down = first;
        self.longest_cool_down = longest.max(first);
        self
    }

    /// Pauses receiving through `gate` while it is open.
    #[must_use]
    pub fn pausing(mut self, gate: Gate) -> Self {
        self.gate = Some(gate);
        self
    }

    /// Its state now.
    pub fn state(&self) -> BreakerState {
        self.breaker.lock().shown()
    }
}

impl fmt::Debug for CircuitBreakerLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerLayer")
            .field("name", &self.name)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// The state of a circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Attempts run.
    Closed,
    /// One attempt runs, to see whether it works again.
    HalfOpen,
    /// No attempt runs.
    Open,
}

struct Breaker {
    inner: Mutex<Inner>,
    /// 0 closed, 1 half open, 2 open.
    gauge: metrics::Gauge,
}

#[derive(Debug)]
enum Inner {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
        cool_down: Duration,
        /// Keeps the gate closed until then.
        _pause: Option<AbortOnDropHandle<()>>,
    },
    /// One attempt is under way.
    Trial {
        _hold: Option<Hold>,
    },
}

impl Inner {
    fn shown(&self) -> BreakerState {
        match self {
            Self::Closed { .. } => BreakerState::Closed,
            Self::Open { until, .. } if Instant::now() < *until => BreakerState::Open,
            Self::Open { .. } | Self::Trial { .. } => BreakerState::HalfOpen,
        }
    }
}

/// What an arriving attempt may do.
enum Admission {
    Run,
    Trial(Duration),
    Wait(Duration),
}

impl Breaker {
    fn new(name: &Arc<str>) -> Self {
        Self {
            inner: Mutex::new(Inner::Closed { failures: 0 }),
            gauge: metrics::gauge!("towpath_breaker_state", "breaker" => name.to_string()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        *self.lock() = Inner::Closed { failures: 0 };
        self.gauge.set(0);
    }
}

impl<S> Layer<S> for CircuitBreakerLayer {
    type Service = CircuitBreaker<S>;

    fn layer(&self, inner: S) -> CircuitBreaker<S> {
        CircuitBreaker {
            inner,
            settings: self.clone(),
        }
    }
}

/// The service of [`CircuitBreakerLayer`].
#[derive(Clone, Debug)]
pub struct CircuitBreaker<S> {
    inner: S,
    settings: CircuitBreakerLayer,
}

impl<S: AttemptService> Service<Attempt> for CircuitBreaker<S> {
    type Response = Outcome;
    type Error = Infallible;
    type Future = OutcomeFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, attempt: Attempt) -> OutcomeFuture {
        let settings = self.settings.clone();
        let trial = match settings.admit() {
            Admission::Run => None,
            Admission::Trial(cool_down) => Some(Trial {
                settings: settings.clone(),
                cool_down,
                is_judged: false,
            }),
            Admission::Wait(wait) => {
                return Box::pin(async move {
                    Ok(Outcome::Release {
                        after: Some(wait),
                        reason: format!("the circuit breaker {} is open", settings.name),
                    })
                });
            }
        };
        let work = self.inner.call(attempt);
        Box::pin(async move {
            let outcome = work.await?;
            match trial {
                Some(trial) => trial.judge(&outcome),
                None => settings.count(&outcome),
            }
            Ok(outcome)
        })
    }
}

impl CircuitBreakerLayer {
    fn admit(&self) -> Admission {
        let mut inner = self.breaker.lock();
        match &*inner {
            Inner::Closed { .. } => Admission::Run,
            Inner::Trial { .. } => Admission::Wait(TRIAL),
            Inner::Open {
                until, cool_down, ..
            } => {
                let wait = until.saturating_duration_since(Instant::now());
                if !wait.is_zero() {
                    return Admission::Wait(wait);
                }
                let cool_down = *cool_down;
                // Others that came with this one are given back; more are not received.
                *inner = Inner::Trial { _hold: self.hold() };
                self.breaker.gauge.set(1);
                Admission::Trial(cool_down)
            }
        }
    }

    /// Counts the outcome of an attempt that ran while the breaker was closed.
    fn count(&self, outcome: &Outcome) {
        let mut inner = self.breaker.lock();
        // It may have been opened by others in the meantime.
        let Inner::Closed { failures } = &mut *inner else {
            return;
        };
        match outcome {
            Outcome::Ack => *failures = 0,
            Outcome::Retry { .. } => *failures += 1,
            Outcome::Release { .. } | Outcome::DeadLetter { .. } => {}
        }
        if *failures >= self.failures {
            *inner = self.opened(self.cool_down);
        }
    }

    /// The open state. The gate opens again by itself, also when no message comes.
    fn opened(&self, cool_down: Duration) -> Inner {
        let until = Instant::now() + cool_down;
        let pause = self.hold().and_then(|hold| {
            let runtime = tokio::runtime::Handle::try_current().ok()?;
            Some(AbortOnDropHandle::new(runtime.spawn(async move {
                sleep_until(until).await;
                drop(hold);
            })))
        });
        tracing::warn!(
            breaker = &*self.name,
            ?cool_down,
            "the circuit breaker is open"
        );
        self.breaker.gauge.set(2);
        Inner::Open {
            until,
            cool_down,
            _pause: pause,
        }
    }

    fn hold(&self) -> Option<Hold> {
        let reason = || format!("the circuit breaker {} is open", self.name);
        self.gate.as_ref().map(|gate| gate.hold(reason()))
    }
}

/// The one attempt of a half-open breaker. When it is dropped without an outcome (its lease is
/// lost, it panicked), the breaker opens again.
struct Trial {
    settings: CircuitBreakerLayer,
    cool_down: Duration,
    is_judged: bool,
}

impl Trial {
    fn judge(mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Ack | Outcome::DeadLetter { .. } => {
                self.is_judged = true;
                tracing::info!(
                    breaker = &*self.settings.name,
                    "the circuit breaker is closed"
                );
                self.settings.breaker.close();
            }
            // Opened again on drop.
            Outcome::Retry { .. } | Outcome::Release { .. } => {}
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if !self.is_judged {
            let longer = (self.cool_down * 2).min(self.settings.longest_cool_down);
            *self.settings.breaker.lock() = self.settings.opened(longer);
        }
    }
}
