//! Runs one case.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Poll, ready},
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::time::timeout;
use towpath_core::Failure;

use crate::{Case, CaseError, CaseResult, Context, Harness};

/// How long a case may keep a processor busy while its clock stands still.
const BUSY: Duration = Duration::from_secs(20);
/// How long cleaning up may take.
const CLEAN_UP: Duration = Duration::from_secs(60);

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// What is promised holds.
    Passed,
    /// The queue or the harness cannot do what the case needs.
    Ignored {
        /// What is missing.
        reason: String,
    },
    /// It fails as is known and accepted.
    Deviation {
        /// Why it is accepted.
        reason: String,
        /// Where more is said about it.
        link: String,
        /// How it failed.
        failure: String,
    },
    /// What is promised does not hold.
    Failed {
        /// How it failed.
        failure: String,
    },
}

/// A case that was run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The case.
    pub case: Case,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took by the wall clock.
    pub elapsed: Duration,
}

/// Runs `case` in a runtime of its own, and deletes its queues afterwards.
pub fn run_case(harness: Arc<dyn Harness>, case: Case) -> Report {
    run_case_within(harness, case, BUSY)
}

/// As [`run_case`]; `busy` limits how long a case with a paused clock may take in real time.
pub(crate) fn run_case_within(harness: Arc<dyn Harness>, case: Case, busy: Duration) -> Report {
    let begun = Instant::now();
    let outcome = match in_runtime(harness, case, busy) {
        Ok(()) => Outcome::Passed,
        Err(CaseError::Ignored(reason)) => Outcome::Ignored { reason },
        Err(CaseError::Failed(failure)) => Outcome::Failed { failure },
    };
    Report {
        case,
        outcome,
        elapsed: begun.elapsed(),
    }
}

fn in_runtime(harness: Arc<dyn Harness>, case: Case, busy: Duration) -> CaseResult {
    let is_paused = harness.timing().is_paused;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(is_paused)
        .build()
        .map_err(|error| CaseError::failed(format!("no runtime could be made: {error}")))?;
    // Real time is watched by the clock itself.
    let busy = is_paused.then_some(busy);
    let result = runtime.block_on(async {
        let limit = Duration::from_secs(90) + harness.timing().lease * 10;
        let context = Context::new(harness, case);
        let running = AssertUnwindSafe((case.run)(context.clone())).catch_unwind();
        let running = timeout(limit, guarded(running, busy));
        let result = match running.await {
            Ok(Some(Ok(result))) => result,
            Ok(Some(Err(panic))) => Err(CaseError::failed(format!(
                "it {}",
                Failure::panicked(&*panic)
            ))),
            Ok(None) => Err(CaseError::failed(
                "it keeps the processor busy and does not end",
            )),
            Err(_) => Err(CaseError::failed(format!(
                "it did not end within {}",
                humantime::format_duration(limit)
            ))),
        };
        let cleaning = timeout(CLEAN_UP, context.clean_up());
        // What could not be deleted stays in the harness's notes.
        let _ = guarded(cleaning, busy).await;
        result
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

/// Gives up when `future` is still polled after `limit` of real time: a paused clock does not move
/// while something is busy.
async fn guarded<F: Future>(future: F, limit: Option<Duration>) -> Option<F::Output> {
    let mut future: Pin<Box<F>> = Box::pin(future);
    let begun = Instant::now();
    std::future::poll_fn(|context| {
        if limit.is_some_and(|limit| begun.elapsed() > limit) {
            return Poll::Ready(None);
        }
        let output = ready!(future.as_mut().poll(context));
        Poll::Ready(Some(output))
    })
    .await
}
