//! Handling the records of one invocation.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use towpath_core::{Attempt, Envelope, Failure, FailureClass, Outcome};

use crate::{
    function::Settings,
    record::{Event, Record},
};

/// The records of one invocation, and which of them are done.
pub(crate) struct Batch<'a> {
    settings: &'a Settings,
    event: Event,
    /// A record is failed until it is known to be done.
    done: Vec<AtomicBool>,
    stop: CancellationToken,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(settings: &'a Settings, event: Event) -> Self {
        let done = event.records.iter().map(|_| AtomicBool::new(false));
        Self {
            settings,
            done: done.collect(),
            event,
            stop: CancellationToken::new(),
        }
    }

    /// Handles all records, and returns the ids of those that failed. At `stop` the handlers are
    /// cancelled; they have `grace` to end by themselves.
    pub(crate) async fn run(self, stop: Instant, grace: Duration) -> Vec<String> {
        let mut work = stream::iter(self.chains())
            .map(|chain| self.run_chain(chain))
            .buffer_unordered(self.settings.concurrency)
            .collect::<Vec<()>>()
            .boxed();
        // Nothing is lost with either branch: what is not done is reported as failed.
        let is_over = tokio::select! {
            biased;
            () = sleep_until(stop) => false,
            _ = &mut work => true,
        };
        if !is_over {
            self.stop.cancel();
            if timeout(grace, &mut work).await.is_err() {
                tracing::warn!(
                    queue = self.event.queue,
                    "handlers did not end before the function's deadline, and are dropped"
                );
            }
        }
        drop(work);
        let records = self.event.records.into_iter().zip(self.done);
        records
            .filter(|(_, done)| !done.load(Relaxed))
            .map(|(record, _)| record.id)
            .collect()
    }

    /// Records that must be handled one after the other, by their places in the batch.
    fn chains(&self) -> Vec<Vec<usize>> {
        let records = self.event.records.iter().enumerate();
        if !self.event.is_fifo {
            return records.map(|(i, _)| vec![i]).collect();
        }
        let mut chains: Vec<Vec<usize>> = Vec::new();
        let mut by_group: HashMap<&str, usize> = HashMap::new();
        for (i, record) in records {
            let Some(group) = record.group.as_deref() else {
                // It may be of any group, so nothing that follows is safe to handle.
                break;
            };
            let chain = *by_group.entry(group).or_insert_with(|| {
                chains.push(Vec::new());
                chains.len() - 1
            });
            chains[chain].push(i);
        }
        chains
    }

    async fn run_chain(&self, chain: Vec<usize>) {
        for i in chain {
            if self.stop.is_cancelled() || !self.run_record(&self.event.records[i]).await {
                return;
            }
            self.done[i].store(true, Relaxed);
        }
    }

    /// Whether the record is done, so that Lambda may delete its message.
    async fn run_record(&self, record: &Record) -> bool {
        let envelope = match &record.envelope {
            Ok(envelope) => envelope,
            Err(error) => {
                tracing::error!(id = record.id, queue = self.event.queue, %error, "a record cannot be read; it is reported as failed");
                return false;
            }
        };
        let number = envelope.attempt;
        let most = self.settings.max_attempts;
        if let (Some(number), Some(most)) = (number, most)
            && number > most
        {
            let reason =
                format!("{most} attempts were allowed, and none of them settled the message");
            return self
                .dead_letter(envelope, FailureClass::AttemptsExhausted, &reason)
                .await;
        }
        match self.attempt(envelope).await {
            Outcome::Ack => true,
            Outcome::DeadLetter { class, reason } => {
                self.dead_letter(envelope, class, &reason).await
            }
            Outcome::Retry { reason, .. }
                if number
                    .zip(most)
                    .is_some_and(|(number, most)| number >= most) =>
            {
                self.dead_letter(envelope, FailureClass::AttemptsExhausted, &reason)
                    .await
            }
            Outcome::Retry { reason, .. } | Outcome::Release { reason, .. } => {
                tracing::warn!(id = record.id, queue = self.event.queue, attempt = number, %reason, "an attempt failed; the message comes back when its visibility timeout is over");
                false
            }
        }
    }

    /// Runs the handler. A panic is a failed attempt of this message, and of nothing else.
    async fn attempt(&self, envelope: &Envelope) -> Outcome {
        let attempt = Attempt::new(envelope.clone(), self.event.queue.as_str())
            .with_cancellation(self.stop.child_token());
        // Within the block, since `handle` itself may panic where it is written by hand.
        let work = async { self.settings.handler.handle(attempt).await };
        match AssertUnwindSafe(work).catch_unwind().await {
            Ok(outcome) => outcome,
            Err(panic) => {
                let failure = Failure::panicked(&*panic);
                tracing::error!(id = %envelope.id, queue = self.event.queue, %failure, "the handler panicked");
                failure.into()
            }
        }
    }

    /// Copies to the dead-letter queue. The message is done only when the copy was accepted.
    async fn dead_letter(&self, envelope: &Envelope, class: FailureClass, reason: &str) -> bool {
        let (id, queue) = (&envelope.id, self.event.queue.as_str());
        let Some(target) = &self.settings.dead_letter else {
            tracing::error!(%id, queue, reason, "a message failed for good, and there is no dead-letter queue; it is reported as failed");
            return false;
        };
        let copy = envelope.dead_letter_copy(queue, class, reason, target.capabilities());
        match target.send(copy).await {
            Ok(_) => {
                tracing::warn!(%id, queue, reason, "dead-lettered");
                true
            }
            Err(error) => {
                tracing::error!(%id, queue, reason, %error, "a message could not be dead-lettered; it is reported as failed");
                false
            }
        }
    }
}
