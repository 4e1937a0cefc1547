//! The receiving half with one bug.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::time::sleep;
use towpath_core::{
    Attributes, Capabilities, Error, ErrorKind, Message, Result,
    driver::{self, Receipt, Received},
};

use crate::{
    backend::{State, lock},
    bug::Bug,
    producer::{HIDDEN_KEY, rebuild},
};

#[derive(Debug)]
pub(crate) struct MutantConsumer {
    pub(crate) bug: Bug,
    pub(crate) claims: Capabilities,
    pub(crate) inner: Arc<dyn driver::Consumer>,
    /// For bugs that put a message back.
    pub(crate) producer: Arc<dyn driver::Producer>,
    pub(crate) state: Arc<State>,
    pub(crate) is_closed: AtomicBool,
    /// Acks that are still to be made.
    pub(crate) buffered: Mutex<Vec<Receipt>>,
    /// What was handed out, by receipt.
    pub(crate) held: Mutex<HashMap<String, Received>>,
}

fn name(receipt: &Receipt) -> String {
    format!("{receipt:?}")
}

impl MutantConsumer {
    fn change(&self, one: &mut Received) {
        let message = one.envelope.message.clone();
        let body = message.body().clone();
        let attempt = one.envelope.attempt.unwrap_or(1);
        let text = String::from_utf8(body.to_vec());
        one.envelope.message = match self.bug {
            Bug::BodyTrimmed => match text {
                Ok(text) => message.with_body(text.trim().to_owned()),
                Err(_) => message,
            },
            Bug::BodyLossy => message.with_body(String::from_utf8_lossy(&body).into_owned()),
            Bug::BodyCut => message.with_body(body.slice(..body.len().min(256 * 1_024))),
            Bug::EmojiReplaced => match text {
                Ok(text) => message.with_body(text.replace(|c| c > '\u{ffff}', "?")),
                Err(_) => message,
            },
            Bug::EmptyBodyFilled if body.is_empty() => message.with_body("null"),
            Bug::AttributesDropped => message.with_attributes(Attributes::new()),
            Bug::KeyOfEachAttempt if attempt > 1 => {
                let key = Message::new("").idempotency_key();
                message.with_idempotency_key(key)
            }
            Bug::OrderingKeyDropped => rebuild(message, true, false),
            Bug::KeyNotLocked | Bug::OneKeyForAll => reveal(message),
            Bug::AttributeNamesLowered
            | Bug::TenAttributes
            | Bug::AttributeValuesCut
            | Bug::EmptyAttributesDropped => {
                let bug = self.bug;
                let attributes = message
                    .attributes()
                    .iter()
                    .enumerate()
                    .filter(|(i, (_, value))| match bug {
                        Bug::TenAttributes => *i < 10,
                        Bug::EmptyAttributesDropped => !value.is_empty(),
                        _ => true,
                    })
                    .map(|(_, (name, value))| match bug {
                        Bug::AttributeNamesLowered => (name.to_lowercase(), value.to_owned()),
                        Bug::AttributeValuesCut => {
                            (name.to_owned(), value.chars().take(2_000).collect())
                        }
                        _ => (name.to_owned(), value.to_owned()),
                    });
                let attributes = attributes.collect();
                message.with_attributes(attributes)
            }
            _ => message,
        };
        match self.bug {
            Bug::AttemptStuck => one.envelope.attempt = Some(1),
            Bug::SentLongAgo => one.envelope.sent_at = Some(SystemTime::UNIX_EPOCH),
            _ => {}
        }
    }

    async fn fetch(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>> {
        let state = &self.state;
        match self.bug {
            Bug::WaitIgnored => {
                let received = self.inner.receive(max, Duration::ZERO).await?;
                sleep(Duration::from_millis(1)).await;
                Ok(received)
            }
            Bug::WaitUnbounded => self.inner.receive(max, wait.max(Duration::MAX)).await,
            Bug::ZeroWaitWaits => {
                self.inner
                    .receive(max, wait.max(Duration::from_secs(5)))
                    .await
            }
            Bug::LooksAfterTheWait => {
                sleep(wait).await;
                self.inner.receive(max, Duration::ZERO).await
            }
            Bug::MaxIgnored => {
                let more = max.saturating_add(3);
                self.inner.receive(more, wait).await
            }
            Bug::CancelledReceiveLoses => {
                let received = self.inner.receive(max, wait).await?;
                sleep(Duration::from_millis(5)).await;
                Ok(received)
            }
            Bug::OneAtATime => {
                if state.held.load(Ordering::Relaxed) > 0 {
                    sleep(wait.max(Duration::from_millis(1))).await;
                    return Ok(Vec::new());
                }
                let received = self.inner.receive(NonZeroUsize::MIN, wait).await?;
                state.held.fetch_add(received.len(), Ordering::Relaxed);
                Ok(received)
            }
            Bug::HandedOutTwice => {
                let again = std::mem::take(&mut *lock(&state.again));
                if !again.is_empty() {
                    return Ok(again.into_iter().take(max.get()).collect());
                }
                let received = self.inner.receive(max, wait).await?;
                lock(&state.again).extend(received.first().cloned());
                Ok(received)
            }
            Bug::DeletedLooksEmpty => match self.inner.receive(max, wait).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    sleep(wait.max(Duration::from_millis(1))).await;
                    Ok(Vec::new())
                }
                result => result,
            },
            Bug::CutStopsReceiving if state.is_cut.load(Ordering::Relaxed) => {
                sleep(wait.max(Duration::from_millis(1))).await;
                Ok(Vec::new())
            }
            Bug::CutStopsReceiving => {
                tokio::select! {
                    result = self.inner.receive(max, wait) => result,
                    () = state.cut.notified() => Ok(Vec::new()),
                }
            }
            _ => self.inner.receive(max, wait).await,
        }
    }

    /// The message of a receipt, as it was handed out.
    fn message(&self, receipt: &Receipt) -> Option<Received> {
        lock(&self.held).get(&name(receipt)).cloned()
    }
}

fn reveal(message: Message) -> Message {
    let mut attributes = message.attributes().clone();
    match attributes.remove(HIDDEN_KEY) {
        Some(key) => rebuild(message, true, false)
            .with_attributes(attributes)
            .with_ordering_key(key),
        None => message,
    }
}

#[async_trait]
impl driver::Consumer for MutantConsumer {
    fn capabilities(&self) -> &Capabilities {
        &self.claims
    }

    async fn receive(&self, max: NonZeroUsize, wait: Duration) -> Result<Vec<Received>> {
        let result = self.fetch(max, wait).await;
        let mut received = result.map_err(|error| {
            if self.bug == Bug::ErrorsAreAnonymous {
                Error::new(error.kind(), "failed")
            } else {
                error
            }
        })?;
        for one in &mut received {
            lock(&self.held).insert(name(&one.receipt), one.clone());
            lock(&self.state.latest).insert(one.envelope.id.to_string(), one.receipt.clone());
            self.change(one);
        }
        Ok(received)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Vec<Result<()>> {
        if self.bug == Bug::OneAtATime {
            self.state.held.store(0, Ordering::Relaxed);
        }
        match self.bug {
            Bug::AckIgnored => vec![Ok(()); receipts.len()],
            Bug::ForeignReceiptTaken => {
                self.inner.ack(receipts).await;
                vec![Ok(()); receipts.len()]
            }
            Bug::AcksLostAtClose => {
                let pending = std::mem::take(&mut *lock(&self.buffered));
                if !pending.is_empty() {
                    self.inner.ack(&pending).await;
                }
                lock(&self.buffered).extend_from_slice(receipts);
                vec![Ok(()); receipts.len()]
            }
            Bug::LateAckDeletes => {
                let latest: Vec<_> = receipts
                    .iter()
                    .map(|receipt| {
                        let id = self.message(receipt).map(|one| one.envelope.id.to_string());
                        let latest = lock(&self.state.latest);
                        id.and_then(|id| latest.get(&id).cloned())
                            .unwrap_or_else(|| receipt.clone())
                    })
                    .collect();
                self.inner.ack(&latest).await
            }
            Bug::LateAckIsOk | Bug::SecondAckIsUnknown => {
                let results = self.inner.ack(receipts).await.into_iter();
                results
                    .map(|result| match result {
                        Err(error) if error.kind() == ErrorKind::LeaseLost => {
                            if self.bug == Bug::LateAckIsOk {
                                Ok(())
                            } else {
                                Err(Error::new(ErrorKind::Unknown, "something went wrong"))
                            }
                        }
                        result => result,
                    })
                    .collect()
            }
            Bug::BadReceiptSpoilsBatch => {
                let results = self.inner.ack(receipts).await;
                let bad = results.iter().find_map(|result| result.clone().err());
                match bad {
                    Some(error) => vec![Err(error); receipts.len()],
                    None => results,
                }
            }
            _ => self.inner.ack(receipts).await,
        }
    }

    async fn nack(&self, receipts: &[Receipt], delay: Duration) -> Vec<Result<()>> {
        if self.bug == Bug::OneAtATime {
            self.state.held.store(0, Ordering::Relaxed);
        }
        match self.bug {
            Bug::NackIgnored => vec![Ok(()); receipts.len()],
            Bug::NackDelayIgnored => self.inner.nack(receipts, Duration::ZERO).await,
            Bug::NackDelayDoubled => self.inner.nack(receipts, delay * 2).await,
            Bug::NackGoesToTheEnd => {
                for receipt in receipts {
                    let Some(one) = self.message(receipt) else {
                        continue;
                    };
                    self.inner.ack(std::slice::from_ref(receipt)).await;
                    let message = rebuild(one.envelope.message, false, true).with_delay(delay);
                    self.producer.send(&[message]).await;
                }
                vec![Ok(()); receipts.len()]
            }
            _ => self.inner.nack(receipts, delay).await,
        }
    }

    async fn extend(&self, receipts: &[Receipt], lease: Duration) -> Vec<Result<()>> {
        match self.bug {
            Bug::ExtendDoesNothing => vec![Ok(()); receipts.len()],
            Bug::ExtendOfLostIsOk => {
                self.inner.extend(receipts, lease).await;
                vec![Ok(()); receipts.len()]
            }
            Bug::ExtendForADay => {
                let day = Duration::from_secs(86_400);
                self.inner.extend(receipts, lease.max(day)).await
            }
            Bug::ExtendUnsupported => {
                let error = Error::new(ErrorKind::Unsupported, "not here");
                vec![Err(error); receipts.len()]
            }
            _ => self.inner.extend(receipts, lease).await,
        }
    }

    async fn close(&self) -> Result<()> {
        match self.bug {
            Bug::ClosedStillWorks => Ok(()),
            Bug::CloseHangs if !self.is_closed.swap(true, Ordering::Relaxed) => {
                std::future::pending().await
            }
            Bug::AcksLostAtClose => {
                lock(&self.buffered).clear();
                self.inner.close().await
            }
            _ => self.inner.close().await,
        }
    }
}
