//! The sending half.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use google_cloud_pubsub::publisher::PublishFuture;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use towpath_core::{Capabilities, Error, ErrorKind, Message, MessageId, Result, driver};

use crate::{
    error::{Operation, not_in_turn, of_publish},
    message,
    options::Sending,
    publishers::{Lane, Publishers},
};

/// How much longer than a request a call waits, so that the request's own error is the answer.
const GRACE: Duration = Duration::from_millis(500);

pub(crate) struct PubSubProducer {
    capabilities: Capabilities,
    publishers: Arc<Publishers>,
    /// The topic, for error messages.
    topic: Arc<str>,
    room: Room,
    request_timeout: Duration,
    closed: CancellationToken,
    tasks: TaskTracker,
}

impl PubSubProducer {
    pub(crate) fn new(
        capabilities: Capabilities,
        publishers: Publishers,
        topic: &str,
        sending: &Sending,
        request_timeout: Duration,
    ) -> Self {
        Self {
            capabilities,
            publishers: Arc::new(publishers),
            topic: format!("topic {topic}").into(),
            room: Room::new(sending),
            request_timeout,
            closed: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }
    }

    /// What is to be sent, in the order of the batch; the others have their fate already.
    fn admit(&self, batch: &[Message], fates: &mut [Option<Fate>]) -> Vec<usize> {
        let mut refused_keys: Vec<&str> = Vec::new();
        let mut admitted = Vec::with_capacity(batch.len());
        for (i, message) in batch.iter().enumerate() {
            let key = message.ordering_key();
            if key.is_some_and(|key| refused_keys.contains(&key)) {
                fates[i] = Some(Err(not_in_turn(&self.topic, false)));
                continue;
            }
            match message::check(message, self.capabilities.ordering) {
                Ok(()) => admitted.push(i),
                Err(error) => {
                    fates[i] = Some(Err(error));
                    refused_keys.extend(key);
                }
            }
        }
        admitted
    }
}

type Fate = Result<MessageId>;

#[async_trait]
impl driver::Producer for PubSubProducer {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn encoded_len(&self, message: &Message) -> usize {
        message::encoded_len(message)
    }

    async fn send(&self, batch: &[Message]) -> Vec<Fate> {
        if self.closed.is_cancelled() {
            return vec![Err(Operation::Send.closed()); batch.len()];
        }
        let mut fates: Vec<Option<Fate>> = vec![None; batch.len()];
        let admitted = self.admit(batch, &mut fates);
        let bytes = admitted
            .iter()
            .map(|i| message::encoded_len(&batch[*i]))
            .sum();
        let limit = self.request_timeout;
        let Ok(room) = timeout(limit, self.room.take(admitted.len(), bytes)).await else {
            let full = Operation::Send.error(
                ErrorKind::Throttled,
                format!(
                    "{}: too many messages are under way, and none was confirmed within {}",
                    self.topic,
                    humantime::format_duration(limit)
                ),
            );
            return settled(fates, &full);
        };
        // Handed over in the order of the batch, before anything is awaited.
        let sent: Vec<Sent> = admitted
            .into_iter()
            .map(|i| {
                let message = batch[i].clone();
                let lane = self.publishers.lane(message.ordering_key());
                let outcome = lane.publisher.publish(message::to_raw(&message));
                Sent {
                    index: i,
                    message,
                    lane,
                    outcome,
                }
            })
            .collect();
        let fates = Arc::new(Mutex::new(fates));
        // A task of its own: a caller that goes away does not stop what follows a failure.
        let following = self.tasks.spawn(follow(
            self.publishers.clone(),
            self.topic.clone(),
            sent,
            fates.clone(),
            room,
        ));
        let missing = match timeout(limit + GRACE, following).await {
            Ok(_) => message::no_result(),
            Err(_) => Operation::Send.timed_out(&self.topic, limit),
        };
        let fates = std::mem::take(&mut *fates.lock().unwrap_or_else(PoisonError::into_inner));
        settled(fates, &missing)
    }

    async fn close(&self) -> Result<()> {
        self.closed.cancel();
        self.tasks.close();
        let limit = self.request_timeout + GRACE;
        timeout(limit, self.tasks.wait()).await.map_err(|_| {
            Operation::Close.error(
                ErrorKind::Timeout,
                format!(
                    "{}: messages are still under way after {}",
                    self.topic,
                    humantime::format_duration(limit)
                ),
            )
        })
    }
}

fn settled(fates: Vec<Option<Fate>>, missing: &Error) -> Vec<Fate> {
    fates
        .into_iter()
        .map(|fate| fate.unwrap_or_else(|| Err(missing.clone())))
        .collect()
}

/// A message that the client library has.
struct Sent {
    index: usize,
    message: Message,
    lane: Lane,
    outcome: PublishFuture,
}

/// A message that was not published.
struct Failed {
    index: usize,
    message: Message,
    lane: Lane,
    error: Error,
}

/// Notes the fates of messages as they come.
async fn follow(
    publishers: Arc<Publishers>,
    topic: Arc<str>,
    sent: Vec<Sent>,
    fates: Arc<Mutex<Vec<Option<Fate>>>>,
    _room: Taken,
) {
    let note = |index: usize, fate: Fate| {
        let mut fates = fates.lock().unwrap_or_else(PoisonError::into_inner);
        // The list is gone when the caller has given up.
        if let Some(slot) = fates.get_mut(index) {
            *slot = Some(fate);
        }
    };
    let mut failures = Vec::new();
    for sent in sent {
        match sent.outcome.await {
            Ok(id) => note(sent.index, Ok(MessageId::from(id))),
            Err(error) => failures.push(Failed {
                index: sent.index,
                message: sent.message,
                lane: sent.lane,
                error: of_publish(&topic, error),
            }),
        }
    }
    if failures.is_empty() {
        return;
    }
    // A request fails as a whole: when it was about a message, that may be another caller's. Alone,
    // each message has its own answer.
    let is_blamed = |error: &Error| {
        matches!(
            error.kind(),
            ErrorKind::InvalidMessage | ErrorKind::TooLarge
        )
    };
    let one_by_one = failures
        .iter()
        .any(|failed| is_blamed(&failed.error))
        .then(|| publishers.one_by_one());
    // For each key with a failure: whether a retry of that one makes sense.
    let mut blocked: HashMap<&str, bool> = HashMap::new();
    for failed in &failures {
        let key = failed.message.ordering_key();
        if let Some(may_retry) = key.and_then(|key| blocked.get(key)) {
            note(failed.index, Err(not_in_turn(&topic, *may_retry)));
            continue;
        }
        let fate = match &one_by_one {
            Some(publisher) if is_blamed(&failed.error) => publisher
                .publish(message::to_raw(&failed.message))
                .await
                .map(MessageId::from)
                .map_err(|error| of_publish(&topic, error)),
            _ => Err(failed.error.clone()),
        };
        if let (Some(key), Err(error)) = (key, &fate) {
            blocked.insert(key, error.is_retryable());
        }
        note(failed.index, fate);
    }
    // After all messages of this call were handed over and failed, so that none of them follows
    // an earlier one that did not go out.
    for failed in &failures {
        if let Some(key) = failed.message.ordering_key() {
            failed.lane.publisher.resume_publish(key);
        }
    }
}

/// How much may be under way: the client library's own queue has no end.
struct Room {
    messages: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    most_messages: u32,
    most_bytes: u32,
}

type Taken = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl Room {
    fn new(sending: &Sending) -> Self {
        Self {
            messages: Arc::new(Semaphore::new(sending.unsent_messages as usize)),
            bytes: Arc::new(Semaphore::new(sending.unsent_bytes as usize)),
            most_messages: sending.unsent_messages,
            most_bytes: sending.unsent_bytes,
        }
    }

    /// Waits for room. What is larger than all of it has it to itself.
    async fn take(&self, messages: usize, bytes: usize) -> Taken {
        let messages =
            u32::try_from(messages).map_or(self.most_messages, |n| n.min(self.most_messages));
        let bytes = u32::try_from(bytes).map_or(self.most_bytes, |n| n.min(self.most_bytes));
        (
            acquire(&self.messages, messages).await,
            acquire(&self.bytes, bytes).await,
        )
    }
}

async fn acquire(semaphore: &Arc<Semaphore>, permits: u32) -> OwnedSemaphorePermit {
    match semaphore.clone().acquire_many_owned(permits).await {
        Ok(permit) => permit,
        // It is never closed.
        Err(_) => std::future::pending().await,
    }
}

impl fmt::Debug for PubSubProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PubSubProducer").field(&self.topic).finish()
    }
}
