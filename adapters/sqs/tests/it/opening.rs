//! Finding queues, and what goes wrong on the way.

use std::time::{Duration, Instant};

use towpath_core::{
    ErrorKind, QueueConfig, QueueSpec,
    driver::{Admin as _, Backend as _},
};
use towpath_sqs::Sqs;

use crate::{
    LocalTest, Outcome, ServerTest, local_tests, probe,
    script::{Answer, Script},
    server::{Server, config, receive, unique},
    tests,
};

pub(crate) const SERVER_TESTS: &[ServerTest] = tests![
    name_url_and_arn_mean_the_same_queue,
    a_missing_queue_is_not_found_and_named,
];

pub(crate) const TESTS: &[LocalTest] = local_tests![
    an_endpoint_where_nobody_listens_is_unavailable_in_time,
    an_endpoint_that_never_answers_is_a_timeout,
    credentials_are_never_made_up_for_aws_itself,
    a_local_endpoint_needs_neither_credentials_nor_a_region,
    a_missing_region_is_said,
    an_unknown_region_is_unavailable_in_time,
    an_unknown_profile_is_said,
];

async fn name_url_and_arn_mean_the_same_queue(server: Server) -> Outcome {
    let endpoint = server.endpoint.clone();
    server
        .with_queue(QueueSpec::new(), async |queue| {
            let admin = queue.sqs.sqs_admin(&queue.config).await?;
            let arn = admin.inspect().await?.settings["QueueArn"].clone();
            let by_name = queue.producer().await?;
            by_name.send(&["by name".into()]).await.remove(0)?;
            for target in [&queue.url, &arn] {
                let config = queue.config.clone().with_target(target.clone());
                let producer = queue.sqs.producer(&config).await?;
                producer.send(&[target.clone().into()]).await.remove(0)?;
            }
            // The URL alone says where the server is.
            let url = format!("{}/000000000000/{}", endpoint, queue.name());
            let alone = QueueConfig::parse(&format!("sqs://{url}"))?;
            let consumer = queue.sqs.consumer(&alone).await?;
            assert_eq!(receive(&*consumer, 3).await?.len(), 3);
            Ok(())
        })
        .await
}

async fn a_missing_queue_is_not_found_and_named(server: Server) -> Outcome {
    let config = server.config(&unique(""));
    let sqs = Sqs::new();
    let by_name = sqs.producer(&config).await.expect_err("missing");
    let url = format!("{}/000000000000/{}", server.endpoint, config.target());
    let by_url = sqs.consumer(&config.clone().with_target(url)).await;
    for error in [by_name, by_url.expect_err("missing")] {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(!error.is_retryable());
        assert!(error.message().contains(config.target()), "{error}");
    }
    Ok(())
}

async fn an_endpoint_where_nobody_listens_is_unavailable_in_time() -> Outcome {
    // A port that was free just now.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    drop(listener);
    let start = Instant::now();
    let error = Sqs::new().producer(&config(&endpoint, "orders")).await;
    let error = error.expect_err("nobody there");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.is_retryable());
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    Ok(())
}

async fn an_endpoint_that_never_answers_is_a_timeout() -> Outcome {
    // Accepts connections by the backlog, and never reads.
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let config = config(&endpoint, "orders").with_option("request_timeout", "200ms");
    let error = Sqs::new().consumer(&config).await.expect_err("no answer");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.is_retryable());
    Ok(())
}

async fn credentials_are_never_made_up_for_aws_itself() -> Outcome {
    let remote = "sqs://orders?region=us-east-1&endpoint=http%3A%2F%2F192.0.2.1%3A1";
    for url in ["sqs://orders?region=us-east-1", remote] {
        let (said, _) = probe::open(url, &[]).await?;
        assert!(said.contains("unauthenticated"), "{said}");
        assert!(said.contains("no AWS credentials"), "{said}");
    }
    Ok(())
}

async fn a_local_endpoint_needs_neither_credentials_nor_a_region() -> Outcome {
    let script = Script::start(|_| Answer::Silence).await?;
    let url = format!("sqs://orders?endpoint={}", script.endpoint);
    let (said, _) = probe::open(&url, &[]).await?;
    assert_eq!(said, "opened");
    Ok(())
}

async fn a_missing_region_is_said() -> Outcome {
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    let (said, _) = probe::open("sqs://orders", &keys).await?;
    assert!(said.contains("invalid_config"), "{said}");
    assert!(said.contains("region=REGION"), "{said}");
    Ok(())
}

async fn an_unknown_region_is_unavailable_in_time() -> Outcome {
    let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "b")];
    let (said, took) = probe::open("sqs://orders?region=nowhere-1", &keys).await?;
    assert!(
        said.contains("unavailable") || said.contains("timeout"),
        "{said}"
    );
    assert!(said.contains("check region"), "{said}");
    assert!(took < Duration::from_secs(40), "{took:?}");
    Ok(())
}

async fn an_unknown_profile_is_said() -> Outcome {
    let url = "sqs://orders?region=us-east-1&profile=nobody";
    let (said, _) = probe::open(url, &[]).await?;
    assert!(said.contains("unauthenticated"), "{said}");
    Ok(())
}
