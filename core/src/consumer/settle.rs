//! Acks and nacks: gathered into batches where requests cost, retried while the lease holds.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use super::{Shared, lease::LeaseRef};
use crate::{
    AckStatus, Error, ErrorKind, Result,
    backoff::Backoff,
    driver::{self, Receipt},
    producer::closed,
};

/// How many settlement requests of a consumer are under way at once.
pub(super) const REQUESTS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Ack,
    Nack(Duration),
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ack => "ack",
            Self::Nack(_) => "nack",
        }
    }

    async fn call(self, driver: &dyn driver::Consumer, receipts: &[Receipt]) -> Vec<Result<()>> {
        match self {
            Self::Ack => driver.ack(receipts).await,
            Self::Nack(delay) => driver.nack(receipts, delay).await,
        }
    }
}

/// What the settler task is asked to do.
pub(crate) enum Command {
    Settle(Pending),
    Flush(oneshot::Sender<()>),
}

/// A settlement that was begun.
pub(crate) struct Pending {
    lease: LeaseRef,
    operation: Operation,
    done: Option<oneshot::Sender<Fate>>,
}

pub(super) type Fate = Result<(), (Error, Option<LeaseRef>)>;

/// Hands a settlement to the settler task at once; the future returns its fate.
pub(super) fn submit(lease: LeaseRef, operation: Operation) -> impl Future<Output = Fate> {
    let (done, fate) = oneshot::channel();
    let settler = lease.consumer().settler.clone();
    let pending = Pending {
        lease,
        operation,
        done: Some(done),
    };
    let sent = settler.send(Command::Settle(pending));
    async move {
        if sent.is_err() {
            return Err((closed(operation.name()), None));
        }
        fate.await
            .unwrap_or_else(|_| Err((closed(operation.name()), None)))
    }
}

/// Settles many leases of one consumer: the result at `i` is the fate of `leases[i]`.
///
/// All is handed over when this is first polled, so that dropping the future does not stop it. What
/// fills a request needs no company and goes out at once.
pub(super) async fn submit_batch(mut leases: Vec<LeaseRef>, operation: Operation) -> Vec<Fate> {
    let Some(first) = leases.first() else {
        return Vec::new();
    };
    let shared = first.consumer().clone();
    let most = shared.capabilities().limits.settle_batch.max(1);
    let mut full = Vec::with_capacity(leases.len() / most);
    while leases.len() >= most {
        let rest = leases.split_off(most);
        let batch = std::mem::replace(&mut leases, rest);
        let (driver, slots) = (shared.driver.clone(), shared.slots.clone());
        let task = shared.settlements.spawn(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire().await;
            directly(&*driver, batch, operation, fate).await
        });
        full.push(task);
    }
    let rest: Vec<_> = leases
        .into_iter()
        .map(|lease| submit(lease, operation))
        .collect();
    let mut fates = Vec::with_capacity(full.len() * most + rest.len());
    for task in full {
        match task.await {
            Ok(settled) => fates.extend(settled),
            Err(error) => {
                let error = Error::new(ErrorKind::Unknown, "the driver panicked")
                    .with_operation(operation.name())
                    .with_source(error);
                fates.extend((0..most).map(|_| Err((error.clone(), None))));
            }
        }
    }
    for fate in rest {
        fates.push(fate.await);
    }
    fates
}

/// Gives a message back whose delivery was dropped; its lease is marked already.
pub(super) fn release(settler: &mpsc::UnboundedSender<Command>, lease: LeaseRef) {
    tracing::debug!(
        queue = lease.consumer().queue_name(),
        "a delivery was dropped without an answer; its message is released"
    );
    let pending = Pending {
        lease,
        operation: Operation::Nack(Duration::ZERO),
        done: None,
    };
    // When the runtime is gone, the message comes back at the end of its lease.
    let _ = settler.send(Command::Settle(pending));
}

/// Waits until everything that was submitted is done.
pub(super) async fn flush(shared: &Shared) {
    let (done, flushed) = oneshot::channel();
    if shared.settler.send(Command::Flush(done)).is_ok() {
        let _ = flushed.await;
    }
    shared.settlements.close();
    shared.settlements.wait().await;
}

/// The settler task: gathers settlements by operation, for `linger` at most. Ends when the consumer
/// and all its deliveries are gone, after it has settled what waits.
pub(super) async fn run(
    driver: Arc<dyn driver::Consumer>,
    linger: Duration,
    slots: Arc<Semaphore>,
    mut commands: mpsc::UnboundedReceiver<Command>,
) {
    let most = driver.capabilities().limits.settle_batch.clamp(1, 1_000);
    let mut requests: JoinSet<()> = JoinSet::new();
    let mut waiting: Vec<Pending> = Vec::new();
    let mut is_open = true;
    while is_open || !waiting.is_empty() {
        let mut flush = None;
        let mut deadline = Instant::now();
        while is_open && waiting.len() < most {
            let next = if waiting.is_empty() {
                Ok(commands.recv().await)
            } else {
                // `recv` is cancel safe: nothing is lost when the time is up.
                timeout_at(deadline_of(deadline, &waiting), commands.recv()).await
            };
            match next {
                Ok(Some(Command::Settle(pending))) => {
                    if waiting.is_empty() {
                        deadline = Instant::now() + linger;
                    }
                    waiting.push(pending);
                }
                Ok(Some(Command::Flush(done))) => {
                    flush = Some(done);
                    break;
                }
                Ok(None) => is_open = false,
                Err(_) => break,
            }
        }
        while requests.try_join_next().is_some() {}
        for (operation, batch) in by_operation(&mut waiting) {
            let Ok(slot) = slots.clone().acquire_owned().await else {
                return;
            };
            let driver = driver.clone();
            requests.spawn(async move {
                settle(&*driver, batch, operation).await;
                drop(slot);
            });
        }
        if let Some(done) = flush {
            while requests.join_next().await.is_some() {}
            let _ = done.send(());
        }
    }
    while requests.join_next().await.is_some() {}
}

/// The linger, cut short where a lease would run out first.
fn deadline_of(linger: Instant, waiting: &[Pending]) -> Instant {
    let first_end = waiting.iter().map(|pending| pending.lease.until()).min();
    first_end.map_or(linger, |end| linger.min(end))
}

fn by_operation(waiting: &mut Vec<Pending>) -> Vec<(Operation, Vec<Pending>)> {
    let mut groups: std::collections::BTreeMap<Operation, Vec<Pending>> = Default::default();
    for pending in waiting.drain(..) {
        groups.entry(pending.operation).or_default().push(pending);
    }
    groups.into_iter().collect()
}

async fn settle(driver: &dyn driver::Consumer, batch: Vec<Pending>, operation: Operation) {
    let (mut leases, mut waiting) = (Vec::new(), Vec::new());
    for Pending { lease, done, .. } in batch {
        // A released lease was marked when its delivery was dropped.
        let begun = if done.is_some() {
            lease.begin(operation, lease.now())
        } else {
            Ok(())
        };
        match begun {
            Ok(()) => {
                leases.push(lease);
                waiting.push(done);
            }
            Err(error) => answer(done, Err((error, None))),
        }
    }
    let results = call(driver, &leases.iter().collect::<Vec<_>>(), operation).await;
    for ((lease, done), result) in leases.into_iter().zip(waiting).zip(results) {
        if done.is_none() {
            // Nobody is left to try again: the message comes back at the end of its lease.
            if let Err(error) = &result
                && error.kind() != ErrorKind::LeaseLost
            {
                tracing::warn!(%error, "a message could not be released; it comes back when its lease runs out");
            }
            lease.abandon();
            continue;
        }
        lease.end(&result);
        answer(done, fate(lease, result));
    }
}

fn answer(done: Option<oneshot::Sender<Fate>>, fate: Fate) {
    if let Some(done) = done {
        // Where the caller went away with the delivery still held, dropping the fate releases it.
        let _ = done.send(fate);
    }
}

/// Settles by the caller's own future. `held` are leases, or what holds them; each goes to
/// `conclude` with its result, when its lease has been told.
pub(super) async fn directly<T: AsRef<LeaseRef>, R>(
    driver: &dyn driver::Consumer,
    held: Vec<T>,
    operation: Operation,
    conclude: impl Fn(T, Result<()>) -> R,
) -> Vec<R> {
    let mut begun = Vec::with_capacity(held.len());
    let mut refused = Vec::new();
    let now = held.first().map_or(0, |held| held.as_ref().now());
    for (i, lease) in held.iter().map(AsRef::as_ref).enumerate() {
        match lease.begin(operation, now) {
            Ok(()) => begun.push(lease),
            Err(error) => refused.push((i, error)),
        }
    }
    let mut results = call(driver, &begun, operation).await.into_iter();
    drop(begun);
    let mut refused = refused.into_iter().peekable();
    held.into_iter()
        .enumerate()
        .map(|(i, held)| {
            let result = match refused.next_if(|(at, _)| *at == i) {
                Some((_, error)) => Err(error),
                None => results.next().unwrap_or_else(|| Err(missing(operation))),
            };
            held.as_ref().end(&result);
            conclude(held, result)
        })
        .collect()
}

/// As [`directly`], for one lease.
pub(super) async fn directly_one(
    driver: &dyn driver::Consumer,
    lease: LeaseRef,
    operation: Operation,
) -> Fate {
    if let Err(error) = lease.begin(operation, lease.now()) {
        return Err((error, None));
    }
    let mut results = call(driver, &[&lease], operation).await;
    let result = results.pop().unwrap_or_else(|| Err(missing(operation)));
    lease.end(&result);
    fate(lease, result)
}

/// The fate of a lease that was told how its settlement ended: with the lease where it still holds.
pub(super) fn fate(lease: LeaseRef, result: Result<()>) -> Fate {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::LeaseLost => Err((error, None)),
        Err(error) => Err((error, Some(lease))),
    }
}

/// Calls the driver, and again for what failed and may succeed, while the leases hold.
async fn call(
    driver: &dyn driver::Consumer,
    leases: &[&LeaseRef],
    operation: Operation,
) -> Vec<Result<()>> {
    if let Operation::Nack(_) = operation {
        for lease in leases {
            // Boxed, as the retries below: rare, and the future of an ack stays small.
            Box::pin(lease.not_extending()).await;
        }
    }
    let most = driver.capabilities().limits.settle_batch.max(1);
    let mut results = Vec::new();
    for chunk in leases.chunks(most) {
        let receipts: Vec<Receipt> = chunk.iter().map(|lease| lease.receipt().clone()).collect();
        let mut fates = operation.call(driver, &receipts).await;
        if fates.len() != chunk.len() {
            fates.resize(chunk.len(), Err(missing(operation)));
        }
        if results.is_empty() {
            results = fates;
        } else {
            results.append(&mut fates);
        }
    }
    if results.iter().any(Result::is_err) {
        Box::pin(retry(driver, leases, operation, most, &mut results)).await;
    }
    if operation == Operation::Ack && driver.capabilities().ack == AckStatus::Submitted {
        refuse_late(leases, &mut results);
    }
    results
}

/// A queue that says yes to any ack may have given the message to another consumer before it, when
/// this process was stopped or starved between the look at the lease and the request.
fn refuse_late(leases: &[&LeaseRef], results: &mut [Result<()>]) {
    for (lease, result) in leases.iter().zip(results) {
        if result.is_ok() && lease.is_lost() {
            *result = Err(Error::new(
                ErrorKind::LeaseLost,
                "the ack was answered after the lease had run out; the message is removed, or \
                 another consumer has it",
            )
            .with_operation(Operation::Ack.name()));
        }
    }
}

fn missing(operation: Operation) -> Error {
    Error::new(
        ErrorKind::Unknown,
        "the driver returned no result for this entry",
    )
    .with_operation(operation.name())
}

async fn retry(
    driver: &dyn driver::Consumer,
    leases: &[&LeaseRef],
    operation: Operation,
    most: usize,
    results: &mut [Result<()>],
) {
    let mut backoff = Backoff::new();
    loop {
        let is_worth_it = |i: &usize| {
            let may_succeed = results[*i].as_ref().is_err_and(Error::is_retryable);
            may_succeed && !leases[*i].is_lost()
        };
        let mut again: Vec<usize> = (0..results.len()).filter(is_worth_it).collect();
        let errors = again.iter().filter_map(|i| results[*i].as_ref().err());
        let at = Instant::now() + backoff.next(errors);
        again.retain(|i| at < leases[*i].until());
        if again.is_empty() {
            return;
        }
        sleep_until(at).await;
        for chunk in again.chunks(most) {
            let receipts: Vec<Receipt> =
                chunk.iter().map(|i| leases[*i].receipt().clone()).collect();
            for (i, result) in chunk.iter().zip(operation.call(driver, &receipts).await) {
                results[*i] = result;
            }
        }
    }
}
