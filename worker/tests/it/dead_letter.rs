use towpath_core::{FailureClass, Outcome};

use crate::support::{HOUR, SECOND, Setup, eventually, fixed, start};

fn permanent() -> Outcome {
    Outcome::DeadLetter {
        class: FailureClass::Permanent,
        reason: "no such customer".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_permanent_failure_is_parked_at_once_with_its_reason() {
    let mut setup = Setup::new("memory://orders?dead_letter=dead").await;
    setup.send("x").await;
    let running = start(setup.worker(|_| async { permanent() }).await);
    setup.seen().await;
    eventually(async || setup.depth().await.total() == 0).await;
    let report = running.stop().await;
    assert_eq!((report.received, report.dead_lettered), (1, 1));
    let dead = setup.dead().await;
    let failure = dead[0].envelope().message.failure().unwrap();
    assert_eq!(failure.class, FailureClass::Permanent);
    assert_eq!(failure.reason, "no such customer");
    assert_eq!(dead[0].body(), "x");
}

#[tokio::test(start_paused = true)]
async fn without_a_dead_letter_queue_a_permanent_failure_stays_in_the_queue() {
    let mut setup = Setup::new("memory://orders").await;
    setup.send("x").await;
    let builder = setup.worker(|_| async { permanent() }).await;
    let running = start(builder.retry(fixed(HOUR)));
    let begun = tokio::time::Instant::now();
    setup.seen().await;
    setup.seen().await;
    assert_eq!(begun.elapsed(), HOUR, "it waits for the longest backoff");
    let report = running.stop().await;
    assert_eq!((report.retried, report.dead_lettered), (2, 0));
    assert_eq!(setup.depth().await.total(), 1);
}

/// The dead-letter queue is full: the copy is refused until there is room.
#[tokio::test(start_paused = true)]
async fn a_copy_that_fails_is_tried_again_and_the_message_is_never_lost() {
    let mut setup = Setup::new("memory://orders?dead_letter=memory://dead?max_depth=1").await;
    let dead = setup.queue.dead_letter().unwrap().unwrap();
    let blocker = dead.producer().await.unwrap();
    blocker.send("in the way").await.unwrap();
    setup.send("x").await;
    let running = start(setup.worker(|_| async { permanent() }).await);
    setup.seen().await;
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(
        setup.depth().await.leased,
        1,
        "held while the copy is tried"
    );
    let consumer = dead.consumer().await.unwrap();
    consumer.receive().await.unwrap().ack().await.unwrap();
    let copy = consumer.receive().await.unwrap();
    assert_eq!(copy.body(), "x");
    eventually(async || setup.depth().await.total() == 0).await;
    let report = running.stop().await;
    assert_eq!((report.received, report.dead_lettered), (1, 1));
    setup.nothing_seen();
}

#[tokio::test(start_paused = true)]
async fn a_message_whose_copy_is_refused_for_good_goes_back_to_the_queue() {
    let mut setup = Setup::new("memory://orders?dead_letter=dead").await;
    setup.send("x").await;
    let builder = setup.worker(|_| async { permanent() }).await;
    let dead = setup.queue.dead_letter().unwrap().unwrap();
    let running = start(builder.retry(fixed(HOUR)));
    dead.admin().await.unwrap().delete().await.unwrap();
    setup.seen().await;
    let begun = tokio::time::Instant::now();
    setup.seen().await;
    assert!(begun.elapsed() >= HOUR);
    let report = running.stop().await;
    assert_eq!(report.dead_lettered, 0);
    assert_eq!(setup.depth().await.total(), 1);
    assert!(report.is_balanced(), "{report:?}");
}
