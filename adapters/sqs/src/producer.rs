//! The sending half.

use std::collections::VecDeque;

use async_trait::async_trait;
use aws_sdk_sqs::types::SendMessageBatchResultEntry;
use towpath_core::{Capabilities, Error, ErrorKind, Message, MessageId, Result, driver};

use crate::{
    capabilities::BATCH,
    connect::call,
    dedup::DedupIds,
    message::{self, Expected},
    operation::Operation,
    queue::{OpenQueue, place},
};

/// Sends with SendMessageBatch.
#[derive(Debug)]
pub(crate) struct SqsProducer {
    queue: OpenQueue,
    dedup_ids: DedupIds,
}

impl SqsProducer {
    pub(crate) fn new(queue: OpenQueue) -> Self {
        Self {
            queue,
            dedup_ids: DedupIds::default(),
        }
    }

    /// Sends what fits one request. `out[i]` is the fate of `batch[i]`.
    ///
    /// SQS refuses a request whose messages are too large together; it is then halved.
    async fn send_chunk(&self, batch: &[Message]) -> Vec<Result<MessageId>> {
        let mut results = Vec::with_capacity(batch.len());
        let mut parts = VecDeque::from([batch]);
        while let Some(part) = parts.pop_front() {
            match self.request(part).await {
                Err(error) if error.kind() == ErrorKind::TooLarge && part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.push_front(second);
                    parts.push_front(first);
                }
                Err(error) => results.extend(part.iter().map(|_| Err(error.clone()))),
                Ok(sent) => results.extend(sent),
            }
        }
        for (message, result) in batch.iter().zip(&results) {
            if self.is_numbered(message) && !result.as_ref().is_err_and(Error::is_retryable) {
                self.dedup_ids.end(message.idempotency_key());
            }
        }
        results
    }

    /// Whether `message` gets a deduplication id from us.
    fn is_numbered(&self, message: &Message) -> bool {
        self.queue.is_fifo && message.dedup_id().is_none()
    }

    /// One request. An error is that of the whole request.
    async fn request(&self, part: &[Message]) -> Result<Vec<Result<MessageId>>> {
        let mut results: Vec<Option<Result<MessageId>>> = Vec::with_capacity(part.len());
        let mut expected: Vec<Option<Expected>> = Vec::with_capacity(part.len());
        let mut entries = Vec::with_capacity(part.len());
        for (id, message) in part.iter().enumerate() {
            let dedup_id = match message.dedup_id() {
                Some(given) => Some(given.to_owned()),
                None => self
                    .is_numbered(message)
                    .then(|| self.dedup_ids.begin(message.idempotency_key())),
            };
            match message::encode(id, message, dedup_id.filter(|_| self.queue.is_fifo)) {
                Ok(entry) => {
                    entries.push(entry.request);
                    expected.push(Some(entry.expected));
                    results.push(None);
                }
                Err(error) => {
                    expected.push(None);
                    results.push(Some(Err(error)));
                }
            }
        }
        if entries.is_empty() {
            return Ok(self.queue.complete(Operation::Send, results));
        }
        let clients = &self.queue.clients;
        let request = clients
            .data
            .send_message_batch()
            .queue_url(&self.queue.url)
            .set_entries(Some(entries));
        let answer = call(
            Operation::Send,
            &self.queue.name,
            clients.request_timeout,
            request.send(),
        )
        .await?;
        for sent in answer.successful() {
            if let Some(result) = place(&mut results, sent.id()) {
                let expected =
                    place(&mut expected, sent.id()).and_then(|expected| expected.as_ref());
                *result = Some(self.accepted(sent, expected));
            }
        }
        for failed in answer.failed() {
            if let Some(result) = place(&mut results, failed.id()) {
                *result = Some(Err(self.queue.entry_error(Operation::Send, failed)));
            }
        }
        Ok(self.queue.complete(Operation::Send, results))
    }

    /// The fate of an entry that SQS says it has, after a look at what it says that it has.
    fn accepted(
        &self,
        sent: &SendMessageBatchResultEntry,
        expected: Option<&Expected>,
    ) -> Result<MessageId> {
        let is_intact = expected.is_none_or(|expected| {
            expected.body_md5.is(sent.md5_of_message_body())
                && sent
                    .md5_of_message_attributes()
                    .is_none_or(|md5| expected.attributes_md5.is(md5))
        });
        if is_intact {
            return Ok(MessageId::from(sent.message_id()));
        }
        Err(Operation::Send.error(
            ErrorKind::Unknown,
            format!(
                "queue {}: SQS has a message {} that is not what was sent, by its MD5; something \
                 changed it on its way",
                self.queue.name,
                sent.message_id()
            ),
        ))
    }
}

#[async_trait]
impl driver::Producer for SqsProducer {
    fn capabilities(&self) -> &Capabilities {
        &self.queue.capabilities
    }

    fn encoded_len(&self, message: &Message) -> usize {
        message::encoded_len(message)
    }

    async fn send(&self, batch: &[Message]) -> Vec<Result<MessageId>> {
        if let Err(error) = self.queue.check_open(Operation::Send) {
            return vec![Err(error); batch.len()];
        }
        let mut results = Vec::with_capacity(batch.len());
        for chunk in batch.chunks(BATCH) {
            results.append(&mut self.send_chunk(chunk).await);
        }
        results
    }

    async fn close(&self) -> Result<()> {
        self.queue.close();
        Ok(())
    }
}
