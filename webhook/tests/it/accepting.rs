//! What is accepted, and what is refused.

use axum::{
    body::Body,
    http::{HeaderMap, Request},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use towpath_webhook::{
    Config, Receiver,
    signature::{
        Key, Signer,
        basic::Basic,
        bearer::Bearer,
        github::Github,
        hmac::{Template, TemplateConfig},
        mailgun::Mailgun,
        shopify::Shopify,
        slack::Slack,
        standard_webhooks::StandardWebhooks,
        stripe::Stripe,
    },
};

use crate::support::{GITHUB, TestQueue, github, request, send, signed, start};

/// Every scheme: its configuration, and a sender that fits it.
fn schemes() -> Vec<(&'static str, String, Box<dyn Signer>)> {
    let keys = || [Key::new("second")];
    let two = "secrets = ['first', 'second']";
    let standard = |prefix: &str| format!("{prefix}{}", STANDARD.encode([7; 32]));
    let template = TemplateConfig {
        content: "{timestamp}.{body}".to_owned(),
        timestamp_header: Some("x-time".to_owned()),
        id_header: Some("x-id".to_owned()),
        ..TemplateConfig::new("x-signature")
    };
    let plain = |scheme: &str| format!("scheme = '{scheme}', {two}");
    vec![
        ("mailgun", plain("mailgun"), Box::new(Mailgun::new(keys()))),
        ("github", plain("github"), Box::new(Github::new(keys()))),
        ("stripe", plain("stripe"), Box::new(Stripe::new(keys()))),
        ("shopify", plain("shopify"), Box::new(Shopify::new(keys()))),
        ("slack", plain("slack"), Box::new(Slack::new(keys()))),
        ("bearer", plain("bearer"), Box::new(Bearer::new(keys()))),
        (
            "basic",
            "scheme = 'basic', users = { a = 'first', b = 'second' }".to_owned(),
            Box::new(Basic::new([("b".to_owned(), Key::new("second"))]).unwrap()),
        ),
        (
            "hmac",
            format!(
                "scheme = 'hmac', {two}, header = 'x-signature', content = '{{timestamp}}.{{body}}', \
                 timestamp_header = 'x-time', id_header = 'x-id'"
            ),
            Box::new(Template::new(&template, keys()).unwrap()),
        ),
        (
            "standard_webhooks",
            format!(
                "scheme = 'standard_webhooks', secrets = ['{}']",
                standard("whsec_")
            ),
            Box::new(StandardWebhooks::new([Key::new(standard("whsec_"))]).unwrap()),
        ),
        (
            "standard_webhooks",
            format!(
                "scheme = 'standard_webhooks', secrets = ['{}'], svix_headers = true",
                standard("whsk_")
            ),
            Box::new(
                StandardWebhooks::new([Key::new(standard("whsk_"))])
                    .unwrap()
                    .with_svix_headers(),
            ),
        ),
    ]
}

#[tokio::test]
async fn every_scheme_accepts_what_is_signed_and_refuses_what_is_not() {
    for (name, verify, signer) in schemes() {
        let queue = TestQueue::new();
        let config =
            format!("[sources.x]\npath = '/hook'\nqueue = 'queue'\nverify = {{ {verify} }}");
        let router = start(&config, &queue).await.router();
        let body = br#"{"event-data":{"id":"e1"},"id":"e1","event_id":"e1","n":  1.0}"#;
        let accepted = send(&router, signed(signer.as_ref(), "/hook", "e1", body)).await;
        let message = queue.only();
        assert_eq!(
            accepted.id(),
            message.idempotency_key().to_string(),
            "{name}"
        );
        assert_eq!(accepted.status, if name == "mailgun" { 200 } else { 202 });
        assert_eq!(message.attributes().get("webhook-verified"), Some(name));
        if name != "mailgun" {
            assert_eq!(message.body(), &body[..], "{name}: the exact bytes");
        }

        let unsigned = send(&router, request("/hook", HeaderMap::new(), &body[..])).await;
        unsigned.is_refused(if name == "mailgun" { 406 } else { 401 }, "unsigned");
        let other: Box<dyn Signer> = match name {
            "mailgun" => Box::new(Mailgun::new([Key::new("other")])),
            "github" => Box::new(Github::new([Key::new("other")])),
            _ => continue,
        };
        let forged = send(&router, signed(other.as_ref(), "/hook", "e2", body)).await;
        forged.is_refused(401, "signature");
        queue.only();
    }
}

#[tokio::test]
async fn without_verification_every_event_has_an_id_of_its_own() {
    let queue = TestQueue::new();
    let config = "[sources.open]\npath = '/hook'\nqueue = 'queue'\nverify = 'none'";
    let router = start(config, &queue).await.router();
    let first = send(&router, request("/hook", HeaderMap::new(), "{}")).await;
    let second = send(&router, request("/hook", HeaderMap::new(), "{}")).await;
    assert_ne!(first.id(), second.id());
    assert_eq!(queue.messages().len(), 2);
}

#[tokio::test]
async fn listed_headers_and_what_was_received_travel_as_attributes() {
    let queue = TestQueue::new();
    let config = format!("{GITHUB}\nheaders = ['X-GitHub-Event', 'x-long', 'x-absent']");
    let router = start(&config, &queue).await.router();
    let mut request = github("d1", "{\"a\": 1}\n");
    let headers = request.headers_mut();
    headers.insert("x-github-event", "push".parse().unwrap());
    headers.insert("x-long", "x".repeat(2_000).parse().unwrap());
    headers.insert("x-other", "not listed".parse().unwrap());
    send(&router, request).await.id();
    let message = queue.only();
    assert_eq!(message.body(), "{\"a\": 1}\n");
    let attributes: Vec<(&str, &str)> = message.attributes().iter().collect();
    let received_at = message.attributes().get("webhook-received-at").unwrap();
    assert!(
        received_at.starts_with("20") && received_at.ends_with('Z'),
        "{received_at}"
    );
    let mut expected = [
        ("content-type", "application/json"),
        ("webhook-received-at", received_at),
        ("webhook-source", "github"),
        ("webhook-verified", "github"),
        ("x-github-event", "push"),
    ];
    expected.sort_unstable();
    let mut attributes = attributes;
    attributes.sort_unstable();
    assert_eq!(attributes, expected);
}

#[tokio::test]
async fn size_type_and_schema_are_checked_in_the_providers_terms() {
    let config = r#"
        [sources.github]
        path = "/hook"
        queue = "queue"
        verify = { scheme = "github", secrets = ["secret"] }
        max_body_bytes = 64
        content_types = ["application/json", "application/vnd.x+json"]
        schema.inline = '{ "required": ["id"], "properties": { "id": { "type": "string" } } }'
        schema.max_depth = 3
    "#;
    let queue = TestQueue::new();
    let router = start(config, &queue).await.router();
    let post = async |body: &str| send(&router, github("d", body)).await;
    post(&format!(r#"{{"id":"{}"}}"#, "x".repeat(64)))
        .await
        .is_refused(413, "too_large");
    post("{").await.is_refused(400, "not_json");
    post(r#"{"id":"a","b":[[[[1]]]]}"#)
        .await
        .is_refused(400, "not_json");
    let broken = post(r#"{"id":17}"#).await;
    broken.is_refused(422, "schema");
    assert_eq!(broken.body["errors"][0]["pointer"], "/id");
    let mut text = github("d", r#"{"id":"a"}"#);
    text.headers_mut()
        .insert("content-type", "text/plain".parse().unwrap());
    send(&router, text).await.is_refused(415, "media_type");
    assert!(queue.messages().is_empty());
    // What was refused is not remembered under its id.
    post(r#"{"id":"a"}"#).await.id();

    let own = config.replace(
        "secrets = [\"secret\"] }",
        "secrets = [\"secret\"] }\nprofile = 'mailgun'",
    );
    let router = start(&own, &queue).await.router();
    send(&router, github("d", "{"))
        .await
        .is_refused(406, "not_json");
}

#[tokio::test]
async fn a_forged_request_learns_nothing_of_the_schema_and_uses_no_rate() {
    let config = format!(
        "{GITHUB}\nschema.inline = '{{\"type\":\"array\"}}'\nrate_limit = {{ requests = 1, per = '1h' }}"
    );
    let queue = TestQueue::new();
    let router = start(&config, &queue).await.router();
    for _ in 0..5 {
        send(&router, request("/hook", HeaderMap::new(), "{"))
            .await
            .is_refused(401, "unsigned");
    }
    send(&router, github("d1", "[]")).await.id();
    let limited = send(&router, github("d2", "[]")).await;
    limited.is_refused(429, "rate_limited");
    let after: u64 = limited.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((3_500..=3_600).contains(&after), "{after}");
    queue.only();
}

#[tokio::test]
async fn a_header_or_a_pointer_chooses_the_queue_and_a_pointer_the_ordering_key() {
    let config = r#"
        [sources.header]
        path = "/header"
        queue = "queue"
        verify = "none"
        route.header = "x-kind"
        route.queues = { push = "other" }

        [sources.pointer]
        path = "/pointer"
        queue = "queue"
        verify = "none"
        route.pointer = "/kind"
        route.queues = { push = "other", 7 = "other" }
        ordering_key = "/customer/id"
    "#;
    let (queue, other) = (TestQueue::new(), TestQueue::new());
    let receiver = Receiver::builder()
        .producer("queue", queue.producer())
        .producer("other", other.producer());
    let router = receiver
        .start(Config::parse(config).unwrap())
        .await
        .unwrap()
        .router();
    let post = async |path: &str, kind: &str, body: Value| {
        let headers = HeaderMap::from_iter([("x-kind".parse().unwrap(), kind.parse().unwrap())]);
        send(&router, request(path, headers, body.to_string()))
            .await
            .id();
    };
    post("/header", "push", json!({})).await;
    post("/header", "Push", json!({})).await;
    assert_eq!((queue.messages().len(), other.messages().len()), (1, 1));
    post(
        "/pointer",
        "",
        json!({ "kind": "push", "customer": { "id": "c4" } }),
    )
    .await;
    post(
        "/pointer",
        "",
        json!({ "kind": 7, "customer": { "id": 17 } }),
    )
    .await;
    post(
        "/pointer",
        "",
        json!({ "kind": "x", "customer": { "id": "josé" } }),
    )
    .await;
    post("/pointer", "", json!({ "kind": ["push"] })).await;
    let keys = |queue: &TestQueue| -> Vec<Option<String>> {
        queue
            .messages()
            .iter()
            .map(|m| m.ordering_key().map(str::to_owned))
            .collect()
    };
    assert_eq!(keys(&other), [None, Some("c4".into()), Some("17".into())]);
    let hashed = keys(&queue)[1].clone().unwrap();
    assert!(hashed.starts_with("sha256-"), "{hashed}");
    assert_eq!(keys(&queue)[2], None);
    send(&router, request("/pointer", HeaderMap::new(), "{"))
        .await
        .is_refused(400, "not_json");
}

#[tokio::test]
async fn slack_and_github_get_their_answer_and_nothing_is_enqueued() {
    let config = format!(
        "{GITHUB}\n[sources.slack]\npath = '/slack'\nqueue = 'queue'\n\
         verify = {{ scheme = 'slack', secrets = ['secret'] }}"
    );
    let queue = TestQueue::new();
    let router = start(&config, &queue).await.router();
    let slack = Slack::new([Key::new("secret")]);
    let body = br#"{"token":"t","challenge":"3eZbrw1aB","type":"url_verification"}"#;
    let answer = send(&router, signed(&slack, "/slack", "", body)).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body),
        (200, &json!({ "challenge": "3eZbrw1aB" }))
    );
    let forged = send(&router, request("/slack", HeaderMap::new(), &body[..])).await;
    forged.is_refused(401, "unsigned");
    let mut ping = github("d1", r#"{"zen":"Keep it logically awesome."}"#);
    ping.headers_mut()
        .insert("x-github-event", "ping".parse().unwrap());
    let answer = send(&router, ping).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body),
        (200, &json!({ "status": "pong" }))
    );
    assert!(queue.messages().is_empty());
    // A message about a verification is none.
    let talk = br#"{"type":"event_callback","event_id":"E1","event":{"text":"url_verification"}}"#;
    send(&router, signed(&slack, "/slack", "", talk)).await.id();
    queue.only();
}

#[tokio::test]
async fn a_signature_that_does_not_cover_the_body_serves_for_one_body_only() {
    let config = "[sources.mailgun]\npath = '/hook'\nqueue = 'queue'\n\
                  schema.inline = '{\"required\":[\"event-data\"]}'\n\
                  verify = { scheme = 'mailgun', secrets = ['secret'] }";
    let queue = TestQueue::new();
    let router = start(config, &queue).await.router();
    let mailgun = Mailgun::new([Key::new("secret")]);
    let body = |text: &str| {
        let event = json!({ "event-data": { "id": text } });
        let signed = mailgun.sign(
            event.to_string().as_bytes(),
            "token",
            std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(now()),
        );
        String::from_utf8(signed.unwrap().body.to_vec()).unwrap()
    };
    let (right, other) = (body("a"), body("b"));
    // A body that breaks the schema does not spend the token.
    let mut without: Value = serde_json::from_str(&right).unwrap();
    without.as_object_mut().unwrap().remove("event-data");
    let post = async |body: String| send(&router, request("/hook", HeaderMap::new(), body)).await;
    post(without.to_string()).await.is_refused(406, "schema");
    let first = post(right.clone()).await;
    assert_eq!(first.id(), post(right).await.id());
    post(other).await.is_refused(406, "replayed");
    queue.only();
}

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs()
}

#[tokio::test]
async fn unknown_paths_and_other_methods_are_problems() {
    let router = start(GITHUB, &TestQueue::new()).await.router();
    send(&router, request("/hooks", HeaderMap::new(), "{}"))
        .await
        .is_refused(404, "not_found");
    let get = Request::get("/hook").body(Body::empty()).unwrap();
    let answer = send(&router, get).await;
    answer.is_refused(405, "method_not_allowed");
    assert_eq!(answer.headers["allow"], "POST");
}

#[tokio::test]
async fn what_the_queue_cannot_carry_is_refused_for_good() {
    let queue = TestQueue::with(|capabilities| capabilities.limits.message_bytes = 10);
    let config = "[sources.x]\npath = '/hook'\nqueue = 'queue'\nverify = 'none'";
    let router = start(config, &queue).await.router();
    let post =
        async |body: &'static str| send(&router, request("/hook", HeaderMap::new(), body)).await;
    post("12345678901").await.is_refused(413, "too_large");
    post("").await.is_refused(422, "schema");
    post("1234567890").await.id();
}
