//! Looking at dead letters, redriving and discarding them.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use futures::future::join_all;
use serde::Serialize;
use towpath_core::{Consumer, Delivery, Error, ErrorKind, FailureClass, Queue, Result};
use towpath_worker::{Redrive, RedriveEnd, RedriveFilter};
use uuid::Uuid;

use crate::{WatchedQueue, ops::State};

/// How many dead letters a page shows, and how many are taken in hand to find the chosen ones.
pub(crate) const PAGE: usize = 100;
/// How many dead letters are searched for those to discard.
const SEARCHED: usize = 10_000;
/// For how long nothing must come before the queue is taken for empty.
const QUIET: Duration = Duration::from_secs(2);
/// How much of a body is shown, in bytes.
const PREVIEW: usize = 4096;

/// A dead letter, as the page shows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DeadLetter {
    pub(crate) key: Uuid,
    pub(crate) origin: String,
    pub(crate) class: String,
    pub(crate) reason: String,
    pub(crate) attempts: String,
    pub(crate) redrives: u32,
    pub(crate) failed_at: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) is_cut: bool,
    pub(crate) size: usize,
}

/// The dead letters of a queue, [`PAGE`] of them at most; all of them are released again.
///
/// # Cancel safety
///
/// Cancel safe: what is in hand is released when the future is dropped.
pub(crate) async fn list(watched: &WatchedQueue) -> Result<Vec<DeadLetter>> {
    let _turn = watched.dead_letters.lock().await;
    let consumer = dead_letter_queue(watched)?.consumer().await?;
    let found = collect(&consumer, PAGE, |_| true).await;
    let letters = match found {
        Ok(found) => {
            let letters = found.chosen.iter().map(shown).collect();
            release(found.chosen).await;
            Ok(letters)
        }
        Err(error) => Err(error),
    };
    close(&consumer).await;
    letters
}

async fn release(deliveries: Vec<Delivery>) {
    let released = deliveries.into_iter().map(|d| d.release(Duration::ZERO));
    for result in join_all(released).await {
        if let Err(error) = result {
            tracing::warn!(%error, "a dead letter was looked at and not released; it comes back when its lease runs out");
        }
    }
}

/// Sends the dead letters with these keys back to the queues that they failed in, and says what
/// was done. Those without a record, as a broker parks them, go to `watched`.
///
/// # Cancel safety
///
/// As [`Redrive::run`].
pub(crate) async fn redrive(
    state: &State,
    watched: &WatchedQueue,
    keys: &BTreeSet<Uuid>,
) -> Result<String> {
    let _turn = watched.dead_letters.lock().await;
    let dead = dead_letter_queue(watched)?;
    let mut origins = BTreeSet::new();
    let consumer = dead.consumer().await?;
    let mut redrive = Redrive::new(consumer.clone()).to(watched.queue.producer().await?);
    for queue in state.queues.values().map(|watched| &watched.queue) {
        let is_same = queue
            .dead_letter()?
            .is_some_and(|other| other.config() == dead.config());
        if is_same {
            let origin = queue.config().target().to_owned();
            redrive = redrive.route(origin.clone(), queue.producer().await?);
            origins.insert(origin);
        }
    }
    let filter = keys.iter().fold(RedriveFilter::new(), |filter, key| {
        filter.idempotency_key(*key)
    });
    // What failed in a queue that is not shown here must not end up in another one.
    let filter = filter.condition(move |envelope| {
        let failure = envelope.message.failure();
        failure.is_none_or(|record| origins.contains(&record.queue))
    });
    let report = redrive
        .filter(filter)
        .limit(keys.len() as u64)
        .quiet(QUIET)
        .run()
        .await;
    close(&consumer).await;
    watched.forget_depths().await;
    let report = report?;
    let mut text = format!("{} of {} redriven.", report.redriven, keys.len());
    let mut add = |count: u64, what: &str| {
        if count > 0 {
            text.push_str(&format!(" {count} {what}."));
        }
    };
    add(
        report.unacked,
        "sent and not removed: they are in both queues, with the same idempotency key",
    );
    add(
        report.unanswered,
        "sent without an answer in time: they stay, and may be in both queues",
    );
    add(report.not_sent, "could not be sent and stay");
    let found = report.redriven + report.unacked + report.unanswered + report.not_sent;
    let missing = (keys.len() as u64).saturating_sub(found);
    add(
        missing,
        "not found: handled by somebody else meanwhile, or failed in a queue that is not shown here",
    );
    if let RedriveEnd::TargetFailed(error) = &report.end {
        text.push_str(&format!(" It ended early: {error}"));
    }
    Ok(text)
}

/// Removes the dead letters with these keys for good, and says what was done.
///
/// # Cancel safety
///
/// When the future is dropped, some may be removed; the others are released.
pub(crate) async fn discard(watched: &WatchedQueue, keys: &BTreeSet<Uuid>) -> Result<String> {
    let _turn = watched.dead_letters.lock().await;
    let consumer = dead_letter_queue(watched)?.consumer().await?;
    let is_chosen = |delivery: &Delivery| {
        let key = delivery.envelope().message.idempotency_key();
        keys.contains(&key)
    };
    let found = match collect(&consumer, keys.len(), is_chosen).await {
        Ok(found) => found,
        Err(error) => {
            close(&consumer).await;
            return Err(error);
        }
    };
    let audited: Vec<_> = found.chosen.iter().map(shown).collect();
    let results = consumer.ack_batch(found.chosen).await;
    let (mut removed, mut failed) = (0_u64, 0_u64);
    for (letter, result) in audited.iter().zip(results) {
        let DeadLetter { key, reason, .. } = letter;
        match result {
            Ok(_) => {
                removed += 1;
                tracing::info!(target: "towpath::ops", queue = watched.name, %key, reason, "dead letter discarded");
            }
            Err(error) => {
                failed += 1;
                tracing::error!(target: "towpath::ops", queue = watched.name, %key, %error, "dead letter not discarded");
            }
        }
    }
    release(found.others).await;
    close(&consumer).await;
    watched.forget_depths().await;
    let mut text = format!("{removed} of {} discarded.", keys.len());
    if failed > 0 {
        text.push_str(&format!(" {failed} could not be removed and stay."));
    }
    let missing = (keys.len() as u64).saturating_sub(removed + failed);
    if missing > 0 {
        text.push_str(&format!(
            " {missing} not found: handled by somebody else meanwhile."
        ));
    }
    Ok(text)
}

fn dead_letter_queue(watched: &WatchedQueue) -> Result<Queue> {
    watched.queue.dead_letter()?.ok_or_else(|| {
        let name = &watched.name;
        let text = format!("{name} has no dead-letter queue; name one with the option dead_letter");
        Error::new(ErrorKind::InvalidConfig, text)
    })
}

struct Found {
    chosen: Vec<Delivery>,
    /// Held to the end, so that nothing is seen twice.
    others: Vec<Delivery>,
}

async fn collect(
    consumer: &Consumer,
    most: usize,
    is_chosen: impl Fn(&Delivery) -> bool,
) -> Result<Found> {
    let (mut chosen, mut others) = (Vec::new(), Vec::new());
    while chosen.len() < most && others.len() < SEARCHED {
        let batch = consumer
            .receive_batch(PAGE.min(most - chosen.len()).max(1), QUIET)
            .await?;
        if batch.is_empty() {
            break;
        }
        for delivery in batch {
            if is_chosen(&delivery) {
                chosen.push(delivery);
            } else {
                others.push(delivery);
            }
        }
    }
    Ok(Found { chosen, others })
}

async fn close(consumer: &Consumer) {
    if let Err(error) = consumer.close().await {
        tracing::warn!(queue = consumer.queue(), %error, "a dead-letter queue was not closed well");
    }
}

fn shown(delivery: &Delivery) -> DeadLetter {
    let message = &delivery.envelope().message;
    let record = message.failure();
    let body = message.body();
    let preview = &body[..body.len().min(PREVIEW)];
    let time = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
    let failed_at = match record {
        Some(record) => Some(time(record.failed_ms)),
        None => delivery.envelope().sent_at,
    };
    DeadLetter {
        key: message.idempotency_key(),
        origin: record.map_or_else(|| "unknown".to_owned(), |record| record.queue.clone()),
        class: record.map_or_else(|| "unknown".to_owned(), |record| class(&record.class)),
        reason: record.map_or_else(
            || "moved by the broker, which gives no reason".to_owned(),
            |record| record.reason.clone(),
        ),
        attempts: record
            .filter(|record| record.attempts > 0)
            .map_or_else(|| "?".to_owned(), |record| record.attempts.to_string()),
        redrives: record.map_or(0, |record| record.redrives),
        failed_at: failed_at.map_or_else(
            || "?".to_owned(),
            |at| humantime::format_rfc3339_seconds(at).to_string(),
        ),
        attributes: message
            .attributes()
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
        body: match std::str::from_utf8(body) {
            // A character that the cut falls into is left out.
            Ok(_) => String::from_utf8_lossy(preview)
                .trim_end_matches(char::REPLACEMENT_CHARACTER)
                .to_owned(),
            Err(_) => format!(
                "(not text) {}",
                hex::encode(&preview[..preview.len().min(256)])
            ),
        },
        is_cut: body.len() > preview.len(),
        size: body.len(),
    }
}

fn class(class: &FailureClass) -> String {
    match class {
        FailureClass::Permanent => "permanent".to_owned(),
        FailureClass::AttemptsExhausted => "attempts exhausted".to_owned(),
        FailureClass::TooOld => "too old".to_owned(),
        FailureClass::Undecodable => "undecodable".to_owned(),
        FailureClass::Other(other) => other.clone(),
        other => format!("{other:?}"),
    }
}
