//! The state machine with an explicit clock.

use std::time::{Duration, SystemTime};

use towpath_core::{Message, driver::Received};

use super::{Counts, ExtendError, Queue, Rules, Sent};
use crate::store::Nanos;

const S: Nanos = 1_000_000_000;
const LEASE: Nanos = 30 * S;

fn rules() -> Rules {
    Rules {
        ordered: true,
        counts_attempts: true,
        max_deliveries: None,
        max_depth: usize::MAX,
        max_total: 3_600 * S,
    }
}

fn queue() -> Queue {
    Queue::new(rules(), 7, SystemTime::UNIX_EPOCH)
}

fn send(queue: &mut Queue, body: impl ToString, now: Nanos) -> u64 {
    match queue.send(Message::new(body.to_string()), now) {
        Sent::Accepted(id) => id,
        other => panic!("{other:?}"),
    }
}

fn receive(queue: &mut Queue, most: usize, now: Nanos) -> Vec<Received> {
    let mut received = Vec::new();
    queue.advance(now);
    queue.receive(most, LEASE, now, &mut received);
    received
}

fn bodies(received: &[Received]) -> Vec<String> {
    received
        .iter()
        .map(|received| String::from_utf8_lossy(received.envelope.message.body()).into_owned())
        .collect()
}

fn counts(queue: &mut Queue, now: Nanos) -> (usize, usize, usize) {
    queue.advance(now);
    let Counts {
        ready,
        leased,
        delayed,
        ..
    } = queue.counts();
    (ready, leased, delayed)
}

#[test]
fn a_lease_ends_at_its_time_and_not_before() {
    let mut queue = queue();
    send(&mut queue, "x", 0);
    let first = receive(&mut queue, 1, 5).pop().unwrap();
    assert_eq!(queue.next_event(), Some(5 + LEASE));
    assert!(receive(&mut queue, 1, 4 + LEASE).is_empty());
    assert!(queue.holds(&first.receipt));
    let second = receive(&mut queue, 1, 5 + LEASE).pop().unwrap();
    assert_eq!(second.envelope.attempt, Some(2));
    assert_eq!(second.envelope.id, first.envelope.id);
    assert!(!queue.ack(&first.receipt, 5 + LEASE), "stale");
    assert!(queue.ack(&second.receipt, 5 + LEASE));
    assert!(!queue.ack(&second.receipt, 5 + LEASE), "settled before");
    assert_eq!(queue.next_event(), None);
}

#[test]
fn an_extension_replaces_the_end_of_the_lease_both_ways() {
    let mut queue = queue();
    send(&mut queue, "x", 0);
    let lease = receive(&mut queue, 1, 0).pop().unwrap().receipt;
    queue.extend(&lease, Duration::from_secs(100), 0).unwrap();
    assert!(receive(&mut queue, 1, 99 * S).is_empty());
    queue
        .extend(&lease, Duration::from_secs(2), 99 * S)
        .unwrap();
    assert_eq!(queue.next_event(), Some(101 * S));
    let too_long = queue.extend(&lease, Duration::from_secs(3_502), 99 * S);
    assert_eq!(too_long, Err(ExtendError::TooLong));
    assert_eq!(receive(&mut queue, 1, 101 * S).len(), 1);
    let lost = queue.extend(&lease, Duration::from_secs(1), 101 * S);
    assert_eq!(lost, Err(ExtendError::Lost));
}

#[test]
fn what_came_back_and_what_is_new_take_turns() {
    let mut queue = queue();
    for i in 0..6 {
        send(&mut queue, i, 0);
    }
    for received in receive(&mut queue, 3, 0) {
        assert!(queue.nack(&received.receipt, Duration::ZERO, 0));
    }
    let all = receive(&mut queue, 10, 0);
    assert_eq!(bodies(&all), ["0", "3", "1", "4", "2", "5"]);
}

#[test]
fn every_message_is_in_one_place_through_many_segments() {
    let mut queue = queue();
    let mut random = fastrand::Rng::with_seed(11);
    let (mut held, mut sent, mut acked) = (Vec::new(), 0usize, 0usize);
    for step in 0..20_000u64 {
        let now = step * S / 4;
        queue.advance(now);
        match random.u8(..8) {
            0..3 => {
                let batch: Vec<Message> =
                    (0..random.usize(1..9)).map(|_| Message::new("x")).collect();
                sent += batch.len();
                let ids = queue.send_plain(&batch, now);
                assert_eq!(ids.count(), batch.len());
            }
            3 => {
                let delay = Duration::from_millis(random.u64(1..60_000));
                let message = Message::new("x").with_delay(delay);
                assert!(matches!(queue.send(message, now), Sent::Accepted(_)));
                sent += 1;
            }
            4..6 => held.extend(receive(&mut queue, random.usize(1..20), now)),
            choice if !held.is_empty() => {
                let at = random.usize(..held.len());
                let received: Received = held.swap_remove(at);
                let was_held = queue.holds(&received.receipt);
                let settled = if choice == 6 {
                    let acked_now = queue.ack(&received.receipt, now);
                    acked += usize::from(acked_now);
                    acked_now
                } else {
                    let delay = Duration::from_secs(random.u64(..3));
                    queue.nack(&received.receipt, delay, now)
                };
                assert_eq!(settled, was_held);
            }
            _ => {}
        }
        let counts = queue.counts();
        assert_eq!(counts.ready + counts.leased + counts.delayed, sent - acked);
    }
    // Everything that is left can be had and settled.
    let mut now = 10_000 * S;
    while acked < sent {
        now += LEASE;
        let batch = receive(&mut queue, usize::MAX, now);
        acked += batch.len();
        for received in batch {
            assert!(queue.ack(&received.receipt, now));
        }
    }
    assert_eq!(counts(&mut queue, now), (0, 0, 0));
}

#[test]
fn a_key_is_locked_while_its_message_is_held_or_waits() {
    let mut queue = queue();
    let keyed = |key: &str, body: &'static str| Message::new(body).with_ordering_key(key);
    for (key, body) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        queue.send(keyed(key, body), 0);
    }
    let mut first = receive(&mut queue, 10, 0);
    assert_eq!(bodies(&first), ["a1", "b1"]);
    assert_eq!(counts(&mut queue, 0), (1, 2, 0));
    let b1 = first.pop().unwrap();
    let a1 = first.pop().unwrap();
    assert!(queue.nack(&a1.receipt, Duration::from_secs(9), 0));
    assert_eq!(counts(&mut queue, 0), (1, 1, 1));
    assert!(receive(&mut queue, 10, 9 * S - 1).is_empty());
    assert!(queue.ack(&b1.receipt, 9 * S - 1));
    assert_eq!(bodies(&receive(&mut queue, 10, 9 * S)), ["a1"]);
    assert_eq!(bodies(&receive(&mut queue, 10, 9 * S + LEASE)), ["a1"]);
}

#[test]
fn a_full_queue_takes_what_fits() {
    let mut rules = rules();
    rules.max_depth = 3;
    let mut queue = Queue::new(rules, 7, SystemTime::UNIX_EPOCH);
    let batch: Vec<Message> = (0..5).map(|i| Message::new(i.to_string())).collect();
    assert_eq!(queue.send_plain(&batch, 0).count(), 3);
    assert_eq!(queue.send(Message::new("x"), 0), Sent::Full);
    let received = receive(&mut queue, 1, 0).pop().unwrap();
    assert_eq!(
        queue.send(Message::new("x"), 0),
        Sent::Full,
        "leased counts"
    );
    assert!(queue.ack(&received.receipt, 0));
    assert!(matches!(
        queue.send(Message::new("x"), 0),
        Sent::Accepted(_)
    ));
}

#[test]
fn a_message_that_came_back_too_often_is_dead() {
    let mut rules = rules();
    rules.max_deliveries = Some(2);
    let mut queue = Queue::new(rules, 7, SystemTime::UNIX_EPOCH);
    send(&mut queue, "x", 0);
    let first = receive(&mut queue, 1, 0).pop().unwrap();
    assert!(queue.nack(&first.receipt, Duration::ZERO, 0));
    assert!(!queue.has_dead());
    receive(&mut queue, 1, 0);
    queue.advance(LEASE);
    assert!(queue.has_dead());
    let dead = queue.take_dead();
    assert_eq!((dead.len(), dead[0].attempt), (1, 2));
    assert_eq!(counts(&mut queue, LEASE), (0, 0, 0));
}

#[test]
fn settled_leases_leave_nothing_behind_while_one_is_held_for_long() {
    let mut queue = queue();
    send(&mut queue, "held", 0);
    let held = receive(&mut queue, 1, 0).pop().unwrap();
    for i in 0..100_000 {
        send(&mut queue, i, i);
        let received = receive(&mut queue, 1, i).pop().unwrap();
        assert!(queue.ack(&received.receipt, i));
    }
    assert!(queue.contents.expiries.len() < 1_000);
    assert!(queue.contents.store.memory() < 10);
    assert!(queue.ack(&held.receipt, 100_000));
}

#[test]
fn the_memory_of_a_drained_queue_is_given_back() {
    let mut queue = queue();
    let batch = vec![Message::new("x"); 100_000];
    queue.send_plain(&batch, 0);
    let full = queue.contents.store.memory();
    for received in receive(&mut queue, usize::MAX, 0) {
        assert!(queue.ack(&received.receipt, 0));
    }
    assert!(full > 1_000);
    assert!(queue.contents.store.memory() < 100);
}

#[test]
fn a_stale_receipt_does_not_settle_the_next_message_in_its_slot() {
    let mut queue = queue();
    send(&mut queue, "x", 0);
    let stale = receive(&mut queue, 1, 0).pop().unwrap().receipt;
    assert!(queue.nack(&stale, Duration::from_secs(100), 0));
    send(&mut queue, "y", 0);
    let present = receive(&mut queue, 1, 0).pop().unwrap().receipt;
    let place = |receipt: &towpath_core::driver::Receipt| receipt.numbers().unwrap().0;
    assert_eq!(place(&stale), place(&present), "the slot is used again");
    assert!(!queue.ack(&stale, 0));
    assert!(!queue.nack(&stale, Duration::ZERO, 0));
    let extended = queue.extend(&stale, Duration::from_secs(1), 0);
    assert_eq!(extended, Err(ExtendError::Lost));
    assert!(queue.ack(&present, 0));
}
