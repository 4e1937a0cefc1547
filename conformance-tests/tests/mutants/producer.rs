//! The sending half with one bug.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use towpath_core::{
    Attributes, Capabilities, Error, ErrorKind, Message, MessageId, Result, driver,
};

use crate::{
    backend::{State, lock},
    bug::Bug,
};

/// Where an ordering key travels that the queue is not to see.
pub(crate) const HIDDEN_KEY: &str = "hidden-key";

#[derive(Debug)]
pub(crate) struct MutantProducer {
    pub(crate) bug: Bug,
    pub(crate) claims: Capabilities,
    pub(crate) inner: Arc<dyn driver::Producer>,
    pub(crate) admin: Arc<dyn driver::Admin>,
    pub(crate) state: Arc<State>,
}

impl MutantProducer {
    fn change(&self, message: &Message) -> Message {
        let message = message.clone();
        let is_dead = message.failure().is_some();
        match self.bug {
            Bug::DelayIgnored => message.with_delay(Duration::ZERO),
            Bug::DelayDoubled => {
                let delay = message.delay() * 2;
                message.with_delay(delay)
            }
            Bug::DedupForgets => without_dedup_id(message),
            Bug::DedupOfEverything if message.dedup_id().is_some() => message.with_dedup_id("same"),
            Bug::KeyNotLocked => match message.ordering_key().map(str::to_owned) {
                Some(key) => without_key(message).with_attribute(HIDDEN_KEY, key),
                None => message,
            },
            Bug::OneKeyForAll => match message.ordering_key().map(str::to_owned) {
                Some(key) => message
                    .with_ordering_key("one")
                    .with_attribute(HIDDEN_KEY, key),
                None => message,
            },
            Bug::DeadLetterLosesAttributes if is_dead => message.with_attributes(Attributes::new()),
            Bug::FailureRecordDropped => message.with_failure(None),
            Bug::OrderingOverclaimed => without_key(message),
            _ => message,
        }
    }

    async fn send_changed(&self, batch: &[Message]) -> Vec<Result<MessageId>> {
        let mut out = Vec::with_capacity(batch.len());
        let mut kept = Vec::new();
        let mut places = Vec::new();
        for (i, message) in batch.iter().enumerate() {
            let number = self.state.sent.fetch_add(1, Ordering::Relaxed);
            let is_known = self.bug == Bug::DedupForEver
                && message.dedup_id().is_some_and(|id| {
                    let mut ids = lock(&self.state.dedup_ids);
                    let known = ids.iter().any(|one| one == id);
                    ids.push(id.to_owned());
                    known
                });
            let is_lost = match self.bug {
                Bug::FailedEntryReportedAsSent => i % 2 == 1,
                Bug::EveryFifthLost => number % 5 == 4,
                _ => is_known,
            };
            if is_lost {
                out.push(Ok(MessageId::from(format!("lost-{number}"))));
            } else {
                places.push(i);
                kept.push(message.clone());
                out.push(Err(Error::new(ErrorKind::Unknown, "not sent")));
            }
        }
        if self.bug == Bug::BatchSentBackwards {
            kept.reverse();
            places.reverse();
        }
        if !kept.is_empty() {
            for (place, result) in places.into_iter().zip(self.inner.send(&kept).await) {
                out[place] = result;
            }
        }
        out
    }
}

fn without_dedup_id(message: Message) -> Message {
    rebuild(message, false, true)
}

fn without_key(message: Message) -> Message {
    rebuild(message, true, false)
}

/// The same message without one of its options.
pub(crate) fn rebuild(message: Message, no_key: bool, no_dedup: bool) -> Message {
    let mut copy = Message::new(message.body().clone())
        .with_attributes(message.attributes().clone())
        .with_idempotency_key(message.idempotency_key())
        .with_delay(message.delay())
        .with_failure(message.failure().cloned());
    if !no_key && let Some(key) = message.ordering_key() {
        copy = copy.with_ordering_key(key);
    }
    if !no_dedup && let Some(id) = message.dedup_id() {
        copy = copy.with_dedup_id(id);
    }
    copy
}

#[async_trait]
impl driver::Producer for MutantProducer {
    fn capabilities(&self) -> &Capabilities {
        &self.claims
    }

    fn encoded_len(&self, message: &Message) -> usize {
        match self.bug {
            Bug::EncodedLenWithoutAttributes => message.body().len(),
            _ => self.inner.encoded_len(message),
        }
    }

    async fn send(&self, batch: &[Message]) -> Vec<Result<MessageId>> {
        if self.bug == Bug::CutStopsSending && self.state.is_cut.load(Ordering::Relaxed) {
            let error = Error::new(ErrorKind::Unavailable, "the connection was cut");
            return vec![Err(error); batch.len()];
        }
        let changed: Vec<_> = batch.iter().map(|message| self.change(message)).collect();
        let mut results = self.send_changed(&changed).await;
        match self.bug {
            Bug::ResultsReversed => results.reverse(),
            Bug::SameIdForAll => {
                for result in results.iter_mut().filter(|result| result.is_ok()) {
                    *result = Ok(MessageId::from("one"));
                }
            }
            Bug::DeadLetteredTwice => {
                let dead: Vec<_> = changed
                    .into_iter()
                    .filter(|message| message.failure().is_some())
                    .map(|message| rebuild(message, false, true))
                    .collect();
                if !dead.is_empty() {
                    self.inner.send(&dead).await;
                }
            }
            _ => {}
        }
        results
    }

    async fn close(&self) -> Result<()> {
        match self.bug {
            Bug::ClosedStillWorks => Ok(()),
            Bug::MessagesDieWithProducer => {
                self.admin.purge().await?;
                self.inner.close().await
            }
            _ => self.inner.close().await,
        }
    }
}
