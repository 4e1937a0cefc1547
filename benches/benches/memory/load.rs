//! What every contender does: send, receive and ack a number of messages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::JoinSet};

/// The body of every message. Each message has a copy of its own.
pub(crate) const BODY: [u8; 256] = [7; 256];

#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// How many tasks send, and how many receive.
    pub(crate) tasks: usize,
    pub(crate) batch: usize,
    pub(crate) messages: usize,
}

impl Load {
    /// How many messages each producer sends.
    pub(crate) fn share(&self) -> usize {
        self.messages / self.tasks
    }

    /// The sizes of the batches that each producer sends.
    pub(crate) fn batches(&self) -> impl Iterator<Item = usize> + use<> {
        std::iter::repeat_n(self.batch, self.share() / self.batch)
    }
}

/// Counts what was received, and tells when it is all.
#[derive(Clone)]
pub(crate) struct Meter(Arc<Inner>);

struct Inner {
    left: AtomicUsize,
    done: Notify,
}

impl Meter {
    pub(crate) fn new(load: Load) -> Self {
        Self(Arc::new(Inner {
            left: AtomicUsize::new(load.messages),
            done: Notify::new(),
        }))
    }

    /// Notes that messages with these bodies were received and settled.
    pub(crate) fn count<'a>(&self, bodies: impl Iterator<Item = &'a [u8]>) {
        let count = bodies
            .inspect(|body| assert_eq!(body.len(), BODY.len()))
            .count();
        self.add(count);
    }

    pub(crate) fn add(&self, count: usize) {
        if self.0.left.fetch_sub(count, Ordering::AcqRel) == count {
            self.0.done.notify_one();
        }
    }
}

/// Starts the tasks and returns how long it took until all messages were settled.
pub(crate) async fn time(meter: Meter, start: impl FnOnce(&mut JoinSet<()>)) -> Duration {
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    start(&mut tasks);
    let failed = async {
        // Producers end early; only a panic matters.
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a task failed");
        }
        std::future::pending::<()>().await
    };
    tokio::select! {
        () = meter.0.done.notified() => {}
        () = failed => {}
    }
    let elapsed = begun.elapsed();
    tasks.shutdown().await;
    elapsed
}
