//! The thread that owns the file: whatever waits when a commit begins shares its fsyncs.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, oneshot};
use towpath_core::Message;

use super::{
    SpoolError,
    record::Record,
    store::{Change, Found, Store},
    tally::{Entry, Tally},
};

/// The most that shares one commit, so that none waits for long.
const COMMIT_CHANGES: usize = 4_096;
const COMMIT_BYTES: usize = 64 * 1_024 * 1_024;
/// How long a file that cannot be opened is left alone.
const REOPEN_EVERY: Duration = Duration::from_secs(1);

type Answer<T> = oneshot::Sender<Result<T, SpoolError>>;

pub(super) enum Command {
    Push {
        queue: Arc<str>,
        record: Record,
        done: Answer<()>,
    },
    Remove {
        queue: Arc<str>,
        numbers: Vec<u64>,
        done: Answer<()>,
    },
    Read {
        queue: Arc<str>,
        numbers: Vec<u64>,
        done: Answer<Vec<(u64, Message)>>,
    },
}

impl Command {
    fn bytes(&self) -> usize {
        match self {
            Self::Push { record, .. } => record.len(),
            Self::Remove { .. } | Self::Read { .. } => 0,
        }
    }

    fn change(&self) -> Option<Change<'_>> {
        match self {
            Self::Push { queue, record, .. } => Some(Change::Add(queue, record)),
            Self::Remove { queue, numbers, .. } => Some(Change::Remove(queue, numbers)),
            Self::Read { .. } => None,
        }
    }
}

/// What the thread and the spool share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    tally: Mutex<Tally>,
    /// Something was added.
    pub(super) added: Notify,
}

impl Shared {
    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to the thread. Dropping it waits until what was asked for is done and the file is closed.
#[derive(Debug)]
pub(super) struct Writer {
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Opens the file in the thread, where a panic over a damaged file does no harm.
    pub(super) fn start(path: PathBuf, shared: Arc<Shared>) -> Result<Self, SpoolError> {
        let (opened, answer) = mpsc::sync_channel(1);
        let (commands, received) = mpsc::channel();
        let file = path.clone();
        let work = move || {
            let store = match Store::open(&file) {
                Ok((store, found)) => {
                    take_over(&shared, found);
                    let _ = opened.send(Ok(()));
                    store
                }
                Err(error) => {
                    let _ = opened.send(Err(error));
                    return;
                }
            };
            Thread {
                path: file,
                store: Some(store),
                opened: Instant::now(),
                shared,
            }
            .run(&received);
        };
        let thread = std::thread::Builder::new()
            .name("towpath-spool".to_owned())
            .spawn(work)
            .map_err(|error| SpoolError::Open {
                path: path.clone(),
                why: format!("no thread could be started: {error}"),
                source: None,
            })?;
        let result = answer.recv().unwrap_or_else(|_| {
            Err(SpoolError::Open {
                path,
                why: "it is damaged: move it away to start with an empty one, and keep it, for it \
                      may hold accepted events"
                    .to_owned(),
                source: None,
            })
        });
        let writer = Self {
            commands: Some(commands),
            thread: Some(thread),
        };
        result.map(|()| writer)
    }

    /// Hands over without waiting. Gives the command back when the thread has ended.
    pub(super) fn send(&self, command: Command) -> Result<(), Box<Command>> {
        match &self.commands {
            Some(commands) => commands.send(command).map_err(|error| Box::new(error.0)),
            None => Err(Box::new(command)),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn take_over(shared: &Shared, found: Found) {
    let mut tally = shared.tally();
    tally.reload(found);
    tally.set_broken(false);
    tally.write_metrics();
}

struct Thread {
    path: PathBuf,
    store: Option<Store>,
    opened: Instant,
    shared: Arc<Shared>,
}

impl Thread {
    fn run(mut self, commands: &mpsc::Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let mut bytes = first.bytes();
            let mut batch = vec![first];
            while batch.len() < COMMIT_CHANGES && bytes < COMMIT_BYTES {
                let Ok(next) = commands.try_recv() else {
                    break;
                };
                bytes += next.bytes();
                batch.push(next);
            }
            self.work(batch);
        }
    }

    fn work(&mut self, batch: Vec<Command>) {
        let result = self.commit(&batch);
        let mut numbers = result.as_ref().map_or(Vec::new(), Clone::clone).into_iter();
        let result = result.map(|_| ());
        for command in batch {
            match command {
                Command::Push {
                    queue,
                    record,
                    done,
                } => {
                    let bytes = record.len() as u64;
                    let entry = Entry {
                        bytes,
                        at: record.at,
                        is_refused: false,
                    };
                    let written = numbers.next().map(|number| (number, entry));
                    self.shared.tally().settle(&queue, bytes, written);
                    let _ = done.send(result.clone());
                }
                Command::Remove {
                    queue,
                    numbers,
                    done,
                } => {
                    if result.is_ok() {
                        self.shared.tally().remove(&queue, &numbers);
                    }
                    let _ = done.send(result.clone());
                }
                Command::Read {
                    queue,
                    numbers,
                    done,
                } => {
                    let _ = done.send(self.read(&queue, &numbers));
                }
            }
        }
        self.shared.tally().write_metrics();
        self.shared.added.notify_one();
        if result.is_err() {
            self.reopen();
        }
    }

    fn commit(&mut self, batch: &[Command]) -> Result<Vec<u64>, SpoolError> {
        let changes: Vec<Change<'_>> = batch.iter().filter_map(Command::change).collect();
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let numbers = self.store()?.commit(&changes)?;
        metrics::histogram!("towpath_webhook_spool_commit_seconds").record(started.elapsed());
        Ok(numbers)
    }

    fn read(&mut self, queue: &str, numbers: &[u64]) -> Result<Vec<(u64, Message)>, SpoolError> {
        self.store()?.read(queue, numbers)
    }

    /// The file, opened again if it could not be used.
    fn store(&mut self) -> Result<&mut Store, SpoolError> {
        if self.store.is_none() && self.opened.elapsed() >= REOPEN_EVERY {
            self.reopen();
        }
        self.store.as_mut().ok_or_else(|| SpoolError::Open {
            path: self.path.clone(),
            why: "it failed a moment ago".to_owned(),
            source: None,
        })
    }

    /// After an error the file says what was written, not we; and the store takes no more writes.
    fn reopen(&mut self) {
        self.store = None;
        self.opened = Instant::now();
        match Store::open(&self.path) {
            Ok((store, found)) => {
                take_over(&self.shared, found);
                self.store = Some(store);
            }
            Err(error) => {
                tracing::error!(%error, "the spool cannot be opened again");
                self.shared.tally().set_broken(true);
            }
        }
    }
}
