//! Notes which queues the cases created and have not deleted yet, so that what a killed run left
//! behind can be swept.
//!
//! No backend lists queues portably, so the note is a file: a line `TIME URL` for each queue.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::{Context, ensure};
use async_trait::async_trait;
use towpath::{ErrorKind, QueueConfig, QueueSpec, Registry, Result};
use towpath_conformance::{Harness, Timing, UrlHarness};

use crate::output;

/// The queues that are to be deleted, with the time of their creation.
#[derive(Debug)]
pub(super) struct Leftovers {
    file: PathBuf,
    queues: Mutex<BTreeMap<String, SystemTime>>,
}

impl Leftovers {
    /// Reads the file, where it is there.
    pub(super) fn open(file: &Path) -> anyhow::Result<Self> {
        let mut queues = BTreeMap::new();
        if file.exists() {
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            for (number, line) in text.lines().enumerate() {
                let (time, url) = line.split_once(' ').with_context(|| {
                    format!("{} line {}: TIME URL is wanted", file.display(), number + 1)
                })?;
                let time = humantime::parse_rfc3339(time)
                    .with_context(|| format!("{} line {}", file.display(), number + 1))?;
                queues.insert(url.to_owned(), time);
            }
        }
        Ok(Self {
            file: file.to_owned(),
            queues: Mutex::new(queues),
        })
    }

    /// Makes sure that a queue can be noted before one is created.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.edit(|_| {})
            .with_context(|| format!("cannot write {}", self.file.display()))
    }

    fn edit(&self, edit: impl FnOnce(&mut BTreeMap<String, SystemTime>)) -> std::io::Result<()> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        edit(&mut queues);
        if queues.is_empty() {
            return match fs::remove_file(&self.file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let lines: String = queues
            .iter()
            .map(|(url, time)| format!("{} {url}\n", humantime::format_rfc3339_seconds(*time)))
            .collect();
        fs::write(&self.file, lines)
    }

    fn note(&self, edit: impl FnOnce(&mut BTreeMap<String, SystemTime>)) {
        if let Err(error) = self.edit(edit) {
            tracing::warn!(%error, file = %self.file.display(), "a queue could not be noted for a later sweep");
        }
    }

    /// Deletes the noted queues that are at least `age` old; returns how many.
    pub(super) async fn sweep(&self, age: Duration) -> anyhow::Result<usize> {
        let noted = self
            .queues
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (mut swept, mut failed) = (0, 0);
        for (url, created) in noted {
            if created.elapsed().unwrap_or_default() < age {
                continue;
            }
            // A file that was edited or mixed up must never cost anybody a queue.
            if !is_ours(&url) {
                tracing::error!(
                    url,
                    "this is not a queue of the conformance tests; it is left alone"
                );
                failed += 1;
                continue;
            }
            let deleted = async {
                let queue = towpath::registry().open_config(QueueConfig::parse(&url)?)?;
                queue.admin().await?.delete().await
            };
            match deleted.await {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    tracing::error!(url, %error, "a queue could not be deleted");
                    failed += 1;
                }
                _ => {
                    output::line(format_args!("deleted {url}"))?;
                    self.note(|queues| {
                        queues.remove(&url);
                    });
                    swept += 1;
                }
            }
        }
        ensure!(
            failed == 0,
            "{failed} queues could not be deleted; they stay noted in {}",
            self.file.display()
        );
        Ok(swept)
    }
}

/// How the names of the queues begin that the cases create.
const PREFIX: &str = "towpath-ct-";

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
        let (url, now) = (queue.to_string(), SystemTime::now());
        self.leftovers.note(|queues| {
            queues.insert(url, now);
        });
    }

    fn deleted(&self, queue: &QueueConfig) {
        self.leftovers.note(|queues| {
            queues.remove(&queue.to_string());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_not_deleted_is_swept_when_it_is_old_enough() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("leftovers");
        let leftovers = Leftovers::open(&file).unwrap();
        leftovers.check().unwrap();
        for name in ["memory://towpath-ct-a", "memory://towpath-ct-b"] {
            leftovers.note(|queues| {
                queues.insert(name.to_owned(), SystemTime::now());
            });
        }
        let again = Leftovers::open(&file).unwrap();
        assert_eq!(again.sweep(Duration::from_secs(3_600)).await.unwrap(), 0);
        assert!(file.exists());
        assert_eq!(again.sweep(Duration::ZERO).await.unwrap(), 2);
        assert!(!file.exists(), "a file with nothing to note is removed");
        fs::write(&file, "2026-11-01T00:00:00Z memory://production-orders\n").unwrap();
        let foreign = Leftovers::open(&file).unwrap();
        assert!(foreign.sweep(Duration::ZERO).await.is_err());
        assert!(file.exists(), "what is not ours is left alone");
        fs::write(&file, "nonsense").unwrap();
        assert!(Leftovers::open(&file).is_err());
    }
}
