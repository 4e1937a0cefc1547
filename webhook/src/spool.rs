//! A bounded place on disk for accepted messages whose queue cannot be reached.
//!
//! A receiver opens one where its configuration has the table `[spool]`, and sends on from it:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use towpath_core::Registry;
//! use towpath_memory::MemoryBackend;
//! use towpath_webhook::{Config, Receiver};
//!
//! let config = Config::parse(r#"
//!     [queues]
//!     pushes = "memory://pushes"
//!
//!     [spool]
//!     path = "webhooks.spool"
//!
//!     [sources.github]
//!     path = "/hooks/github"
//!     queue = "pushes"
//!     verify = { scheme = "github", secrets = ["for tests only"] }
//! "#)?;
//! # let folder = tempfile::tempdir()?;
//! # let config = config.with_folder(folder.path());
//! let receiver = Receiver::builder()
//!     .registry(Registry::new().with(MemoryBackend::new()))
//!     .start(config)
//!     .await?;
//! // axum::serve(listener, receiver.router()).await?;
//! receiver.close().await?;
//! # Ok(()) }
//! ```
//!
//! A program that opens it itself gives it to
//! [`ReceiverBuilder::overflow`](crate::ReceiverBuilder::overflow), and calls
//! [`run`](Spool::run) with [`Receiver::producer`](crate::Receiver::producer) in a task of its own,
//! which it stops before it closes the receiver.
//!
//! # What it promises
//!
//! - When [`push`](Spool::push) returns `Ok`, the message is on the disk: the file is synced, and so
//!   is the folder that names it. `kill -9` and a power cut lose nothing, as far as the disk does
//!   what it says.
//! - A message is removed only after its queue has taken it. A crash in between sends it again, with
//!   the same idempotency key.
//! - Messages of one queue are sent on in the order in which they were pushed, in batches, as
//!   [`Producer::send_batch`](towpath_core::Producer::send_batch) keeps the order of ordering keys.
//!   Queues do not wait for each other.
//! - It is bounded, in messages and bytes. [`SpoolError::Full`] is the answer beyond.
//! - Messages of a queue that nobody knows any more are kept, and [`Spool::state`] names the queue.
//!
//! Many pushes at once share one commit: those that arrive while a commit runs go into the next.
//! The file belongs to a thread of its own, so no task ever waits for a disk.
//!
//! # Why redb
//!
//! The file is a [redb](https://www.redb.org) database: one file, pure Rust, a stable file format,
//! maintained, and copy-on-write: a commit writes to pages that nothing refers to, syncs them, and
//! then switches one byte, so a torn write at the end of a crash is not looked at. It locks the file
//! against a second process. fjall, the other well-kept store, is a log-structured tree over a
//! folder of files; it writes less per small commit, but what is spooled is soon deleted, which in
//! such a tree are more writes and a compaction in the background, and its journal needs a recovery
//! of its own for a torn tail. With commits shared, redb's two fsyncs per commit do not limit us.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::SystemTime,
};

use async_trait::async_trait;
use tokio::sync::oneshot;
use towpath_core::{Message, Result};

use crate::Overflow;

mod drain;
mod error;
mod options;
#[cfg(test)]
mod power_cut;
mod record;
mod store;
mod tally;
mod writer;

pub use error::SpoolError;
pub use options::SpoolOptions;
pub use tally::SpoolState;

use record::Record;
use writer::{Command, Shared, Writer};

/// A bounded, durable spool in one file; see the [module](self). Clones share it.
#[derive(Clone, Debug)]
pub struct Spool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    writer: Writer,
    shared: Arc<Shared>,
    options: SpoolOptions,
    /// One drain at a time: two would send everything twice.
    draining: tokio::sync::Mutex<()>,
    has_ended: AtomicBool,
}

impl Spool {
    /// Opens the file, or makes it, and reads what is in it. Blocks for as long as that takes: call
    /// it at the start.
    ///
    /// When the last clone is dropped, the file is closed after the commit that is under way.
    ///
    /// # Errors
    ///
    /// [`InUse`](SpoolError::InUse) when another process has it open, [`Open`](SpoolError::Open)
    /// when it cannot be opened, made or understood, [`Unreadable`](SpoolError::Unreadable) when
    /// another version wrote a message in it.
    pub fn open(path: impl Into<PathBuf>, options: SpoolOptions) -> Result<Self, SpoolError> {
        let shared = Arc::new(Shared::default());
        let writer = Writer::start(path.into(), Arc::clone(&shared))?;
        Ok(Self(Arc::new(Inner {
            writer,
            shared,
            options,
            draining: tokio::sync::Mutex::default(),
            has_ended: AtomicBool::new(false),
        })))
    }

    /// Keeps `message` for `queue`: on the disk, when it returns `Ok`.
    ///
    /// # Errors
    ///
    /// [`Full`](SpoolError::Full) when there is no room. After
    /// [`Storage`](SpoolError::Storage) it is unknown whether the message is kept; push the same
    /// [`Message`] again, and both carry one idempotency key.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the message may or may not be kept.
    pub async fn push(&self, queue: &str, message: &Message) -> Result<(), SpoolError> {
        let record = Record::new(message, SystemTime::now()).map_err(|why| {
            let queue = queue.to_owned();
            SpoolError::Unreadable {
                queue,
                number: 0,
                why,
            }
        })?;
        let queue: Arc<str> = Arc::from(queue);
        let bytes = record.len() as u64;
        self.0
            .shared
            .tally()
            .reserve(&queue, bytes, &self.0.options)?;
        let (done, answer) = oneshot::channel();
        let command = Command::Push {
            queue: Arc::clone(&queue),
            record,
            done,
        };
        if self.0.writer.send(command).is_err() {
            self.0.shared.tally().settle(&queue, bytes, None);
        }
        self.answer(answer).await
    }

    /// Whether something for `queue` is here that is to be sent on. As long as it is, push new
    /// messages of that queue too, so that they stay in order.
    pub fn has(&self, queue: &str) -> bool {
        self.0.shared.tally().has(queue)
    }

    /// How many messages are here, with those that are being pushed.
    pub fn depth(&self) -> usize {
        self.state().messages
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// When the oldest message was pushed.
    pub fn oldest(&self) -> Option<SystemTime> {
        self.state().oldest
    }

    /// What is here, for health checks and operators.
    pub fn state(&self) -> SpoolState {
        let mut state = self.0.shared.tally().state(&self.0.options);
        state.has_room &= !self.0.has_ended.load(Ordering::Relaxed);
        state
    }

    async fn remove(&self, queue: &Arc<str>, numbers: Vec<u64>) -> Result<(), SpoolError> {
        let (done, answer) = oneshot::channel();
        let queue = Arc::clone(queue);
        let _ = self.0.writer.send(Command::Remove {
            queue,
            numbers,
            done,
        });
        self.answer(answer).await
    }

    async fn read(
        &self,
        queue: &Arc<str>,
        numbers: Vec<u64>,
    ) -> Result<Vec<(u64, Message)>, SpoolError> {
        let (done, answer) = oneshot::channel();
        let queue = Arc::clone(queue);
        let _ = self.0.writer.send(Command::Read {
            queue,
            numbers,
            done,
        });
        self.answer(answer).await
    }

    async fn answer<T>(
        &self,
        answer: oneshot::Receiver<Result<T, SpoolError>>,
    ) -> Result<T, SpoolError> {
        answer.await.unwrap_or_else(|_| {
            self.0.has_ended.store(true, Ordering::Relaxed);
            Err(SpoolError::Ended)
        })
    }
}

#[async_trait]
impl Overflow for Spool {
    async fn push(&self, queue: &str, message: &Message) -> Result<()> {
        Ok(Spool::push(self, queue, message).await?)
    }

    fn holds(&self, queue: &str) -> bool {
        self.has(queue)
    }

    fn depth(&self) -> usize {
        Spool::depth(self)
    }

    fn has_room(&self) -> bool {
        self.state().has_room
    }

    fn unknown_queues(&self) -> Vec<String> {
        self.state().unknown_queues
    }
}
