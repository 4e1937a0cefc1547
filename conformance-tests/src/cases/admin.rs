//! Creating, inspecting, counting, purging, deleting.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use towpath_core::{Admin, Depth, EnsureMode, ErrorKind, Precision, QueueInfo};

use crate::{Case, CaseError, CaseResult, Context, context::numbered, ensure, ensure_eq};

pub(super) const CASES: &[Case] = &[
    case!(
        Admin,
        ensure_is_idempotent,
        [],
        "Ensuring what is there changes nothing, and says so."
    ),
    case!(
        Admin,
        a_plan_changes_nothing,
        [],
        "EnsureMode::Plan says what is missing and creates nothing."
    ),
    case!(
        Admin,
        creating_refuses_a_queue_with_other_settings,
        [ExtendedLease],
        "EnsureMode::Create neither changes nor accepts a live queue that differs."
    ),
    case!(
        Admin,
        applying_changes_the_settings,
        [ExtendedLease],
        "EnsureMode::Apply makes a live queue what the specification says."
    ),
    case!(
        Admin,
        inspect_tells_the_settings,
        [],
        "Lease and ordering are told as they were asked for."
    ),
    case!(
        Admin,
        inspect_tells_the_dead_letter_policy,
        [BrokerDeadLetter],
        "The policy is told as it was asked for, and the dead-letter queue was created."
    ),
    case!(
        Admin,
        retention_is_set_or_refused,
        [],
        "A retention that is asked for is told by inspect, or Unsupported."
    ),
    case!(
        Admin,
        purge_removes_everything,
        [Purge],
        "After a purge no message comes, neither those that waited nor those that were leased."
    ),
    case!(
        Admin,
        a_purged_queue_goes_on_working,
        [Purge],
        "What is sent after a purge is delivered."
    ),
    case!(
        Admin,
        depth_counts_what_is_there,
        [Depth],
        "Waiting and leased messages are counted, and none when all are acked."
    ),
    case!(
        Admin,
        a_deleted_queue_is_gone,
        [],
        "After delete, inspect and a second delete are NotFound."
    ),
    case!(
        Admin,
        deleting_keeps_the_dead_letter_queue,
        [DeadLetter],
        "Dead letters outlive the queue that they come from."
    ),
];

async fn ensure_is_idempotent(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let admin = queue.admin().await?;
    for mode in [EnsureMode::Plan, EnsureMode::Create, EnsureMode::Apply] {
        let changes = admin.ensure(queue.spec(), mode).await?;
        ensure!(
            changes.is_empty(),
            "{mode:?} wants to change what was just created: {changes:?}"
        );
    }
    Ok(())
}

async fn a_plan_changes_nothing(cx: Context) -> CaseResult {
    let queue = cx.absent()?;
    let admin = queue.admin().await?;
    let changes = admin.ensure(queue.spec(), EnsureMode::Plan).await?;
    ensure!(!changes.is_empty(), "the plan for a missing queue is empty");
    not_found(admin.inspect().await.map(drop), "inspect after a plan")?;
    let created = admin.ensure(queue.spec(), EnsureMode::Create).await?;
    ensure!(!created.is_empty(), "creating the queue changed nothing");
    admin.inspect().await?;
    Ok(())
}

fn not_found(result: towpath_core::Result<()>, what: &str) -> CaseResult {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(CaseError::failed(format!(
            "{what} is {error}, and not_found is right"
        ))),
        Ok(()) => Err(CaseError::failed(format!(
            "{what} succeeds, and not_found is right"
        ))),
    }
}

/// Waits until the settings are as wanted: some clouds take a while to show a change.
async fn inspect_until(
    cx: &Context,
    admin: &Admin,
    is_right: impl Fn(&QueueInfo) -> bool,
) -> Result<QueueInfo, CaseError> {
    let deadline = Instant::now() + cx.patience();
    loop {
        let info = admin.inspect().await?;
        if is_right(&info) || Instant::now() >= deadline {
            return Ok(info);
        }
        sleep(cx.slack() / 4).await;
    }
}

async fn creating_refuses_a_queue_with_other_settings(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let admin = queue.admin().await?;
    let before = admin.inspect().await?;
    let lease = before.lease.unwrap_or(cx.lease()) + Duration::from_secs(5);
    let other = queue.spec().clone().with_lease(lease);
    match admin.ensure(&other, EnsureMode::Create).await {
        Err(error) if error.kind() == ErrorKind::InvalidConfig => {}
        result => {
            return Err(CaseError::failed(format!(
                "creating a queue that differs ended in {result:?}, and invalid_config is right"
            )));
        }
    }
    let planned = admin.ensure(&other, EnsureMode::Plan).await?;
    ensure!(!planned.is_empty(), "the plan does not name the difference");
    let after = admin.inspect().await?;
    ensure_eq!(after.lease, before.lease, "the lease of the live queue");
    Ok(())
}

async fn applying_changes_the_settings(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let admin = queue.admin().await?;
    let before = admin.inspect().await?;
    let lease = before.lease.unwrap_or(cx.lease()) + Duration::from_secs(5);
    let other = queue.spec().clone().with_lease(lease);
    let changes = admin.ensure(&other, EnsureMode::Apply).await?;
    ensure!(!changes.is_empty(), "no change was reported");
    let after = inspect_until(&cx, &admin, |info| info.lease == Some(lease)).await?;
    ensure_eq!(after.lease, Some(lease), "the lease after the change");
    let capabilities = queue.capabilities().await?;
    ensure_eq!(
        capabilities.lease.duration(),
        Some(lease),
        "the lease of a consumer that is opened now"
    );
    Ok(())
}

async fn inspect_tells_the_settings(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let info = queue.admin().await?.inspect().await?;
    ensure!(!info.name.is_empty(), "the queue has no name");
    ensure_eq!(info.lease, queue.spec().lease, "the lease");
    let capabilities = queue.capabilities().await?;
    ensure_eq!(info.ordered, capabilities.ordering, "ordered");
    Ok(())
}

async fn inspect_tells_the_dead_letter_policy(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let info = queue.admin().await?.inspect().await?;
    ensure_eq!(
        info.dead_letter,
        queue.spec().dead_letter,
        "the dead-letter policy"
    );
    queue.dead_letter()?.admin().await?.inspect().await?;
    Ok(())
}

async fn retention_is_set_or_refused(cx: Context) -> CaseResult {
    let retention = Duration::from_secs(2 * 86_400);
    let queue = cx.absent()?;
    let admin = queue.admin().await?;
    let spec = queue.spec().clone().with_retention(retention);
    match admin.ensure(&spec, EnsureMode::Create).await {
        Ok(_) => {
            let info = admin.inspect().await?;
            ensure_eq!(info.retention, Some(retention), "the retention");
        }
        Err(error) => ensure_eq!(
            error.kind(),
            ErrorKind::Unsupported,
            "the kind of the refusal"
        ),
    }
    Ok(())
}

async fn purge_removes_everything(cx: Context) -> CaseResult {
    let queue = cx.short_queue().await?;
    let (producer, consumer) = queue.halves().await?;
    for result in producer.send_batch(&numbered("m", 12)).await {
        result?;
    }
    let held = cx.receive_many(&consumer, 2).await?;
    queue.admin().await?.purge().await?;
    for delivery in held {
        delivery.abandon();
    }
    let why = "the queue was purged";
    cx.nothing(&consumer, cx.lease() * 2, why).await
}

async fn a_purged_queue_goes_on_working(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, consumer) = queue.halves().await?;
    producer.send("before").await?;
    queue.admin().await?.purge().await?;
    // Some clouds remove what is sent while they purge.
    sleep(cx.slack()).await;
    producer.send("after").await?;
    let delivery = cx.receive(&consumer).await?;
    ensure_eq!(crate::context::text(&delivery), "after", "the body");
    delivery.ack().await?;
    Ok(())
}

async fn depth_counts_what_is_there(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let (producer, consumer) = queue.halves().await?;
    let admin = queue.admin().await?;
    let is_exact = consumer.capabilities().depth == Precision::Exact;
    let expect = async |ready: u64, leased: u64| {
        let deadline = Instant::now() + cx.patience();
        loop {
            let Depth {
                ready: r,
                leased: l,
                ..
            } = admin.depth().await?;
            if (r, l) == (ready, leased) {
                return Ok(());
            }
            if is_exact || Instant::now() >= deadline {
                return Err(CaseError::failed(format!(
                    "depth says {r} waiting and {l} leased, and {ready} and {leased} is right"
                )));
            }
            sleep(cx.slack() / 4).await;
        }
    };
    expect(0, 0).await?;
    for result in producer.send_batch(&numbered("m", 5)).await {
        result?;
    }
    expect(5, 0).await?;
    let held = cx.receive_many(&consumer, 2).await?;
    expect(3, 2).await?;
    for result in consumer.ack_batch(held).await {
        result?;
    }
    expect(3, 0).await?;
    for _ in 0..3 {
        cx.receive(&consumer).await?.ack().await?;
    }
    expect(0, 0).await
}

async fn a_deleted_queue_is_gone(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let admin = queue.admin().await?;
    admin.inspect().await?;
    admin.delete().await?;
    let deadline = Instant::now() + cx.patience();
    // Some clouds forget slowly.
    while admin.inspect().await.is_ok() && Instant::now() < deadline {
        sleep(cx.slack() / 2).await;
    }
    not_found(admin.inspect().await.map(drop), "inspect after delete")?;
    not_found(admin.delete().await, "a second delete")
}

async fn deleting_keeps_the_dead_letter_queue(cx: Context) -> CaseResult {
    let queue = cx.queue().await?;
    let dead_letter = queue.dead_letter()?;
    dead_letter.producer().await?.send("a dead letter").await?;
    queue.admin().await?.delete().await?;
    dead_letter.admin().await?.inspect().await?;
    let consumer = dead_letter.consumer().await?;
    cx.receive(&consumer).await?.ack().await?;
    Ok(())
}
