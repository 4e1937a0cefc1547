use super::*;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Own {
    region: Option<String>,
    depth: Option<u64>,
    fast: bool,
}

#[test]
fn urls_that_name_no_queue_are_refused_with_the_right_form() {
    for text in [
        "",
        "orders",
        "://orders",
        "memory://",
        "memory://?lease=1s",
        "memory:///",
        "me mory://x",
    ] {
        let error = QueueConfig::parse(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{text}");
        assert!(error.message().contains("memory://orders"), "{error}");
    }
}

#[test]
fn credentials_in_a_url_are_refused_and_not_repeated() {
    let error = QueueConfig::parse("sqs://key:hunter2@orders").unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn an_unknown_option_names_the_nearest_and_the_known() {
    let config = QueueConfig::parse("sqs://orders?leese=30s").unwrap();
    let error = config.backend_options::<Own>().unwrap_err();
    assert!(
        error.message().contains(r#"did you mean "lease"?"#),
        "{error}"
    );
    assert!(error.message().contains("region"), "{error}");
}

#[test]
fn a_bad_value_names_the_option() {
    let config = QueueConfig::parse("sqs://orders?lease=soon&depth=many").unwrap();
    let error = config.queue_options().unwrap_err();
    assert!(error.message().contains(r#"lease="soon""#), "{error}");
    assert!(error.message().contains("30s"), "{error}");
    let error = config.backend_options::<Own>().unwrap_err();
    assert!(error.message().contains(r#"depth="many""#), "{error}");
}

#[test]
fn options_of_both_kinds_are_read() {
    let config =
        QueueConfig::parse("sqs://orders?lease=90s&region=eu-west-1&depth=7&fast=true").unwrap();
    assert_eq!(
        config.queue_options().unwrap().lease,
        Some(Duration::from_secs(90))
    );
    let own: Own = config.backend_options().unwrap();
    assert_eq!(
        (own.region.as_deref(), own.depth, own.fast),
        (Some("eu-west-1"), Some(7), true)
    );
}

#[test]
fn max_attempts_needs_a_dead_letter_queue() {
    let config = QueueConfig::parse("memory://orders?max_attempts=5").unwrap();
    assert!(
        config
            .queue_options()
            .unwrap_err()
            .message()
            .contains("dead_letter")
    );
}

#[test]
fn the_same_option_twice_is_refused() {
    assert!(QueueConfig::parse("memory://orders?lease=1s&lease=2s").is_err());
    #[derive(Debug, Deserialize)]
    struct File {
        #[expect(dead_code, reason = "parsing fails")]
        queue: QueueConfig,
    }
    let error = toml::from_str::<File>("queue = { url = 'memory://x?lease=1s', lease = '2s' }");
    assert!(error.unwrap_err().to_string().contains("lease"));
}

#[test]
fn a_config_survives_its_own_text() {
    let config = QueueConfig::parse("sqs://orders?a=x%26y&b=1").unwrap();
    assert_eq!(config.option("a"), Some("x&y"));
    assert_eq!(QueueConfig::parse(&config.to_string()).unwrap(), config);
}

#[test]
fn options_of_use_do_not_make_another_queue_and_places_do() {
    let is_same = |a, b| {
        let parse = |text| QueueConfig::parse(text).unwrap();
        assert_eq!(
            parse(a).is_same_queue(&parse(b)),
            parse(b).is_same_queue(&parse(a))
        );
        parse(a).is_same_queue(&parse(b))
    };
    assert!(is_same("sqs://orders?lease=30s", "sqs://orders?prefetch=9"));
    assert!(is_same("sqs://orders?region=eu-west-1", "sqs://orders"));
    assert!(!is_same("sqs://orders", "sqs://bills"));
    assert!(!is_same("sqs://orders", "memory://orders"));
    assert!(!is_same(
        "sqs://orders?region=eu-west-1",
        "sqs://orders?region=us-east-1"
    ));
    assert!(!is_same(
        "sqs://orders?endpoint=http://127.0.0.1:1",
        "sqs://orders?endpoint=http://127.0.0.1:2"
    ));
}
