use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use towpath_core::{Message, Outcome};

use crate::support::{Log, SECOND, Setup, eventually, fixed, retry, start, text};

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
