//! Tests of the public interface.

mod accepting;
mod arbitrary;
mod body_over_http;
mod configuration;
mod curl;
mod independent;
mod logs;
mod once;
mod outage;
mod reload;
mod senders;
mod signatures;
mod spool;
mod spool_table;
mod support;
