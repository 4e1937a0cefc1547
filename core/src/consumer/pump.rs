//! Receiving in a task of its own, so that a caller's dropped future never drops a request.
//!
//! The task asks for as many messages as callers wait for, plus what may be fetched ahead. What
//! arrives for a caller that went away stays in the buffer, leased, for the next one, and is
//! released when nobody asks for a while.

use std::{
    collections::VecDeque,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use slab::Slab;
use tokio::{
    sync::Notify,
    task::{JoinError, JoinHandle, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Shared, Turn, until};
use crate::{Delivery, Error, ErrorKind, Result, backoff::Backoff, producer::closed};

/// The most bytes that are fetched ahead of demand.
const PREFETCH_BYTES: usize = 32 * 1_024 * 1_024;
/// How many requests are under way at once when there is much to do.
const POLLS: usize = 8;
/// How long a stopping pump waits for requests under way.
const GRACE: Duration = Duration::from_secs(2);
/// After how long without a caller prefetched messages are released, where the lease is unknown.
const IDLE: Duration = Duration::from_secs(30);

/// The caller's end. Dropping it stops the task and releases what is buffered.
pub(super) struct Pump {
    state: Arc<State>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
    /// Requests that are under way after the task has ended.
    stragglers: TaskTracker,
}

struct State {
    inner: Mutex<Inner>,
    demand: Notify,
    arrival: Notify,
}

struct Inner {
    buffer: VecDeque<Delivery>,
    bytes: usize,
    waiting: Slab<Waiting>,
    last_demand: Instant,
    /// Whether the caller said that it pauses: then nothing is kept without a caller.
    is_resting: bool,
    error: Option<Error>,
    /// How many requests were started, and the latest start among those that are answered.
    started: u64,
    answered: u64,
    in_flight: usize,
    is_stopped: bool,
}

struct Waiting {
    want: usize,
    deadline: Option<Instant>,
}

impl Pump {
    pub(super) fn start(shared: &Arc<Shared>) -> Self {
        let state = Arc::new(State {
            inner: Mutex::new(Inner {
                buffer: VecDeque::new(),
                bytes: 0,
                waiting: Slab::new(),
                last_demand: Instant::now(),
                is_resting: false,
                error: None,
                started: 0,
                answered: 0,
                in_flight: 0,
                is_stopped: false,
            }),
            demand: Notify::new(),
            arrival: Notify::new(),
        });
        let stop = CancellationToken::new();
        let stragglers = TaskTracker::new();
        let task = tokio::spawn(run(
            shared.clone(),
            state.clone(),
            stop.clone(),
            stragglers.clone(),
        ));
        Self {
            state,
            stop,
            task: Mutex::new(Some(task)),
            stragglers,
        }
    }

    pub(super) async fn receive(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Delivery>> {
        let deadline = Instant::now().checked_add(wait);
        let demand = Demand::new(&self.state, max.get(), deadline);
        loop {
            let arrival = self.state.arrival.notified();
            tokio::pin!(arrival);
            // Registered before the check, so that no arrival in between is missed.
            arrival.as_mut().enable();
            if let Some(result) = self.state.lock().take(max.get(), &demand) {
                return result;
            }
            let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            // Past the deadline we still wait for the answer of a request made for us.
            let limit = if is_over { None } else { deadline };
            until(limit, arrival).await;
        }
    }

    /// Releases what is buffered, and fetches nothing until the next caller.
    pub(super) fn rest(&self) {
        self.state.lock().is_resting = true;
        // The task releases; what requests under way still bring goes the same way.
        self.state.demand.notify_one();
    }

    /// Stops receiving and releases what is buffered. Returns the requests that are still under
    /// way, where there are any: what they bring can only be released while the driver is open.
    pub(super) async fn stop(&self) -> Option<TaskTracker> {
        self.stop.cancel();
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            let _ = task.await;
        }
        (!self.stragglers.is_empty()).then(|| self.stragglers.clone())
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A caller that waits. Dropping it withdraws the demand.
struct Demand<'a> {
    state: &'a State,
    key: usize,
    /// How many requests were started before.
    seen: u64,
    is_early: bool,
    deadline: Option<Instant>,
}

impl<'a> Demand<'a> {
    fn new(state: &'a State, want: usize, deadline: Option<Instant>) -> Self {
        let mut inner = state.lock();
        inner.last_demand = Instant::now();
        inner.is_resting = false;
        let key = inner.waiting.insert(Waiting { want, deadline });
        let demand = Self {
            state,
            key,
            seen: inner.started,
            is_early: inner.in_flight > 0,
            deadline,
        };
        drop(inner);
        state.demand.notify_one();
        demand
    }
}

impl Drop for Demand<'_> {
    fn drop(&mut self) {
        let mut inner = self.state.lock();
        inner.last_demand = Instant::now();
        inner.waiting.remove(self.key);
        let is_left = !inner.buffer.is_empty();
        drop(inner);
        if is_left {
            // Another caller may take what this one left.
            self.state.arrival.notify_one();
        }
        self.state.demand.notify_one();
    }
}

impl Inner {
    /// What a caller gets now; `None` is to go on waiting.
    fn take(&mut self, max: usize, demand: &Demand<'_>) -> Option<Result<Vec<Delivery>>> {
        let taken = self.take_ready(max);
        if !taken.is_empty() {
            // Under the lock, or the pump would fetch for a caller that has what it wants: a long
            // poll that outlives the consumer takes messages that nobody is there for.
            if let Some(waiting) = self.waiting.get_mut(demand.key) {
                waiting.want = 0;
            }
            return Some(Ok(taken));
        }
        if self.is_stopped {
            return Some(Err(closed("receive")));
        }
        if let Some(error) = self.error.take() {
            return Some(Err(error));
        }
        let is_over = demand
            .deadline
            .is_some_and(|deadline| Instant::now() >= deadline);
        // A request under way since before waits at the broker and would have told by now.
        let is_asked = self.answered > demand.seen || (demand.is_early && self.in_flight > 0);
        (is_over && is_asked).then(|| Ok(Vec::new()))
    }

    /// When what is buffered without a caller is released.
    fn idle_at(&self, idle: Duration) -> Instant {
        if self.is_resting {
            self.last_demand
        } else {
            self.last_demand + idle
        }
    }

    /// Takes up to `max` deliveries whose turn it is. What may not be handed out any more is
    /// released; what is to wait stays.
    fn take_ready(&mut self, max: usize) -> Vec<Delivery> {
        let mut taken = Vec::with_capacity(max.min(self.buffer.len()));
        let mut waiting = Vec::new();
        while taken.len() < max
            && let Some(delivery) = self.buffer.pop_front()
        {
            match delivery.turn() {
                Turn::Later => {
                    waiting.push(delivery);
                    continue;
                }
                Turn::Now if !delivery.is_lease_lost() => {
                    self.forget(&delivery);
                    taken.push(delivery);
                }
                Turn::Now => self.forget(&delivery),
                Turn::Never => {
                    self.forget(&delivery);
                    delivery.release_unseen();
                }
            }
        }
        for delivery in waiting.into_iter().rev() {
            self.buffer.push_front(delivery);
        }
        taken
    }

    /// Releases what waited for a message that comes again.
    fn release_out_of_turn(&mut self) {
        for delivery in std::mem::take(&mut self.buffer) {
            if delivery.turn() == Turn::Never {
                self.forget(&delivery);
                delivery.release_unseen();
            } else {
                self.buffer.push_back(delivery);
            }
        }
    }

    /// Takes a delivery that left the buffer off the sum of bytes.
    fn forget(&mut self, delivery: &Delivery) {
        self.bytes = self.bytes.saturating_sub(delivery.body().len());
    }

    /// How many deliveries could be handed out now.
    fn ready(&self, shared: &Shared) -> usize {
        if !shared.has_turns {
            return self.buffer.len();
        }
        let is_ready = |delivery: &&Delivery| delivery.turn() == Turn::Now;
        self.buffer.iter().filter(is_ready).count()
    }

    /// The size and the wait of the next request, when one is wanted.
    fn next_poll(
        &mut self,
        shared: &Shared,
        requested: usize,
        allowed: usize,
        idle: Duration,
    ) -> Option<(NonZeroUsize, Duration)> {
        let now = Instant::now();
        if self.waiting.is_empty() && now >= self.idle_at(idle) {
            return None;
        }
        let wanted: usize = self.waiting.iter().map(|(_, waiting)| waiting.want).sum();
        let ahead = if self.bytes < PREFETCH_BYTES {
            shared.options.prefetch
        } else {
            0
        };
        let missing = wanted
            .saturating_add(ahead)
            .saturating_sub(self.ready(shared) + requested);
        let size = NonZeroUsize::new(missing.min(shared.capabilities().limits.receive_batch))?;
        if self.in_flight >= allowed {
            return None;
        }
        let longest = self
            .waiting
            .iter()
            .map(|(_, waiting)| {
                waiting
                    .deadline
                    .map_or(Duration::MAX, |at| at.saturating_duration_since(now))
            })
            .max();
        // Without a caller a request ends before the buffer is released, or it would fetch what was
        // released again.
        let wait = longest
            .unwrap_or_else(|| self.idle_at(idle).saturating_duration_since(now))
            .min(shared.options.wait);
        self.started += 1;
        self.in_flight += 1;
        Some((size, wait))
    }
}

/// What a request came to: its size, and whether it was answered in full.
struct Answer {
    size: usize,
    result: Result<bool>,
}

async fn run(
    shared: Arc<Shared>,
    state: Arc<State>,
    stop: CancellationToken,
    stragglers: TaskTracker,
) {
    let idle = shared.lease_duration().unwrap_or(IDLE);
    let mut polls: JoinSet<Answer> = JoinSet::new();
    let mut requested = 0;
    let mut allowed = 1;
    let mut backoff = Backoff::new();
    let mut healing_until: Option<Instant> = None;
    loop {
        while healing_until.is_none() {
            let mut inner = state.lock();
            let Some((size, wait)) = inner.next_poll(&shared, requested, allowed, idle) else {
                break;
            };
            let start = inner.started;
            drop(inner);
            requested += size.get();
            let (shared, state) = (shared.clone(), state.clone());
            polls.spawn(async move {
                // The broker answers within the wait. Where this process was stopped or starved,
                // its answer is read later, and leases may be over by then.
                let latest = Instant::now().checked_add(wait);
                let result = shared.call_receive(size, wait).await;
                let result = result.map(|received| shared.admit(received, latest));
                Answer {
                    size: size.get(),
                    result: arrived(&state, start, size, result),
                }
            });
        }
        let (idle_at, has_buffer) = {
            let inner = state.lock();
            (
                inner.idle_at(idle),
                !inner.buffer.is_empty() && inner.waiting.is_empty(),
            )
        };
        // Every branch only waits for an event; nothing is lost when one is dropped.
        tokio::select! {
            () = stop.cancelled() => break,
            Some(joined) = polls.join_next(), if !polls.is_empty() => {
                let answer = joined.unwrap_or_else(|error| panicked(&state, error));
                requested -= answer.size.min(requested);
                if polls.is_empty() {
                    requested = 0;
                }
                match answer.result {
                    Ok(is_full) => {
                        allowed = if is_full { (allowed + 1).min(POLLS) } else { 1 };
                        backoff = Backoff::new();
                    }
                    Err(error) => {
                        // Requests that fail side by side are one failure.
                        let delay = match healing_until {
                            None => backoff.next([&error]),
                            Some(_) => error.retry_after().unwrap_or_default(),
                        };
                        tracing::warn!(%error, ?delay, queue = shared.queue_name(), "receiving failed; it is tried again");
                        allowed = 1;
                        healing_until = healing_until.max(Some(Instant::now() + delay));
                    }
                }
            }
            () = state.demand.notified() => {}
            () = shared.turns.notified() => {
                state.lock().release_out_of_turn();
                state.arrival.notify_waiters();
            }
            () = sleep_until(healing_until.unwrap_or(idle_at)), if healing_until.is_some() => {
                healing_until = None;
            }
            () = sleep_until(idle_at), if has_buffer => release_idle(&state, idle),
        }
    }
    let buffered = {
        let mut inner = state.lock();
        inner.is_stopped = true;
        inner.bytes = 0;
        std::mem::take(&mut inner.buffer)
    };
    release_unseen(buffered);
    state.arrival.notify_waiters();
    // Requests under way may still bring messages, those just released among them: they are
    // released as they come.
    if timeout(GRACE, ended(&mut polls)).await.is_err() {
        tracing::debug!(
            queue = shared.queue_name(),
            "requests are still under way; their messages are released as they come"
        );
        stragglers.spawn(async move { ended(&mut polls).await });
    }
}

/// Buffers what the request `start` for `size` messages brought; returns whether it was answered
/// in full. After the pump has stopped, what comes is released.
fn arrived(
    state: &State,
    start: u64,
    size: NonZeroUsize,
    result: Result<Vec<Delivery>>,
) -> Result<bool> {
    let mut inner = state.lock();
    inner.in_flight = inner.in_flight.saturating_sub(1);
    inner.answered = inner.answered.max(start);
    if inner.is_stopped {
        drop(inner);
        let deliveries = result?;
        let is_full = deliveries.len() >= size.get();
        release_unseen(deliveries);
        return Ok(is_full);
    }
    let now = Instant::now();
    let is_overdue = |(_, waiting): (usize, &Waiting)| waiting.deadline.is_some_and(|at| now >= at);
    let concerns_all = inner.waiting.iter().any(is_overdue);
    let outcome = match result {
        Ok(deliveries) => {
            let is_full = deliveries.len() >= size.get();
            inner.bytes += deliveries
                .iter()
                .map(|delivery| delivery.body().len())
                .sum::<usize>();
            inner.buffer.extend(deliveries);
            inner.error = None;
            Ok(is_full)
        }
        Err(error) => {
            if !inner.waiting.is_empty() {
                inner.error = Some(error.clone());
            }
            Err(error)
        }
    };
    drop(inner);
    if concerns_all {
        state.arrival.notify_waiters();
    } else {
        // Whoever takes a part wakes the next for the rest.
        state.arrival.notify_one();
    }
    outcome
}

async fn ended(polls: &mut JoinSet<Answer>) {
    while polls.join_next().await.is_some() {}
}

/// A request whose task ended without an answer.
fn panicked(state: &State, error: JoinError) -> Answer {
    let error = Error::new(ErrorKind::Unknown, "the driver's receive panicked").with_source(error);
    Answer {
        size: 0,
        result: arrived(state, 0, NonZeroUsize::MIN, Err(error)),
    }
}

/// Releases what is buffered when nobody has asked for a while.
fn release_idle(state: &State, idle: Duration) {
    let released = {
        let mut inner = state.lock();
        if !inner.waiting.is_empty() || Instant::now() < inner.idle_at(idle) {
            return;
        }
        inner.bytes = 0;
        std::mem::take(&mut inner.buffer)
    };
    release_unseen(released);
}

/// Gives back what no caller ever saw.
fn release_unseen(deliveries: impl IntoIterator<Item = Delivery>) {
    for delivery in deliveries {
        delivery.release_unseen();
    }
}
