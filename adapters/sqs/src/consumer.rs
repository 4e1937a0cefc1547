//! The receiving half.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_sqs::{
    error::BuildError,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
        DeleteMessageBatchRequestEntry,
    },
};
use tokio::time::Instant;
use towpath_core::{
    Capabilities, Error, ErrorKind, Result,
    driver::{self, Receipt, Received},
};

use crate::{
    capabilities::{BATCH, LEASE, WAIT},
    connect::call,
    message::{self, Handle, seconds_up},
    operation::Operation,
    queue::{OpenQueue, place},
};

/// Receives with ReceiveMessage, settles with DeleteMessageBatch and
/// ChangeMessageVisibilityBatch.
#[derive(Debug)]
pub(crate) struct SqsConsumer {
    queue: OpenQueue,
    lease: Duration,
    /// Ids of receives of a FIFO queue whose answer was lost. The next receive uses one again and
    /// gets the same messages, whose groups would be locked otherwise until the lease ends.
    lost_receives: Mutex<Vec<String>>,
}

/// What is done to settle messages.
#[derive(Clone, Copy, Debug)]
enum Action {
    Delete,
    /// Seconds from now.
    ChangeVisibility(i32),
}

impl SqsConsumer {
    pub(crate) fn new(queue: OpenQueue) -> Self {
        let lease = queue.capabilities.lease.duration().unwrap_or_default();
        Self {
            queue,
            lease,
            lost_receives: Mutex::default(),
        }
    }

    fn lost_receives(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.lost_receives
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn receive_id(&self) -> Option<String> {
        self.queue.is_fifo.then(|| {
            let lost = self.lost_receives().pop();
            lost.unwrap_or_else(|| format!("{:032x}", fastrand::u128(..)))
        })
    }

    /// Settles in batches: the result at `i` is the fate of `receipts[i]`.
    async fn settle(
        &self,
        operation: Operation,
        action: Action,
        receipts: &[Receipt],
    ) -> Vec<Result<()>> {
        let mut results: Vec<Result<()>> = Vec::with_capacity(receipts.len());
        for chunk in receipts.chunks(BATCH) {
            let mut fates: Vec<Option<Result<()>>> = Vec::with_capacity(chunk.len());
            let mut entries = Vec::with_capacity(chunk.len());
            for (id, receipt) in chunk.iter().enumerate() {
                match receipt.object::<Handle>() {
                    Ok(handle) => {
                        entries.push((id, handle));
                        fates.push(None);
                    }
                    Err(error) => fates.push(Some(Err(error))),
                }
            }
            if !entries.is_empty() {
                match self.request(operation, action, &entries).await {
                    Ok((successful, failed)) => {
                        for id in successful {
                            if let Some(fate) = place(&mut fates, &id) {
                                *fate = Some(Ok(()));
                            }
                        }
                        for entry in failed {
                            if let Some(fate) = place(&mut fates, entry.id()) {
                                *fate = Some(Err(self.queue.entry_error(operation, &entry)));
                            }
                        }
                    }
                    Err(error) => {
                        for (id, _) in entries {
                            fates[id] = Some(Err(error.clone()));
                        }
                    }
                }
            }
            results.append(&mut self.queue.complete(operation, fates));
        }
        results
    }

    /// One request. Returns the ids that succeeded and the entries that failed.
    async fn request(
        &self,
        operation: Operation,
        action: Action,
        entries: &[(usize, &Handle)],
    ) -> Result<(Vec<String>, Vec<BatchResultErrorEntry>)> {
        let OpenQueue {
            clients, name, url, ..
        } = &self.queue;
        let limit = clients.request_timeout;
        let unmade = |error: BuildError| {
            operation
                .error(ErrorKind::Unknown, "the entry cannot be made")
                .with_source(error)
        };
        match action {
            Action::Delete => {
                let mut request = clients.data.delete_message_batch().queue_url(url);
                for (id, handle) in entries {
                    let entry = DeleteMessageBatchRequestEntry::builder()
                        .id(id.to_string())
                        .receipt_handle(&handle.receipt)
                        .build();
                    request = request.entries(entry.map_err(unmade)?);
                }
                let answer = call(operation, name, limit, request.send()).await?;
                let successful = answer.successful.into_iter().map(|entry| entry.id);
                Ok((successful.collect(), answer.failed))
            }
            Action::ChangeVisibility(seconds) => {
                let mut request = clients
                    .data
                    .change_message_visibility_batch()
                    .queue_url(url);
                for (id, handle) in entries {
                    let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                        .id(id.to_string())
                        .receipt_handle(&handle.receipt)
                        .visibility_timeout(seconds)
                        .build();
                    request = request.entries(entry.map_err(unmade)?);
                }
                let answer = call(operation, name, limit, request.send()).await?;
                let successful = answer.successful.into_iter().map(|entry| entry.id);
                Ok((successful.collect(), answer.failed))
            }
        }
    }

    /// Refuses a time that SQS would refuse for every entry.
    fn check_visibility(&self, operation: Operation, time: Duration) -> Result<()> {
        if time <= *LEASE.end() {
            return Ok(());
        }
        Err(operation.error(
            ErrorKind::Unsupported,
            format!(
                "queue {}: SQS hides a message for 12 h at most, and {} was asked for",
                self.queue.name,
                humantime::format_duration(time)
            ),
        ))
    }
}

#[async_trait]
impl driver::Consumer for SqsConsumer {
    fn capabilities(&self) -> &Capabilities {
        &self.queue.capabilities
    }

    async fn receive(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>> {
        self.queue.check_open(Operation::Receive)?;
        let queue = &self.queue;
        let wait = wait.min(WAIT);
        let seconds = seconds_up(wait);
        let receive_id = self.receive_id();
        let request = queue
            .clients
            .data
            .receive_message()
            .queue_url(&queue.url)
            .max_number_of_messages(i32::try_from(max.get().min(BATCH)).unwrap_or(1))
            .wait_time_seconds(seconds)
            // Always said, so that the lease that we keep is the one that SQS keeps, also when the
            // queue's setting is changed.
            .visibility_timeout(seconds_up(self.lease))
            .set_message_system_attribute_names(Some(message::system_attributes(queue.is_fifo)))
            .message_attribute_names("All")
            .set_receive_request_attempt_id(receive_id.clone());
        let limit =
            Duration::from_secs(seconds.unsigned_abs().into()) + queue.clients.request_timeout;
        let answer = call(Operation::Receive, &queue.name, limit, request.send()).await;
        let since = Instant::now();
        let answer = answer.inspect_err(|error| {
            if error.is_retryable() && !queue.is_closed() {
                self.lost_receives().extend(receive_id);
            }
        })?;

        let messages = answer.messages.unwrap_or_default();
        let mut received = Vec::with_capacity(messages.len());
        for message in messages {
            if let Some(reason) = message::fault(&message) {
                tracing::error!(
                    queue = queue.name,
                    id = message.message_id,
                    reason,
                    "a message was received that cannot be handed out; it comes back when its \
                     lease runs out"
                );
                continue;
            }
            received.push(message::decode(message, queue.is_fifo, since));
        }
        if let Err(closed) = queue.check_open(Operation::Receive) {
            // Nobody is there any more to settle them.
            let receipts: Vec<Receipt> = received
                .into_iter()
                .map(|message| message.receipt)
                .collect();
            self.settle(Operation::Nack, Action::ChangeVisibility(0), &receipts)
                .await;
            return Err(closed);
        }
        Ok(received)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Result<()>> {
        if let Err(error) = self.queue.check_open(Operation::Ack) {
            return vec![Err(error); receipts.len()];
        }
        self.settle(Operation::Ack, Action::Delete, receipts).await
    }

    async fn nack(&self, receipts: &[Receipt], delay: Duration) -> Vec<Result<()>> {
        let operation = Operation::Nack;
        let checked = self
            .queue
            .check_open(operation)
            .and_then(|()| self.check_visibility(operation, delay));
        if let Err(error) = checked {
            return vec![Err(error); receipts.len()];
        }
        let action = Action::ChangeVisibility(seconds_up(delay));
        let mut results = self.settle(operation, action, receipts).await;
        for (result, receipt) in results.iter_mut().zip(receipts) {
            if let Err(error) = result
                && error.kind() == ErrorKind::Unsupported
                && let Ok(handle) = receipt.object::<Handle>()
            {
                *result = Err(too_late(&self.queue.name, delay, handle).with_source(error.clone()));
            }
        }
        results
    }

    async fn extend(&self, receipts: &[Receipt], lease: Duration) -> Vec<Result<()>> {
        let operation = Operation::Extend;
        let checked = self
            .queue
            .check_open(operation)
            .and_then(|()| self.check_visibility(operation, lease));
        if let Err(error) = checked {
            return vec![Err(error); receipts.len()];
        }
        // A lease of nothing would release the message.
        let action = Action::ChangeVisibility(seconds_up(lease).max(1));
        self.settle(operation, action, receipts).await
    }

    async fn close(&self) -> Result<()> {
        self.queue.close();
        Ok(())
    }
}

/// The error of a delay that does not fit into what is left of the 12 h.
fn too_late(queue: &str, delay: Duration, handle: &Handle) -> Error {
    let held = Duration::from_secs(handle.since.elapsed().as_secs());
    Operation::Nack.error(
        ErrorKind::Unsupported,
        format!(
            "queue {queue}: a message can be held and delayed for 12 h in all, it was held for \
             {}, and a delay of {} was asked for; nack it with a shorter delay",
            humantime::format_duration(held),
            humantime::format_duration(delay),
        ),
    )
}
