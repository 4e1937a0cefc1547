//! Running the handler once, whatever it does.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, CatchUnwind},
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use towpath_core::{Attempt, Delivery, Failure, Handler, Outcome};

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The handler returned.
    Returned(Outcome),
    /// The handler panicked.
    Panicked(Failure),
    /// The time was up.
    TimedOut,
    /// The lease was lost; what the handler returns does not count.
    LeaseLost,
    /// The worker stops and could not wait any longer.
    Cancelled,
}

/// The bounds of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How long the handler may take.
    pub(crate) timeout: Option<Duration>,
    /// How long it may take to end after it was cancelled.
    pub(crate) grace: Duration,
}

/// A handler's future, whose panics are caught.
pub(crate) type Work<'a> = CatchUnwind<AssertUnwindSafe<BoxFuture<'a, Outcome>>>;

/// Calls `handler`, which has begun then and is to be [run](run).
pub(crate) fn begin(handler: &dyn Handler, attempt: Attempt) -> Result<Work<'_>, Ended> {
    // `handle` itself may panic too, where it is written by hand.
    match catch_unwind(AssertUnwindSafe(|| handler.handle(attempt))) {
        Ok(future) => Ok(AssertUnwindSafe(future).catch_unwind()),
        Err(panic) => Err(Ended::Panicked(Failure::panicked(&*panic))),
    }
}

/// Runs a handler on the message of `delivery` until it ends, its lease is lost, its time is up, or
/// `stop` is cancelled; then it is told by `token`.
pub(crate) async fn run(
    mut work: Work<'_>,
    delivery: &Delivery,
    token: CancellationToken,
    stop: &CancellationToken,
    bounds: Bounds,
) -> Ended {
    // When it is done at once, nothing else is set up.
    match futures::poll!(&mut work) {
        Poll::Ready(result) => returned(result, delivery),
        // In a box of its own, so that the task of a handler which does not wait stays small.
        Poll::Pending => Box::pin(wait(work, delivery, token, stop, bounds)).await,
    }
}

async fn wait(
    mut work: Work<'_>,
    delivery: &Delivery,
    token: CancellationToken,
    stop: &CancellationToken,
    bounds: Bounds,
) -> Ended {
    let time_up = async {
        match bounds.timeout {
            Some(limit) => sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    // Nothing is lost with the other branches, which only wait.
    let cause = tokio::select! {
        biased;
        result = &mut work => return returned(result, delivery),
        () = delivery.lease_lost() => Ended::LeaseLost,
        () = stop.cancelled() => Ended::Cancelled,
        () = time_up => Ended::TimedOut,
    };
    token.cancel();
    let result = timeout(bounds.grace, &mut work).await;
    // Dropping a handler's future runs its destructors, and they may panic.
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(work)));
    if delivery.is_lease_lost() {
        return Ended::LeaseLost;
    }
    match (result, dropped) {
        // It was done after all, and the lease holds.
        (Ok(Ok(Outcome::Ack)), _) => Ended::Returned(Outcome::Ack),
        (Ok(Err(panic)), _) | (_, Err(panic)) => Ended::Panicked(Failure::panicked(&*panic)),
        _ => cause,
    }
}

fn returned(result: Result<Outcome, Box<dyn Any + Send>>, delivery: &Delivery) -> Ended {
    if delivery.is_lease_lost() {
        return Ended::LeaseLost;
    }
    match result {
        Ok(outcome) => Ended::Returned(outcome),
        Err(panic) => Ended::Panicked(Failure::panicked(&*panic)),
    }
}
