//! What every contender does: fill a queue, then empty it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, task::JoinSet};

use crate::Error;

/// How many messages are sent and received together.
pub(crate) const BATCH: usize = 100;

/// The project of all runs: what omniqueue's client takes for a local server, and nothing else.
pub(crate) const PROJECT: &str = "local-project";

pub(crate) fn topic(name: &str) -> String {
    format!("projects/{PROJECT}/topics/{name}")
}

pub(crate) fn subscription(name: &str) -> String {
    format!("projects/{PROJECT}/subscriptions/{name}")
}

#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) endpoint: String,
    /// The name of the topic and of its subscription.
    pub(crate) queue: String,
    pub(crate) messages: usize,
    pub(crate) tasks: usize,
    pub(crate) body: usize,
}

impl Load {
    /// The body of every message, of letters.
    pub(crate) fn body(&self) -> String {
        "towpath ".chars().cycle().take(self.body).collect()
    }

    /// How many batches each of the tasks sends.
    pub(crate) fn batches(&self) -> usize {
        self.messages / self.tasks / BATCH
    }

    /// How many tasks there are where each has one message under way.
    pub(crate) fn single_tasks(&self) -> usize {
        self.tasks * BATCH
    }

    /// How many messages each of those sends.
    pub(crate) fn share(&self) -> usize {
        self.messages / self.single_tasks()
    }
}

/// What a contender took, in seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) send: f64,
    pub(crate) send_cpu: f64,
    pub(crate) receive: f64,
    pub(crate) receive_cpu: f64,
}

/// Takes the time of both halves.
pub(crate) async fn measure(
    load: &Load,
    send: impl FnOnce(&mut JoinSet<Result<(), Error>>),
    receive: impl FnOnce(&mut JoinSet<Result<(), Error>>, Meter),
) -> Result<Figures, Error> {
    let mut tasks = JoinSet::new();
    let begun = (Instant::now(), cpu());
    send(&mut tasks);
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let sent = (Instant::now(), cpu());
    let meter = Meter::new(load.messages);
    receive(&mut tasks, meter.clone());
    let failed = async {
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return error,
                Err(error) => return error.into(),
            }
        }
        // Whoever receives may end when the last message is counted.
        std::future::pending().await
    };
    tokio::select! {
        () = meter.0.done.notified() => {}
        error = failed => return Err(error),
    }
    let settled = (Instant::now(), cpu());
    tasks.shutdown().await;
    Ok(Figures {
        send: (sent.0 - begun.0).as_secs_f64(),
        send_cpu: (sent.1 - begun.1).as_secs_f64(),
        receive: (settled.0 - sent.0).as_secs_f64(),
        receive_cpu: (settled.1 - sent.1).as_secs_f64(),
    })
}

/// The CPU time of this process.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Counts what was received and acked, and tells when it is all.
#[derive(Clone, Debug)]
pub(crate) struct Meter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    left: AtomicUsize,
    done: Notify,
}

impl Meter {
    fn new(messages: usize) -> Self {
        Self(Arc::new(Inner {
            left: AtomicUsize::new(messages),
            done: Notify::new(),
        }))
    }

    pub(crate) fn add(&self, count: usize) {
        if count > 0 && self.0.left.fetch_sub(count, Ordering::AcqRel) == count {
            self.0.done.notify_one();
        }
    }
}
