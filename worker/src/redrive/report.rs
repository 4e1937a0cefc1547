//! What a redrive did.

use std::fmt;

use serde::{Serialize, Serializer};
use towpath_core::{Envelope, Error, FailureClass, FailureRecord};
use uuid::Uuid;

/// What a [`Redrive`](crate::Redrive) did. Every delivery that was seen is in one of the figures
/// after it, which tell of the end: a message whose first ack failed, and that was removed later, is
/// `redriven`.
///
/// As JSON it is one object, in which `end` is the reason of the end and `error` the error that
/// ended it, where there is one: `{"seen":10, .., "dry_run":false, "end":"empty"}`.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RedriveReport {
    /// Messages that were seen.
    pub seen: u64,
    /// Messages that were sent on and removed; in a dry run, that would be.
    pub redriven: u64,
    /// Messages that were sent on and could not be removed: they are in both queues, with one
    /// idempotency key.
    pub unacked: u64,
    /// Messages whose send was not answered in time. They stay, and may be in both queues, with one
    /// idempotency key.
    pub unanswered: u64,
    /// Messages that the filter left out.
    pub filtered_out: u64,
    /// Messages without a target: they failed in a queue that has no route.
    pub no_route: u64,
    /// Messages that could not be sent, and stay.
    pub not_sent: u64,
    /// Deliveries of messages that were sent in this pass already, or tried to be. They are not
    /// sent once more, and removed at the end if they were sent: whether that succeeded is in
    /// `redriven` and `unacked`.
    pub came_again: u64,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Why it ended.
    #[serde(flatten)]
    pub end: RedriveEnd,
}

/// Why a redrive ended.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "end", content = "error", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RedriveEnd {
    /// Nothing more came.
    Empty,
    /// The limit was reached.
    Limit,
    /// As many messages are held back as may be; the rest was not seen.
    Held,
    /// The signal came.
    Stopped,
    /// A whole batch could not be sent.
    TargetFailed(#[serde(serialize_with = "as_text")] Error),
}

fn as_text<S: Serializer>(error: &Error, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(error)
}

impl RedriveReport {
    pub(crate) fn new(dry_run: bool) -> Self {
        Self {
            seen: 0,
            redriven: 0,
            unacked: 0,
            unanswered: 0,
            filtered_out: 0,
            no_route: 0,
            not_sent: 0,
            came_again: 0,
            dry_run,
            end: RedriveEnd::Empty,
        }
    }

    pub(crate) fn count(&mut self, fate: Fate) {
        *match fate {
            Fate::Redriven | Fate::WouldRedrive => &mut self.redriven,
            Fate::Unacked => &mut self.unacked,
            Fate::Unanswered => &mut self.unanswered,
            Fate::FilteredOut => &mut self.filtered_out,
            Fate::NoRoute => &mut self.no_route,
            Fate::NotSent => &mut self.not_sent,
            Fate::CameAgain => &mut self.came_again,
        } += 1;
    }
}

/// `seen=10 redriven=8 filtered_out=2 end=empty`.
impl fmt::Display for RedriveReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.dry_run {
            "would_redrive"
        } else {
            "redriven"
        };
        write!(f, "seen={} {verb}={}", self.seen, self.redriven)?;
        for (name, figure) in [
            ("unacked", self.unacked),
            ("unanswered", self.unanswered),
            ("filtered_out", self.filtered_out),
            ("no_route", self.no_route),
            ("not_sent", self.not_sent),
            ("came_again", self.came_again),
        ] {
            if figure > 0 {
                write!(f, " {name}={figure}")?;
            }
        }
        match &self.end {
            RedriveEnd::Empty => f.write_str(" end=empty"),
            RedriveEnd::Limit => f.write_str(" end=limit"),
            RedriveEnd::Held => f.write_str(" end=held"),
            RedriveEnd::Stopped => f.write_str(" end=stopped"),
            RedriveEnd::TargetFailed(error) => write!(f, " end=target_failed ({error})"),
        }
    }
}

/// What became of one dead letter: a line of the audit.
///
/// A dead letter that came again, or that was removed later than it was sent, has more than one line:
/// the last one with the fate [`Redriven`](Fate::Redriven) or [`Unacked`](Fate::Unacked) counts.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Redriven {
    /// The broker's id in the dead-letter queue.
    pub id: String,
    /// The stable identity of the message.
    pub idempotency_key: Uuid,
    /// The queue that it failed in.
    pub origin: String,
    /// The class of its failure.
    pub class: FailureClass,
    /// The reason of its failure.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// How often it was redriven before.
    pub redrives: u32,
    /// The route it took: its origin, or `override`. `None` where it stays.
    pub target: Option<String>,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Fate {
    /// Sent on and removed.
    Redriven,
    /// Would be sent on, in a dry run.
    WouldRedrive,
    /// Sent on and not removed: it is in both queues.
    Unacked,
    /// The send was not answered in time: it stays, and may be in both queues.
    Unanswered,
    /// Left out by the filter.
    FilteredOut,
    /// There is no route for its origin.
    NoRoute,
    /// Could not be sent, and stays.
    NotSent,
    /// Was sent in this pass already, or tried to be, and came again. It is not sent once more.
    CameAgain,
}

impl Redriven {
    pub(crate) fn new(
        envelope: &Envelope,
        record: &FailureRecord,
        target: Option<&str>,
        fate: Fate,
    ) -> Self {
        Self {
            id: envelope.id.to_string(),
            idempotency_key: envelope.message.idempotency_key(),
            origin: record.queue.clone(),
            class: record.class.clone(),
            reason: record.reason.clone(),
            attempts: record.attempts,
            redrives: record.redrives,
            target: target.map(str::to_owned),
            fate,
        }
    }
}

/// As JSON on one line.
impl fmt::Display for Redriven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}
