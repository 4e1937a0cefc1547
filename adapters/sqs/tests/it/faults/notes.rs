//! What is seen of every message.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use towpath_conformance::history::History;
use towpath_core::{Envelope, MessageId};
use uuid::Uuid;

/// What is seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(pub(super) Arc<Inner>);

#[derive(Debug, Default)]
pub(super) struct Inner {
    /// Every message, by its own key.
    pub(super) messages: History,
    /// Every message of the broker, by the broker's id: a send whose answer was lost and that was
    /// repeated makes two of them.
    pub(super) copies: History,
    seen: Mutex<Seen>,
    pub(super) accepted: AtomicUsize,
    pub(super) unknown_sends: AtomicUsize,
    pub(super) attempts: AtomicUsize,
    pub(super) settled: AtomicUsize,
    pub(super) lost_leases: AtomicUsize,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) copies: BTreeSet<Uuid>,
    pub(super) acked_copies: BTreeSet<Uuid>,
    /// Copies that came after their ack had succeeded.
    pub(super) came_back: BTreeSet<Uuid>,
    /// Messages whose ack ended in an error: they may be gone, or come again.
    pub(super) unknown_acks: BTreeSet<Uuid>,
    pub(super) keys: BTreeSet<Uuid>,
}

/// Both servers have UUIDs for ids.
fn copy_key(id: &MessageId) -> Uuid {
    let id = id.to_string();
    let hashed = || Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes());
    Uuid::parse_str(&id).unwrap_or_else(|_| hashed())
}

/// The envelope under the key of the broker's message.
fn copy_of(envelope: &Envelope) -> Envelope {
    let key = copy_key(&envelope.id);
    let message = envelope.message.clone().with_idempotency_key(key);
    Envelope::new(envelope.id.clone(), message)
}

impl Notes {
    pub(super) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn received(&self, envelope: &Envelope, holder: &str) {
        let copy = copy_of(envelope);
        let key = copy.message.idempotency_key();
        let mut seen = self.seen();
        seen.keys.insert(envelope.message.idempotency_key());
        if seen.copies.insert(key) {
            self.0.copies.accepted(&copy.message);
        }
        if seen.acked_copies.contains(&key) {
            seen.came_back.insert(key);
        }
        self.0.attempts.fetch_add(1, Ordering::Relaxed);
        self.0.messages.received(envelope, holder);
        self.0.copies.received(&copy, holder);
    }

    pub(super) fn acked(&self, envelope: &Envelope, holder: &str) {
        self.seen().acked_copies.insert(copy_key(&envelope.id));
        self.0.settled.fetch_add(1, Ordering::Relaxed);
        self.0.messages.acked(envelope, holder);
        self.0.copies.acked(&copy_of(envelope), holder);
    }

    pub(super) fn released(&self, envelope: &Envelope, holder: &str) {
        self.0.messages.released(envelope, holder);
        self.0.copies.released(&copy_of(envelope), holder);
    }

    pub(super) fn ack_failed(&self, envelope: &Envelope, holder: &str) {
        let key = envelope.message.idempotency_key();
        self.seen().unknown_acks.insert(key);
        self.released(envelope, holder);
    }
}
