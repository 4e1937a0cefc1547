//! The updater against real servers on this machine.

mod answers;
mod configuration;
mod day;
mod limits;
mod logs;
mod metrics;
mod outage;
mod requests;
mod safety;
mod server;
