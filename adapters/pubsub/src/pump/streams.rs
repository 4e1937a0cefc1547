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
    /// How many more messages may come by all of them.
    room: usize,
}

#[derive(Debug)]
struct Open {
    limit: usize,
    /// How many bytes it brings before some of them are settled.
    bytes_limit: usize,
    outstanding: usize,
    bytes: usize,
    stop: CancellationToken,
}

impl Open {
    /// How many more messages may come by it.
    fn room(&self) -> usize {
        if self.bytes >= self.bytes_limit {
            return 0;
        }
        self.limit.saturating_sub(self.outstanding)
    }
}

impl Streams {
    /// A stream that brings `limit` messages and `bytes_limit` bytes of them before some are
    /// settled, and what closes it.
    pub(super) fn add(
        &mut self,
        limit: usize,
        bytes_limit: usize,
        stop: CancellationToken,
    ) -> StreamId {
        let id = self.next;
        self.next += 1;
        self.limit += limit;
        self.room += limit;
        let open = Open {
            limit,
            bytes_limit,
            outstanding: 0,
            bytes: 0,
            stop,
        };
        self.open.insert(id, open);
        id
    }

    /// Takes all streams off the list. Returns what closes them.
    pub(super) fn close(&mut self) -> Vec<CancellationToken> {
        self.limit = 0;
        self.room = 0;
        self.settled.clear();
        self.open.drain().map(|(_, open)| open.stop).collect()
    }

    /// A stream is no more.
    pub(super) fn ended(&mut self, id: StreamId) {
        if let Some(open) = self.open.remove(&id) {
            self.limit -= open.limit;
            self.room -= open.room();
        }
    }

    pub(super) fn received(&mut self, id: StreamId, bytes: usize) {
        if let Some(open) = self.open.get_mut(&id) {
            let before = open.room();
            open.outstanding += 1;
            open.bytes += bytes;
            self.room -= before - open.room();
        }
    }

    pub(super) fn settled(&mut self, id: StreamId, bytes: usize, now: Instant) {
        if let Some(open) = self.open.get_mut(&id) {
            let before = open.room();
            open.outstanding -= 1;
            // A message that came twice can be counted with the size of the other one.
            open.bytes = open.bytes.saturating_sub(bytes);
            self.room += open.room() - before;
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
        self.room == 0
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
        self.room <= self.settled.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_settlement_makes_room_when_the_service_knows_of_it() {
        let mut streams = Streams::default();
        let id = streams.add(2, 100, CancellationToken::new());
        let now = Instant::now();
        assert!(!streams.is_saturated(now));
        streams.received(id, 1);
        streams.received(id, 1);
        assert!(streams.is_occupied() && streams.is_saturated(now));
        streams.settled(id, 1, now);
        assert!(!streams.is_occupied() && streams.is_saturated(now));
        assert!(!streams.is_saturated(now + SETTLE_LAG * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_by_closed_streams_does_not_count() {
        let mut streams = Streams::default();
        let first = streams.add(1, 100, CancellationToken::new());
        streams.received(first, 1);
        assert_eq!(streams.close().len(), 1);
        let second = streams.add(1, 100, CancellationToken::new());
        streams.settled(first, 1, Instant::now());
        assert!(!streams.is_occupied());
        streams.received(second, 1);
        assert!(streams.is_occupied());
        streams.ended(second);
        assert!(streams.is_empty());
        assert_eq!(streams.limit(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_bytes_are_here_brings_no_more() {
        let mut streams = Streams::default();
        let first = streams.add(10, 100, CancellationToken::new());
        streams.received(first, 60);
        assert!(!streams.is_occupied());
        streams.received(first, 60);
        assert!(streams.is_occupied() && streams.is_saturated(Instant::now()));
        let second = streams.add(1, 100, CancellationToken::new());
        assert!(!streams.is_occupied());
        streams.ended(second);
        assert!(streams.is_occupied());
        streams.settled(first, 60, Instant::now());
        assert!(!streams.is_occupied());
        assert_eq!(streams.room, 9);
        streams.ended(first);
        assert_eq!(streams.room, 0);
    }
}
