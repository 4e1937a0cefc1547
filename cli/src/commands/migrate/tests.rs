use std::future::pending;

use indicatif::ProgressBar;
use towpath::{Result, open};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn args(idle: Duration) -> Args {
    Args {
        from: String::new(),
        to: String::new(),
        idle: Some(idle),
        // So that what goes round and round ends.
        limit: Some(50),
    }
}

/// Sends `bodies` to the queue `from`, and moves what is there.
async fn moved(from: &str, to: &str, bodies: &[&'static str], args: &Args) -> Result<Report> {
    let (from, to) = (open(from)?, open(to)?);
    let sender = from.producer().await?;
    for body in bodies {
        sender.send(*body).await?;
    }
    let (consumer, producer) = (from.consumer().await?, to.producer().await?);
    let migration = Migration {
        args,
        consumer: &consumer,
        producer: &producer,
        bar: &ProgressBar::hidden(),
    };
    let longest = tokio::time::timeout(3_600 * SECOND, migration.run(pending()));
    let report = longest.await.expect("it ends");
    consumer.close().await?;
    Ok(report)
}

async fn total(url: &str) -> Result<u64> {
    Ok(open(url)?.admin().await?.depth().await?.total())
}

fn counts(report: &Report) -> [u64; 4] {
    let Report {
        moved,
        possibly_twice,
        refused,
        came_again,
        ..
    } = report;
    [*moved, *possibly_twice, *refused, *came_again]
}

#[tokio::test(start_paused = true)]
async fn a_send_without_an_answer_is_not_repeated_and_the_exit_code_says_so() -> Result<()> {
    // Every second send or so is accepted without an answer.
    let silent = "memory://silent?profile=sqs&faults=lost_send:0.5&seed=1&send_timeout=1ms";
    let report = moved("memory://unanswered", silent, &["x"; 8], &args(60 * SECOND)).await?;
    let [sent, unanswered, ..] = counts(&report);
    assert_eq!(counts(&report), [sent, 8 - sent, 0, 0], "{report}");
    assert!(sent > 0 && unanswered > 0, "{report}");
    assert_eq!(total(silent).await?, 8, "each was sent once");
    assert_eq!(total("memory://unanswered").await?, unanswered, "they stay");
    assert_eq!(report.exit_code(true), 1);
    assert!(report.advice()[0].contains("may be in both queues"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_comes_again_after_its_removal_is_not_sent_once_more() -> Result<()> {
    let forgetful = "memory://forgetful?profile=sqs&faults=lost_ack:1";
    let report = moved(forgetful, "memory://once", &["x", "y"], &args(60 * SECOND)).await?;
    assert_eq!(counts(&report), [2, 0, 0, 2], "{report}");
    assert_eq!(total("memory://once").await?, 2);
    assert_eq!(report.exit_code(true), 1);
    let line = "moved 2, possibly twice 0, refused and left in place 0, came again 2";
    assert_eq!(report.to_string(), line);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_removed_is_possibly_twice_and_not_moved() -> Result<()> {
    // Acks are confirmed there, so that a lost one is an error; it is tried again until the end of
    // the lease.
    let stubborn = "memory://stubborn?faults=lost_ack:1&max_lease=60s";
    let report = moved(stubborn, "memory://both", &["x"], &args(40 * SECOND)).await?;
    assert_eq!(report.moved, 0, "{report}");
    assert_eq!(report.possibly_twice, 1, "{report}");
    assert_eq!(total("memory://both").await?, 1, "sent once");
    assert_eq!(report.exit_code(true), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_in_the_end_is_moved_and_not_possibly_twice() -> Result<()> {
    // Some acks fail until the lease is over, and succeed when their message came again.
    let from = "memory://hesitant?faults=lost_ack:0.9&seed=1&max_lease=60s";
    let report = moved(from, "memory://sure", &["x"; 40], &args(40 * SECOND)).await?;
    let [sent, twice, refused, came_again] = counts(&report);
    assert_eq!((sent + twice, refused), (40, 0), "{report}");
    assert!(came_again > twice, "some were removed then: {report}");
    assert_eq!(total("memory://sure").await?, 40, "each was sent once");
    assert_eq!(total(from).await?, twice, "{report}");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn what_the_target_cannot_take_stays_and_the_rest_is_moved() -> Result<()> {
    // An empty body is legal there, and not portable.
    let (from, to) = ("memory://mixed?validation=native", "memory://portable");
    let report = moved(from, to, &["", "y"], &args(SECOND)).await?;
    assert_eq!(counts(&report), [1, 0, 1, 0], "{report}");
    assert!(matches!(report.end, End::Idle));
    assert_eq!(report.exit_code(true), 1);
    assert_eq!(total(from).await?, 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_target_that_takes_nothing_ends_it() -> Result<()> {
    let (from, to) = (open("memory://waiting")?, open("memory://gone")?);
    from.producer().await?.send("x").await?;
    let (consumer, producer) = (from.consumer().await?, to.producer().await?);
    producer.close().await?;
    let migration = Migration {
        args: &args(60 * SECOND),
        consumer: &consumer,
        producer: &producer,
        bar: &ProgressBar::hidden(),
    };
    let report = migration.run(pending()).await;
    assert!(matches!(report.end, End::TargetFailed(_)), "{report:?}");
    assert_eq!(counts(&report), [0, 0, 1, 0]);
    let json = serde_json::to_value(&report).unwrap_or_default();
    assert_eq!(json["end"], "target_failed");
    assert!(json["error"].as_str().is_some_and(|e| e.contains("closed")));
    Ok(())
}

#[test]
fn each_end_has_its_exit_code() {
    let report = |end| Report {
        end,
        ..Report::default()
    };
    assert_eq!(report(End::Idle).exit_code(true), 0);
    assert_eq!(report(End::Limit).exit_code(true), 0);
    assert_eq!(report(End::Held).exit_code(true), 1);
    assert_eq!(report(End::Stopped).exit_code(true), signal::INTERRUPTED);
    // Without --idle and --limit it goes on until Ctrl-C.
    assert_eq!(report(End::Stopped).exit_code(false), 0);
    let mut stopped = report(End::Stopped);
    stopped.refused = 1;
    assert_eq!(stopped.exit_code(true), 1);
}
