//! Notes which queues the cases created and have not deleted yet, so that what a killed run left
//! behind can be swept.
//!
//! No backend lists queues portably, so each run writes a file of its own, which only grows: a line
//! `created TIME URL` before each creation, `deleted TIME URL` after each deletion. A run holds a
//! lock on its file, so that nobody sweeps under it, and removes it when nothing is left.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context, bail};
use async_trait::async_trait;
use towpath::{ErrorKind, QueueConfig, QueueSpec, Registry, Result};
use towpath_conformance::{Harness, Timing, UrlHarness};

/// How the names of the files begin and end.
const FILE: (&str, &str) = ("towpath-conformance-", ".leftovers");
/// How the names of the queues begin that the cases create.
const PREFIX: &str = "towpath-ct-";

/// The queues of one run that are to be deleted, with the time of their creation.
#[derive(Debug)]
pub(super) struct Leftovers {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    queues: BTreeMap<String, SystemTime>,
}

/// What a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Created,
    Deleted,
}

impl Leftovers {
    /// The file of a run that begins, in `folder`.
    pub(super) fn begin(folder: &Path) -> anyhow::Result<Self> {
        let (begin, end) = FILE;
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        let stem = format!("{begin}{now}-{}", std::process::id()).replace(':', "");
        for number in 0..100 {
            let path = folder.join(format!("{stem}-{number}{end}"));
            let file = File::options().append(true).create_new(true).open(&path);
            let file = match file {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => continue,
                file => file.with_context(|| {
                    format!("cannot write {}; nothing was created", path.display())
                })?,
            };
            file.lock()?;
            return Ok(Self::of(path, file, BTreeMap::new()));
        }
        bail!("too many runs begin at once in {}", folder.display())
    }

    fn of(path: PathBuf, file: File, queues: BTreeMap<String, SystemTime>) -> Self {
        let state = Mutex::new(State { file, queues });
        Self { path, state }
    }

    /// The files that runs left in `folder`, but for those of runs that are under way.
    pub(super) fn of_ended_runs(folder: &Path) -> anyhow::Result<Vec<Self>> {
        let reading = || format!("cannot read the folder {}", folder.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).with_context(reading)? {
            let path = entry.with_context(reading)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with(FILE.0) && name.ends_with(FILE.1) {
                found.extend(Self::open(&path)?);
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// The file at `path`; `None` where its run is under way.
    fn open(path: &Path) -> anyhow::Result<Option<Self>> {
        let reading = || format!("cannot read {}", path.display());
        let file = File::options()
            .append(true)
            .open(path)
            .with_context(reading)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tracing::warn!(file = %path.display(), "its run is under way; it is left alone");
                return Ok(None);
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(reading),
        }
        let mut queues = BTreeMap::new();
        let text = fs::read_to_string(path).with_context(reading)?;
        for (number, line) in text.lines().enumerate() {
            let (event, time, url) = read(line).with_context(|| {
                format!(
                    "{} line {}: `created TIME URL` or `deleted TIME URL` is wanted",
                    path.display(),
                    number + 1
                )
            })?;
            match event {
                Event::Created => queues.insert(url.to_owned(), time),
                Event::Deleted => queues.remove(url),
            };
        }
        Ok(Some(Self::of(path.to_owned(), file, queues)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queues that are at least `age` old.
    pub(super) fn queues(&self, age: Duration) -> Vec<String> {
        let state = self.state();
        let is_old = |created: &SystemTime| created.elapsed().unwrap_or_default() >= age;
        let old = state.queues.iter().filter(|(_, created)| is_old(created));
        old.map(|(url, _)| url.clone()).collect()
    }

    fn note(&self, event: Event, url: &str) {
        let now = SystemTime::now();
        let word = match event {
            Event::Created => "created",
            Event::Deleted => "deleted",
        };
        let line = format!("{word} {} {url}\n", humantime::format_rfc3339_seconds(now));
        let mut state = self.state();
        match event {
            Event::Created => state.queues.insert(url.to_owned(), now),
            Event::Deleted => state.queues.remove(url),
        };
        if let Err(error) = state.file.write_all(line.as_bytes()) {
            tracing::warn!(%error, file = %self.path.display(), "a queue could not be noted for a later sweep");
        }
    }

    /// Deletes a noted queue.
    ///
    /// # Errors
    ///
    /// When it is not a queue of the conformance tests, or cannot be deleted; it stays noted.
    pub(super) async fn sweep(&self, url: &str) -> anyhow::Result<()> {
        // A file that was edited or mixed up must never cost anybody a queue.
        if !is_ours(url) {
            bail!("{url} is not a queue of the conformance tests; it is left alone");
        }
        let queue = towpath::registry().open_config(QueueConfig::parse(url)?)?;
        match queue.admin().await?.delete().await {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{url} could not be deleted"))
            }
            _ => {
                self.note(Event::Deleted, url);
                Ok(())
            }
        }
    }

    /// Removes the file when nothing is left to note. Returns how many queues are.
    pub(super) fn end(&self) -> usize {
        let left = self.state().queues.len();
        if left == 0
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(%error, file = %self.path.display(), "a file without leftovers could not be removed");
        }
        left
    }

    /// Where they are noted.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A line: what happened, when, to which queue.
fn read(line: &str) -> Option<(Event, SystemTime, &str)> {
    let mut words = line.splitn(3, ' ');
    let event = match words.next()? {
        "created" => Event::Created,
        "deleted" => Event::Deleted,
        _ => return None,
    };
    let time = humantime::parse_rfc3339(words.next()?).ok()?;
    Some((event, time, words.next()?))
}

fn is_ours(url: &str) -> bool {
    QueueConfig::parse(url).is_ok_and(|config| {
        let name = config.target().rsplit('/').next().unwrap_or_default();
        name.starts_with(PREFIX)
    })
}

/// A harness whose queues are noted.
#[derive(Debug)]
pub(super) struct Noted {
    pub(super) harness: UrlHarness,
    pub(super) leftovers: Arc<Leftovers>,
}

#[async_trait]
impl Harness for Noted {
    fn name(&self) -> &str {
        self.harness.name()
    }

    fn timing(&self) -> &Timing {
        self.harness.timing()
    }

    fn registry(&self) -> Registry {
        self.harness.registry()
    }

    fn prefix(&self) -> &str {
        self.harness.prefix()
    }

    fn suffix(&self) -> &str {
        self.harness.suffix()
    }

    fn queue(&self, name: &str) -> Result<QueueConfig> {
        self.harness.queue(name)
    }

    fn spec(&self) -> QueueSpec {
        self.harness.spec()
    }

    fn missing(&self, name: &str) -> Result<QueueConfig> {
        self.harness.missing(name)
    }

    fn unreachable(&self, name: &str) -> Option<QueueConfig> {
        self.harness.unreachable(name)
    }

    fn denied(&self, name: &str) -> Option<QueueConfig> {
        self.harness.denied(name)
    }

    async fn cuttable(&self, queue: &QueueConfig) -> Result<QueueConfig> {
        self.harness.cuttable(queue).await
    }

    async fn cut(&self, queue: &QueueConfig) -> Result<()> {
        self.harness.cut(queue).await
    }

    fn creating(&self, queue: &QueueConfig) {
        self.leftovers.note(Event::Created, &queue.to_string());
    }

    fn deleted(&self, queue: &QueueConfig) {
        self.leftovers.note(Event::Deleted, &queue.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "memory://towpath-ct-a";
    const B: &str = "memory://towpath-ct-b";

    #[tokio::test]
    async fn what_was_not_deleted_is_swept_when_it_is_old_enough() {
        let folder = tempfile::tempdir().unwrap();
        let run = Leftovers::begin(folder.path()).unwrap();
        run.note(Event::Created, A);
        run.note(Event::Created, B);
        run.note(Event::Deleted, B);
        drop(run);
        let ended = Leftovers::of_ended_runs(folder.path()).unwrap();
        assert_eq!(ended.len(), 1);
        assert!(ended[0].queues(Duration::from_secs(3_600)).is_empty());
        assert_eq!(ended[0].queues(Duration::ZERO), [A]);
        ended[0].sweep(A).await.unwrap();
        assert_eq!(ended[0].end(), 0);
        assert!(
            !ended[0].path().exists(),
            "a file with nothing to note is removed"
        );
    }

    #[test]
    fn two_runs_in_one_folder_lose_no_notes_and_are_not_swept_under_way() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (
            Leftovers::begin(folder.path()).unwrap(),
            Leftovers::begin(folder.path()).unwrap(),
        );
        one.note(Event::Created, A);
        two.note(Event::Created, B);
        assert!(Leftovers::of_ended_runs(folder.path()).unwrap().is_empty());
        drop(one);
        let ended = Leftovers::of_ended_runs(folder.path()).unwrap();
        let noted: Vec<_> = ended
            .iter()
            .flat_map(|run| run.queues(Duration::ZERO))
            .collect();
        assert_eq!(noted, [A]);
        drop(two);
        drop(ended);
        assert_eq!(Leftovers::of_ended_runs(folder.path()).unwrap().len(), 2);
    }

    #[tokio::test]
    async fn what_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("towpath-conformance-x.leftovers");
        let foreign = "memory://production-orders";
        fs::write(&path, format!("created 2026-11-01T00:00:00Z {foreign}\n")).unwrap();
        let ended = Leftovers::of_ended_runs(folder.path()).unwrap();
        assert!(ended[0].sweep(foreign).await.is_err());
        assert_eq!(ended[0].end(), 1);
        assert!(path.exists());
        drop(ended);
        fs::write(&path, "nonsense").unwrap();
        assert!(Leftovers::of_ended_runs(folder.path()).is_err());
    }
}
