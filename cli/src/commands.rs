//! The subcommands, one file each.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod conformance;
pub(crate) mod depth;
pub(crate) mod dlq;
pub(crate) mod migrate;
pub(crate) mod provision;
pub(crate) mod purge;
pub(crate) mod receive;
pub(crate) mod send;
