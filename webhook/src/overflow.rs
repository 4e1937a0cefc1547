//! Where messages go while their queue cannot be reached.

use std::fmt;

use async_trait::async_trait;
use towpath_core::{Message, Result};

/// A durable place for messages whose queue cannot be reached; they are sent on from there when it
/// can.
///
/// While it [holds](Self::holds) something for a queue, all messages of that queue go through it, so
/// that they stay in order.
#[async_trait]
pub trait Overflow: fmt::Debug + Send + Sync + 'static {
    /// Keeps `message` for `queue`. `Ok` means that it is kept through a crash.
    ///
    /// # Errors
    ///
    /// When there is no room, or it cannot be written. It is not kept then.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, the message may or may not be kept.
    async fn push(&self, queue: &str, message: &Message) -> Result<()>;

    /// Whether something for `queue` is here that was not sent on yet.
    fn holds(&self, queue: &str) -> bool;

    /// How many messages are here.
    fn depth(&self) -> usize;

    /// Whether another message would be taken.
    fn has_room(&self) -> bool;

    /// Queues that have messages here, and that whoever sends them on does not find. Their messages
    /// are kept.
    fn unknown_queues(&self) -> Vec<String>;
}
