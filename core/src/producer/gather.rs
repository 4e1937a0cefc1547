//! Single sends that run at the same time share a request.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::Sender;
use crate::{Message, MessageId, Result, producer::closed};

/// How many single sends wait in line before `send` itself waits.
const LINE: usize = 1_024;
/// How many requests are under way at once.
const REQUESTS: usize = 16;

/// The sending end of the line. The task behind it ends when the last end is dropped, after it has
/// sent what waits.
pub(super) struct Gather {
    line: mpsc::Sender<Command>,
}

enum Command {
    Send(Entry),
    Flush(oneshot::Sender<()>),
}

struct Entry {
    message: Message,
    bytes: usize,
    done: oneshot::Sender<Result<MessageId>>,
}

impl Gather {
    pub(super) fn start(sender: Sender, linger: Duration) -> Self {
        let (line, commands) = mpsc::channel(LINE);
        tokio::spawn(run(sender, linger, commands));
        Self { line }
    }

    pub(super) async fn send(&self, message: Message, bytes: usize) -> Result<MessageId> {
        let (done, fate) = oneshot::channel();
        let entry = Entry {
            message,
            bytes,
            done,
        };
        self.line
            .send(Command::Send(entry))
            .await
            .map_err(|_| closed("send"))?;
        fate.await.unwrap_or_else(|_| Err(closed("send")))
    }

    /// Waits until everything that stood in line is sent.
    pub(super) async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        if self.line.send(Command::Flush(done)).await.is_ok() {
            let _ = flushed.await;
        }
    }
}

async fn run(sender: Sender, linger: Duration, mut commands: mpsc::Receiver<Command>) {
    let limits = sender.driver.capabilities().limits.clone();
    let slots = Arc::new(Semaphore::new(REQUESTS));
    let mut requests: JoinSet<()> = JoinSet::new();
    let mut held: Option<Entry> = None;
    loop {
        let first = match held.take() {
            Some(entry) => entry,
            None => match commands.recv().await {
                Some(Command::Send(entry)) => entry,
                Some(Command::Flush(done)) => {
                    while requests.join_next().await.is_some() {}
                    let _ = done.send(());
                    continue;
                }
                None => break,
            },
        };
        let mut bytes = first.bytes;
        let mut batch = vec![first];
        let mut flush = None;
        let deadline = Instant::now() + linger;
        while batch.len() < limits.send_batch {
            match timeout_at(deadline, commands.recv()).await {
                Ok(Some(Command::Send(entry))) => {
                    if bytes.saturating_add(entry.bytes) > limits.send_batch_bytes {
                        held = Some(entry);
                        break;
                    }
                    bytes += entry.bytes;
                    batch.push(entry);
                }
                Ok(Some(Command::Flush(done))) => {
                    flush = Some(done);
                    break;
                }
                Ok(None) | Err(_) => break,
            }
        }
        // Requests run side by side, except where that could break the order of a key.
        let is_ordered = batch
            .iter()
            .any(|entry| entry.message.ordering_key().is_some());
        if is_ordered {
            while requests.join_next().await.is_some() {}
        }
        while requests.try_join_next().is_some() {}
        let Ok(slot) = slots.clone().acquire_owned().await else {
            break;
        };
        let sender = sender.clone();
        requests.spawn(async move {
            send(&sender, batch).await;
            drop(slot);
        });
        if is_ordered || flush.is_some() {
            while requests.join_next().await.is_some() {}
        }
        if let Some(done) = flush {
            let _ = done.send(());
        }
    }
    while requests.join_next().await.is_some() {}
}

async fn send(sender: &Sender, batch: Vec<Entry>) {
    let (messages, waiting): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|entry| (entry.message, entry.done))
        .unzip();
    for (done, result) in waiting.into_iter().zip(sender.send(&messages).await) {
        // A caller that went away has dropped its future; the message is sent all the same.
        let _ = done.send(result);
    }
}
