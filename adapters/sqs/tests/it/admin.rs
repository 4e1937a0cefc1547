//! Provisioning and inspecting.

use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use towpath_core::{Change, EnsureMode, ErrorKind, Message, QueueSpec, driver::Backend as _};
use towpath_sqs::Sqs;

use crate::{
    Outcome, ServerTest,
    server::{Server, receive, unique},
    tests,
};

pub(crate) const TESTS: &[ServerTest] = tests![
    ensure_plans_creates_and_then_finds_nothing_to_do,
    ensure_refuses_a_live_change_unless_it_is_to_apply,
    ensure_refuses_what_sqs_cannot_do,
    a_dead_letter_queue_serves_several_queues,
    inspect_warns_of_what_would_lose_messages,
    depth_counts_what_is_ready_leased_and_delayed,
    the_native_redrive_moves_messages_or_is_unsupported,
];

fn settings(changes: &[Change], name: &str) -> Vec<String> {
    changes
        .iter()
        .map(|change| change.setting.replace(name, "Q"))
        .collect()
}

/// Whether the server tells MessageRetentionPeriod and RedriveAllowPolicy. ElasticMQ has neither.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html>
fn has_all_settings(server: &Server) -> bool {
    server.name != "elasticmq"
}

async fn ensure_plans_creates_and_then_finds_nothing_to_do(server: Server) -> Outcome {
    let has_all_settings = has_all_settings(&server);
    for (suffix, is_ordered) in [("", false), (".fifo", true)] {
        let stem = unique("");
        let (name, dlq) = (format!("{stem}{suffix}"), format!("{stem}-dlq{suffix}"));
        let mut spec = QueueSpec::new()
            .with_lease(Duration::from_secs(45))
            .with_dead_letter(&dlq, 7);
        spec.ordered = is_ordered;
        spec.retention = has_all_settings.then_some(Duration::from_secs(3_600));
        let sqs = Sqs::new();
        let admin = sqs.admin(&server.config(&name)).await?;
        let expected = ["queue Q-dlq".to_owned(), "queue Q".to_owned()];
        let shown = |changes: &[Change]| {
            settings(changes, &stem)
                .into_iter()
                .map(|setting| setting.replace(suffix, ""))
                .collect::<Vec<_>>()
        };

        let planned = admin.ensure(&spec, EnsureMode::Plan).await?;
        assert_eq!(shown(&planned), expected);
        let missing = admin.inspect().await.expect_err("only planned");
        assert_eq!(missing.kind(), ErrorKind::NotFound);

        let created = admin.ensure(&spec, EnsureMode::Create).await?;
        assert_eq!(created, planned);
        for mode in [EnsureMode::Plan, EnsureMode::Create, EnsureMode::Apply] {
            assert_eq!(admin.ensure(&spec, mode).await?, [], "{mode:?}");
        }
        let info = admin.inspect().await?;
        assert_eq!(info.lease, Some(Duration::from_secs(45)));
        assert_eq!(info.retention, spec.retention);
        assert_eq!(info.ordered, is_ordered);
        let dead_letter = info.dead_letter.expect("a dead-letter queue");
        assert_eq!(
            (dead_letter.queue, dead_letter.max_deliveries),
            (dlq.clone(), 7)
        );
        assert_eq!(info.warnings, [""; 0]);

        let other = sqs.admin(&server.config(&dlq)).await?;
        if has_all_settings {
            let info = other.inspect().await?;
            assert_eq!(info.retention, Some(Duration::from_secs(14 * 86_400)));
            let policy = &info.settings["RedriveAllowPolicy"];
            assert!(
                policy.contains("byQueue") && policy.contains(&name),
                "{policy}"
            );
        }

        admin.delete().await?;
        // The dead-letter queue is kept.
        other.inspect().await?;
        other.delete().await?;
    }
    Ok(())
}

async fn ensure_refuses_a_live_change_unless_it_is_to_apply(server: Server) -> Outcome {
    let dlq = unique("");
    let spec = QueueSpec::new()
        .with_lease(Duration::from_secs(30))
        .with_dead_letter(&dlq, 5);
    server
        .with_queue(spec, async |queue| {
            let admin = queue.sqs.admin(&queue.config).await?;
            let wanted = QueueSpec::new()
                .with_lease(Duration::from_secs(60))
                .with_dead_letter(&dlq, 9);
            let refused = admin
                .ensure(&wanted, EnsureMode::Create)
                .await
                .expect_err("live");
            assert_eq!(refused.kind(), ErrorKind::InvalidConfig);
            for part in ["is 30s and is to be 1m", "after 9 deliveries"] {
                assert!(refused.message().contains(part), "{refused}");
            }
            let info = admin.inspect().await?;
            assert_eq!(info.lease, Some(Duration::from_secs(30)));

            let planned = admin.ensure(&wanted, EnsureMode::Plan).await?;
            assert_eq!(
                settings(&planned, queue.name()),
                ["Q lease", "Q dead letter"]
            );
            assert_eq!(admin.ensure(&wanted, EnsureMode::Apply).await?, planned);
            assert_eq!(admin.ensure(&wanted, EnsureMode::Apply).await?, []);
            let info = admin.inspect().await?;
            assert_eq!(info.lease, Some(Duration::from_secs(60)));
            assert_eq!(
                info.dead_letter.map(|policy| policy.max_deliveries),
                Some(9)
            );
            Ok(())
        })
        .await
}

async fn ensure_refuses_what_sqs_cannot_do(server: Server) -> Outcome {
    let (standard, fifo) = (unique(""), unique(".fifo"));
    let spec = QueueSpec::new();
    let short = Duration::from_millis(500);
    let mut exact = spec.clone();
    exact.exactly_once = true;
    let table = [
        (
            &standard,
            spec.clone().with_ordering(),
            ErrorKind::InvalidConfig,
            ".fifo",
        ),
        (&fifo, spec.clone(), ErrorKind::InvalidConfig, ".fifo"),
        (&standard, exact, ErrorKind::Unsupported, "FIFO"),
        (
            &standard,
            spec.clone().with_lease(short),
            ErrorKind::InvalidConfig,
            "lease",
        ),
        (
            &standard,
            spec.clone().with_retention(short),
            ErrorKind::InvalidConfig,
            "retention",
        ),
        (
            &standard,
            spec.clone().with_dead_letter("d.fifo", 5),
            ErrorKind::InvalidConfig,
            "FIFO",
        ),
        (
            &standard,
            spec.clone().with_dead_letter("d", 0),
            ErrorKind::InvalidConfig,
            "1 to 1000",
        ),
        (
            &standard,
            spec.clone().with_dead_letter(&standard, 5),
            ErrorKind::InvalidConfig,
            "own",
        ),
        (
            &standard,
            spec.with_dead_letter("no name", 5),
            ErrorKind::InvalidConfig,
            "queue name",
        ),
    ];
    let sqs = Sqs::new();
    for (name, spec, kind, part) in table {
        let admin = sqs.admin(&server.config(name)).await?;
        let error = admin
            .ensure(&spec, EnsureMode::Apply)
            .await
            .expect_err("refused");
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(part), "{error}");
        let missing = admin.inspect().await.expect_err("nothing was made");
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
    Ok(())
}

async fn a_dead_letter_queue_serves_several_queues(server: Server) -> Outcome {
    let dlq = unique("");
    let spec = QueueSpec::new().with_dead_letter(&dlq, 5);
    let (endpoint, has_all_settings) = (server.clone(), has_all_settings(&server));
    server
        .with_queue(spec.clone(), async |queue| {
            // The first queue's policy names only itself.
            let second = endpoint.config(&unique(""));
            let admin = queue.sqs.admin(&second).await?;
            if has_all_settings {
                let refused = admin.ensure(&spec, EnsureMode::Create).await;
                let refused = refused.expect_err("not allowed");
                assert!(
                    refused.message().contains("redrive allow policy"),
                    "{refused}"
                );
            }
            admin.ensure(&spec, EnsureMode::Apply).await?;
            assert_eq!(admin.ensure(&spec, EnsureMode::Create).await?, []);
            let first = queue.sqs.admin(&queue.config).await?;
            assert_eq!(first.ensure(&spec, EnsureMode::Create).await?, []);
            admin.delete().await?;
            Ok(())
        })
        .await
}

async fn inspect_warns_of_what_would_lose_messages(server: Server) -> Outcome {
    let dlq = unique("");
    let spec = QueueSpec::new().with_dead_letter(&dlq, 2);
    let has_all_settings = has_all_settings(&server);
    server
        .with_queue(spec, async |queue| {
            let config = queue.config.clone();
            let warnings = async |config| -> towpath_core::Result<String> {
                let admin = queue.sqs.admin(&config).await?;
                Ok(admin.inspect().await?.warnings.join("\n"))
            };
            let said = warnings(config.clone()).await?;
            assert!(said.contains("maxReceiveCount is 2"), "{said}");
            let strict = config
                .clone()
                .with_option("max_attempts", "5")
                .with_option("dead_letter", "elsewhere");
            let said = warnings(strict).await?;
            assert!(said.contains("max_attempts is 5"), "{said}");
            assert!(said.contains("dead letters go to two places"), "{said}");

            queue
                .set(QueueAttributeName::MessageRetentionPeriod, "1209600")
                .await?;
            queue
                .set(QueueAttributeName::VisibilityTimeout, "0")
                .await?;
            let said = warnings(config.clone()).await?;
            assert_eq!(
                said.contains("they are lost early"),
                has_all_settings,
                "{said}"
            );
            assert!(said.contains("VisibilityTimeout is 0"), "{said}");
            let refused = queue.consumer().await.expect_err("no lease");
            assert!(refused.message().contains("lease=30s"), "{refused}");

            let bare = queue.server.config(&dlq);
            let said = warnings(bare).await?;
            assert!(said.contains("no RedrivePolicy"), "{said}");
            Ok(())
        })
        .await
}

async fn depth_counts_what_is_ready_leased_and_delayed(server: Server) -> Outcome {
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let delayed = Message::new("later").with_delay(Duration::from_secs(60));
            let batch = ["a".into(), "b".into(), "c".into(), delayed];
            for sent in queue.producer().await?.send(&batch).await {
                sent?;
            }
            let consumer = queue.consumer().await?;
            assert_eq!(receive(&*consumer, 1).await?.len(), 1);
            let admin = queue.sqs.admin(&queue.config).await?;
            let depth = admin.depth().await?;
            assert_eq!((depth.ready, depth.leased, depth.delayed), (2, 1, 1));
            admin.purge().await?;
            assert_eq!(admin.depth().await?.total(), 0);
            Ok(())
        })
        .await
}

async fn the_native_redrive_moves_messages_or_is_unsupported(server: Server) -> Outcome {
    let dlq = unique("");
    let has_move_tasks = server.name == "elasticmq";
    let spec = QueueSpec::new().with_dead_letter(&dlq, 5);
    server
        .with_queue(spec, async |queue| {
            let dead = queue.server.config(&dlq);
            queue
                .sqs
                .producer(&dead)
                .await?
                .send(&["x".into()])
                .await
                .remove(0)?;
            let admin = queue.sqs.sqs_admin(&dead).await?;
            let error = admin
                .start_message_move_task(None, Some(501))
                .await
                .expect_err("rate");
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            let started = admin
                .start_message_move_task(Some(queue.name()), Some(10))
                .await;
            if !has_move_tasks {
                // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
                let error = started.expect_err("not there");
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
                return Ok(());
            }
            assert!(!started?.is_empty());
            let consumer = queue.consumer().await?;
            assert_eq!(receive(&*consumer, 1).await?.len(), 1);
            let tasks = admin.message_move_tasks().await?;
            assert_eq!(tasks.len(), 1);
            assert_eq!(tasks[0].moved, 1, "{tasks:?}");
            Ok(())
        })
        .await
}
