//! The in-memory queue through the portable API, under a paused clock.
#![allow(missing_docs)]

mod basics;
mod support;
