//! The stream pump: what the service pushes becomes what callers ask for.
//!
//! One task plans: it opens streams as callers want messages, closes them when nobody does, gives
//! back what was held for long enough, and asks the service after a silence. One task per stream
//! reads. Callers take from what is here, so a caller that goes away loses nothing.

mod copies;
mod order;
mod receipt;
mod state;
mod stream;
mod streams;

use std::{
    fmt,
    future::Future,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use google_cloud_pubsub::{
    client::Subscriber,
    model::Subscription,
    subscriber::{MessageStream, ShutdownBehavior, handler::Handler},
};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use towpath_core::{
    Result,
    driver::{Receipt, Received},
};

use crate::{connect::Clients, error::Operation, options::Receiving};
pub(crate) use copies::Copier;
use receipt::Ticket;
use state::{Handle, Outcome, State};

/// How long the service has to learn of the end of streams before it is given back what they brought.
const RETURN: Duration = Duration::from_millis(50);
/// How long closing waits for what was settled to be sent, when deliveries are still with callers.
const FLUSH: Duration = Duration::from_secs(1);

impl Handle for Handler {
    fn confirms(&self) -> bool {
        matches!(self, Self::ExactlyOnce(_))
    }
}

/// Receives from one subscription. Its tasks end when it is closed or dropped.
pub(crate) struct Pump {
    shared: Arc<Shared>,
    planner: Mutex<Option<JoinHandle<()>>>,
}

/// What the pump, its tasks and the receipts share.
struct Shared {
    clients: Clients,
    /// The subscription's full name.
    subscription: String,
    /// The same as the service writes it, which can have the project's number. Copies have it.
    canonical: String,
    /// Whether the service's count of attempts is promised, and so told.
    counts_attempts: bool,
    receiving: Receiving,
    /// How long a lease lasts before the client library extends it.
    lease: Duration,
    subscriber: tokio::sync::Mutex<Option<Subscriber>>,
    /// When the subscription was purged from here.
    purges: watch::Receiver<Option<SystemTime>>,
    state: Mutex<State<Handler>>,
    /// Something came, or an error, or the end: for callers. One is woken for what came, and wakes
    /// the next when it leaves something.
    arrival: Notify,
    /// A plan is needed.
    work: Notify,
    /// There is room again: for streams.
    space: Notify,
    stop: CancellationToken,
    streams: TaskTracker,
    /// Streams that ended, and keep the leases of what callers hold.
    ending: TaskTracker,
    confirmations: TaskTracker,
    /// Where copies may take the place of messages.
    copier: Option<Arc<Copier>>,
}

impl Pump {
    /// Nothing is opened before somebody receives.
    pub(crate) fn new(
        clients: Clients,
        subscription: String,
        live: &Subscription,
        receiving: Receiving,
        lease: Duration,
        copier: Option<Copier>,
    ) -> Self {
        let mut state = State::new(
            receiving.clone(),
            live.enable_message_ordering,
            Instant::now(),
        );
        state.is_copying = copier.is_some();
        let purges = clients.purges(&subscription);
        let shared = Arc::new(Shared {
            clients,
            subscription,
            canonical: live.name.clone(),
            counts_attempts: live.dead_letter_policy.is_some(),
            receiving,
            lease,
            subscriber: tokio::sync::Mutex::default(),
            purges,
            state: Mutex::new(state),
            arrival: Notify::new(),
            work: Notify::new(),
            space: Notify::new(),
            stop: CancellationToken::new(),
            streams: TaskTracker::new(),
            ending: TaskTracker::new(),
            confirmations: TaskTracker::new(),
            copier: copier.map(Arc::new),
        });
        let planner = tokio::spawn(plan(shared.clone()));
        Self {
            shared,
            planner: Mutex::new(Some(planner)),
        }
    }

    /// Takes up to `max` messages; waits up to `wait` for the first. Cancel safe: what is taken is
    /// returned without waiting in between.
    pub(crate) async fn receive(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>> {
        let shared = &self.shared;
        let max = max.get();
        let deadline = Instant::now().checked_add(wait);
        let mut demand: Option<Demand<'_>> = None;
        loop {
            let arrival = shared.arrival.notified();
            tokio::pin!(arrival);
            // Registered before the look, so that nothing is missed in between.
            arrival.as_mut().enable();
            let now = Instant::now();
            let needs_plan = {
                let mut state = shared.lock();
                if state.is_closed() {
                    return Err(Operation::Receive.closed());
                }
                let purged = *shared.purges.borrow();
                let (taken, unwanted) = state.take(max, purged, now);
                for handler in unwanted {
                    handler.ack();
                }
                if !taken.is_empty() {
                    let is_left = state.has_ready();
                    drop(state);
                    if is_left {
                        shared.arrival.notify_one();
                    }
                    return Ok(self.deliver(taken));
                }
                if let Some(error) = state.take_error() {
                    return Err(error);
                }
                if deadline.is_some_and(|deadline| now >= deadline) {
                    drop(state);
                    // A look may be the first of many.
                    shared.work.notify_one();
                    return Ok(Vec::new());
                }
                if demand.is_none() {
                    demand = Some(Demand { shared, max });
                    state.wait_for(max, now)
                } else {
                    state.needs_plan(now)
                }
            };
            if needs_plan {
                shared.work.notify_one();
            }
            match deadline {
                // The loop looks once more when the time is up.
                Some(deadline) => drop(timeout_at(deadline, arrival).await),
                None => arrival.await,
            }
        }
    }

    fn deliver(&self, taken: Vec<(u64, towpath_core::Envelope)>) -> Vec<Received> {
        taken
            .into_iter()
            .map(|(entry, envelope)| {
                let ticket = Ticket::new(self.shared.clone(), entry);
                Received::new(envelope, Receipt::new(ticket))
            })
            .collect()
    }

    /// Stops receiving, gives back what nobody has seen, and waits until what was settled is sent.
    pub(crate) async fn close(&self) -> Result<()> {
        let shared = &self.shared;
        let unseen = {
            let mut state = shared.lock();
            if state.is_closed() {
                return Ok(());
            }
            state.close(Instant::now())
        };
        shared.stop.cancel();
        shared.arrival.notify_waiters();
        let planner = {
            let mut planner = self.planner.lock().unwrap_or_else(PoisonError::into_inner);
            planner.take()
        };
        let limit = shared.clients.request_timeout();
        let deadline = Instant::now() + limit;
        let ending = async {
            if let Some(planner) = planner {
                // It ends at once; a panic in it was logged when it happened.
                drop(planner.await);
            }
            shared.streams.close();
            shared.streams.wait().await;
            // The service learns of the end of the streams first, and sends nothing back by them.
            sleep(RETURN).await;
            give_back(unseen);
            shared.confirmations.close();
            shared.confirmations.wait().await;
        };
        let is_stopped = timeout_at(deadline, ending).await.is_ok();
        shared.ending.close();
        // A stream stays as long as callers hold messages of it, so that nobody else gets them.
        let holds = shared.lock().has_delivered();
        let patience = if holds { FLUSH.min(limit) } else { limit };
        let is_flushed = timeout(patience, shared.ending.wait()).await.is_ok();
        if is_stopped && (is_flushed || holds) {
            return Ok(());
        }
        Err(Operation::Close.error(
            towpath_core::ErrorKind::Timeout,
            format!(
                "{}: the last settlements were not sent within {}; their messages may be \
                 delivered again",
                shared.subscription,
                humantime::format_duration(limit)
            ),
        ))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.shared.lock().is_closed()
    }

    /// Acks what `receipts` stand for. The acks are on their way when this returns; where the
    /// service confirms one, its future tells how it ends.
    pub(crate) fn ack(
        &self,
        receipts: &[Receipt],
    ) -> Vec<Result<Option<impl Future<Output = Result<()>> + use<>>>> {
        let tickets = receipts
            .iter()
            .map(|receipt| self.ticket(receipt, Operation::Ack));
        receipt::ack(&self.shared, tickets)
            .into_iter()
            .map(|ack| Ok(ack?.map(|outcome| concluded(outcome, Operation::Ack))))
            .collect()
    }

    /// Gives back what `receipt` stands for, after `delay`. That is on its way when this returns;
    /// where it takes a request, the future tells how it ends.
    pub(crate) fn nack(
        &self,
        receipt: &Receipt,
        delay: Duration,
    ) -> Result<Option<impl Future<Output = Result<()>> + use<>>> {
        let ticket = self.ticket(receipt, Operation::Nack)?;
        let outcome = ticket.nack(delay, receipt)?;
        Ok(outcome.map(|outcome| concluded(outcome, Operation::Nack)))
    }

    /// Whether `receipt` is of this consumer.
    pub(crate) fn check(&self, receipt: &Receipt, operation: Operation) -> Result<()> {
        self.ticket(receipt, operation).map(drop)
    }

    fn ticket<'a>(&self, receipt: &'a Receipt, operation: Operation) -> Result<&'a Ticket> {
        let ticket: &Ticket = receipt.object().map_err(|error| {
            error
                .with_backend(crate::error::BACKEND)
                .with_operation(operation.name())
        })?;
        if ticket.is_of(&self.shared) {
            return Ok(ticket);
        }
        Err(operation.error(
            towpath_core::ErrorKind::LeaseLost,
            "this receipt is of another consumer; settle a message where it was received",
        ))
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl fmt::Debug for Pump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pump")
            .field(&self.shared.subscription)
            .finish()
    }
}

/// A caller that waits. Dropping it ends the wait.
struct Demand<'a> {
    shared: &'a Shared,
    max: usize,
}

impl Drop for Demand<'_> {
    fn drop(&mut self) {
        if self.shared.lock().waited(self.max, Instant::now()) {
            self.shared.work.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State<Handler>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was settled: the next message of a key may be ready, and there is room. `is_late`:
    /// something is to be done before the next plan.
    fn settled(&self, is_late: bool) {
        self.arrival.notify_waiters();
        self.space.notify_waiters();
        if is_late {
            self.work.notify_one();
        }
    }

    /// Opens a stream for `limit` messages before some of them are settled.
    async fn subscribe(&self, limit: usize) -> Result<MessageStream> {
        let mut subscriber = self.subscriber.lock().await;
        let client = match &*subscriber {
            Some(client) => client.clone(),
            None => {
                let client = self.clients.subscriber().await?;
                subscriber.insert(client).clone()
            }
        };
        let receiving = &self.receiving;
        // A message can come early, wait here, be handed out and be held for a delay, one after
        // the other.
        let longest = receiving.max_lease * 3 + receiving.nack_delay * 2 + Duration::from_secs(180);
        let bytes = receiving.stream_bytes(limit);
        Ok(client
            .subscribe(&self.subscription)
            .set_max_lease(longest)
            .set_max_lease_extension(self.lease)
            .set_max_outstanding_messages(i64::try_from(limit).unwrap_or(i64::MAX))
            .set_max_outstanding_bytes(i64::try_from(bytes).unwrap_or(i64::MAX))
            .set_shutdown_behavior(ShutdownBehavior::WaitForProcessing)
            .build())
    }

    /// Asks the service whether the subscription is there.
    async fn probe(self: Arc<Self>) {
        let asked = async {
            let admin = self.clients.subscriptions().await?;
            let call = admin
                .get_subscription()
                .set_subscription(&self.subscription)
                .send();
            self.clients
                .call(Operation::Receive, &self.subscription, call)
                .await
        };
        let result = asked.await.and_then(|found| {
            if found.detached {
                return Err(Operation::Receive.error(
                    towpath_core::ErrorKind::InvalidConfig,
                    format!("{}: it was detached from its topic", self.subscription),
                ));
            }
            Ok(())
        });
        if let Err(error) = &result {
            tracing::warn!(subscription = self.subscription, %error, "Pub/Sub does not answer as it should");
        }
        let stale = self.lock().probed(result, Instant::now());
        end(stale);
        self.arrival.notify_waiters();
        self.work.notify_one();
    }
}

/// How a settlement ends that was begun.
async fn concluded(mut outcome: Outcome, operation: Operation) -> Result<()> {
    match outcome.wait_for(Option::is_some).await {
        Ok(result) => result.clone().unwrap_or(Ok(())),
        Err(_) => Err(operation.lease_lost()),
    }
}

/// Ends streams.
fn end(streams: Vec<CancellationToken>) {
    for stop in streams {
        stop.cancel();
    }
}

/// Gives messages back to the service.
fn give_back(handlers: Vec<Handler>) {
    for handler in handlers {
        handler.nack();
    }
}

/// The task that plans.
async fn plan(shared: Arc<Shared>) {
    let probes = TaskTracker::new();
    while !shared.stop.is_cancelled() {
        let plan = shared.lock().plan(Instant::now());
        let frees = !plan.release.is_empty();
        let closes = !plan.close.is_empty();
        end(plan.close);
        if closes && frees {
            // The service learns of the end of the streams first, and sends nothing back by them.
            sleep(RETURN).await;
        }
        give_back(plan.release);
        if frees {
            shared.space.notify_waiters();
        }
        if plan.renew {
            *shared.subscriber.lock().await = None;
        }
        if let Some(limit) = plan.open {
            let stop = shared.stop.child_token();
            let bytes = shared.receiving.stream_bytes(limit);
            let id = shared.lock().streams.add(limit, bytes, stop.clone());
            shared
                .streams
                .spawn(stream::run(shared.clone(), id, limit, stop));
        }
        for renewal in plan.renew_copies {
            shared
                .confirmations
                .spawn(copies::renew(shared.clone(), renewal));
        }
        if plan.probe {
            let stop = shared.stop.clone();
            let probe = shared.clone().probe();
            probes.spawn(async move { stop.run_until_cancelled(probe).await });
        }
        if plan.wake_callers {
            shared.arrival.notify_waiters();
        }
        // Every branch only waits; nothing is lost when one of them is dropped.
        tokio::select! {
            () = shared.stop.cancelled() => break,
            () = shared.work.notified() => {}
            () = sleep_until(plan.next) => {}
        }
    }
    // Where the pump was dropped without being closed.
    let unseen = shared.lock().close(Instant::now());
    give_back(unseen);
    probes.close();
    probes.wait().await;
}
