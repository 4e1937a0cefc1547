//! Which source has which path, and which queue has which name.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::Semaphore, time::timeout};
use towpath_core::{Error, ErrorKind, Producer, QueueConfig, Registry, Result};

use super::{source::Source, target::Target};
use crate::{
    Config,
    config::mistakes::{Mistakes, unknown},
};

/// How long a queue may take to be opened.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How many requests may be under way, unless said otherwise.
const DEFAULT_IN_FLIGHT: usize = 1_024;

/// Everything that a configuration says, opened. It is replaced as a whole.
#[derive(Debug)]
pub(super) struct Table {
    by_path: HashMap<String, Arc<Source>>,
    targets: BTreeMap<String, Arc<Target>>,
    in_flight: Arc<Semaphore>,
    max_in_flight: usize,
    files: Vec<PathBuf>,
}

impl Table {
    /// Opens `config`, with what `old` has already.
    pub(super) async fn open(
        config: &Config,
        registry: &Registry,
        producers: &BTreeMap<String, Producer>,
        old: Option<&Self>,
    ) -> Result<Self> {
        let mut mistakes = Mistakes::default();
        let mut targets = BTreeMap::new();
        for (place, name) in names(config) {
            if targets.contains_key(&name) {
                continue;
            }
            let target = match (producers.get(&name), config.queues.get(&name)) {
                (Some(producer), _) => old
                    .and_then(|old| old.target(&name))
                    .filter(|target| target.config().is_none())
                    .cloned()
                    .or_else(|| Some(Arc::new(Target::new(&name, producer.clone(), None)))),
                (None, Some(queue)) => match old.and_then(|old| old.target(&name)) {
                    Some(target) if target.config() == Some(queue) => Some(Arc::clone(target)),
                    _ => {
                        let opened = open(&name, queue, registry).await;
                        mistakes.take(&format!("queues.{name}"), opened)
                    }
                },
                (None, None) => {
                    let known = producers.keys().chain(config.queues.keys());
                    let known: Vec<&str> = known.map(String::as_str).collect();
                    mistakes.add(&place, unknown("queue", &name, &known));
                    None
                }
            };
            targets.extend(target.map(|target| (name, target)));
        }
        for (name, queue) in &config.queues {
            if !targets.contains_key(name) && !producers.contains_key(name) {
                // Told now, not when a source comes to use it.
                let checked = registry.open_config(queue.clone());
                mistakes.take(&format!("queues.{name}"), checked);
            }
        }
        let mut by_path = HashMap::new();
        for (name, source) in &config.sources {
            let before = old.and_then(|old| old.by_path.values().find(|s| s.name() == name));
            let opened = Source::open(name, source, config, &targets, before, &mut mistakes);
            by_path.extend(opened.map(|s| (source.settings.path.clone(), Arc::new(s))));
        }
        mistakes.into_result()?;
        let max_in_flight = config.max_in_flight.map_or(DEFAULT_IN_FLIGHT, usize::from);
        let in_flight = match old {
            Some(old) if old.max_in_flight == max_in_flight => Arc::clone(&old.in_flight),
            _ => Arc::new(Semaphore::new(max_in_flight.min(Semaphore::MAX_PERMITS))),
        };
        Ok(Self {
            by_path,
            targets,
            in_flight,
            max_in_flight,
            files: config.files(),
        })
    }

    /// Keeps queues of `old` that are not here any more, where `wanted`.
    pub(super) fn keep_targets(&mut self, old: &Self, wanted: impl Fn(&str) -> bool) {
        for (name, target) in &old.targets {
            if !self.targets.contains_key(name) && wanted(name) {
                self.targets.insert(name.clone(), Arc::clone(target));
            }
        }
    }

    pub(super) fn source(&self, path: &str) -> Option<&Arc<Source>> {
        self.by_path.get(path)
    }

    pub(super) fn sources(&self) -> usize {
        self.by_path.len()
    }

    pub(super) fn target(&self, name: &str) -> Option<&Arc<Target>> {
        self.targets.get(name)
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = &Arc<Target>> {
        self.targets.values()
    }

    pub(super) fn in_flight(&self) -> &Semaphore {
        &self.in_flight
    }

    /// The files that it was read from, but for the configuration itself.
    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// Closes the queues that were opened here.
    pub(super) async fn close(&self) -> Result<()> {
        let mut result = Ok(());
        for target in self.targets.values().filter(|t| t.config().is_some()) {
            let closed = target.producer().close().await;
            result = result.and(closed);
        }
        result
    }
}

/// The queues that sources name, and where they do.
fn names(config: &Config) -> Vec<(String, String)> {
    let mut names = Vec::new();
    for (source, settings) in &config.sources {
        let place = format!("sources.{source}");
        names.push((format!("{place}.queue"), settings.settings.queue.clone()));
        for (value, queue) in settings.route.iter().flat_map(|route| &route.queues) {
            names.push((format!("{place}.route.queues.{value}"), queue.clone()));
        }
    }
    names
}

async fn open(name: &str, config: &QueueConfig, registry: &Registry) -> Result<Arc<Target>> {
    let queue = registry.open_config(config.clone())?;
    let producer = timeout(OPEN_TIMEOUT, queue.producer())
        .await
        .map_err(|_| {
            let message =
                format!("could not be opened within {OPEN_TIMEOUT:?}; can it be reached?");
            Error::new(ErrorKind::Timeout, message)
        })??;
    Ok(Arc::new(Target::new(name, producer, Some(queue))))
}
