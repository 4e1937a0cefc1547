//! Workers that are killed while messages pass.

use std::time::{Duration, Instant};

use fastrand::Rng;
use towpath_core::{Message, Queue};

use super::{
    ELASTICMQ, Scene,
    child::{FAIL, WORK},
    journal::What,
    judge::judge,
    say,
};

/// How much is proved, and the variables that say otherwise.
const MESSAGES: (&str, usize) = ("TOWPATH_KILL_MESSAGES", 100_000);
const KILLS: (&str, usize) = ("TOWPATH_KILLS", 200);

const WORKERS: usize = 3;

fn figure((variable, default): (&str, usize)) -> usize {
    std::env::var(variable).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text:?} is no number"))
    })
}

/// A message that is easy, or is slow, or fails once, or fails for good.
fn message(number: usize, rng: &mut Rng) -> Message {
    let work = match number % 1_000 {
        // Beyond the lease.
        1 => 12_000,
        _ => rng.u64(0..20),
    };
    let message = Message::new(vec![rng.u8(..); rng.usize(1..200)])
        .with_attribute("number", number.to_string())
        .with_attribute(WORK, work.to_string());
    match number % 100 {
        7 => message.with_attribute(FAIL, "always"),
        13 | 63 => message.with_attribute(FAIL, "once"),
        _ => message,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_however_often_workers_are_killed() {
    let (count, kills) = (figure(MESSAGES), figure(KILLS));
    let mut scene = Scene::new(ELASTICMQ, "lease=10s&max_attempts=8").await;
    let mut rng = Rng::with_seed(7);
    let sent: Vec<Message> = (0..count).map(|n| message(n, &mut rng)).collect();
    let producer = scene.queue.producer().await.unwrap();
    let to_send = sent.clone();
    let sending = tokio::spawn(async move {
        for batch in to_send.chunks(500) {
            for result in producer.send_batch(batch).await {
                result.unwrap();
            }
        }
    });
    let begun = Instant::now();
    let mut started = 0;
    let mut start = |scene: &Scene| {
        started += 1;
        scene.worker(format!("w{started}"), "64 10000")
    };
    let mut workers: Vec<_> = (0..WORKERS).map(|_| start(&scene)).collect();
    let admin = scene.queue.admin().await.unwrap();
    let (mut killed, mut effects, mut read) = (0, 0, 0);
    let (mut next_kill, mut shown, mut looked) = (0, Instant::now(), Instant::now());
    loop {
        let events = scene.read();
        effects += events[read..]
            .iter()
            .filter(|event| event.what == What::Effect)
            .count();
        read = events.len();
        if killed < kills && effects >= next_kill {
            let victim = workers.swap_remove(rng.usize(..workers.len()));
            let name = victim.kill();
            scene.journal.note_of(&name, What::Gone);
            workers.push(start(&scene));
            killed += 1;
            // Spread over nine tenths of the messages.
            next_kill = killed * (count * 9 / 10) / kills + rng.usize(..=count / kills / 4);
        }
        workers.iter_mut().for_each(|worker| worker.assert_runs());
        if shown.elapsed() > Duration::from_secs(10) {
            shown = Instant::now();
            let seconds = begun.elapsed().as_secs();
            say(&format!(
                "{seconds} s: kills={killed} effects={effects} of {count}"
            ));
        }
        if looked.elapsed() > Duration::from_millis(500) && sending.is_finished() {
            looked = Instant::now();
            if killed == kills && admin.depth().await.unwrap().total() == 0 {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    sending.await.unwrap();
    for worker in workers {
        worker.signal(rustix::process::Signal::TERM);
        let ended = scene.ended(worker).await;
        assert!(ended.status.success(), "{ended:?}");
    }
    let (dead, left) = (take_all(&scene.dead).await, take_all(&scene.queue).await);
    let torn = {
        scene.read();
        scene.reader.torn
    };
    let verdict = judge(&sent, &scene.events, &dead, &left);
    say(&format!(
        "kills={killed} messages={count} seconds={:.0} torn={torn} {verdict}",
        begun.elapsed().as_secs_f64()
    ));
    let ledger = &verdict.ledger;
    assert!(
        verdict.is_good(),
        "{verdict}; the journal is {}: {verdict:?}",
        scene.path.display()
    );
    assert!(killed == kills && ledger.done + ledger.dead_lettered >= count);
    // Kills that hit nothing would prove nothing.
    assert!(
        verdict.orphaned > kills && verdict.repeated > 0,
        "{verdict}"
    );
    assert!(ledger.dead_lettered >= count / 100, "{verdict}");
    scene.end().await;
}

/// Takes all messages out of a queue whose leases are over.
async fn take_all(queue: &Queue) -> Vec<Message> {
    let consumer = queue.consumer().await.unwrap();
    let mut all = Vec::new();
    loop {
        let batch = consumer
            .receive_batch(100, Duration::from_secs(2))
            .await
            .unwrap();
        if batch.is_empty() {
            break;
        }
        all.extend(batch.iter().map(|d| d.envelope().message.clone()));
        for result in consumer.ack_batch(batch).await {
            result.unwrap();
        }
    }
    consumer.close().await.unwrap();
    all
}
