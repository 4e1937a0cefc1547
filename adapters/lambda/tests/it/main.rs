//! Invocations, as Lambda makes them.

mod dead_letters;
mod deadline;
mod events;
mod failures;
mod fifo;
mod invocation;
mod runtime;
