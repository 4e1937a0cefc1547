//! Mistakes are found at the start.

use std::time::Duration;

use towpath_core::ErrorKind;
use towpath_updater::{Auth, Destination, Rate, Route, Secret, Updater, UpdaterConfig};

fn error(config: UpdaterConfig) -> String {
    let error = Updater::new(config).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    error.message().to_owned()
}

fn crm() -> Destination {
    Destination::new("https://crm.example/contacts/{/id}")
}

fn with(destination: Destination) -> UpdaterConfig {
    UpdaterConfig::new().destination("crm", destination)
}

#[test]
fn each_mistake_names_the_destination_and_the_field() {
    let missing = || Secret::env("TOWPATH_UPDATER_TEST_NOT_SET");
    for (destination, hint) in [
        (Destination::new("https://crm.example/{id}"), "url: {id}"),
        (Destination::new("https://10.0.0.1/"), "url: 10.0.0.1"),
        (Destination::new("http://crm.example/"), "allow_http"),
        (crm().method("FETCH"), "method"),
        (crm().timeout(Duration::ZERO), "timeout"),
        (crm().timeout(Duration::from_secs(3_600)), "timeout: 1h"),
        (crm().concurrency(0), "concurrency"),
        (
            crm().rate(Rate::new(0, Duration::from_secs(1))),
            "rate.requests",
        ),
        (
            crm().class(42, towpath_updater::Class::Success),
            "classes: 42",
        ),
        (
            crm().auth(Auth::Bearer(missing())),
            "TOWPATH_UPDATER_TEST_NOT_SET",
        ),
        (crm().probe("https://other.example/health"), "probe"),
        (crm().probe("https://crm.example/{/id}"), "probe"),
        (crm().header("x", "{nothing}"), "headers"),
    ] {
        let error = error(with(destination));
        assert!(error.starts_with("destination \"crm\": "), "{error}");
        assert!(error.contains(hint), "{hint}: {error}");
    }
}

#[test]
fn the_route_must_lead_somewhere() {
    let two = || with(crm()).destination("billing", crm());
    assert!(error(UpdaterConfig::new()).contains("no destinations"));
    assert!(error(two()).contains("billing, crm"));
    assert!(error(two().route(Route::default())).contains("attribute, pointer or default"));
    let route = Route::attribute("to").with_default("nobody");
    assert!(error(two().route(route)).contains("billing, crm"));
    assert!(error(two().route(Route::pointer("to"))).contains("begin with /"));
    let mut route = Route::attribute("to");
    route.pointer = Some("/to".into());
    assert!(error(two().route(route)).contains("keep one"));
    assert!(error(UpdaterConfig::new().destination("a b", crm())).contains("letters"));
}

#[test]
fn the_time_that_a_message_is_held_must_fit_the_queue() {
    let updater = Updater::new(with(crm())).unwrap();
    assert!(updater.check_max_lease(Duration::from_secs(3_600)).is_ok());
    let error = updater
        .check_max_lease(Duration::from_secs(600))
        .unwrap_err();
    assert!(error.message().contains("10m"), "{error}");
}

#[test]
fn everything_can_be_written_in_toml() {
    let config: UpdaterConfig = toml::from_str(
        r#"
        max_lease = "2h"
        max_wait = "30m"
        route = { attribute = "to", default = "crm" }

        [destinations.crm]
        url = "https://crm.example/contacts/{/id}"
        method = "PATCH"
        auth = { basic = { user = "me", password = "hunter2" } }
        headers = { accept = "application/json" }
        timeout = "5s"
        rate = { requests = 100, per = "1m", burst = 10 }
        concurrency = 2
        probe = "https://crm.example/health"
        classes = { 404 = "transient", 409 = "success" }
        max_retry_after = "10m"
        idempotency_header = "x-request-id"
        redirects = 1
        allow_private = false
        allow_http = false
        body = { form = { id = "{/id}" } }
        breaker = { consecutive_failures = 3, failure_ratio = 0.5, window = 10, cool_down = "10s", max_cool_down = "1m" }

        [destinations.billing]
        url = "https://billing.example/"
        body = "empty"
        auth = { header = { x-api-key = "hunter2" } }
        "#,
    )
    .unwrap();
    let shown = format!("{config:?} {:?}", Updater::new(config.clone()).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(config.destinations["crm"].classes.len(), 2);

    for (text, hint) in [
        ("destination = {}", "unknown field `destination`"),
        (
            "[destinations.crm]\nurl = 'https://a.example/'\nretries = 3",
            "unknown field `retries`",
        ),
        (
            "[destinations.crm]\nurl = 'https://a.example/'\ntimeout = 'soon'",
            "write it like",
        ),
        (
            "[destinations.crm]\nurl = 'https://a.example/'\nclasses = { 4xx = 'success' }",
            "no HTTP status",
        ),
        (
            "[destinations.crm]\nurl = 'https://a.example/'\nauth = { bearer = 8675309 }",
            "{ env =",
        ),
    ] {
        let error = toml::from_str::<UpdaterConfig>(text).unwrap_err();
        assert!(error.message().contains(hint), "{hint}: {error}");
        assert!(!error.message().contains("8675309"), "{error}");
    }
}
