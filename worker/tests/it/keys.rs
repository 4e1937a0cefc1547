use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use towpath_core::{Attempt, Message, Outcome};
use towpath_worker::Worker;

use crate::{
    driver::StubbornDriver,
    support::{Decide, Log, SECOND, Setup, eventually, fixed, retry, start, text},
};

/// I5: per ordering key, effects are in order of sending.
#[tokio::test(start_paused = true)]
async fn messages_of_a_key_run_one_at_a_time_in_order_and_keys_run_side_by_side() {
    let setup = Setup::new("memory://orders").await;
    for n in 0..10 {
        for key in ["a", "b", "c"] {
            let message = Message::new(format!("{key}{n}")).with_ordering_key(key);
            setup.producer.send(message).await.unwrap();
        }
    }
    let effects = Log::default();
    let theirs = effects.clone();
    let running_now: Arc<Mutex<BTreeMap<char, u32>>> = Arc::default();
    let most = Arc::new(Mutex::new(0));
    let (now, peak) = (running_now.clone(), most.clone());
    let builder = setup
        .worker(move |attempt| {
            let (effects, now, peak) = (theirs.clone(), now.clone(), peak.clone());
            async move {
                let body = text(&attempt);
                let key = body.chars().next().unwrap();
                {
                    let mut now = now.lock().unwrap();
                    *now.entry(key).or_default() += 1;
                    assert_eq!(now[&key], 1, "two at once of key {key}");
                    let mut peak = peak.lock().unwrap();
                    *peak = (*peak).max(now.values().sum());
                }
                tokio::time::sleep(SECOND).await;
                *now.lock().unwrap().get_mut(&key).unwrap() -= 1;
                // Each third message needs two attempts.
                let n: u32 = body[1..].parse().unwrap();
                if n.is_multiple_of(3) && attempt.number() == Some(1) {
                    return retry("once more");
                }
                effects.add(body);
                Outcome::Ack
            }
        })
        .await;
    let running = start(builder.retry(fixed(5 * SECOND)).concurrency(16));
    eventually(async || setup.depth().await.total() == 0).await;
    let report = running.stop().await;
    assert_eq!((report.acked, report.panicked), (30, 0));
    for key in ["a", "b", "c"] {
        let of_key: Vec<_> = effects
            .lines()
            .into_iter()
            .filter(|line| line.starts_with(key))
            .collect();
        let sent: Vec<_> = (0..10).map(|n| format!("{key}{n}")).collect();
        assert_eq!(of_key, sent);
    }
    assert_eq!(*most.lock().unwrap(), 3);
}

/// A queue that hands out several messages of a key at once (SQS FIFO does).
#[tokio::test(start_paused = true)]
async fn followers_wait_for_their_predecessor_and_go_back_untried_when_it_fails() {
    let setup = Setup::new("memory://orders").await;
    for body in ["1", "2", "3"] {
        setup.send(body).await;
    }
    let driver = StubbornDriver::new(&setup).await.with_ordering_key("k");
    let log = Log::default();
    let theirs = log.clone();
    let handler = Decide(move |attempt: Attempt| {
        let log = theirs.clone();
        async move {
            let name = format!("{} attempt {:?}", text(&attempt), attempt.number().unwrap());
            log.add(format!("{name} begins"));
            tokio::time::sleep(SECOND).await;
            log.add(format!("{name} ends"));
            if text(&attempt) == "1" && attempt.number() == Some(1) {
                return retry("down");
            }
            Outcome::Ack
        }
    });
    let builder = Worker::builder(driver.consumer(), handler);
    let running = start(builder.retry(fixed(60 * SECOND)));
    eventually(async || setup.depth().await.total() == 0).await;
    let report = running.stop().await;
    // This queue has no lock on keys, so the others go on while the first waits for its retry.
    assert_eq!(
        log.lines(),
        [
            "1 attempt 1 begins",
            "1 attempt 1 ends",
            "2 attempt 1 begins",
            "2 attempt 1 ends",
            "3 attempt 1 begins",
            "3 attempt 1 ends",
            "1 attempt 2 begins",
            "1 attempt 2 ends",
        ]
    );
    assert_eq!((report.acked, report.retried, report.released), (3, 1, 2));
}
