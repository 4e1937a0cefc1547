//! A small page for whoever operates the queues: how full they are, what the workers do, what is
//! wrong, and the dead letters, which can be redriven or discarded.
//!
//! Server-rendered, without scripts and without anything from outside. It lives in the process of
//! the worker or the webhook receiver:
//!
//! ```
//! # async fn example(
//! #     orders: towpath_core::Queue, worker: &towpath_worker::Worker,
//! #     breaker: towpath_worker::layers::CircuitBreakerLayer,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use towpath_ops::{Ops, Status, WatchedQueue};
//! use towpath_worker::layers::BreakerState;
//!
//! let ops = Ops::new("webhook-to-crm")
//!     .queue(WatchedQueue::new("orders", orders).worker(worker))
//!     .status("breaker crm", move || match breaker.state() {
//!         BreakerState::Closed => Status::good("closed"),
//!         state => Status::bad(format!("{state:?}: receiving is paused")),
//!     });
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:9180").await?;
//! tokio::spawn(ops.serve(listener));
//! # Ok(())
//! # }
//! ```
//!
//! | path | what |
//! |---|---|
//! | `/` | the queues, the workers, and each [`Status`]; reloads itself every 10 s |
//! | `/queues/{name}/dead-letters` | up to 100 dead letters with their reasons; redrive, discard |
//! | `/status.json` | the first page for programs |
//!
//! # Who may look
//!
//! A dead letter holds customers' data, so the page is careful:
//!
//! - [`Ops::serve`] refuses a listener that is not on loopback, unless a [token](Ops::token) is set.
//! - Without a token, requests must name a loopback host (`localhost`, `127.0.0.1`, `[::1]`), so that
//!   a web site whose name resolves to this machine sees nothing.
//! - With a token, each request carries it: as `Authorization: Bearer TOKEN`, or as the password of a
//!   browser's own login dialog, with any user name.
//! - What changes something is asked twice and needs the form's own token, so no other site can do it.
//! - Everything shown is escaped, and the page's content security policy allows no script at all.
//!
//! # What looking does
//!
//! To list dead letters they are received, and released right after; on a broker that counts
//! deliveries, this counts as one. While they are listed, nobody else can receive them.
//! Depths are read from the queue at most every 10 s, and only while somebody looks.

/// The example of the README compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod dead_letters;
mod guard;
mod ops;
mod overview;
mod pages;
mod queue;
mod routes;
mod status;

pub use ops::{Ops, OpsError};
pub use queue::WatchedQueue;
pub use status::Status;
