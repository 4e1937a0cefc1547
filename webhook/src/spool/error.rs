//! What can go wrong with a spool.

use std::{path::PathBuf, sync::Arc};

use towpath_core::{Error, ErrorKind};

/// Why a spool could not be opened, or did not keep a message.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// There is no room for the message.
    #[error(
        "the spool is full: it holds {messages} messages, {bytes} bytes; \
         is its queue down, or is it not drained?"
    )]
    Full {
        /// How many messages it holds.
        messages: usize,
        /// How many bytes they take.
        bytes: u64,
    },
    /// Another process, or another [`Spool`](super::Spool) of this one, has the file open.
    #[error(
        "the spool {} is open elsewhere: each process needs a file of its own",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be opened.
    #[error("the spool {} cannot be opened: {why}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
        /// The cause.
        source: Option<Arc<redb::Error>>,
    },
    /// The file could not be read or written; it is opened again for the next call.
    #[error("the spool could not be read or written: {0}")]
    Storage(Arc<redb::Error>),
    /// A message in the file cannot be read.
    #[error("message {number} of queue {queue:?} in the spool cannot be read: {why}")]
    Unreadable {
        /// The queue of the message.
        queue: String,
        /// Its number in the file.
        number: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The thread that writes has ended, after a panic that was logged.
    #[error("the spool's writer has ended; start again")]
    Ended,
}

impl<E: Into<redb::Error>> From<E> for SpoolError {
    fn from(error: E) -> Self {
        Self::Storage(Arc::new(error.into()))
    }
}

impl From<SpoolError> for Error {
    fn from(error: SpoolError) -> Self {
        let kind = match error {
            SpoolError::Full { .. } => ErrorKind::Throttled,
            SpoolError::InUse { .. } | SpoolError::Open { .. } => ErrorKind::InvalidConfig,
            _ => ErrorKind::Unavailable,
        };
        Error::new(kind, error.to_string()).with_source(error)
    }
}
