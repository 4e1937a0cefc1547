//! Moving messages out of a queue: each is sent first and removed then, and none is sent twice.
//!
//! [`Redrive`](crate::Redrive) moves dead letters this way; use [`Transfer`] where messages are to
//! be moved by other rules.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures::future::join_all;
use tokio::time::sleep;
use towpath_core::{
    Consumer, Delivery, Envelope, Error, ErrorKind, Message, MessageId, Producer, Result,
};

use crate::receive::BACKOFF;
use recent::Recent;

mod recent;

/// After so many failed receives in a row a transfer gives up.
const FAILURES: u32 = 5;

/// Moves messages from one queue to others.
///
/// A queue may give a message out again that was sent on: because its ack failed, or because it
/// was only [submitted](towpath_core::AckStatus::Submitted) and did not hold. Such a message is not
/// sent once more, but held until [`finish`](Self::finish) and removed there. What could not be
/// sent is held too, so that it does not come round and round.
///
/// All messages that were not removed are remembered. Of those that were, it is at least the last
/// 200,000, in 40 MB or so at most; one that was removed before these and comes again is sent
/// again, with the same idempotency key. A removal that did not hold shows when the lease ends, so
/// in a run with fewer messages per lease none is sent twice.
///
/// ```
/// # async fn example(from: towpath_core::Queue, to: towpath_core::Queue) -> towpath_core::Result<()> {
/// use std::time::Duration;
/// use towpath_worker::transfer::{Transfer, Transferred};
///
/// let (consumer, producer) = (from.consumer().await?, to.producer().await?);
/// let mut transfer = Transfer::new(consumer);
/// let mut in_both = 0;
/// loop {
///     let batch = transfer.receive(100, Duration::from_secs(5)).await?;
///     if batch.is_empty() {
///         break;
///     }
///     let copies = batch
///         .into_iter()
///         .map(|delivery| {
///             let message = delivery.envelope().message.clone();
///             (delivery, message)
///         })
///         .collect();
///     for fate in transfer.send(&producer, copies).await {
///         match fate {
///             Transferred::Moved | Transferred::CameAgain => {}
///             Transferred::Unacked(_) => in_both += 1,
///             failed => println!("{failed:?}"),
///         }
///     }
/// }
/// for correction in transfer.finish().await {
///     match correction.removed {
///         Ok(()) => in_both -= 1,
///         Err(_) => in_both += 1,
///     }
/// }
/// println!("{in_both} are in both queues");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "what came again is removed by `finish`, and given back without it"]
pub struct Transfer {
    from: Consumer,
    /// Sent and removed.
    moved: Recent,
    /// Sent, and not removed or come again.
    unremoved: HashMap<MessageId, Unremoved>,
    /// Tried to send. They are in `held`, but for those whose sending was dropped half-way.
    tried: HashSet<MessageId>,
    /// What stays, and is released at the end.
    held: Vec<Delivery>,
}

/// A message that was sent, and is in the queue as far as we know.
#[derive(Debug, Default)]
struct Unremoved {
    /// Whether it was told as removed.
    was_removed: bool,
    /// Those in hand. An earlier one is kept beside a later one: dropping it could release the
    /// message.
    deliveries: Vec<Delivery>,
}

/// What became of a message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Transferred {
    /// Sent and removed.
    Moved,
    /// Sent and not removed: it is in both queues. Its removal is tried again at the end.
    Unacked(Error),
    /// The send was not answered in time, so it may be in both queues. It stays.
    Unanswered(Error),
    /// Could not be sent. It stays.
    NotSent(Error),
    /// It was sent before, or tried to be, and came again. It is not sent once more; if it was
    /// sent, it is removed at the end.
    CameAgain,
}

/// What the end of a transfer changed about a message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Correction {
    /// The message as it came last.
    pub envelope: Envelope,
    /// `Ok`: it was [`Unacked`](Transferred::Unacked), and is removed now. An error: it was
    /// [`Moved`](Transferred::Moved), but came again and could not be removed, so it is in both
    /// queues.
    pub removed: Result<()>,
}

impl Transfer {
    /// A transfer of messages that `from` received.
    pub fn new(from: Consumer) -> Self {
        Self {
            from,
            moved: Recent::default(),
            unremoved: HashMap::new(),
            tried: HashSet::new(),
            held: Vec::new(),
        }
    }

    /// Receives up to `most` messages, as [`Consumer::receive_batch`] does, and tries again with a
    /// growing pause where that may help.
    ///
    /// # Errors
    ///
    /// What receiving reports, when it failed five times in a row or cannot succeed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn receive(&self, most: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let mut failures = 0;
        loop {
            match self.from.receive_batch(most, wait).await {
                Ok(batch) => return Ok(batch),
                Err(error) => {
                    failures += 1;
                    if failures >= FAILURES || !error.is_retryable() {
                        return Err(error);
                    }
                    tracing::warn!(from = self.from.queue(), %error, "receiving failed; it is tried again");
                    let pause = BACKOFF.delay(failures);
                    sleep(pause.max(error.retry_after().unwrap_or_default())).await;
                }
            }
        }
    }

    /// Whether this message was sent before, or tried to be.
    pub fn came_again(&self, delivery: &Delivery) -> bool {
        let id = &delivery.envelope().id;
        self.was_sent(id) || self.tried.contains(id)
    }

    /// Keeps a message away until the end. One that was sent before is removed then; every other
    /// one is released.
    pub fn hold(&mut self, delivery: Delivery) {
        let id = &delivery.envelope().id;
        if !self.was_sent(id) {
            self.held.push(delivery);
            return;
        }
        let removed = Unremoved {
            was_removed: true,
            deliveries: Vec::new(),
        };
        let entry = self.unremoved.entry(id.clone()).or_insert(removed);
        entry.deliveries.push(delivery);
    }

    /// How many messages are held, or are in both queues. Their bodies are in memory, so end a
    /// transfer in which this grows too large.
    pub fn in_hand(&self) -> usize {
        let unremoved = self.unremoved.values();
        self.held.len() + unremoved.map(|u| u.deliveries.len().max(1)).sum::<usize>()
    }

    /// Sends each delivery's message to `target` and acks the delivery when that was accepted: the
    /// result at `i` is the fate of `batch[i]`.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, any of the messages may be in both queues, with one idempotency
    /// key. Their deliveries are released; this transfer does not send them again.
    pub async fn send(
        &mut self,
        target: &Producer,
        batch: Vec<(Delivery, Message)>,
    ) -> Vec<Transferred> {
        let mut fates = vec![Transferred::CameAgain; batch.len()];
        let (mut deliveries, mut messages) = (Vec::new(), Vec::new());
        let mut again = Vec::new();
        for (i, (delivery, message)) in batch.into_iter().enumerate() {
            if self.came_again(&delivery) {
                again.push(delivery);
                continue;
            }
            // Before the send, so that it is known wherever this future is dropped.
            self.tried.insert(delivery.envelope().id.clone());
            deliveries.push((i, delivery));
            messages.push(message);
        }
        let mut sent = (Vec::new(), Vec::new());
        for ((i, delivery), result) in deliveries
            .into_iter()
            .zip(target.send_batch(&messages).await)
        {
            let id = &delivery.envelope().id;
            match result {
                Ok(_) => {
                    self.tried.remove(id);
                    self.unremoved.insert(id.clone(), Unremoved::default());
                    sent.0.push((i, id.clone()));
                    sent.1.push(delivery);
                }
                Err(error) => {
                    fates[i] = match error.kind() {
                        ErrorKind::Timeout => Transferred::Unanswered(error),
                        _ => Transferred::NotSent(error),
                    };
                    self.held.push(delivery);
                }
            }
        }
        // What came twice in this batch is known now.
        for delivery in again {
            self.hold(delivery);
        }
        let (sent, deliveries) = sent;
        for ((i, id), result) in sent.into_iter().zip(self.from.ack_batch(deliveries).await) {
            fates[i] = match result {
                Ok(_) => {
                    self.removed(id);
                    Transferred::Moved
                }
                Err(failed) => {
                    let entry = self.unremoved.entry(id).or_default();
                    entry.deliveries.extend(failed.delivery.map(|d| *d));
                    Transferred::Unacked(failed.error)
                }
            };
        }
        fates
    }

    /// Removes what was sent and is still in the queue, gives back everything else that is held,
    /// and says what is other than [`send`](Self::send) told.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, what is held is released, and what was sent may still be in both
    /// queues.
    pub async fn finish(mut self) -> Vec<Correction> {
        let unremoved = std::mem::take(&mut self.unremoved);
        let (mut of, mut deliveries) = (Vec::new(), Vec::new());
        let mut ends = Vec::new();
        for entry in unremoved.into_values() {
            let Some(last) = entry.deliveries.last() else {
                continue;
            };
            let envelope = last.envelope().clone();
            of.extend(vec![ends.len(); entry.deliveries.len()]);
            deliveries.extend(entry.deliveries);
            ends.push((entry.was_removed, envelope, None));
        }
        for (of, result) in of.into_iter().zip(self.from.ack_batch(deliveries).await) {
            let removed = result.map(|_| ()).map_err(|failed| {
                self.held.extend(failed.delivery.map(|d| *d));
                failed.error
            });
            // One of its deliveries is enough.
            let end: &mut Option<Result<()>> = &mut ends[of].2;
            if !matches!(end, Some(Ok(()))) {
                *end = Some(removed);
            }
        }
        let held = std::mem::take(&mut self.held).into_iter();
        for result in join_all(held.map(|delivery| delivery.release(Duration::ZERO))).await {
            if let Err(error) = result {
                tracing::warn!(queue = self.from.queue(), %error, "a message that stays was not released; it comes back when its lease runs out");
            }
        }
        ends.into_iter()
            .filter_map(|(was_removed, envelope, end)| {
                let removed = end?;
                (removed.is_ok() != was_removed).then_some(Correction { envelope, removed })
            })
            .collect()
    }

    fn was_sent(&self, id: &MessageId) -> bool {
        self.moved.contains(id) || self.unremoved.contains_key(id)
    }

    /// Notes that an ack was answered with success.
    fn removed(&mut self, id: MessageId) {
        match self.unremoved.get_mut(&id) {
            // It came twice in one batch.
            Some(entry) if !entry.deliveries.is_empty() => entry.was_removed = true,
            _ => {
                self.unremoved.remove(&id);
                self.moved.insert(id);
            }
        }
    }
}
