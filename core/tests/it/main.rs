//! The portable layer over a scripted driver, under a paused clock.
#![allow(missing_docs)]

mod consumer;
mod leases;
mod producer;
mod script;
