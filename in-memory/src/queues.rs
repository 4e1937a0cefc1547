//! All queues of a backend, by name.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use towpath_core::{ErrorKind, Result};

use crate::{
    Faults, Profile,
    settings::{Settings, Wanted, error},
    shared::{DeadLetter, Inner, Shared},
    store::Nanos,
};

#[derive(Debug, Default)]
pub(crate) struct Queues {
    by_name: Mutex<HashMap<String, Arc<Shared>>>,
    /// The faults of new queues that name none.
    faults: Option<(Faults, u64)>,
}

impl Queues {
    pub(crate) fn new(faults: Option<(Faults, u64)>) -> Self {
        Self {
            by_name: Mutex::default(),
            faults,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Shared>>> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn find(&self, name: &str) -> Option<Arc<Shared>> {
        self.lock().get(name).cloned()
    }

    /// The settings that a new queue would have.
    pub(crate) fn new_settings(&self, wanted: &Wanted) -> Result<Settings> {
        Ok(Settings::new(wanted)?.with_faults(self.faults.as_ref()))
    }

    /// Opens the queue as `wanted` says, and creates it and its dead-letter queue where missing.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` where the queue is set to something else; `NotFound` where it is missing and
    /// must not be created.
    pub(crate) fn open(&self, name: &str, wanted: &Wanted) -> Result<Arc<Shared>> {
        let missing = |name: &str| {
            error(
                ErrorKind::NotFound,
                format!("there is no queue {name:?}; create it, or leave create=false out"),
            )
        };
        let mut by_name = self.lock();
        if !wanted.may_create {
            let names = [Some(name), wanted.dead_letter.as_ref().map(|d| &*d.queue)];
            if let Some(name) = names
                .into_iter()
                .flatten()
                .find(|n| !by_name.contains_key(*n))
            {
                return Err(missing(name));
            }
        }
        let shared = match by_name.get(name) {
            Some(shared) => shared.clone(),
            None => {
                let shared = Arc::new(Shared::new(name.to_owned(), self.new_settings(wanted)?));
                by_name.insert(name.to_owned(), shared.clone());
                shared
            }
        };
        drop(by_name);
        let profile = self.with(&shared, |inner, _| {
            inner.settings.reconcile(wanted, name)?;
            let mut settings = inner.settings.clone();
            settings.adopt(wanted)?;
            inner.apply(settings);
            Ok::<_, towpath_core::Error>(inner.settings.profile)
        })??;
        if let Some(dead_letter) = &wanted.dead_letter {
            self.dead_letter_queue(&dead_letter.queue, profile);
        }
        Ok(shared)
    }

    /// The dead-letter queue `name`; created with the profile of its source where it is missing.
    pub(crate) fn dead_letter_queue(&self, name: &str, profile: Profile) -> Arc<Shared> {
        let mut by_name = self.lock();
        if let Some(shared) = by_name.get(name) {
            return shared.clone();
        }
        let settings = Settings::of(profile).with_faults(self.faults.as_ref());
        let shared = Arc::new(Shared::new(name.to_owned(), settings));
        by_name.insert(name.to_owned(), shared.clone());
        shared
    }

    /// Runs `change` on the queue, and moves what was delivered too often.
    ///
    /// # Errors
    ///
    /// `NotFound` when the queue was deleted.
    pub(crate) fn with<T>(
        &self,
        shared: &Shared,
        change: impl FnOnce(&mut Inner, Nanos) -> T,
    ) -> Result<T> {
        let (result, dead) = shared.with(change)?;
        if !dead.is_empty() {
            self.bury(shared, dead);
        }
        Ok(result)
    }

    fn bury(&self, source: &Shared, dead: Vec<DeadLetter>) {
        let profile = source.settings().profile;
        for DeadLetter { queue, message } in dead {
            tracing::warn!(
                queue = source.name(),
                dead_letter = queue,
                key = %message.idempotency_key(),
                "the queue moved a message that was delivered too often"
            );
            // Again when the queue is deleted between the look-up and the move.
            let mut left = Some(message);
            while let Some(message) = left.take() {
                let target = self.dead_letter_queue(&queue, profile);
                let moved = message.clone();
                let result = target.with(|inner, now| inner.queue.take_over(moved, now));
                match result {
                    Ok(((), dead)) => self.bury(&target, dead),
                    Err(_) => left = Some(message),
                }
            }
        }
    }

    /// Deletes the queue.
    ///
    /// # Errors
    ///
    /// `NotFound` where it is missing.
    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        let mut by_name = self.lock();
        match by_name.remove(name) {
            Some(shared) => {
                shared.delete();
                Ok(())
            }
            None => Err(error(
                ErrorKind::NotFound,
                format!("there is no queue {name:?} to delete"),
            )),
        }
    }
}
