//! Creating queues, and what is said about queues of others.

use std::time::Duration;

use google_cloud_pubsub::model::{DeadLetterPolicy, ExpirationPolicy};
use towpath_core::{EnsureMode, ErrorKind, QueueSpec, driver::Backend as _};
use towpath_pubsub::PubSub;

use crate::{
    Outcome, ServerTest,
    server::{Server, subscription, topic, unique},
    tests,
};

pub(crate) const TESTS: &[ServerTest] = tests![
    ensure_creates_once_and_then_changes_nothing,
    ensure_applies_what_differs_and_says_so,
    inspect_warns_of_what_makes_messages_vanish,
    deleting_leaves_the_dead_letter_queue,
];

fn spec(dead_letter: &str) -> QueueSpec {
    QueueSpec::new()
        .with_lease(Duration::from_secs(20))
        .with_dead_letter(dead_letter, 7)
}

async fn ensure_creates_once_and_then_changes_nothing(server: Server) -> Outcome {
    let name = unique();
    let dead_letter = format!("{name}-dlq");
    let pubsub = PubSub::new();
    let admin = pubsub.admin(&server.config(&name)).await?;
    let spec = spec(&dead_letter);
    let planned = admin.ensure(&spec, EnsureMode::Plan).await?;
    assert!(!planned.is_empty());
    let error = admin.inspect().await.expect_err("only planned");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");

    assert_eq!(admin.ensure(&spec, EnsureMode::Create).await?, planned);
    for mode in [EnsureMode::Plan, EnsureMode::Create, EnsureMode::Apply] {
        let changes = admin.ensure(&spec, mode).await?;
        assert!(changes.is_empty(), "{mode:?}: {changes:?}");
    }
    let info = admin.inspect().await?;
    assert_eq!(info.lease, Some(Duration::from_secs(20)));
    assert_eq!(info.dead_letter, spec.dead_letter);
    assert!(info.warnings.is_empty(), "{:?}", info.warnings);

    // Several at once, as when all processes of a service start together.
    let others = (0..4).map(|_| async {
        let admin = PubSub::new().admin(&server.config(&name)).await?;
        admin.ensure(&spec, EnsureMode::Create).await
    });
    for changes in futures::future::join_all(others).await {
        assert!(changes?.is_empty());
    }
    admin.delete().await?;
    pubsub
        .admin(&server.config(&dead_letter))
        .await?
        .delete()
        .await?;
    Ok(())
}

async fn ensure_applies_what_differs_and_says_so(server: Server) -> Outcome {
    server
        .with_queue(
            QueueSpec::new().with_lease(Duration::from_secs(10)),
            async |queue| {
                let admin = queue.admin().await?;
                let longer = QueueSpec::new().with_lease(Duration::from_secs(30));
                let planned = admin.ensure(&longer, EnsureMode::Plan).await?;
                assert_eq!(planned.len(), 1, "{planned:?}");
                assert!(
                    planned[0]
                        .from
                        .as_deref()
                        .is_some_and(|from| from.contains("10"))
                );
                assert!(planned[0].to.contains("30"), "{planned:?}");
                let lease = admin.inspect().await?.lease;
                assert_eq!(lease, Some(Duration::from_secs(10)));
                assert_eq!(admin.ensure(&longer, EnsureMode::Apply).await?, planned);
                let lease = admin.inspect().await?.lease;
                assert_eq!(lease, Some(Duration::from_secs(30)));
                Ok(())
            },
        )
        .await
}

async fn inspect_warns_of_what_makes_messages_vanish(server: Server) -> Outcome {
    let name = unique();
    let dead_letter = format!("{name}-dlq");
    let topics = server.topics().await;
    for name in [&name, &dead_letter] {
        topics.create_topic().set_name(topic(name)).send().await?;
    }
    let subscriptions = server.subscriptions().await;
    let month = google_cloud_wkt::Duration::clamp(31 * 86_400, 0);
    subscriptions
        .create_subscription()
        .set_name(subscription(&name))
        .set_topic(topic(&name))
        .set_ack_deadline_seconds(10)
        .set_filter("attributes.kind = \"order\"")
        .set_expiration_policy(ExpirationPolicy::new().set_ttl(month))
        .send()
        .await?;
    let pubsub = PubSub::new();
    let admin = pubsub.admin(&server.config(&name)).await?;
    let warned = |warnings: &[String], part: &str| {
        assert!(
            warnings.iter().any(|warning| warning.contains(part)),
            "{part:?} is not in {warnings:?}"
        );
    };
    let warnings = admin.inspect().await?.warnings;
    warned(&warnings, "no dead-letter policy");
    warned(&warnings, "filter");
    warned(&warnings, "nobody uses it for");

    let policy = DeadLetterPolicy::new()
        .set_dead_letter_topic(topic(&dead_letter))
        .set_max_delivery_attempts(5);
    let other = subscription(&format!("{name}-other"));
    subscriptions
        .create_subscription()
        .set_name(&other)
        .set_topic(topic(&name))
        .set_ack_deadline_seconds(10)
        .set_dead_letter_policy(policy)
        .send()
        .await?;
    let config = server.config(&name);
    let config = config.with_option("subscription", format!("{name}-other"));
    let warnings = pubsub.admin(&config).await?.inspect().await?.warnings;
    warned(&warnings, "dead letters vanish");

    for name in [&subscription(&name), &other] {
        let deletion = subscriptions.delete_subscription();
        deletion.set_subscription(name).send().await?;
    }
    for name in [&name, &dead_letter] {
        topics.delete_topic().set_topic(topic(name)).send().await?;
    }
    Ok(())
}

async fn deleting_leaves_the_dead_letter_queue(server: Server) -> Outcome {
    let name = unique();
    let dead_letter = format!("{name}-dlq");
    let pubsub = PubSub::new();
    let admin = pubsub.admin(&server.config(&name)).await?;
    admin
        .ensure(&spec(&dead_letter), EnsureMode::Create)
        .await?;
    admin.delete().await?;
    let error = admin.inspect().await.expect_err("deleted");
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let kept = pubsub.admin(&server.config(&dead_letter)).await?;
    kept.inspect().await?;
    kept.delete().await?;
    Ok(())
}
