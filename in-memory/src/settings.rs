//! What a queue is set to, and what a handle asks for.

use std::{fmt, time::Duration};

use towpath_core::{DeadLetterSpec, Error, ErrorKind, QueueConfig, QueueSpec, Result};

use crate::{
    Faults, MemoryOptions, Profile,
    profile::{self, attempts},
    queue::{Rules, nanos},
};

/// The lease of a queue that names none.
const LEASE: Duration = Duration::from_secs(30);

/// What a configuration asks for. `None` takes the queue as it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) profile: Option<Profile>,
    pub(crate) ordered: Option<bool>,
    pub(crate) lease: Option<Duration>,
    pub(crate) dead_letter: Option<DeadLetter>,
    pub(crate) max_depth: Option<usize>,
    pub(crate) faults: Option<(Faults, u64)>,
    pub(crate) may_create: bool,
    /// Of the handle, not of the queue.
    pub(crate) max_lease: Option<Duration>,
}

/// The dead-letter policy that a configuration asks for.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetter {
    pub(crate) queue: String,
    /// `None` where the queue itself moves nothing.
    pub(crate) max_deliveries: Option<u32>,
    /// Whether the number was named, and not worked out.
    is_named: bool,
}

impl Wanted {
    pub(crate) fn read(config: &QueueConfig) -> Result<Self> {
        let portable = config.queue_options()?;
        let own: MemoryOptions = config.backend_options()?;
        let bad = |name: &str, why: &str| Err(config.bad_option(name, why));
        if own.max_depth == Some(0) {
            return bad("max_depth", "a queue holds at least one message");
        }
        let profile = match (own.profile, own.ordered) {
            (Some(Profile::Pubsub), Some(true)) => Some(Profile::PubsubOrdered),
            (profile, _) => profile,
        };
        if let (Some(ordered), Some(profile)) = (own.ordered, profile)
            && ordered != profile.is_ordered()
            && !profile.may_choose_order()
        {
            let why = format!(
                "profile={} {} ordering keys",
                profile.as_str(),
                if ordered { "has no" } else { "always has" }
            );
            return bad("ordered", &why);
        }
        if own.seed.is_some() && own.faults.is_none() {
            return bad("seed", "it only matters together with faults=..");
        }
        let dead_letter = match portable.dead_letter.as_deref().and_then(local_name) {
            None => {
                if own.max_deliveries.is_some() {
                    return bad(
                        "max_deliveries",
                        "the messages need a place in memory; add dead_letter=NAME",
                    );
                }
                None
            }
            Some(queue) if queue == config.target() => {
                return bad("dead_letter", "a queue cannot be its own dead-letter queue");
            }
            Some(queue) => {
                check_name(&queue)
                    .map_err(|error| config.bad_option("dead_letter", error.message()))?;
                Some(DeadLetter {
                    queue,
                    max_deliveries: own
                        .max_deliveries
                        .or_else(|| portable.max_attempts.map(backstop)),
                    is_named: own.max_deliveries.is_some(),
                })
            }
        };
        if let (Some(deliveries), Some(attempts)) = (own.max_deliveries, portable.max_attempts)
            && deliveries < attempts
        {
            let why = format!(
                "the queue would take messages away before max_attempts={attempts} is reached; \
                 leave it out, or set it above"
            );
            return bad("max_deliveries", &why);
        }
        Ok(Self {
            profile,
            ordered: own.ordered,
            lease: portable.lease,
            dead_letter,
            max_depth: own.max_depth,
            faults: own.faults.map(|faults| (faults, own.seed.unwrap_or(0))),
            may_create: own.create.unwrap_or(true),
            max_lease: portable.max_lease,
        })
    }

    /// Adds what a specification asks for. `live` is the profile of the queue, where there is one.
    pub(crate) fn with_spec(
        mut self,
        spec: &QueueSpec,
        name: &str,
        live: Option<Profile>,
    ) -> Result<Self> {
        if spec.retention.is_some() {
            return Err(error(
                ErrorKind::Unsupported,
                "messages in memory are kept until the process ends; leave the retention out",
            ));
        }
        // What a specification does not ask for, it leaves to the queue.
        match self.profile.or(live) {
            Some(Profile::Sqs) if spec.ordered || spec.exactly_once => {
                return Err(error(
                    ErrorKind::Unsupported,
                    "profile=sqs has no ordering and confirms no acks; use profile=sqs-fifo",
                ));
            }
            Some(profile @ (Profile::Pubsub | Profile::PubsubOrdered)) if spec.exactly_once => {
                if profile == Profile::PubsubOrdered {
                    self.ordered = Some(true);
                }
                self.profile = Some(Profile::PubsubExactlyOnce);
            }
            Some(Profile::Pubsub) if spec.ordered => self.profile = Some(Profile::PubsubOrdered),
            _ => {}
        }
        if spec.ordered {
            self.ordered = Some(true);
        }
        if let Some(lease) = spec.lease {
            if let Some(other) = self.lease
                && other != lease
            {
                return Err(conflict(name, "lease", &Shown(lease), &Shown(other)));
            }
            self.lease = Some(lease);
        }
        if let Some(policy) = &spec.dead_letter {
            check_name(&policy.queue)?;
            if policy.queue == name {
                return Err(error(
                    ErrorKind::InvalidConfig,
                    "a queue cannot be its own dead-letter queue",
                ));
            }
            let asked = DeadLetter {
                queue: policy.queue.clone(),
                max_deliveries: Some(policy.max_deliveries),
                is_named: true,
            };
            if let Some(other) = &self.dead_letter
                && other.queue != asked.queue
            {
                return Err(conflict(name, "dead_letter", &asked.queue, &other.queue));
            }
            self.dead_letter = Some(asked);
        }
        Ok(self)
    }
}

/// What a queue is set to.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) profile: Profile,
    pub(crate) ordered: bool,
    pub(crate) lease: Duration,
    pub(crate) policy: Option<DeadLetterSpec>,
    pub(crate) max_depth: Option<usize>,
    pub(crate) faults: Option<(Faults, u64)>,
    /// Whether the lease was named, and is not the default.
    is_lease_named: bool,
    /// Whether the policy's number was named, and not worked out.
    is_policy_named: bool,
}

impl Settings {
    /// The settings of a queue that is like the cloud, with nothing else named.
    pub(crate) fn of(profile: Profile) -> Self {
        Self {
            profile,
            ordered: profile.is_ordered(),
            lease: LEASE,
            policy: None,
            max_depth: None,
            faults: None,
            is_lease_named: false,
            is_policy_named: false,
        }
    }

    /// The settings of a new queue.
    pub(crate) fn new(wanted: &Wanted) -> Result<Self> {
        let mut settings = Self::of(wanted.profile.unwrap_or_default());
        settings.ordered = wanted.ordered.unwrap_or(settings.ordered);
        settings.adopt(wanted)?;
        Ok(settings)
    }

    /// Adds faults where none were named.
    pub(crate) fn with_faults(mut self, faults: Option<&(Faults, u64)>) -> Self {
        self.faults = self.faults.or_else(|| faults.cloned());
        self
    }

    /// Takes over what was not named before.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` for a value that the profile does not allow.
    pub(crate) fn adopt(&mut self, wanted: &Wanted) -> Result<()> {
        let name = self.profile.as_str();
        if let Some(lease) = wanted.lease {
            let range = self.profile.lease_range();
            if !range.contains(&lease) {
                return Err(error(
                    ErrorKind::InvalidConfig,
                    format!(
                        "lease={} is outside of {} to {}, which profile={name} allows",
                        Shown(lease),
                        Shown(*range.start()),
                        Shown(*range.end()),
                    ),
                ));
            }
            self.lease = lease;
            self.is_lease_named = true;
        }
        if let Some(dead_letter) = &wanted.dead_letter
            && let Some(most) = dead_letter.max_deliveries
        {
            let range = self.profile.deliveries_range();
            if dead_letter.is_named && !range.contains(&most) {
                return Err(error(
                    ErrorKind::InvalidConfig,
                    format!(
                        "max_deliveries={most} is outside of {} to {}, which profile={name} allows",
                        range.start(),
                        range.end(),
                    ),
                ));
            }
            if self.policy.is_none() || dead_letter.is_named {
                self.policy = Some(DeadLetterSpec {
                    queue: dead_letter.queue.clone(),
                    max_deliveries: most.clamp(*range.start(), *range.end()),
                });
                self.is_policy_named = dead_letter.is_named;
            }
        }
        if wanted.max_depth.is_some() {
            self.max_depth = wanted.max_depth;
        }
        if wanted.faults.is_some() {
            self.faults.clone_from(&wanted.faults);
        }
        Ok(())
    }

    /// Says where `wanted` contradicts the settings: setting, value as it is, value as wanted.
    pub(crate) fn differences(&self, wanted: &Wanted) -> Vec<(&'static str, String, String)> {
        let mut found = Vec::new();
        let mut differ = |setting, is: &dyn fmt::Display, asked: &dyn fmt::Display| {
            let (is, asked) = (is.to_string(), asked.to_string());
            if is != asked {
                found.push((setting, is, asked));
            }
        };
        if let Some(profile) = wanted.profile
            && !self.fits(profile)
        {
            differ("profile", &self.profile.as_str(), &profile.as_str());
        }
        if let Some(ordered) = wanted.ordered {
            differ("ordered", &self.ordered, &ordered);
        }
        if let Some(lease) = wanted.lease
            && self.is_lease_named
        {
            differ("lease", &Shown(self.lease), &Shown(lease));
        }
        if let (Some(policy), Some(dead_letter)) = (&self.policy, &wanted.dead_letter) {
            differ("dead_letter", &policy.queue, &dead_letter.queue);
            if let Some(most) = dead_letter.max_deliveries
                && dead_letter.is_named
                && self.is_policy_named
            {
                differ("max_deliveries", &policy.max_deliveries, &most);
            }
        }
        if let (Some(is), Some(asked)) = (self.max_depth, wanted.max_depth) {
            differ("max_depth", &is, &asked);
        }
        if let (Some((is, is_seed)), Some((asked, seed))) = (&self.faults, &wanted.faults) {
            differ("faults", is, asked);
            differ("seed", is_seed, seed);
        }
        found
    }

    /// Whether the queue is one of `profile`. Ordering and exactly-once delivery are settings of a
    /// Pub/Sub subscription: a queue that was created with more of them is Pub/Sub all the same.
    pub(crate) fn fits(&self, profile: Profile) -> bool {
        match profile {
            Profile::Pubsub => self.profile.is_pubsub(),
            Profile::PubsubOrdered => self.profile.is_pubsub() && self.ordered,
            _ => self.profile == profile,
        }
    }

    /// Refuses a handle that asks for something else than what is.
    pub(crate) fn reconcile(&self, wanted: &Wanted, name: &str) -> Result<()> {
        match self.differences(wanted).first() {
            Some((setting, is, asked)) => Err(conflict(name, setting, is, asked)),
            None => Ok(()),
        }
    }

    /// How long a handle leases messages for. Pub/Sub's client library keeps leases by itself, so
    /// there it is the longest time in all.
    pub(crate) fn lease_of_handle(&self, wanted: &Wanted) -> Duration {
        if self.profile.is_pubsub() {
            let longest = profile::max_total(self.profile);
            wanted.max_lease.unwrap_or(longest).min(longest)
        } else {
            self.lease
        }
    }

    pub(crate) fn rules(&self) -> Rules {
        Rules {
            ordered: self.ordered,
            counts_attempts: attempts(self) != towpath_core::Attempts::Uncounted,
            max_deliveries: self.policy.as_ref().map(|policy| policy.max_deliveries),
            max_depth: self.max_depth.unwrap_or(usize::MAX),
            max_total: nanos(profile::max_total(self.profile)),
        }
    }
}

/// Well above the consumer's own limit: the queue takes only what consumers keep failing to settle.
fn backstop(max_attempts: u32) -> u32 {
    max_attempts
        .saturating_mul(2)
        .max(max_attempts.saturating_add(5))
}

/// The name of a dead-letter queue, where it is in memory too.
fn local_name(dead_letter: &str) -> Option<String> {
    if !dead_letter.contains("://") {
        return Some(dead_letter.to_owned());
    }
    let config = QueueConfig::parse(dead_letter).ok()?;
    (config.scheme() == crate::backend::SCHEME).then(|| config.target().to_owned())
}

/// Refuses names that no cloud has.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let is_legal = (1..=255).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
    if is_legal {
        Ok(())
    } else {
        Err(error(
            ErrorKind::InvalidConfig,
            format!(
                "the queue name {name:?} must have 1 to 255 letters, digits, `_`, `-` and dots"
            ),
        ))
    }
}

fn conflict(name: &str, setting: &str, is: &dyn fmt::Display, asked: &dyn fmt::Display) -> Error {
    error(
        ErrorKind::InvalidConfig,
        format!(
            "the queue {name:?} has {setting}={is}, and {setting}={asked} was asked for; name it \
             once, or the same everywhere"
        ),
    )
}

pub(crate) fn error(kind: ErrorKind, message: impl Into<String>) -> Error {
    Error::new(kind, message).with_backend(crate::backend::SCHEME)
}

/// A duration as it is written in a URL.
pub(crate) struct Shown(pub(crate) Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}
