//! Leases: kept at half of their time, and told when they are lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake},
};

use tokio::time::{Instant, sleep, timeout};
use towpath_core::{AckStatus, Consumer, ConsumerOptions, ErrorKind, Lease};

use crate::script::{Call, LEASE, SECOND, Script, error, lock};

#[tokio::test(start_paused = true)]
async fn a_lease_is_extended_at_half_of_its_time() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    script.make_ready([1]);
    let begun = Instant::now();
    let delivery = consumer.receive().await.unwrap();
    sleep(LEASE * 2).await;
    let extensions = script.extensions();
    for (i, (at, (numbers, lease))) in extensions.iter().take(3).enumerate() {
        let due = begun + LEASE / 2 * (i as u32 + 1);
        let off = at.saturating_duration_since(due);
        assert!(
            *at >= due && off < SECOND,
            "extension {i} is off by {off:?}"
        );
        assert_eq!((numbers.as_slice(), *lease), ([1].as_slice(), LEASE));
    }
    assert!(extensions.len() >= 3);
    assert!(!delivery.is_lease_lost());
    delivery.ack().await.unwrap();
    let count = script.extensions().len();
    sleep(LEASE * 2).await;
    assert_eq!(
        script.extensions().len(),
        count,
        "an acked message is not extended"
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_fetched_ahead_is_kept_too() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(2);
    script.make_ready(1..=3);
    let first = consumer.receive().await.unwrap();
    sleep(LEASE * 2 / 3).await;
    let mut extended: Vec<_> = script
        .extensions()
        .into_iter()
        .flat_map(|(_, (numbers, _))| numbers)
        .collect();
    extended.sort_unstable();
    assert_eq!(extended, [1, 2, 3]);
    first.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failed_extension_is_tried_again_before_the_lease_ends() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    script.make_ready([1]);
    let delivery = consumer.receive().await.unwrap();
    lock(&script.extend_errors).extend([
        Some(error(ErrorKind::Unavailable)),
        Some(error(ErrorKind::Throttled)),
    ]);
    sleep(LEASE).await;
    assert!(script.extensions().len() >= 3);
    assert!(!delivery.is_lease_lost());
    delivery.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_extension_without_an_answer_holds_up_no_other() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    script.make_ready([1]);
    let first = consumer.receive().await.unwrap();
    sleep(5 * SECOND).await;
    script.make_ready([2]);
    let second = consumer.receive().await.unwrap();
    *lock(&script.extend_takes) = LEASE * 2;
    sleep(LEASE / 2 + SECOND).await;
    let asked: Vec<_> = script.extensions().into_iter().map(|(_, n)| n.0).collect();
    assert_eq!(asked, [[1], [2]], "each in its time");
    drop(first);
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn many_leases_are_extended_in_time_by_a_few_requests_at_once() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    script.make_ready(1..=500);
    let mut held = Vec::new();
    while held.len() < 500 {
        held.extend(consumer.receive_batch(500, SECOND).await.unwrap());
    }
    *lock(&script.extend_takes) = SECOND;
    sleep(LEASE * 2).await;
    assert!(held.iter().all(|delivery| !delivery.is_lease_lost()));
    let extensions = script.extensions();
    assert!(extensions.len() >= 100, "{}", extensions.len());
    // A request takes a second, so those that began within one are under way together.
    let most = extensions.iter().map(|(at, _)| {
        let together = extensions.iter().map(|(other, _)| *other);
        together
            .filter(|other| *at <= *other && *other < *at + SECOND)
            .count()
    });
    assert_eq!(most.max(), Some(16));
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_is_told_in_time_while_another_is_being_extended() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    lock(&script.extend_errors).extend([
        Some(error(ErrorKind::Unavailable)),
        Some(error(ErrorKind::Unavailable)),
    ]);
    script.make_ready([1]);
    let begun = Instant::now();
    let first = consumer.receive().await.unwrap();
    sleep(5 * SECOND).await;
    script.make_ready([2]);
    let second = consumer.receive().await.unwrap();
    // By now the first has failed twice, and the second is next.
    sleep(14 * SECOND).await;
    assert_eq!(script.extensions().len(), 2);
    *lock(&script.extend_takes) = LEASE * 2;
    timeout(LEASE, first.lease_lost()).await.unwrap();
    let told = begun.elapsed();
    assert!(told <= LEASE + SECOND, "{told:?}");
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn the_success_of_some_does_not_put_off_the_retry_of_others() {
    // They come together, and are extended in two requests.
    let script = Script::new(|capabilities| capabilities.limits.receive_batch = 14);
    let consumer = script.consumer(0);
    script.make_ready(1..=14);
    let held = consumer.receive_batch(14, SECOND).await.unwrap();
    assert_eq!(held.len(), 14);
    lock(&script.extend_errors).push_back(Some(error(ErrorKind::Unavailable)));
    sleep(LEASE + SECOND).await;
    let lost = held.iter().filter(|delivery| delivery.is_lease_lost());
    assert_eq!(lost.count(), 0, "{:?}", script.extensions());
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_ran_while_its_answer_was_on_the_way_is_not_believed_in() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    // The process was stopped for longer than the wait of the request and the lease.
    *lock(&script.receive_takes) = 20 * SECOND + LEASE + SECOND;
    script.make_ready([1]);
    let begun = Instant::now();
    let stale = consumer.receive_batch(1, 20 * SECOND).await.unwrap();
    assert!(stale.is_empty(), "it is somebody else's by now");
    assert!(begun.elapsed() > LEASE, "it came");
    // An answer within the wait may have been made just now.
    *lock(&script.receive_takes) = 10 * SECOND;
    script.make_ready([2]);
    let delivery = consumer.receive().await.unwrap();
    sleep(LEASE * 2).await;
    assert!(!delivery.is_lease_lost());
    delivery.ack().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lease_lost_fires_when_the_broker_says_so() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    script.make_ready([1]);
    let delivery = consumer.receive().await.unwrap();
    lock(&script.extend_errors).push_back(Some(error(ErrorKind::LeaseLost)));
    let begun = Instant::now();
    timeout(LEASE, delivery.lease_lost()).await.unwrap();
    assert!(begun.elapsed() <= LEASE / 2 + SECOND);
    let refused = delivery.ack().await.unwrap_err();
    assert_eq!(refused.error.kind(), ErrorKind::LeaseLost);
    assert!(script.acks().is_empty(), "nothing is asked of the broker");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_gone_while_its_ack_waits_is_not_extended_again() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    script.make_ready([1]);
    let delivery = consumer.receive().await.unwrap();
    // As when the ack removed the message, and its answer is late.
    *lock(&script.ack_takes) = LEASE - SECOND;
    *lock(&script.extend_takes) = SECOND / 100;
    let gone = std::iter::repeat_n(Some(error(ErrorKind::LeaseLost)), 1_000);
    lock(&script.extend_errors).extend(gone);
    delivery.ack().await.unwrap();
    assert_eq!(script.extensions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn lease_lost_fires_when_extensions_fail_until_the_end() {
    // Where a receive is a request, the lease may have begun before its answer came.
    for (gather, end) in [(true, LEASE - SECOND), (false, LEASE)] {
        let script = Script::new(|capabilities| capabilities.gather = gather);
        let consumer = script.consumer(0);
        script.make_ready([1]);
        let delivery = consumer.receive().await.unwrap();
        let failures = std::iter::repeat_n(Some(error(ErrorKind::Unavailable)), 1_000);
        lock(&script.extend_errors).extend(failures);
        let begun = Instant::now();
        timeout(LEASE * 2, delivery.lease_lost()).await.unwrap();
        let held = begun.elapsed();
        assert!(held <= end && held + SECOND / 10 > end, "{held:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_held_for_its_longest_time_and_no_longer() {
    // The last extension cannot be as short as what is left.
    let script = Script::new(|capabilities| {
        capabilities.lease = Lease::Extended {
            duration: LEASE,
            range: 20 * SECOND..=600 * SECOND,
            max_total: 3_600 * SECOND,
        };
    });
    let longest = 34 * SECOND;
    let mut options = ConsumerOptions::new("scripted");
    options.max_lease = longest;
    let consumer = Consumer::new(script.clone(), options).unwrap();
    script.make_ready([1]);
    let delivery = consumer.receive().await.unwrap();
    let begun = Instant::now();
    timeout(LEASE * 3, delivery.lease_lost()).await.unwrap();
    let held = begun.elapsed();
    assert!(held <= longest && held + SECOND > longest, "{held:?}");
    assert_eq!(script.extensions().len(), 1, "{:?}", script.extensions());
}

#[tokio::test(start_paused = true)]
async fn an_ack_that_is_answered_after_the_lease_is_no_success_where_any_ack_is_accepted() {
    for (ack, is_extended, is_success) in [
        (AckStatus::Submitted, false, false),
        (AckStatus::Submitted, true, true),
        (AckStatus::Confirmed, false, true),
    ] {
        let script = Script::new(|capabilities| capabilities.ack = ack);
        let consumer = script.consumer(0);
        script.make_ready([1]);
        let delivery = consumer.receive().await.unwrap();
        // As when this process is stopped before the request is out.
        *lock(&script.ack_takes) = LEASE + SECOND;
        if !is_extended {
            *lock(&script.extend_takes) = LEASE * 2;
        }
        match delivery.ack().await {
            Ok(status) => assert!(is_success && status == ack, "{ack:?} {is_extended}"),
            Err(error) => {
                assert_eq!(error.error.kind(), ErrorKind::LeaseLost);
                assert!(!is_success && error.delivery.is_none(), "{error}");
            }
        }
    }
}

/// Counts how often it is woken.
#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn an_extension_wakes_nobody_and_a_lost_lease_wakes_its_handler() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    script.make_ready(1..=10);
    let deliveries = consumer.receive_batch(10, SECOND).await.unwrap();
    assert_eq!(deliveries.len(), 10);
    let wakes = Arc::new(Wakes::default());
    let waker = wakes.clone().into();
    let mut waiting: Vec<_> = deliveries
        .iter()
        .map(|d| Box::pin(d.lease_lost()))
        .collect();
    let mut poll = || {
        let context = &mut Context::from_waker(&waker);
        let ready = waiting.iter_mut().map(|w| w.as_mut().poll(context));
        ready.filter(Poll::is_ready).count()
    };
    assert_eq!(poll(), 0);
    sleep(LEASE * 3).await;
    assert!(script.extensions().len() > 4);
    assert_eq!(wakes.0.load(Ordering::SeqCst), 0);
    lock(&script.extend_errors).push_back(Some(error(ErrorKind::LeaseLost)));
    sleep(LEASE).await;
    assert!(wakes.0.load(Ordering::SeqCst) > 0);
    assert_eq!(poll(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_nack_waits_for_the_extension_under_way() {
    let script = Script::new(|_| {});
    let consumer = script.consumer(0);
    script.make_ready([1]);
    let delivery = consumer.receive().await.unwrap();
    *lock(&script.extend_takes) = 5 * SECOND;
    sleep(LEASE / 2 + SECOND).await;
    assert_eq!(script.extensions().len(), 1, "an extension is under way");
    let begun = Instant::now();
    delivery.nack(3 * SECOND).await.unwrap();
    assert!(begun.elapsed() >= 3 * SECOND, "the nack went out too early");
    assert!(matches!(script.calls().last(), Some(Call::Nack(..))));
}
