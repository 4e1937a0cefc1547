//! Running the handler once, whatever it does.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use futures::FutureExt;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use towpath_core::{Attempt, Delivery, Handler, Outcome};

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The handler returned.
    Returned(Outcome),
    /// The handler panicked, with this message.
    Panicked(String),
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

/// Runs `handler` on the message of `delivery`. `stop` cancels it.
pub(crate) async fn run(
    handler: &dyn Handler,
    delivery: &Delivery,
    attempt: Attempt,
    stop: &CancellationToken,
    bounds: Bounds,
) -> Ended {
    let token = attempt.cancellation().clone();
    // `handle` itself may panic too, where it is written by hand.
    let future = match catch_unwind(AssertUnwindSafe(|| handler.handle(attempt))) {
        Ok(future) => future,
        Err(panic) => return Ended::Panicked(text_of(&*panic)),
    };
    let mut work = AssertUnwindSafe(future).catch_unwind();
    let time_up = async {
        match bounds.timeout {
            Some(limit) => sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    // The work goes first: when it is done at once, nothing else is set up. Nothing is lost with
    // the other branches, which only wait.
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
        (Ok(Err(panic)), _) | (_, Err(panic)) => Ended::Panicked(text_of(&*panic)),
        _ => cause,
    }
}

fn returned(result: Result<Outcome, Box<dyn Any + Send>>, delivery: &Delivery) -> Ended {
    if delivery.is_lease_lost() {
        return Ended::LeaseLost;
    }
    match result {
        Ok(outcome) => Ended::Returned(outcome),
        Err(panic) => Ended::Panicked(text_of(&*panic)),
    }
}

/// The message of a panic.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a value that is not text".to_owned())
}
