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

/// How much a contender has to do, and where.
#[derive(Clone, Debug)]
pub struct Load {
    /// The way to the server.
    pub endpoint: String,
    /// The queue, as the server calls it.
    pub queue: String,
    /// How many messages are moved.
    pub messages: usize,
    /// How many batches are under way at once.
    pub tasks: usize,
    /// The messages of a batch.
    pub batch: usize,
    /// The bytes of a body.
    pub body: usize,
}

impl Load {
    /// Whether every task has whole batches to move.
    ///
    /// # Errors
    ///
    /// Names the option of the command line that is wrong.
    pub fn check(&self) -> Result<(), Error> {
        if self.tasks == 0 || self.body == 0 {
            return Err("--tasks and --body are at least 1".into());
        }
        let step = self.tasks * self.batch;
        if self.messages > 0 && self.messages.is_multiple_of(step) {
            return Ok(());
        }
        Err(format!(
            "--messages is a multiple of {step}: of {} for each of the {} tasks",
            self.batch, self.tasks
        )
        .into())
    }

    /// The body of every message, of letters.
    pub fn body(&self) -> String {
        "towpath ".chars().cycle().take(self.body).collect()
    }

    /// How many batches each of the tasks sends.
    pub fn batches(&self) -> usize {
        self.messages / self.tasks / self.batch
    }

    /// How many tasks there are where each has one message under way.
    pub fn single_tasks(&self) -> usize {
        self.tasks * self.batch
    }

    /// How many messages each of those sends.
    pub fn share(&self) -> usize {
        self.messages / self.single_tasks()
    }
}

/// What a contender took, in seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figures {
    /// From the first send to the last answer.
    pub send: f64,
    /// The process's CPU time meanwhile.
    pub send_cpu: f64,
    /// From the first receive to the last ack.
    pub receive: f64,
    /// The process's CPU time meanwhile.
    pub receive_cpu: f64,
}

/// Takes the time of both halves.
///
/// # Errors
///
/// What the first task that failed says.
pub async fn measure(
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
pub struct Meter(Arc<Inner>);

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

    /// Counts messages that were acked.
    pub fn add(&self, count: usize) {
        if count > 0 && self.0.left.fetch_sub(count, Ordering::AcqRel) == count {
            self.0.done.notify_one();
        }
    }
}
