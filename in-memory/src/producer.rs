//! The sending half.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::task::coop::consume_budget;
use towpath_core::{Capabilities, Error, ErrorKind, Message, MessageId, Result, driver};

use crate::{
    Profile,
    profile::{self, check_message},
    queue::Sent,
    queues::Queues,
    settings::{Settings, error},
    shared::{Inner, Shared},
    store::Nanos,
};

#[derive(Debug)]
pub(crate) struct MemoryProducer {
    queues: Arc<Queues>,
    shared: Arc<Shared>,
    settings: Settings,
    capabilities: Capabilities,
    is_closed: AtomicBool,
}

impl MemoryProducer {
    pub(crate) fn new(queues: Arc<Queues>, shared: Arc<Shared>) -> Self {
        let settings = shared.settings();
        Self {
            queues,
            shared,
            capabilities: profile::capabilities(&settings, settings.lease),
            settings,
            is_closed: AtomicBool::new(false),
        }
    }

    /// Why the batch is refused as a whole.
    fn refusal(&self, batch: &[Message]) -> Option<Error> {
        if self.is_closed.load(Ordering::Acquire) {
            return Some(closed("send"));
        }
        let limits = &self.capabilities.limits;
        if batch.len() > limits.send_batch {
            return Some(error(
                ErrorKind::InvalidMessage,
                format!(
                    "a batch of {} messages, and {} are allowed",
                    batch.len(),
                    limits.send_batch
                ),
            ));
        }
        if batch.len() > 1 && limits.send_batch_bytes < usize::MAX {
            let bytes: usize = batch
                .iter()
                .map(|message| self.settings.profile.encoded_len(message))
                .fold(0, usize::saturating_add);
            if bytes > limits.send_batch_bytes {
                return Some(error(
                    ErrorKind::TooLarge,
                    format!(
                        "a batch of {bytes} bytes, and {} are allowed",
                        limits.send_batch_bytes
                    ),
                ));
            }
        }
        None
    }

    fn send_one(&self, inner: &mut Inner, message: &Message, now: Nanos) -> Result<MessageId> {
        check_message(message, &self.settings, &self.capabilities)?;
        if let Some(dice) = &mut inner.dice
            && dice.roll(|faults| faults.throttle)
        {
            return Err(throttled("send"));
        }
        let id = match inner.queue.send(message.clone(), now) {
            Sent::Accepted(id) => id,
            Sent::Duplicate(id) => return Ok(id.into()),
            Sent::Full => return Err(full(inner)),
        };
        if let Some(dice) = &mut inner.dice {
            if message.dedup_id().is_none() && dice.roll(|faults| faults.duplicate) {
                // A broker that confirms acks delivers a copy only when it was sent again.
                if self.settings.profile.is_confirmed() {
                    inner.queue.take_over(message.clone(), now);
                } else {
                    inner.queue.duplicate(message.clone(), id, now);
                }
            }
            if dice.roll(|faults| faults.lost_send) {
                return Err(error(
                    ErrorKind::Timeout,
                    "simulated: the message was accepted, and the answer got lost",
                ));
            }
        }
        Ok(id.into())
    }

    /// How much longer the call takes.
    fn send_delay(&self) -> Result<Option<Duration>> {
        if self.settings.faults.is_none() {
            return Ok(None);
        }
        self.queues.with(&self.shared, |inner, _| {
            inner.dice.as_mut().and_then(|dice| dice.send_delay())
        })
    }
}

#[async_trait]
impl driver::Producer for MemoryProducer {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn encoded_len(&self, message: &Message) -> usize {
        self.settings.profile.encoded_len(message)
    }

    async fn send(&self, batch: &[Message]) -> Vec<Result<MessageId>> {
        match self.send_delay() {
            Ok(Some(delay)) => tokio::time::sleep(delay).await,
            Ok(None) => {}
            Err(error) => return vec![Err(error.with_operation("send")); batch.len()],
        }
        if let Some(error) = self.refusal(batch) {
            return vec![Err(error.with_operation("send")); batch.len()];
        }
        let is_plain = self.settings.profile == Profile::Strict && batch.iter().all(is_plain);
        let sent = self.queues.with(&self.shared, |inner, now| {
            if is_plain && inner.dice.is_none() {
                return send_plain(inner, batch, now);
            }
            batch
                .iter()
                .map(|message| {
                    self.send_one(inner, message, now)
                        .map_err(|error| error.with_operation("send"))
                })
                .collect()
        });
        // They are sent by now, whether or not the future is dropped while others have their turn.
        consume_budget().await;
        sent.unwrap_or_else(|error| vec![Err(error.with_operation("send")); batch.len()])
    }

    async fn close(&self) -> Result<()> {
        self.is_closed.store(true, Ordering::Release);
        Ok(())
    }
}

/// Whether there is nothing about the message that a strict queue could refuse.
fn is_plain(message: &Message) -> bool {
    message.ordering_key().is_none() && message.dedup_id().is_none() && message.delay().is_zero()
}

fn send_plain(inner: &mut Inner, batch: &[Message], now: Nanos) -> Vec<Result<MessageId>> {
    let ids = inner.queue.send_plain(batch, now);
    let mut sent: Vec<_> = ids.map(|id| Ok(id.into())).collect();
    if sent.len() < batch.len() {
        sent.resize(batch.len(), Err(full(inner).with_operation("send")));
    }
    sent
}

pub(crate) fn closed(operation: &'static str) -> Error {
    error(
        ErrorKind::Closed,
        "it was closed; open the queue again to go on",
    )
    .with_operation(operation)
}

pub(crate) fn throttled(operation: &'static str) -> Error {
    error(ErrorKind::Throttled, "simulated: slow down").with_operation(operation)
}

fn full(inner: &Inner) -> Error {
    error(
        ErrorKind::Throttled,
        format!(
            "the queue is full: max_depth is {}",
            inner.settings.max_depth.unwrap_or(usize::MAX)
        ),
    )
}
