//! A destination that nobody but its owner can repair.

use std::{
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

/// The configuration of a destination is wrong: it refuses our credentials (401, 403, 407), or its
/// name has no address that is allowed.
///
/// Raised by the first such answer, with an error in the log; cleared by the next success.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alarm {
    /// What is wrong, in words.
    pub reason: String,
    /// When it was raised.
    pub since: SystemTime,
    /// How many messages met it.
    pub count: u64,
}

#[derive(Debug, Default)]
pub(crate) struct AlarmCell(Mutex<Option<Alarm>>);

impl AlarmCell {
    pub(crate) fn get(&self) -> Option<Alarm> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Raises the alarm, or counts.
    pub(crate) fn raise(&self, destination: &str, reason: &str) {
        let mut alarm = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *alarm {
            Some(alarm) => {
                alarm.count += 1;
                alarm.reason = reason.to_owned();
            }
            None => {
                tracing::error!(
                    destination,
                    reason,
                    "the configuration of a destination is wrong; fix it, then redrive"
                );
                *alarm = Some(Alarm {
                    reason: reason.to_owned(),
                    since: SystemTime::now(),
                    count: 1,
                });
            }
        }
    }

    pub(crate) fn clear(&self, destination: &str) {
        let mut alarm = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(alarm) = alarm.take() {
            tracing::info!(
                destination,
                messages = alarm.count,
                "the destination accepts our requests again"
            );
        }
    }
}
