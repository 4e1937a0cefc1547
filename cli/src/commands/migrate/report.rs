//! What a migration did.

use std::fmt;

use serde::{Serialize, Serializer};
use towpath::{Error, worker::transfer::Transferred};

use super::MOST_HELD;
use crate::signal;

#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Sent to the target and removed from the source.
    pub(super) moved: u64,
    /// Sent and not removed, or sent without an answer: they may arrive twice, with one idempotency
    /// key.
    pub(super) possibly_twice: u64,
    /// Not taken by the target; they stay in the source.
    pub(super) refused: u64,
    /// Given out again by the source after they were sent. They are not sent once more.
    pub(super) came_again: u64,
    #[serde(flatten)]
    pub(super) end: End,
}

/// Why it ended.
#[derive(Debug, Default, Serialize)]
#[serde(tag = "end", content = "error", rename_all = "snake_case")]
pub(super) enum End {
    /// Nothing more came.
    #[default]
    Idle,
    /// The limit was reached.
    Limit,
    /// As many messages are held back as may be.
    Held,
    /// Ctrl-C.
    Stopped,
    /// The target took nothing of a batch.
    TargetFailed(#[serde(serialize_with = "as_text")] Error),
    /// Receiving failed, again and again.
    SourceFailed(#[serde(serialize_with = "as_text")] Error),
}

fn as_text<S: Serializer>(error: &Error, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(error)
}

impl Report {
    /// What counts for the limit.
    pub(super) fn taken(&self) -> u64 {
        self.moved + self.possibly_twice
    }

    /// Counts what became of a batch. Returns an error of the target when nothing of it was sent
    /// and that is not the fault of the messages.
    pub(super) fn count(&mut self, fates: Vec<Transferred>) -> Option<Error> {
        let (mut has_sent, mut failed) = (false, None);
        for fate in fates {
            match fate {
                Transferred::Moved => {
                    self.moved += 1;
                    has_sent = true;
                }
                Transferred::Unacked(error) => {
                    tracing::warn!(%error, "sent to the target, but not removed from the source");
                    self.possibly_twice += 1;
                    has_sent = true;
                }
                Transferred::Unanswered(error) => {
                    tracing::warn!(%error, "it is unknown whether the target has the message; it stays in the source");
                    self.possibly_twice += 1;
                    failed = Some(error);
                }
                Transferred::NotSent(error) => {
                    tracing::error!(%error, "the target did not take a message; it stays in the source");
                    self.refused += 1;
                    if !error.kind().is_about_message() {
                        failed = Some(error);
                    }
                }
                _ => self.came_again += 1,
            }
        }
        failed.filter(|_| !has_sent)
    }

    /// Puts right what was counted of a message before the end.
    pub(super) fn correct(&mut self, is_removed: bool) {
        let (less, more) = if is_removed {
            (&mut self.possibly_twice, &mut self.moved)
        } else {
            (&mut self.moved, &mut self.possibly_twice)
        };
        *less = less.saturating_sub(1);
        *more += 1;
    }

    /// The sentences for those who have to do something now.
    pub(super) fn advice(&self) -> Vec<String> {
        let mut advice = Vec::new();
        if self.possibly_twice > 0 {
            advice.push(format!(
                "{} may be in both queues, with one idempotency key: they were sent and not \
                 removed, or their send was not answered. Run again, it sends those that are still \
                 in the source once more",
                self.possibly_twice
            ));
        }
        if self.came_again > 0 {
            advice.push(format!(
                "{} came again after they were sent, and were not sent once more. Look whether the \
                 source still has them: run again, it would send them",
                self.came_again
            ));
        }
        match &self.end {
            End::TargetFailed(error) => advice.push(format!(
                "ended, because the target took nothing of a batch: {error}"
            )),
            End::Held => advice.push(format!(
                "ended, because {MOST_HELD} messages stay in the source and are held back; the \
                 rest was not seen"
            )),
            _ => {}
        }
        advice
    }

    /// The exit code, where the source did not fail; `has_an_end` says whether it would have ended
    /// without Ctrl-C.
    pub(super) fn exit_code(&self, has_an_end: bool) -> u8 {
        let stays = self.possibly_twice + self.refused + self.came_again > 0;
        match self.end {
            _ if stays => 1,
            End::TargetFailed(_) | End::Held => 1,
            End::Stopped if has_an_end => signal::INTERRUPTED,
            _ => 0,
        }
    }
}

/// `moved 10, possibly twice 0, refused and left in place 0`.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "moved {}, possibly twice {}, refused and left in place {}",
            self.moved, self.possibly_twice, self.refused
        )?;
        if self.came_again > 0 {
            write!(f, ", came again {}", self.came_again)?;
        }
        Ok(())
    }
}
