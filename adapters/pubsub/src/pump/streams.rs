//! The open streams of a consumer: how many messages they may bring, and how many they have.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a settlement takes until the service knows of it: the client library gathers them for
/// 100 ms.
const SETTLE_LAG: Duration = Duration::from_millis(200);
/// The most streams of one consumer.
const MOST: usize = 24;

pub(super) type StreamId = u64;

#[derive(Debug, Default)]
pub(super) struct Streams {
    open: HashMap<StreamId, Open>,
    next: StreamId,
    /// When messages of open streams were settled, of late.
    settled: VecDeque<Instant>,
    limit: usize,
    outstanding: usize,
}

#[derive(Debug)]
struct Open {
    limit: usize,
    outstanding: usize,
    stop: CancellationToken,
}

impl Streams {
    /// A stream that brings `limit` messages before some of them are settled, and what closes it.
    pub(super) fn add(&mut self, limit: usize, stop: CancellationToken) -> StreamId {
        let id = self.next;
        self.next += 1;
        self.limit += limit;
        let open = Open {
            limit,
            outstanding: 0,
            stop,
        };
        self.open.insert(id, open);
        id
    }

    /// Takes all streams off the list. Returns what closes them.
    pub(super) fn close(&mut self) -> Vec<CancellationToken> {
        self.limit = 0;
        self.outstanding = 0;
        self.settled.clear();
        self.open.drain().map(|(_, open)| open.stop).collect()
    }

    /// A stream is no more.
    pub(super) fn ended(&mut self, id: StreamId) {
        if let Some(open) = self.open.remove(&id) {
            self.limit -= open.limit;
            self.outstanding -= open.outstanding;
        }
    }

    pub(super) fn received(&mut self, id: StreamId) {
        if let Some(open) = self.open.get_mut(&id) {
            open.outstanding += 1;
            self.outstanding += 1;
        }
    }

    pub(super) fn settled(&mut self, id: StreamId, now: Instant) {
        if let Some(open) = self.open.get_mut(&id) {
            open.outstanding -= 1;
            self.outstanding -= 1;
            self.settled.push_back(now);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether there are so many that larger ones are better.
    pub(super) fn are_many(&self) -> bool {
        self.open.len() >= MOST / 2
    }

    pub(super) fn are_most(&self) -> bool {
        self.open.len() >= MOST
    }

    /// How many messages all streams may bring.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether no more can come, because all that may be here is here.
    pub(super) fn is_occupied(&self) -> bool {
        self.outstanding >= self.limit
    }

    /// Whether no more can come, as far as the service knows.
    pub(super) fn is_saturated(&mut self, now: Instant) -> bool {
        while self
            .settled
            .front()
            .is_some_and(|at| now.saturating_duration_since(*at) > SETTLE_LAG)
        {
            self.settled.pop_front();
        }
        self.outstanding + self.settled.len() >= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_settlement_makes_room_when_the_service_knows_of_it() {
        let mut streams = Streams::default();
        let id = streams.add(2, CancellationToken::new());
        let now = Instant::now();
        assert!(!streams.is_saturated(now));
        streams.received(id);
        streams.received(id);
        assert!(streams.is_occupied() && streams.is_saturated(now));
        streams.settled(id, now);
        assert!(!streams.is_occupied() && streams.is_saturated(now));
        assert!(!streams.is_saturated(now + SETTLE_LAG * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_by_closed_streams_does_not_count() {
        let mut streams = Streams::default();
        let first = streams.add(1, CancellationToken::new());
        streams.received(first);
        assert_eq!(streams.close().len(), 1);
        let second = streams.add(1, CancellationToken::new());
        streams.settled(first, Instant::now());
        assert!(!streams.is_occupied());
        streams.received(second);
        assert!(streams.is_occupied());
        streams.ended(second);
        assert!(streams.is_empty());
        assert_eq!(streams.limit(), 0);
    }
}
