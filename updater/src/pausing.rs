//! Pausing a worker while a breaker is open.

use tokio::task::JoinHandle;
use towpath_worker::Gate;

use crate::Updater;

/// Keeps a gate closed while a breaker is open, until it is dropped. Made by [`Updater::pause`].
#[derive(Debug)]
#[must_use = "dropping it ends the pausing"]
pub struct Pausing(JoinHandle<()>);

impl Updater {
    /// Closes `gate` while the breaker of a destination is open, so that a worker receives nothing
    /// that could only wait.
    ///
    /// ```
    /// # fn example(consumer: towpath_core::Consumer, config: towpath_updater::UpdaterConfig)
    /// #     -> Result<(), Box<dyn std::error::Error>> {
    /// use towpath_updater::Updater;
    /// use towpath_worker::{Gate, Worker};
    ///
    /// let updater = Updater::new(config)?;
    /// updater.check_max_lease(consumer.max_lease())?;
    /// let gate = Gate::new();
    /// let _pausing = updater.pause(&gate);
    /// let worker = Worker::builder(consumer, updater).gate(gate).build()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Leave the worker's handler timeout out, or make it longer than
    /// [`max_wait`](crate::UpdaterConfig::max_wait) and the destinations' timeouts together: a
    /// timeout counts as an attempt, and waiting for a breaker is none.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub fn pause(&self, gate: &Gate) -> Pausing {
        let (updater, gate) = (self.clone(), gate.clone());
        Pausing(tokio::spawn(async move {
            loop {
                updater.paused().await;
                let hold = gate.hold("breaker");
                updater.resumed().await;
                drop(hold);
            }
        }))
    }
}

impl Drop for Pausing {
    fn drop(&mut self) {
        self.0.abort();
    }
}
