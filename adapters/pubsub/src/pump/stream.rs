//! Reads one stream, and opens it anew when it ends.

use std::{
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use backon::{BackoffBuilder, ExponentialBuilder};
use google_cloud_pubsub::{
    model::Message as Raw,
    subscriber::{MessageStream, handler::Handler},
};
use tokio::{
    task::yield_now,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use towpath_core::Error;

use super::{
    Shared, give_back,
    order::Rank,
    state::{Arrival, Early},
    streams::StreamId,
};
use crate::{
    error::{self, Operation},
    message,
};

/// How many messages are taken from a stream before callers see them.
const BATCH: usize = 256;
/// How many turns other tasks have before a stream is given up.
const TURNS: usize = 4;

/// How reading ended.
enum End {
    Stopped,
    /// In an error that the client library does not get over.
    Failed(Error),
    Ended,
}

/// Reads until it is stopped.
pub(super) async fn run(shared: Arc<Shared>, id: StreamId, limit: usize, stop: CancellationToken) {
    let delays = || {
        ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(250))
            .with_max_delay(Duration::from_secs(5))
            .with_jitter()
            .without_max_times()
            .build()
    };
    let mut backoff = delays();
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let end = match shared.subscribe(limit).await {
            Ok(mut stream) => {
                let token = stream.shutdown_token();
                let end = read(&shared, id, &mut stream, &stop).await;
                drop(stream);
                // It goes on keeping leases and sending settlements until callers hold nothing of
                // it any more.
                shared.ending.spawn(async move { token.shutdown().await });
                end
            }
            Err(error) => End::Failed(error),
        };
        match end {
            End::Stopped => break,
            End::Failed(error) => {
                tracing::warn!(subscription = shared.subscription, %error, "a stream failed; it is opened again");
                shared.lock().stream_failed(error);
                shared.arrival.notify_waiters();
            }
            End::Ended => tracing::debug!(subscription = shared.subscription, "a stream ended"),
        }
        if begun.elapsed() > Duration::from_secs(60) {
            backoff = delays();
        }
        let delay = backoff.next().unwrap_or(Duration::from_secs(5));
        // Both branches only wait.
        tokio::select! {
            () = stop.cancelled() => break,
            () = sleep(delay) => {}
        }
    }
    shared.lock().streams.ended(id);
    shared.work.notify_one();
}

async fn read(
    shared: &Shared,
    id: StreamId,
    stream: &mut MessageStream,
    stop: &CancellationToken,
) -> End {
    let mut batch = Vec::new();
    loop {
        while shared.lock().is_full() {
            let space = shared.space.notified();
            // Both branches only wait. The pause is for room that was made in between.
            tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                () = space => {}
                () = sleep(Duration::from_millis(100)) => {}
            }
        }
        // One future until it is ready: dropping it while it opens the stream would begin anew.
        let mut next = pin!(stream.next());
        let item = match futures::poll!(next.as_mut()) {
            Poll::Ready(item) => item,
            Poll::Pending => {
                hand_over(shared, id, &mut batch);
                // `next` is used on; the other branch only waits.
                let item = tokio::select! {
                    biased;
                    item = next.as_mut() => Some(item),
                    () = stop.cancelled() => last_look(next).await,
                };
                match item {
                    Some(item) => item,
                    None => return End::Stopped,
                }
            }
        };
        match item {
            Some(Ok((raw, handler))) => batch.push(arrival(shared, raw, handler)),
            Some(Err(error)) => {
                hand_over(shared, id, &mut batch);
                let error = error::of_call(Operation::Receive, &shared.subscription, error);
                return End::Failed(error);
            }
            None => {
                hand_over(shared, id, &mut batch);
                return End::Ended;
            }
        }
        if batch.len() >= BATCH {
            hand_over(shared, id, &mut batch);
        }
    }
}

/// What has reached this machine when a stream is closed, if anything: it is handed out or given
/// back, rather than left to run out. Nothing but this future is polled, because another one would
/// open the stream anew.
async fn last_look<T>(mut next: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    for _ in 0..TURNS {
        // The connection's own task gets its turn.
        yield_now().await;
        if let Poll::Ready(item) = futures::poll!(next.as_mut()) {
            return Some(item);
        }
    }
    None
}

fn hand_over(shared: &Shared, id: StreamId, batch: &mut Vec<Arrival<Handler>>) {
    if batch.is_empty() {
        return;
    }
    let are_early = batch.iter().any(|arrival| arrival.early.is_some());
    let (rejected, needs_plan) = {
        let mut state = shared.lock();
        let now = Instant::now();
        let rejected = state.arrived(id, batch.drain(..), now);
        let needs_plan = state.needs_plan(now) || (are_early && state.is_late());
        (rejected, needs_plan)
    };
    give_back(rejected);
    shared.arrival.notify_one();
    if needs_plan {
        shared.work.notify_one();
    }
}

fn arrival(shared: &Shared, raw: Raw, handler: Handler) -> Arrival<Handler> {
    let attempt = handler
        .delivery_attempt()
        .and_then(|attempt| u32::try_from(attempt).ok())
        .filter(|_| shared.counts_attempts);
    let key = Some(raw.ordering_key.as_str()).filter(|key| !key.is_empty());
    let (id, key) = (raw.message_id.as_str().into(), key.map(Into::into));
    let (rank, bytes) = (rank(&raw), message::raw_len(&raw));
    let (envelope, waits) = message::to_envelope(raw, attempt, &shared.canonical);
    let early = waits.map(|(rest, delayed)| {
        let due = Instant::now() + rest;
        Box::new(Early { due, delayed, rank })
    });
    Arrival {
        id,
        key,
        rank,
        bytes,
        envelope,
        handle: handler,
        early,
    }
}

fn rank(raw: &Raw) -> Rank {
    let published = message::published(raw)
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map_or(0, |since| {
            u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
        });
    (published, raw.message_id.parse().unwrap_or(0))
}
