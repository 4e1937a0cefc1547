//! A case: a name that says what holds, and the function that finds out.

use std::fmt;

use futures::future::BoxFuture;
use serde::Serialize;
use towpath_core::{AckStatus, Attempts, Capabilities, Error, Lease, Precision, SettleError};

use crate::Context;

/// One thing that every backend promises.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Case {
    /// What holds, in `snake_case`. Unique.
    pub name: &'static str,
    /// What is promised, in one line.
    pub promise: &'static str,
    /// Which part of the contract it is about.
    pub group: Group,
    /// What the queue must be able to do; the case is ignored where it cannot.
    pub needs: &'static [Need],
    /// Finds out.
    pub run: fn(Context) -> BoxFuture<'static, CaseResult>,
}

impl Case {
    /// A case that needs nothing special.
    pub const fn new(
        group: Group,
        name: &'static str,
        promise: &'static str,
        run: fn(Context) -> BoxFuture<'static, CaseResult>,
    ) -> Self {
        Self {
            name,
            promise,
            group,
            needs: &[],
            run,
        }
    }

    /// Sets what the queue must be able to do.
    #[must_use]
    pub const fn with_needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }

    /// Group and name: `send::empty_bodies_are_carried_or_refused`.
    pub fn path(&self) -> String {
        format!("{}::{}", self.group, self.name)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.path())
            .field("needs", &self.needs)
            .finish()
    }
}

/// Parts of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Group {
    /// What is accepted, and what comes out.
    Send,
    /// Waiting, waking, sharing.
    Receive,
    /// Acks and nacks.
    Settle,
    /// Leases: how long they last and how they end.
    Lease,
    /// Dead-letter queues.
    DeadLetter,
    /// Ordering keys.
    Ordering,
    /// Delays on send.
    Delay,
    /// Deduplication.
    Dedup,
    /// Creating, inspecting, counting, purging, deleting.
    Admin,
    /// Failures: of the right kind, and retryable or not.
    Errors,
    /// What is claimed holds, and what is not claimed is refused.
    Capabilities,
}

impl Group {
    /// The name in `snake_case`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Settle => "settle",
            Self::Lease => "lease",
            Self::DeadLetter => "dead_letter",
            Self::Ordering => "ordering",
            Self::Delay => "delay",
            Self::Dedup => "dedup",
            Self::Admin => "admin",
            Self::Errors => "errors",
            Self::Capabilities => "capabilities",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a case needs of the queue, or of the harness. Queues are created with what is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Need {
    /// Ordering keys.
    Ordering,
    /// Deduplication.
    Dedup,
    /// Delays on send.
    Delay,
    /// Nacks with a delay.
    NackDelay,
    /// Leases that the consumer extends.
    ExtendedLease,
    /// Counted attempts.
    Attempts,
    /// Confirmed acks.
    ConfirmedAck,
    /// A dead-letter queue that consumers move messages to.
    DeadLetter,
    /// A dead-letter policy of the broker's own.
    BrokerDeadLetter,
    /// A depth that is told.
    Depth,
    /// Purging.
    Purge,
    /// Time that passes at once, because the wait would be too long.
    PausedClock,
    /// A harness that can cut the connection.
    Cut,
    /// A harness that knows an endpoint where nobody answers.
    Unreachable,
    /// A harness that knows credentials which are not accepted.
    Denied,
}

impl Need {
    /// What is missing in `capabilities`, in words.
    pub(crate) fn missing(self, capabilities: &Capabilities) -> Option<&'static str> {
        let (has, what) = match self {
            Self::Ordering => (capabilities.ordering, "the queue has no ordering"),
            Self::Dedup => (
                capabilities.dedup_window.is_some(),
                "the queue has no deduplication",
            ),
            Self::Delay => (
                !capabilities.limits.delay.is_zero(),
                "the queue cannot delay messages on send",
            ),
            Self::NackDelay => (
                !capabilities.limits.nack_delay.is_zero(),
                "the queue cannot delay a nack",
            ),
            Self::ExtendedLease => (
                matches!(capabilities.lease, Lease::Extended { .. }),
                "the client library manages the leases",
            ),
            Self::Attempts => (
                capabilities.attempts != Attempts::Uncounted,
                "the queue does not count attempts",
            ),
            Self::ConfirmedAck => (
                capabilities.ack == AckStatus::Confirmed,
                "the queue does not confirm acks",
            ),
            Self::BrokerDeadLetter => (
                capabilities.broker_dead_letter,
                "the broker has no dead-letter policy",
            ),
            Self::Depth => (
                capabilities.depth != Precision::Unknown,
                "the queue does not tell its depth",
            ),
            Self::Purge => (capabilities.purge, "the queue cannot be purged"),
            // Of the harness, or found out when the queue is made.
            Self::DeadLetter | Self::PausedClock | Self::Cut | Self::Unreachable | Self::Denied => {
                return None;
            }
        };
        (!has).then_some(what)
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ordering => "ordering",
            Self::Dedup => "deduplication",
            Self::Delay => "delay on send",
            Self::NackDelay => "delayed nack",
            Self::ExtendedLease => "leases extended by the consumer",
            Self::Attempts => "counted attempts",
            Self::ConfirmedAck => "confirmed acks",
            Self::DeadLetter => "dead-letter queue",
            Self::BrokerDeadLetter => "dead-letter policy of the broker",
            Self::Depth => "depth",
            Self::Purge => "purge",
            Self::PausedClock => "paused clock",
            Self::Cut => "harness: cut connection",
            Self::Unreachable => "harness: unreachable endpoint",
            Self::Denied => "harness: refused credentials",
        })
    }
}

/// How a case ended: well, or with the reason why not.
pub type CaseResult = Result<(), CaseError>;

/// Why a case did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CaseError {
    /// What is promised does not hold.
    Failed(String),
    /// The queue or the harness cannot do what the case needs.
    Ignored(String),
}

impl CaseError {
    /// What is promised does not hold.
    pub fn failed(what: impl Into<String>) -> Self {
        Self::Failed(what.into())
    }

    /// The queue or the harness cannot do what the case needs.
    pub fn ignored(reason: impl Into<String>) -> Self {
        Self::Ignored(reason.into())
    }
}

impl fmt::Display for CaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(what) => f.write_str(what),
            Self::Ignored(reason) => write!(f, "ignored: {reason}"),
        }
    }
}

impl std::error::Error for CaseError {}

/// An error that the case did not expect.
impl From<Error> for CaseError {
    fn from(error: Error) -> Self {
        Self::Failed(format!("unexpected error: {error}"))
    }
}

/// A settlement that the case expected to work.
impl From<SettleError> for CaseError {
    fn from(error: SettleError) -> Self {
        Error::from(error).into()
    }
}

/// Ends the case as failed unless the condition holds: `ensure!(condition, "what is wrong: {x}")`.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::CaseError::failed(format!($($what)+)));
        }
    };
}

/// Ends the case as failed unless both are equal: `ensure_eq!(found, wanted, "the body")`.
#[macro_export]
macro_rules! ensure_eq {
    ($found:expr, $wanted:expr, $($what:tt)+) => {
        match (&$found, &$wanted) {
            (found, wanted) => {
                if !(*found == *wanted) {
                    return Err($crate::CaseError::failed(format!(
                        "{} is {:?}, and {:?} is right",
                        format_args!($($what)+),
                        found,
                        wanted,
                    )));
                }
            }
        }
    };
}
