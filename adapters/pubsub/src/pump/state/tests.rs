use super::{planning::Plan, *};
use crate::error::Operation;
use towpath_core::{ErrorKind, Message, MessageId, QueueConfig, wire::Delayed};

/// A handle by its number.
#[derive(Debug, PartialEq, Eq)]
struct Fake(u32);

impl Handle for Fake {
    fn confirms(&self) -> bool {
        false
    }
}

struct Test {
    state: State<Fake>,
    stream: StreamId,
    now: Instant,
    /// How large the messages are that come.
    bytes: usize,
}

impl Test {
    fn new(url: &str) -> Self {
        Self::with_stream(url, 1_000)
    }

    fn with_stream(url: &str, limit: usize) -> Self {
        let receiving = Receiving::of(&QueueConfig::parse(url).unwrap()).unwrap();
        let now = Instant::now();
        let mut state = State::new(receiving, true, now);
        let stream = state.streams.add(limit, 1 << 20, Default::default());
        Self {
            state,
            stream,
            now,
            bytes: 10,
        }
    }

    /// Message `n` comes, published `n` seconds after the beginning of time.
    fn arrive(&mut self, n: u32, key: Option<&str>) -> Vec<Fake> {
        self.arrive_early(n, key, None)
    }

    /// As `arrive`, for a copy that is due after `rest`.
    fn arrive_early(&mut self, n: u32, key: Option<&str>, rest: Option<Duration>) -> Vec<Fake> {
        let early = rest.map(|rest| {
            Box::new(Early {
                due: self.now + rest,
                delayed: Delayed::new("q", SystemTime::UNIX_EPOCH),
                rank: (n.into(), 0),
            })
        });
        let id = format!("m{n}");
        let sent = SystemTime::UNIX_EPOCH + Duration::from_secs(n.into());
        let message = Message::new(id.clone());
        let arrival = Arrival {
            id: id.as_str().into(),
            key: key.map(Into::into),
            rank: (n.into(), 0),
            envelope: Envelope::new(MessageId::from(id), message).with_sent_at(Some(sent)),
            bytes: self.bytes,
            handle: Fake(n),
            early,
        };
        self.state.arrived(self.stream, vec![arrival], self.now)
    }

    fn take(&mut self, most: usize) -> Vec<u64> {
        let (taken, unwanted) = self.state.take(most, None, self.now);
        assert_eq!(unwanted, []);
        taken.into_iter().map(|(number, _)| number).collect()
    }

    fn pass(&mut self, time: Duration) -> Plan<Fake> {
        self.now += time;
        self.state.plan(self.now)
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_purged_is_not_handed_out_and_its_key_goes_on() {
    let mut test = Test::new("pubsub://p/orders");
    for n in [1, 2, 5] {
        test.arrive(n, Some("k"));
    }
    test.arrive(3, None);
    test.arrive(6, None);
    let purged = SystemTime::UNIX_EPOCH + Duration::from_secs(4);
    let (taken, unwanted) = test.state.take(10, Some(purged), test.now);
    let bodies: Vec<_> = taken.iter().map(|(_, e)| e.message.body()).collect();
    assert_eq!(bodies, ["m6", "m5"]);
    assert_eq!(unwanted, [Fake(1), Fake(3), Fake(2)]);
}

#[tokio::test(start_paused = true)]
async fn streams_are_closed_and_messages_given_back_when_nobody_asks() {
    let mut test = Test::new("pubsub://p/orders");
    assert!(test.take(1).is_empty());
    test.arrive(1, None);
    let plan = test.pass(STREAM_LINGER / 2);
    assert!(plan.close.is_empty() && plan.release.is_empty());
    let plan = test.pass(STREAM_LINGER / 2);
    assert_eq!(plan.close.len(), 1);
    assert_eq!(plan.release, []);
    let plan = test.pass(BUFFER_LINGER);
    assert_eq!(plan.release, [Fake(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_stays_open_without_callers_while_nothing_can_come_by_it() {
    let mut test = Test::with_stream("pubsub://p/orders", 1);
    test.arrive(1, None);
    let taken = test.take(1);
    assert!(test.pass(STREAM_LINGER * 30).close.is_empty());
    assert!(matches!(test.state.ack(taken[0], test.now), Ack::Submit(_)));
    // Callers that settle often ask right after.
    assert!(test.state.is_late());
    assert!(test.pass(STREAM_LINGER / 2).close.is_empty());
    assert_eq!(test.pass(STREAM_LINGER / 2).close.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_closed_before_what_it_brought_unasked_goes_back() {
    let mut test = Test::with_stream("pubsub://p/orders", 1);
    assert!(test.take(1).is_empty());
    test.arrive(1, None);
    // All that may come by the stream is here, so it stays open.
    assert!(test.pass(BUFFER_LINGER / 2).close.is_empty());
    let plan = test.pass(BUFFER_LINGER / 2);
    assert_eq!((plan.release, plan.close.len()), (vec![Fake(1)], 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_where_nobody_asks_does_not_come_back_there() {
    let mut test = Test::with_stream("pubsub://p/orders", 2);
    test.arrive(1, None);
    test.arrive(2, None);
    let taken = test.take(2);
    assert!(test.state.close_unasked(test.now).is_empty());
    let due = test.now + Duration::from_secs(30);
    test.state.hold(taken[0], due).unwrap();
    assert!(test.pass(Duration::from_secs(29)).close.is_empty());
    let plan = test.pass(Duration::from_secs(1));
    assert_eq!((plan.release, plan.close.len()), (vec![Fake(1)], 1));

    let stream = test.state.streams.add(1, 1 << 20, Default::default());
    assert_eq!(test.state.close_unasked(test.now).len(), 1);
    test.state.streams.ended(stream);
}

#[tokio::test(start_paused = true)]
async fn a_held_message_is_given_back_when_its_delay_is_over_and_not_before() {
    let mut test = Test::new("pubsub://p/orders?max_held=1");
    test.arrive(1, None);
    test.arrive(2, None);
    let taken = test.take(2);
    let due = test.now + Duration::from_secs(30);
    assert_eq!(test.state.hold(taken[0], due), Ok(()));
    // The budget is used up; the other one stays with its caller.
    assert_eq!(test.state.hold(taken[1], due), Err(Unheld::Full(due)));
    assert!(test.state.is_delivered(taken[1]));
    assert_eq!(test.pass(Duration::from_secs(29)).release, []);
    assert_eq!(test.pass(Duration::from_secs(1)).release, [Fake(1)]);
    assert_eq!(test.state.hold(taken[1], due), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn the_next_of_a_key_waits_while_one_is_held() {
    let mut test = Test::new("pubsub://p/orders");
    test.arrive(1, Some("k"));
    test.arrive(2, Some("k"));
    let taken = test.take(2);
    assert_eq!(taken.len(), 1);
    let due = test.now + Duration::from_secs(30);
    test.state.hold(taken[0], due).unwrap();
    assert!(test.take(2).is_empty());
    // Both go back, so that the service sends them in order.
    let plan = test.pass(Duration::from_secs(30));
    assert_eq!(plan.release, [Fake(1), Fake(2)]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_came_again_is_settled_once_with_all_of_its_handles() {
    let mut test = Test::new("pubsub://p/orders");
    test.arrive(1, None);
    let taken = test.take(1);
    test.arrive(1, None);
    assert!(test.take(1).is_empty());
    let Ack::Submit(handles) = test.state.ack(taken[0], test.now) else {
        panic!("it must be acked");
    };
    assert_eq!(handles.len(), 2);
    assert!(matches!(test.state.ack(taken[0], test.now), Ack::Lost));
}

#[tokio::test(start_paused = true)]
async fn closing_gives_back_what_nobody_has_and_nothing_else() {
    let mut test = Test::new("pubsub://p/orders");
    for n in 1..=4 {
        test.arrive(n, None);
    }
    let taken = test.take(2);
    test.state
        .hold(taken[0], test.now + Duration::from_secs(30))
        .unwrap();
    let mut unseen: Vec<u32> = test.state.close(test.now).iter().map(|f| f.0).collect();
    unseen.sort_unstable();
    assert_eq!(unseen, [1, 3, 4]);
    assert!(test.state.has_delivered());
    // What comes late goes back at once.
    assert_eq!(test.arrive(5, None), [Fake(5)]);
}

#[tokio::test(start_paused = true)]
async fn after_a_silence_the_service_is_asked_and_a_failure_is_told() {
    let mut test = Test::new("pubsub://p/orders?health_interval=3s");
    test.state.wait_for(1, test.now);
    assert!(!test.pass(Duration::from_secs(2)).probe);
    assert!(test.pass(Duration::from_secs(1)).probe);
    let down = Operation::Receive.error(ErrorKind::Unavailable, "down");
    assert!(test.state.probed(Err(down), test.now).is_empty());
    assert!(test.pass(Duration::ZERO).wake_callers);
    let error = test.state.take_error().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(test.pass(Duration::from_secs(2)).probe);
    // The streams of before may be waiting for a long time: they are opened anew.
    assert_eq!(test.state.probed(Ok(()), test.now).len(), 1);
    assert!(test.pass(Duration::ZERO).open.is_some());
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn a_copy_that_came_early_is_handed_out_when_it_is_due_and_not_before() {
    let mut test = Test::new("pubsub://p/orders?max_lease=20s");
    test.arrive_early(1, None, Some(Duration::from_secs(300)));
    test.state.wait_for(1, test.now);
    let plan = test.pass(Duration::from_secs(299));
    assert_eq!((plan.release, plan.renew_copies.len()), (vec![], 0));
    assert!(plan.next <= test.now + Duration::from_secs(1));
    assert!(test.take(1).is_empty());
    // It is not nacked, which would use up an attempt.
    let plan = test.pass(Duration::from_secs(1));
    assert_eq!((plan.release, plan.wake_callers), (vec![], true));
    let taken = test.take(1);
    assert_eq!(taken.len(), 1);
    assert!(matches!(test.state.ack(taken[0], test.now), Ack::Submit(_)));
    assert_eq!(test.state.held, 0);
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_replaced_by_the_next_one_six_times_an_hour() {
    let mut test = Test::new("pubsub://p/orders");
    test.arrive_early(1, None, Some(12 * HOUR));
    let begun = test.now;
    let mut plan = test.pass(Duration::ZERO);
    while plan.renew_copies.is_empty() {
        let wait = plan.next - test.now;
        plan = test.pass(wait);
    }
    assert_eq!(test.now - begun, Duration::from_secs(600));
    assert_eq!(test.state.held, 0);
    // The next one is published; this one is acked.
    let entry = plan.renew_copies[0].entry;
    assert_eq!(test.state.handles(entry), [Fake(1)]);
    assert_eq!(test.state.done(entry, test.now), []);
    assert!(test.state.entries.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_cannot_be_replaced_is_held_on_and_given_back_at_the_end_of_its_lease() {
    let mut test = Test::new("pubsub://p/orders?max_lease=30m");
    test.arrive_early(1, None, Some(12 * HOUR));
    let begun = test.now;
    loop {
        let mut plan = test.pass(Duration::from_secs(60));
        let Some(renewal) = plan.renew_copies.pop() else {
            assert_eq!(plan.release, []);
            continue;
        };
        assert_eq!(test.state.held, 0);
        let back = test.state.hold_on(renewal.entry, renewal.early, test.now);
        if !back.is_empty() {
            assert_eq!(test.now - begun, Duration::from_secs(1_800));
            return;
        }
        assert_eq!(test.state.held, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn copies_beyond_the_budget_make_room_after_a_minute() {
    let mut test = Test::new("pubsub://p/orders?max_held=2");
    for n in 1..=5 {
        test.arrive_early(n, None, Some(12 * HOUR));
    }
    let minute = Duration::from_secs(60);
    assert_eq!(
        test.pass(minute - Duration::from_secs(1))
            .renew_copies
            .len(),
        0
    );
    assert_eq!(test.pass(Duration::from_secs(1)).renew_copies.len(), 3);
    assert_eq!(test.pass(8 * minute).renew_copies.len(), 0);
    assert_eq!(test.pass(minute).renew_copies.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_the_budget_is_used_up_no_message_is_replaced_by_a_copy() {
    let mut test = Test::new("pubsub://p/orders?max_held=1");
    test.state.is_copying = true;
    test.arrive(1, None);
    let taken = test.take(1);
    test.arrive_early(2, None, Some(Duration::from_secs(30)));
    let (_, outcome) = watch::channel(None);
    let full = test.state.replace(taken[0], outcome.clone(), test.now);
    let due = test.now + Duration::from_secs(30);
    assert!(matches!(full, Replace::Not(Unheld::Full(at)) if at == due));
    assert!(test.state.is_delivered(taken[0]));
    test.pass(Duration::from_secs(30));
    let Replace::Now(original, until) = test.state.replace(taken[0], outcome.clone(), test.now)
    else {
        panic!("there is room");
    };
    assert_eq!(original.message.body(), "m1");
    // Meanwhile it cannot be settled in another way.
    assert!(matches!(
        test.state.ack(taken[0], test.now),
        Ack::Pending(_)
    ));
    assert_eq!(test.state.nack(taken[0], test.now), None);
    let twice = test.state.replace(taken[0], outcome, test.now);
    assert!(matches!(twice, Replace::Pending(_)));
    // The copy fails: it is its caller's again.
    test.state.keep(taken[0], until);
    assert!(test.state.is_delivered(taken[0]));
}

#[tokio::test(start_paused = true)]
async fn closing_gives_back_copies_that_are_not_due() {
    let mut test = Test::new("pubsub://p/orders");
    test.arrive_early(1, None, Some(HOUR));
    assert_eq!(test.state.close(test.now), [Fake(1)]);
    assert_eq!(test.state.held, 0);
}

#[tokio::test(start_paused = true)]
async fn a_copy_with_an_ordering_key_takes_its_turn_when_it_is_due() {
    let mut test = Test::new("pubsub://p/orders");
    test.arrive_early(1, Some("k"), Some(Duration::from_secs(60)));
    test.arrive(2, Some("k"));
    let first = test.take(2);
    assert_eq!(first.len(), 1);
    test.pass(Duration::from_secs(60));
    assert!(test.take(2).is_empty(), "two of a key at once");
    test.state.ack(first[0], test.now);
    assert_eq!(test.take(2).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn copies_that_wait_leave_room_for_others_whoever_asks_for_one_at_a_time() {
    let mut test = Test::with_stream("pubsub://p/orders", 1);
    let mut room = 1;
    test.state.wait_for(1, test.now);
    for n in 1..=1_000 {
        test.arrive_early(n, None, Some(12 * HOUR));
        room -= 1;
        while room == 0 {
            let plan = test.pass(Duration::from_millis(1));
            let limit = plan.open.expect("another stream");
            test.stream = test.state.streams.add(limit, 1 << 20, Default::default());
            room += limit;
        }
    }
    assert_eq!(test.state.held, 1_000);
    test.arrive(1_001, None);
    assert_eq!(test.take(1).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn large_messages_that_wait_leave_room_for_others() {
    let mut test = Test::with_stream("pubsub://p/orders", 50);
    test.bytes = 600_000;
    test.state.wait_for(50, test.now);
    test.arrive_early(1, None, Some(12 * HOUR));
    assert!(test.pass(Duration::ZERO).open.is_none());
    // With this one the stream has brought all the bytes that it may.
    test.arrive_early(2, None, Some(12 * HOUR));
    assert!(test.pass(Duration::ZERO).open.is_some());
}
