//! The in-memory queue through the portable API, under a paused clock.
#![allow(missing_docs)]

mod admin;
mod basics;
mod close;
mod dead_letter;
mod dedup;
mod faults;
mod options;
mod ordering;
mod profiles;
mod support;
mod waiting;
