//! Writes messages back to other systems over HTTP, as a [`Handler`](towpath_core::Handler).
//!
//! ```
//! use std::sync::Arc;
//! use towpath_core::Handler;
//! use towpath_updater::{Updater, UpdaterConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config: UpdaterConfig = toml::from_str(r#"
//!     [destinations.crm]
//!     url = "https://crm.example/contacts/{/customer/email}/activities"
//!     auth = { bearer = "for this example only; use { env = .. } or { file = .. }" }
//!     headers = { accept = "application/json" }
//!     rate = { requests = 20, per = "1s" }
//! "#)?;
//! let updater = Updater::new(config)?;
//! // Give it to a worker, to Lambda or to a push endpoint.
//! let handler: Arc<dyn Handler> = Arc::new(updater);
//! # Ok(())
//! # }
//! ```
//!
//! # What happens to a message
//!
//! | the destination | the message |
//! |---|---|
//! | answers 2xx | is acked |
//! | answers 408, 409, 423, 425, 429 or 5xx, or not at all | is tried again, never before `Retry-After` |
//! | answers anything else | is dead-lettered with status and excerpt |
//! | is down for long (the [`Breaker`] is open) | waits, and no attempt is counted |
//! | refuses our credentials (401, 403) | is dead-lettered; [`Alarm`], and the breaker opens after a few in a row |
//!
//! `Retry-After` is read as seconds and as a date, and cut to
//! [`max_retry_after`](Destination::max_retry_after). With 429 and 503 it holds for the whole
//! destination.
//!
//! Every request carries the message's idempotency key, which is the same in every attempt and
//! after a redrive, so that a destination that knows such keys writes once. Where it knows none, a
//! write may happen twice: a connection that breaks before the answer leaves open whether it did.
//!
//! # Outages
//!
//! While the breaker is open, messages in hand wait under their leases for up to
//! [`max_wait`](UpdaterConfig::max_wait), and are then [released](towpath_core::Outcome::Release),
//! which is no attempt. [`Updater::pause`] keeps a worker from receiving more in that time; under
//! other runtimes, [`Updater::paused`] and [`Updater::resumed`] say when. After a cool-down the
//! [`probe`](Destination::probe) is asked, and then one message is tried; when that fails, it waits
//! on with the others.
//!
//! However long an outage is, it costs no attempt while nothing answers the probe. Where something
//! does (an API is down behind a front that answers, and there is no better probe), a message is
//! received again after each `max_wait`. The worker does not count that either, but the queue's own
//! dead-letter policy does: raise `max_lease` (SQS: up to 12 h), and give that policy room.
//!
//! # Order
//!
//! Updates of one entity stay in order when the queue orders them: send them with the entity's id
//! as the ordering key. A message that is dead-lettered lets later ones of its key pass.
//!
//! # Safety
//!
//! Only `https` to public addresses is called unless [`allow_http`](Destination::allow_http) and
//! [`allow_private`](Destination::allow_private) say otherwise. Addresses are checked when a
//! connection is made, so a name that changes its address gets nowhere. A message fills path and
//! query, never scheme, host or port, and cannot leave its place in the path. Redirects are not
//! followed unless [`redirects`](Destination::redirects) says so, and never to another host. No
//! proxy of the environment is used. A [`Secret`] is in no log, no error and no failure reason, not
//! even where the destination repeats it.
//!
//! # Metrics
//!
//! Through the [`metrics`] facade; install a recorder before [`Updater::new`].
//!
//! | metric | labels | what |
//! |---|---|---|
//! | `towpath_update_seconds` | `destination`, `status` | histogram of requests; `status` is the HTTP status, or `timeout`, `connection`, `address` |
//! | `towpath_updates_total` | `destination`, `outcome` | messages: `ack`, `retry`, `release`, `dead_letter` |
//! | `towpath_updates_running` | `destination` | requests under way |
//! | `towpath_breaker_state` | `breaker` (the destination) | 0 closed, 1 half-open, 2 open |
//! | `towpath_update_alarm` | `destination` | 1 while the configuration is wrong |

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod address;
mod alarm;
mod answer;
mod breaker;
mod config;
mod endpoint;
mod history;
mod pace;
mod pausing;
mod probe;
mod redact;
mod request;
mod retry_after;
mod state;
mod tally;
mod template;
mod updater;
mod url_template;

pub use alarm::Alarm;
pub use breaker::{Breaker, BreakerConfig, BreakerState, Pass};
pub use config::{Auth, Body, Class, Destination, Rate, Route, UpdaterConfig};
pub use pausing::Pausing;
pub use state::DestinationState;
pub use towpath_core::config::Secret;
pub use updater::Updater;
