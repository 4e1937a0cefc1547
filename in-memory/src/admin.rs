//! The administrating half.

use std::sync::Arc;

use async_trait::async_trait;
use towpath_core::{
    AckStatus, Change, Depth, EnsureMode, ErrorKind, Precision, QueueInfo, QueueSpec, Result,
    driver,
};

use crate::{
    backend::SCHEME,
    profile,
    queues::Queues,
    settings::{Settings, Shown, Wanted, error},
    shared::Shared,
};

#[derive(Debug)]
pub(crate) struct MemoryAdmin {
    queues: Arc<Queues>,
    name: String,
    wanted: Wanted,
}

impl MemoryAdmin {
    pub(crate) fn new(queues: Arc<Queues>, name: String, wanted: Wanted) -> Self {
        Self {
            queues,
            name,
            wanted,
        }
    }

    fn find(&self, operation: &'static str) -> Result<Arc<Shared>> {
        self.queues.find(&self.name).ok_or_else(|| {
            error(
                ErrorKind::NotFound,
                format!("there is no queue {:?}; create it with ensure", self.name),
            )
            .with_operation(operation)
        })
    }

    fn ensure_now(&self, spec: &QueueSpec, mode: EnsureMode) -> Result<Vec<Change>> {
        let live = self.queues.find(&self.name).map(|shared| shared.settings());
        let live = live.map(|settings| settings.profile);
        let mut wanted = self.wanted.clone().with_spec(spec, &self.name, live)?;
        wanted.may_create = true;
        let mut changes = self.missing_dead_letter(&wanted);
        let Some(shared) = self.queues.find(&self.name) else {
            let settings = self.queues.new_settings(&wanted)?;
            let created = created(&self.name, &describe(&settings));
            changes.insert(0, created);
            if mode != EnsureMode::Plan {
                self.queues.open(&self.name, &wanted)?;
            }
            return Ok(changes);
        };
        let result = self.queues.with(&shared, |inner, _| {
            let (settings, found) = self.compare(&inner.settings, &wanted)?;
            match mode {
                EnsureMode::Plan => {}
                EnsureMode::Create if !found.is_empty() => {
                    return Err(Change::refused(&found).with_backend(SCHEME));
                }
                EnsureMode::Create | EnsureMode::Apply => inner.apply(settings),
            }
            Ok((found, inner.settings.profile))
        })?;
        let (found, profile) = result?;
        if mode != EnsureMode::Plan
            && let Some(dead_letter) = &wanted.dead_letter
        {
            self.queues.dead_letter_queue(&dead_letter.queue, profile);
        }
        changes.extend(found);
        Ok(changes)
    }

    fn missing_dead_letter(&self, wanted: &Wanted) -> Vec<Change> {
        wanted
            .dead_letter
            .iter()
            .filter(|dead_letter| self.queues.find(&dead_letter.queue).is_none())
            .map(|dead_letter| created(&dead_letter.queue, "a dead-letter queue"))
            .collect()
    }

    /// The settings as wanted, and how they differ from those that are.
    fn compare(&self, is: &Settings, wanted: &Wanted) -> Result<(Settings, Vec<Change>)> {
        if let Some(profile) = wanted.profile
            && !is.fits(profile)
        {
            return Err(error(
                ErrorKind::InvalidConfig,
                format!(
                    "the queue {:?} has profile={}, and profile={} was asked for; a profile cannot \
                     be changed",
                    self.name,
                    is.profile.as_str(),
                    profile.as_str()
                ),
            ));
        }
        let mut settings = is.clone();
        settings.ordered = wanted.ordered.unwrap_or(is.ordered);
        settings.adopt(wanted)?;
        let mut found = Vec::new();
        for (setting, is, asked) in [
            (
                "ordered",
                is.ordered.to_string(),
                settings.ordered.to_string(),
            ),
            (
                "lease",
                Shown(is.lease).to_string(),
                Shown(settings.lease).to_string(),
            ),
            ("dead letter", policy(is), policy(&settings)),
            ("max_depth", depth(is), depth(&settings)),
        ] {
            if is != asked {
                found.push(Change {
                    setting: format!("{} {setting}", self.name),
                    from: Some(is),
                    to: asked,
                });
            }
        }
        Ok((settings, found))
    }

    fn inspect_now(&self) -> Result<QueueInfo> {
        let settings = self.find("inspect")?.settings();
        let capabilities = profile::capabilities(&settings, settings.lease);
        let mut info = QueueInfo::new(&self.name);
        info.lease = Some(settings.lease);
        info.ordered = settings.ordered;
        info.exactly_once = capabilities.ack == AckStatus::Confirmed;
        info.settings
            .insert("profile".to_owned(), settings.profile.as_str().to_owned());
        if let Some(most) = settings.max_depth {
            info.settings
                .insert("max_depth".to_owned(), most.to_string());
        }
        if let Some((faults, seed)) = &settings.faults {
            info.settings
                .insert("faults".to_owned(), faults.to_string());
            info.settings.insert("seed".to_owned(), seed.to_string());
        }
        if settings.policy.is_none() {
            info.warnings.push(
                "there is no dead-letter policy: a message whose consumer crashes each time comes \
                 back for ever; set max_deliveries and dead_letter"
                    .to_owned(),
            );
        }
        info.dead_letter = settings.policy;
        Ok(info)
    }
}

#[async_trait]
impl driver::Admin for MemoryAdmin {
    async fn ensure(&self, spec: &QueueSpec, mode: EnsureMode) -> Result<Vec<Change>> {
        self.ensure_now(spec, mode)
            .map_err(|error| error.with_operation("ensure"))
    }

    async fn inspect(&self) -> Result<QueueInfo> {
        self.inspect_now()
    }

    async fn depth(&self) -> Result<Depth> {
        let shared = self.find("depth")?;
        self.queues
            .with(&shared, |inner, now| {
                let profile = inner.settings.profile;
                if profile::depth(profile) == Precision::Unknown {
                    return Err(error(
                        ErrorKind::Unsupported,
                        format!(
                            "profile={} does not know how many messages there are",
                            profile.as_str()
                        ),
                    ));
                }
                let counts = inner.queue.counts();
                let age = counts
                    .oldest
                    .filter(|_| profile == crate::Profile::Strict)
                    .map(|sent_at| std::time::Duration::from_nanos(now.saturating_sub(sent_at)));
                let depth = Depth::new(
                    counts.ready as u64,
                    counts.leased as u64,
                    counts.delayed as u64,
                );
                Ok(depth.with_oldest_age(age))
            })
            .and_then(|depth| depth)
            .map_err(|error| error.with_operation("depth"))
    }

    async fn purge(&self) -> Result<()> {
        let shared = self.find("purge")?;
        let contents = self
            .queues
            .with(&shared, |inner, _| inner.queue.purge())
            .map_err(|error| error.with_operation("purge"))?;
        drop(contents);
        Ok(())
    }

    async fn delete(&self) -> Result<()> {
        self.queues
            .delete(&self.name)
            .map_err(|error| error.with_operation("delete"))
    }
}

fn created(name: &str, what: &str) -> Change {
    Change {
        setting: format!("queue {name}"),
        from: None,
        to: what.to_owned(),
    }
}

fn describe(settings: &Settings) -> String {
    format!(
        "profile {}, lease {}, {}, dead letter {}",
        settings.profile.as_str(),
        Shown(settings.lease),
        if settings.ordered {
            "ordered"
        } else {
            "not ordered"
        },
        policy(settings)
    )
}

fn policy(settings: &Settings) -> String {
    match &settings.policy {
        Some(policy) => format!(
            "{} after {} deliveries",
            policy.queue, policy.max_deliveries
        ),
        None => "none".to_owned(),
    }
}

fn depth(settings: &Settings) -> String {
    settings
        .max_depth
        .map_or_else(|| "no limit".to_owned(), |most| most.to_string())
}
