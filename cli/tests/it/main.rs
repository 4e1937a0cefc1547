//! The tool as a user runs it.

mod conformance;
mod local;
