//! The worker: starting, stopping, and what is left at the end.

use std::{fmt, future::pending, sync::Arc, time::Duration};

use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use towpath_core::{Consumer, Handler, Result};

use crate::{Gate, Health, Report, Stats, WorkerBuilder, health::phase, runtime::Runtime};

/// Receives messages and runs a handler on each, many at once.
///
/// ```
/// # async fn example(consumer: towpath_core::Consumer) -> Result<(), Box<dyn std::error::Error>> {
/// use towpath_core::{Attempt, Failure};
/// use towpath_worker::{Worker, shutdown_signal};
///
/// async fn handle(attempt: Attempt) -> Result<(), Failure> {
///     let order: u64 = attempt.json()?;
///     println!("order {order}");
///     Ok(())
/// }
///
/// let report = Worker::builder(consumer, handle)
///     .concurrency(32)
///     .build()?
///     .run_until(shutdown_signal()?)
///     .await;
/// println!("{report}");
/// # Ok(())
/// # }
/// ```
///
/// # What it promises
///
/// - A message is received only when there is a permit for it, and removed only after its handler
///   returned [`Ack`](towpath_core::Outcome::Ack) or its copy is in the dead-letter queue.
/// - A failed attempt is retried after a delay, until the limits of the
///   [`RetryPolicy`](crate::RetryPolicy) are reached; then the message is dead-lettered.
/// - A panic is a failed attempt of that message, and of nothing else.
/// - At most one message of an ordering key is handled at a time. When it fails, later ones of its
///   key wait for it.
/// - When a lease is lost, the handler's [cancellation token](towpath_core::Attempt::cancellation)
///   is cancelled, a moment later its future is dropped, and what it returned is discarded.
/// - Errors of the queue never end the worker; receiving heals with a growing pause.
///
/// # What it cannot promise
///
/// Deliveries that were given back unhandled do not count as attempts, but that is remembered by
/// this process only. After a restart the queue's own count decides, so leave the limit on attempts
/// some room.
pub struct Worker {
    runtime: Arc<Runtime>,
    shutdown: CancellationToken,
}

impl Worker {
    /// A worker that runs `handler` on the messages of `consumer`, as [`builder`](Self::builder)
    /// without further settings.
    ///
    /// # Errors
    ///
    /// As [`WorkerBuilder::build`].
    pub fn new(consumer: Consumer, handler: impl Handler) -> Result<Self> {
        Self::builder(consumer, handler).build()
    }

    /// Builds a worker that runs `handler` on the messages of `consumer`.
    pub fn builder(consumer: Consumer, handler: impl Handler) -> WorkerBuilder {
        WorkerBuilder::new(consumer, Arc::new(handler))
    }

    pub(crate) fn new_from(runtime: Runtime) -> Self {
        Self {
            runtime: Arc::new(runtime),
            shutdown: CancellationToken::new(),
        }
    }

    /// Pauses and resumes receiving.
    pub fn gate(&self) -> &Gate {
        &self.runtime.gate
    }

    /// Says whether the worker makes progress.
    pub fn health(&self) -> Health {
        self.runtime.health.clone()
    }

    /// What the worker has done so far, while it runs.
    pub fn stats(&self) -> Stats {
        Stats(Arc::clone(&self.runtime.counts))
    }

    /// A token that stops the worker when it is cancelled.
    pub fn shutdown_token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// Works until the [shutdown token](Self::shutdown_token) is cancelled or the consumer is
    /// closed, then [drains](Self::run_until).
    ///
    /// # Cancel safety
    ///
    /// As [`run_until`](Self::run_until).
    pub async fn run(self) -> Report {
        self.run_until(pending()).await
    }

    /// Works until `signal` resolves, the [shutdown token](Self::shutdown_token) is cancelled, or
    /// the consumer is closed.
    ///
    /// Then it receives no more, waits for the messages in hand until the drain deadline, cancels
    /// what is left and gives it back at once, and closes the consumer, for all its clones, so that
    /// every settlement is out.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the handlers are dropped with it and their messages are
    /// released; settlements that were begun may still be on their way.
    pub async fn run_until(self, signal: impl Future<Output = ()>) -> Report {
        let runtime = self.runtime;
        let _abort = runtime.abort.clone().drop_guard();
        tracing::info!(queue = &*runtime.queue, "the worker starts");
        let _ended = Ended(runtime.health.clone());
        runtime.health.enter(phase::RUNNING);
        let stopping = self.shutdown.child_token();
        {
            let receiving = runtime.receive(&stopping);
            tokio::pin!(receiving, signal);
            let is_ended = tokio::select! {
                () = &mut receiving => true,
                () = &mut signal => false,
            };
            stopping.cancel();
            if !is_ended {
                // It ends at once, and what it has received is with the handlers.
                receiving.await;
            }
        }
        runtime.health.enter(phase::DRAINING);
        drain(&runtime).await
    }
}

/// Tells that the worker ended, also when its future is dropped.
struct Ended(Health);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.enter(phase::ENDED);
    }
}

async fn drain(runtime: &Runtime) -> Report {
    let begun = Instant::now();
    let limit = runtime.settings.drain;
    let end = begun + limit;
    // What is left for cancelled handlers to end, and for settlements.
    let reserve = (limit / 4).min(Duration::from_secs(2) + runtime.settings.bounds.grace);
    runtime.tasks.close();
    tracing::info!(
        queue = &*runtime.queue,
        in_hand = runtime.tasks.len(),
        ?limit,
        "the worker drains"
    );
    if timeout_at(end - reserve, runtime.tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            queue = &*runtime.queue,
            in_hand = runtime.tasks.len(),
            "handlers are cancelled, and their messages given back"
        );
        runtime.stop.cancel();
        if timeout_at(end, runtime.tasks.wait()).await.is_err() {
            tracing::error!(
                queue = &*runtime.queue,
                in_hand = runtime.tasks.len(),
                "the drain's deadline passed; what is left comes back when its lease runs out"
            );
        }
    }
    // Before the report is made, so that nothing changes after it.
    runtime.abort.cancel();
    let closed = timeout_at(end.max(Instant::now() + CLOSE), runtime.consumer.close()).await;
    let mut report = runtime.counts.report();
    report.close_error = match closed {
        Ok(result) => result.err(),
        Err(_) => Some(towpath_core::Error::new(
            towpath_core::ErrorKind::Timeout,
            "the consumer did not close in time; settlements may be missing",
        )),
    };
    report.drained_in = begun.elapsed();
    if let Some(error) = &report.close_error {
        tracing::error!(queue = &*runtime.queue, %error, "the consumer did not close well");
    }
    tracing::info!(queue = &*runtime.queue, %report, "the worker ended");
    report
}

/// How long closing the consumer may take when the deadline has passed.
const CLOSE: Duration = Duration::from_millis(500);

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("consumer", &self.runtime.consumer)
            .field("retry", &self.runtime.settings.retry)
            .finish_non_exhaustive()
    }
}
