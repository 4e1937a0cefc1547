//! What runs: the state that the tasks of a worker share, and the life of one message.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use pin_project_lite::pin_project;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};
use towpath_core::{Attempt, Consumer, Delivery, FailureClass, Handler, Outcome};

use crate::{
    Backoff, Gate, Health, RetryPolicy,
    attempt::{self, Bounds, Ended},
    in_hand::{Held, InHand},
    keys::{Keys, Turn},
    notes::Notes,
    permits::Permits,
    report::Counts,
    settle::Decision,
};

/// The retry policy of a message, where it has one of its own.
pub(crate) type RetryFor = dyn Fn(&Attempt) -> Option<RetryPolicy> + Send + Sync;

/// How a worker works.
pub(crate) struct Settings {
    pub(crate) retry: RetryPolicy,
    pub(crate) retry_for: Option<Box<RetryFor>>,
    pub(crate) bounds: Bounds,
    pub(crate) drain: Duration,
}

/// What the tasks of a worker share.
pub(crate) struct Runtime {
    pub(crate) consumer: Consumer,
    pub(crate) queue: Arc<str>,
    pub(crate) handler: Arc<dyn Handler>,
    pub(crate) settings: Settings,
    pub(crate) permits: Permits,
    /// Settlements under way; when there are too many, handlers keep their permits.
    pub(crate) settling: Arc<Semaphore>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) notes: Notes,
    pub(crate) counts: Arc<Counts>,
    pub(crate) gate: Gate,
    /// Cancels handlers and waits: the worker cannot wait any longer.
    pub(crate) stop: CancellationToken,
    /// Ends all tasks as they are.
    pub(crate) abort: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) clock: Clock,
    pub(crate) health: Health,
}

/// The time of day, by tokio's clock.
pub(crate) struct Clock {
    started: SystemTime,
    since: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self {
            started: SystemTime::now(),
            since: Instant::now(),
        }
    }

    /// How long ago that was; `None` where it is to come.
    pub(crate) fn since(&self, at: SystemTime) -> Option<Duration> {
        self.now().duration_since(at).ok()
    }

    /// Under a paused clock, tokio's time is ahead; when the system's clock was set forward, that
    /// one is.
    fn now(&self) -> SystemTime {
        (self.started + self.since.elapsed()).max(SystemTime::now())
    }
}

/// The retry policy of one message.
struct Policy<'a> {
    backoff: &'a Backoff,
    max_attempts: Option<u32>,
    max_age: Option<Duration>,
}

impl Runtime {
    /// Runs `work` in a task of its own, which ends at the latest when the worker is dropped.
    pub(crate) fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(Task {
            work,
            runtime: self.clone(),
            aborted: None,
        });
    }

    /// Handles one message and settles it.
    pub(crate) async fn process(&self, message: InHand, turn: Option<&Turn>) {
        let InHand {
            delivery,
            permit,
            held: _held,
        } = message;
        let decision = self.decide(&delivery).await;
        // Off the handler's permit, so that a slow queue does not block the next handler.
        let Ok(_slot) = self.settling.acquire().await else {
            return;
        };
        drop(permit);
        self.settle(delivery, decision, turn).await;
    }

    /// Gives back a message that was not asked for.
    pub(crate) fn give_back_later(self: &Arc<Self>, delivery: Delivery, held: Held) {
        let runtime = self.clone();
        self.spawn(async move {
            let _held = held;
            runtime
                .settle(delivery, Decision::Release(Duration::ZERO), None)
                .await;
        });
    }

    async fn decide(&self, delivery: &Delivery) -> Decision {
        let envelope = delivery.envelope();
        let note = self.notes.of(&envelope.id);
        if let Some(at) = note.not_before {
            let now = Instant::now();
            if at > now {
                return Decision::Release(at - now);
            }
        }
        if delivery.is_lease_lost() {
            return Decision::Discard;
        }
        if self.stop.is_cancelled() {
            return Decision::Release(Duration::ZERO);
        }
        let number = envelope.attempt.unwrap_or(note.failures.saturating_add(1));
        let attempt = Attempt::new(envelope.clone(), self.queue.clone());
        let of_its_own = self.settings.retry_for.as_ref().and_then(|of| of(&attempt));
        // Kept while the handler runs, and rare.
        let of_its_own = of_its_own.map(Box::new);
        let most = self.policy(of_its_own.as_deref()).max_attempts;
        if let Some(most) = most
            && number > most
        {
            let reason =
                format!("{most} attempts were allowed, and none of them settled the message");
            return Decision::DeadLetter(FailureClass::AttemptsExhausted, reason);
        }
        let token = attempt.cancellation().clone();
        let ended = match attempt::begin(&*self.handler, attempt) {
            Ok(work) => attempt::run(work, delivery, token, &self.stop, self.settings.bounds).await,
            Err(ended) => ended,
        };
        self.judge(delivery, number, ended, &self.policy(of_its_own.as_deref()))
    }

    /// The policy of a message; what its own leaves open is as for all.
    fn policy<'a>(&'a self, of_its_own: Option<&'a RetryPolicy>) -> Policy<'a> {
        let general = &self.settings.retry;
        let retry = of_its_own.unwrap_or(general);
        Policy {
            backoff: retry.backoff(),
            max_attempts: retry.max_attempts.or(general.max_attempts),
            max_age: retry.max_age.or(general.max_age),
        }
    }

    /// What an ended attempt, the one with this number, means for its message.
    fn judge(
        &self,
        delivery: &Delivery,
        number: u32,
        ended: Ended,
        retry: &Policy<'_>,
    ) -> Decision {
        let id = &delivery.envelope().id;
        let (after, reason) = match ended {
            Ended::Returned(Outcome::Ack) => return Decision::Ack,
            Ended::Returned(Outcome::DeadLetter { class, reason }) => {
                return Decision::DeadLetter(class, reason);
            }
            Ended::Returned(Outcome::Release { after, reason }) => {
                tracing::debug!(%id, queue = &*self.queue, %reason, "given back without an attempt");
                return Decision::Release(after.unwrap_or_default());
            }
            Ended::Returned(Outcome::Retry { after, reason }) => (after, reason),
            Ended::Panicked(failure) => {
                self.counts.panicked();
                tracing::error!(%id, queue = &*self.queue, %failure, "the handler panicked");
                (None, failure.reason().to_owned())
            }
            Ended::TimedOut => {
                self.counts.timed_out();
                let limit = self.settings.bounds.timeout.unwrap_or_default();
                let limit = humantime::format_duration(limit);
                (None, format!("timed out after {limit}"))
            }
            Ended::Cancelled => {
                self.counts.cancelled();
                return Decision::Release(Duration::ZERO);
            }
            Ended::LeaseLost => return Decision::Discard,
        };
        if retry.max_attempts.is_some_and(|most| number >= most) {
            return Decision::DeadLetter(FailureClass::AttemptsExhausted, reason);
        }
        let sent_at = delivery.envelope().sent_at;
        let age = sent_at.and_then(|at| self.clock.since(at));
        if let (Some(most), Some(age)) = (retry.max_age, age)
            && age >= most
        {
            return Decision::DeadLetter(FailureClass::TooOld, reason);
        }
        let delay = retry.backoff.delay(number).max(after.unwrap_or_default());
        tracing::warn!(%id, queue = &*self.queue, attempt = number, %reason, ?delay, "an attempt failed; the message is tried again");
        if delivery.attempt().is_none() {
            self.notes.edit(id, |note| note.failures = number);
        }
        Decision::Retry(delay)
    }
}

pin_project! {
    /// A task of a worker. It ends when its work does, or with the worker.
    struct Task<F> {
        #[pin]
        work: F,
        runtime: Arc<Runtime>,
        // Made when the work waits for the first time.
        #[pin]
        aborted: Option<WaitForCancellationFutureOwned>,
    }
}

impl<F: Future<Output = ()>> Future for Task<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if this.work.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if this.aborted.is_none() {
            let aborted = this.runtime.abort.clone().cancelled_owned();
            this.aborted.set(Some(aborted));
        }
        this.aborted
            .as_pin_mut()
            .map_or(Poll::Pending, |aborted| aborted.poll(cx))
    }
}
