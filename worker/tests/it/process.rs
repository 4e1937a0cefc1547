//! Workers as processes that are killed, stopped and ended, on an SQS server.
//!
//! A worker process is this test program itself, see [`child`]. It writes what happens to each
//! message into a [`journal`] before anybody else can see the consequence, and [`judge`] reads the
//! journal of all processes at the end.
//!
//! `cargo xtask test` starts the server; without one these tests fail and say so.

mod child;
mod journal;
mod judge;
mod kill;
mod stop;
mod terminate;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use towpath_core::{EnsureMode, Message, Queue, QueueSpec, Registry};
use towpath_sqs::Sqs;

use journal::{Event, Journal, Reader, What};

/// Refuses what is settled too late.
const ELASTICMQ: &str = "TOWPATH_ELASTICMQ_ENDPOINT";
/// Says of anything that it is settled, as the cloud does of standard queues.
const FAUXQS: &str = "TOWPATH_FAUXQS_ENDPOINT";

/// A queue of its own with a dead-letter queue, and a journal.
struct Scene {
    url: String,
    queue: Queue,
    dead: Queue,
    path: PathBuf,
    journal: Journal,
    reader: Reader,
    events: Vec<Event>,
}

impl Scene {
    /// A queue of the server whose address is in the variable `server`; `options` are as in a URL.
    async fn new(server: &str, options: &str) -> Self {
        let endpoint = std::env::var(server).unwrap_or_else(|_| {
            panic!("{server} is not set: these tests need a local SQS server, which `cargo xtask test` starts")
        });
        let name = format!("worker-{:016x}", fastrand::u64(..));
        let url = format!(
            "sqs://{name}?region=us-east-1&endpoint={endpoint}&dead_letter={name}-dead&wait=1s&{options}"
        );
        let queue = Registry::new().with(Sqs::new()).open(&url).unwrap();
        let dead = queue.dead_letter().unwrap().unwrap();
        // Above the limit of the worker, which so is the one that decides.
        let spec = QueueSpec::new().with_dead_letter(dead.config().target(), 100);
        for (queue, spec) in [(&dead, &QueueSpec::new()), (&queue, &spec)] {
            let admin = queue.admin().await.unwrap();
            admin.ensure(spec, EnsureMode::Create).await.unwrap();
        }
        let path = std::env::temp_dir().join(format!("{name}.journal"));
        Self {
            journal: Journal::open(&path, "parent").unwrap(),
            reader: Reader::open(&path).unwrap(),
            events: Vec::new(),
            url,
            queue,
            dead,
            path,
        }
    }

    /// Starts a worker process under `name`.
    fn worker(&self, name: impl Into<String>, settings: &str) -> child::Process {
        child::Process::start(&self.url, &self.path, name.into(), settings)
    }

    /// Reads what is new in the journal, and returns all.
    fn read(&mut self) -> &[Event] {
        self.reader.read_into(&mut self.events).unwrap();
        &self.events
    }

    /// Reads the journal until `is_so`, for a minute at most.
    async fn until(&mut self, what: &str, is_so: impl Fn(&[Event]) -> bool) {
        let begun = Instant::now();
        while !is_so(self.read()) {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{what}: not within a minute; the journal is {}",
                self.path.display()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for the end of a process, and notes it.
    async fn ended(&self, process: child::Process) -> child::Ended {
        let name = process.name.clone();
        let ended = process.ended().await;
        self.journal.note_of(&name, What::Gone);
        ended
    }

    /// Sends messages, of which the nth takes `work(n)`.
    async fn send(&self, count: usize, work: impl Fn(usize) -> Duration) -> Vec<Message> {
        let messages: Vec<Message> = (0..count)
            .map(|n| {
                Message::new(n.to_string())
                    .with_attribute(child::WORK, work(n).as_millis().to_string())
            })
            .collect();
        let producer = self.queue.producer().await.unwrap();
        for result in producer.send_batch(&messages).await {
            result.unwrap();
        }
        messages
    }

    /// Removes the queues, and the journal with them.
    async fn end(self) {
        for queue in [&self.queue, &self.dead] {
            queue.admin().await.unwrap().delete().await.unwrap();
        }
        std::fs::remove_file(&self.path).unwrap();
    }
}

/// Prints past the capture of the test harness, so that it is seen when the test passes, too.
fn say(line: &str) {
    let line = format!("{line}\n");
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
}
