//! Receives webhooks into a queue: verifies, checks, answers as the provider expects, and loses
//! none.

pub mod signature;
