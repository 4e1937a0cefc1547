//! The first page: every queue at a glance.

use std::time::Duration;

use futures::future::{join, join_all};
use serde::Serialize;
use towpath_core::Depth;

use crate::{Status, WatchedQueue, ops::State, queue::Work};

/// What the first page shows.
#[derive(Debug, Serialize)]
pub(crate) struct Overview {
    pub(crate) title: String,
    pub(crate) queues: Vec<Row>,
    pub(crate) statuses: Vec<Line>,
}

/// Something in the process.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) status: Status,
}

/// A queue.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) scheme: String,
    pub(crate) target: String,
    pub(crate) depth: Reading,
    /// `None` where no dead-letter queue is configured.
    pub(crate) dead_letters: Option<Reading>,
    /// `None` without a worker in this process.
    pub(crate) work: Option<Work>,
}

/// A depth, or why there is none.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Reading {
    Known {
        ready: u64,
        leased: u64,
        delayed: u64,
        oldest_age_s: Option<u64>,
    },
    Unknown {
        error: String,
    },
}

impl Overview {
    pub(crate) async fn of(state: &State) -> Self {
        Self {
            title: state.title.clone(),
            queues: join_all(state.queues.values().map(row)).await,
            statuses: state
                .statuses()
                .into_iter()
                .map(|(name, status)| Line {
                    name: name.to_owned(),
                    status,
                })
                .collect(),
        }
    }
}

async fn row(watched: &WatchedQueue) -> Row {
    let (depth, dead) = join(watched.depth(), watched.dead_depth()).await;
    let config = watched.queue.config();
    Row {
        name: watched.name.clone(),
        scheme: config.scheme().to_owned(),
        target: config.target().to_owned(),
        depth: depth.into(),
        dead_letters: dead.map(Reading::from),
        work: watched.work(),
    }
}

impl From<Result<Depth, String>> for Reading {
    fn from(depth: Result<Depth, String>) -> Self {
        match depth {
            Ok(depth) => Self::Known {
                ready: depth.ready,
                leased: depth.leased,
                delayed: depth.delayed,
                oldest_age_s: depth.oldest_age.map(|age| age.as_secs()),
            },
            Err(error) => Self::Unknown { error },
        }
    }
}

impl Reading {
    /// Messages in the queue, in words.
    pub(crate) fn total(&self) -> String {
        match self {
            Self::Known {
                ready,
                leased,
                delayed,
                ..
            } => (ready + leased + delayed).to_string(),
            Self::Unknown { .. } => "?".to_owned(),
        }
    }

    /// Whether there is something in it.
    pub(crate) fn is_some(&self) -> bool {
        matches!(self, Self::Known { ready, leased, delayed, .. } if ready + leased + delayed > 0)
    }

    pub(crate) fn age(&self) -> String {
        match self {
            Self::Known {
                oldest_age_s: Some(age),
                ..
            } => humantime::format_duration(Duration::from_secs(*age)).to_string(),
            _ => "-".to_owned(),
        }
    }
}

impl Work {
    pub(crate) fn rate(&self) -> String {
        self.acked_per_s
            .map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}/s"))
    }
}
