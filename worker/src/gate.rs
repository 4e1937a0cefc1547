//! Pausing a worker.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

/// Pauses and resumes receiving. Cloning is cheap; clones share everything.
///
/// A paused worker receives nothing, gives back what was fetched ahead, and finishes the messages
/// in hand; none of this counts as an attempt. A gate can be shared by several workers and made
/// before them: [`WorkerBuilder::gate`](crate::WorkerBuilder::gate).
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<Reasons>>);

/// Why the gate is closed, and how many holds there are for each reason.
type Reasons = BTreeMap<String, usize>;

/// The reason that [`Gate::pause`] gives.
const PAUSED: &str = "paused";

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Reasons::new())))
    }
}

impl Gate {
    /// An open gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Pauses until [`resume`](Self::resume). Pausing twice is fine.
    pub fn pause(&self) {
        self.0.send_if_modified(|reasons| {
            let before = reasons.insert(PAUSED.to_owned(), 1);
            before.is_none()
        });
    }

    /// Ends a [`pause`](Self::pause). [Holds](Self::hold) stay.
    pub fn resume(&self) {
        self.0
            .send_if_modified(|reasons| reasons.remove(PAUSED).is_some());
    }

    /// Pauses for `reason` for as long as the returned hold lives. Many holds may be there at once.
    #[must_use = "dropping the hold ends it"]
    pub fn hold(&self, reason: impl Into<String>) -> Hold {
        let reason = reason.into();
        self.0
            .send_modify(|reasons| *reasons.entry(reason.clone()).or_default() += 1);
        Hold {
            gate: self.clone(),
            reason,
        }
    }

    /// Whether receiving is paused.
    pub fn is_paused(&self) -> bool {
        !self.0.borrow().is_empty()
    }

    /// Why receiving is paused; empty when it is not.
    pub fn reasons(&self) -> Vec<String> {
        self.0.borrow().keys().cloned().collect()
    }

    /// Resolves when the gate is open.
    pub(crate) async fn opened(&self) {
        self.until(Reasons::is_empty).await;
    }

    /// Resolves when the gate is closed.
    pub(crate) async fn closed(&self) {
        self.until(|reasons| !reasons.is_empty()).await;
    }

    async fn until(&self, is_so: impl FnMut(&Reasons) -> bool) {
        // The sender lives as long as we do, so this never fails.
        let _ = self.0.subscribe().wait_for(is_so).await;
    }
}

/// A pause that ends when this is dropped. Made by [`Gate::hold`].
#[derive(Debug)]
pub struct Hold {
    gate: Gate,
    reason: String,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.gate.0.send_modify(|reasons| {
            if let Some(holds) = reasons.get_mut(&self.reason) {
                *holds -= 1;
                if *holds == 0 {
                    reasons.remove(&self.reason);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_opens_when_the_last_hold_is_gone() {
        let gate = Gate::new();
        let first = gate.hold("breaker");
        let second = gate.hold("breaker");
        gate.pause();
        gate.pause();
        assert_eq!(gate.reasons(), ["breaker", "paused"]);
        gate.resume();
        drop(first);
        assert!(gate.is_paused());
        drop(second);
        assert!(!gate.is_paused());
    }
}
