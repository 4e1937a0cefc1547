//! What is being done, for errors.

use std::time::Duration;

use towpath_core::{Error, ErrorKind};

/// The name of this backend in errors.
pub(crate) const BACKEND: &str = "sqs";

/// What was being done when an error came. The same code can mean different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Open,
    Send,
    Receive,
    Ack,
    Nack,
    Extend,
    Ensure,
    Inspect,
    Depth,
    Purge,
    Delete,
    MoveTask,
}

impl Operation {
    /// All of them, for tests.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 12] = [
        Self::Open,
        Self::Send,
        Self::Receive,
        Self::Ack,
        Self::Nack,
        Self::Extend,
        Self::Ensure,
        Self::Inspect,
        Self::Depth,
        Self::Purge,
        Self::Delete,
        Self::MoveTask,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Ack => "ack",
            Self::Nack => "nack",
            Self::Extend => "extend",
            Self::Ensure => "ensure",
            Self::Inspect => "inspect",
            Self::Depth => "depth",
            Self::Purge => "purge",
            Self::Delete => "delete",
            Self::MoveTask => "move task",
        }
    }

    /// An error of this operation.
    pub(crate) fn error(self, kind: ErrorKind, message: impl Into<String>) -> Error {
        Error::new(kind, message)
            .with_backend(BACKEND)
            .with_operation(self.name())
    }

    /// The error of a call about `queue` that was given up.
    pub(crate) fn timed_out(self, queue: &str, after: Duration) -> Error {
        self.error(
            ErrorKind::Timeout,
            format!(
                "queue {queue}: SQS did not answer within {}; whether the call took effect is \
                 unknown",
                humantime::format_duration(after)
            ),
        )
    }

    /// Whether it is about messages that were received.
    pub(crate) fn settles(self) -> bool {
        matches!(self, Self::Ack | Self::Nack | Self::Extend)
    }
}
