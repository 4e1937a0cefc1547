//! The handler.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::future::{join_all, select_all};
use serde_json::Value;
use towpath_core::{Attempt, Error, ErrorKind, Failure, FailureClass, Handler, Outcome, Result};

use crate::{
    Breaker, DestinationState, Route, UpdaterConfig,
    endpoint::Endpoint,
    template::{Values, check_pointer},
};

/// Writes each message to the destination that it is for. Cloning is cheap; clones share
/// everything, so keep one to watch the [`state`](Self::state).
#[derive(Clone, Debug)]
pub struct Updater(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    destinations: BTreeMap<String, Endpoint>,
    route: Route,
    max_lease: Duration,
    max_wait: Duration,
}

impl Updater {
    /// Checks the configuration and reads the secrets. Nothing is called yet.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) that names the destination, the field and what
    /// would be right.
    pub fn new(config: UpdaterConfig) -> Result<Self> {
        let route = route(&config)?;
        let max_lease = config.max_lease;
        let max_wait = config.max_wait.unwrap_or(max_lease / 5 * 4);
        let mut destinations = BTreeMap::new();
        for (name, destination) in config.destinations {
            let at = |error| invalid(format!("destination {name:?}: {error}"));
            if name.is_empty() || name.len() > 64 || !name.bytes().all(is_name_byte) {
                return Err(at("a name has 1 to 64 letters, digits, -, _ and .".into()));
            }
            if max_wait.saturating_add(destination.timeout) >= max_lease {
                return Err(at(format!(
                    "timeout: {} for a request after up to {} of waiting (max_wait) is not less \
                     than the {} that a message can be held (max_lease)",
                    humantime::format_duration(destination.timeout),
                    humantime::format_duration(max_wait),
                    humantime::format_duration(max_lease),
                )));
            }
            let endpoint = Endpoint::new(&name, destination).map_err(at)?;
            destinations.insert(name, endpoint);
        }
        Ok(Self(Arc::new(Inner {
            destinations,
            route,
            max_lease,
            max_wait,
        })))
    }

    /// Checks that a message can be held for as long as the configuration assumes: `max_lease` is
    /// [`Consumer::max_lease`](towpath_core::Consumer::max_lease).
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) when it is less.
    pub fn check_max_lease(&self, max_lease: Duration) -> Result<()> {
        if max_lease >= self.0.max_lease {
            return Ok(());
        }
        Err(invalid(format!(
            "max_lease: the updater counts on {}, and the queue allows {}; set max_lease of the \
             updater to that of the queue",
            humantime::format_duration(self.0.max_lease),
            humantime::format_duration(max_lease),
        )))
    }

    /// How the destinations are, by name.
    pub fn state(&self) -> BTreeMap<String, DestinationState> {
        let destinations = self.0.destinations.iter();
        destinations
            .map(|(name, endpoint)| (name.clone(), endpoint.state()))
            .collect()
    }

    /// The breaker of a destination.
    pub fn breaker(&self, destination: &str) -> Option<&Breaker> {
        self.0.destinations.get(destination).map(Endpoint::breaker)
    }

    /// Whether no messages should come: the breaker of a destination is open.
    pub fn is_paused(&self) -> bool {
        let mut destinations = self.0.destinations.values();
        destinations.any(|endpoint| endpoint.breaker().is_open())
    }

    /// Resolves when no messages should come: the breaker of a destination is open.
    ///
    /// It takes one destination, since its messages would use up the places of the others'. Give
    /// destinations queues of their own where they must not wait for one another.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only watches.
    pub async fn paused(&self) {
        let opened = self.0.destinations.values().map(|endpoint| {
            let breaker = endpoint.breaker();
            Box::pin(breaker.opened())
        });
        // There is at least one destination.
        select_all(opened).await;
    }

    /// Resolves when messages should come again. Poll it while paused: where a
    /// [`probe`](crate::Destination::probe) is configured, this asks it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a probe under way is given up.
    pub async fn resumed(&self) {
        loop {
            join_all(self.0.destinations.values().map(Endpoint::resumed)).await;
            if !self.is_paused() {
                return;
            }
        }
    }

    /// The destination of a message.
    fn destination(&self, attempt: &Attempt) -> Result<&Endpoint, Failure> {
        let Inner {
            destinations,
            route,
            ..
        } = &*self.0;
        let message = &attempt.envelope().message;
        let values = Values::new(attempt);
        let named = match (&route.attribute, &route.pointer) {
            (Some(attribute), _) => message.attributes().get(attribute),
            (None, Some(pointer)) => match values.pointer(pointer)? {
                None => None,
                Some(Value::String(name)) => Some(name.as_str()),
                Some(_) => {
                    return Err(no_destination(format!(
                        "what is at {pointer} of the body is no name of a destination"
                    )));
                }
            },
            (None, None) => None,
        };
        let name = named.or(route.default.as_deref()).ok_or_else(|| {
            no_destination("the message names no destination, and there is no default".into())
        })?;
        destinations
            .get(name)
            .ok_or_else(|| no_destination(format!("there is no destination {name:?}")))
    }
}

#[async_trait]
impl Handler for Updater {
    async fn handle(&self, attempt: Attempt) -> Outcome {
        let endpoint = match self.destination(&attempt) {
            Ok(endpoint) => endpoint,
            Err(failure) => return failure.into(),
        };
        // Both branches may be dropped: a request that was sent may have been written, and the
        // next attempt carries the same idempotency key.
        tokio::select! {
            outcome = endpoint.deliver(&attempt, self.0.max_wait) => outcome,
            () = attempt.cancellation().cancelled() => Outcome::Retry {
                after: None,
                reason: "the lease was lost before the destination answered".into(),
            },
        }
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

fn no_destination(reason: String) -> Failure {
    Failure::permanent_as(FailureClass::Other("no_destination".into()), reason)
}

/// How messages choose, checked.
fn route(config: &UpdaterConfig) -> Result<Route> {
    let names = || {
        config
            .destinations
            .keys()
            .cloned()
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut route = match (&config.route, config.destinations.len()) {
        (_, 0) => return Err(invalid("there are no destinations; configure at least one")),
        (Some(route), _) => route.clone(),
        (None, 1) => Route::default(),
        (None, _) => {
            return Err(invalid(format!(
                "there are several destinations ({}); say with route how a message chooses",
                names()
            )));
        }
    };
    if route.attribute.is_some() && route.pointer.is_some() {
        return Err(invalid(
            "route: attribute and pointer are both set; keep one",
        ));
    }
    if let Some(pointer) = &route.pointer {
        check_pointer(pointer).map_err(|error| invalid(format!("route.pointer: {error}")))?;
    }
    if route.attribute.is_none() && route.pointer.is_none() && route.default.is_none() {
        match config.destinations.keys().next() {
            Some(name) if config.destinations.len() == 1 => route.default = Some(name.clone()),
            _ => return Err(invalid("route: set attribute, pointer or default")),
        }
    }
    if let Some(default) = &route.default
        && !config.destinations.contains_key(default)
    {
        return Err(invalid(format!(
            "route.default: there is no destination {default:?} (known: {})",
            names()
        )));
    }
    Ok(route)
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}
