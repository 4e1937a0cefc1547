//! The parsers that meet the network, as functions of bytes: the fuzz targets call them, and the
//! tests replay the corpora through them.
//!
//! A function panics when the parser does, or when what it returns breaks a promise.

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use towpath_core::{MessageId, config::QueueConfig, wire};
use towpath_webhook::{
    Schema,
    signature::{
        Key, Verifier,
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

// Parsers of other crates that are not public: the very files.
#[path = "../../../adapters/lambda/src/record.rs"]
#[allow(dead_code, reason = "only the parser is called")]
mod lambda_event;
#[path = "../../../adapters/push/src/request.rs"]
#[allow(dead_code, reason = "only the parser is called")]
mod push_request;
#[path = "../../../updater/src/redact.rs"]
#[allow(dead_code, reason = "only what is shown is called")]
mod redacted;
#[path = "../../../updater/src/retry_after.rs"]
mod retry_after_header;
#[path = "../../../adapters/sqs/src/address.rs"]
#[allow(dead_code, reason = "only the parser is called")]
mod sqs_address;

mod receiver;
mod token;

/// A parser, as a function of bytes.
pub type Target = fn(&[u8]);

/// All of them, by the names of their fuzz targets and corpora.
pub const TARGETS: [(&str, Target); 10] = [
    ("signatures", signatures),
    ("schema", schema),
    ("wire", reserved_attribute),
    ("receiver", receiver),
    ("push", push),
    ("token", token),
    ("lambda", lambda),
    ("retry_after", retry_after),
    ("answer", answer),
    ("queue_url", queue_url),
];

static VERIFIERS: LazyLock<Vec<Box<dyn Verifier>>> = LazyLock::new(|| {
    let key = || Key::new("secret");
    let template = TemplateConfig {
        prefix: "v1=".to_owned(),
        content: "{timestamp}.{header:x-a}.{body}".to_owned(),
        timestamp_header: Some("x-time".to_owned()),
        id_header: Some("x-id".to_owned()),
        ..TemplateConfig::new("x-signature")
    };
    let standard = || {
        let key = Key::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        StandardWebhooks::new([key]).expect("a key of the right form")
    };
    vec![
        Box::new(Mailgun::new([key()])),
        Box::new(standard()),
        Box::new(standard().with_svix_headers()),
        Box::new(Github::new([key()])),
        Box::new(Stripe::new([key()])),
        Box::new(Shopify::new([key()])),
        Box::new(Slack::new([key()])),
        Box::new(Template::new(&template, [key()]).expect("a right template")),
        Box::new(Basic::new([("user".to_owned(), key())]).expect("a right user")),
        Box::new(Bearer::new([key()])),
    ]
});

/// Every verifier, on lines of headers, an empty line, and a body.
pub fn signatures(data: &[u8]) {
    let (headers, body) = request(data);
    let times = [UNIX_EPOCH, UNIX_EPOCH + Duration::from_secs(1_614_265_330)];
    for verifier in VERIFIERS.iter() {
        for at in times {
            let _ = verifier.verify(&headers, body, at);
        }
    }
}

/// A JSON body against a schema: what is accepted is JSON.
pub fn schema(data: &[u8]) {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
        let schema = json!({
            "type": "object",
            "required": ["event", "id"],
            "properties": {
                "event": { "enum": ["opened", "failed"] },
                "id": { "type": "string", "minLength": 1, "maxLength": 64 },
                "recipient": { "type": "string", "format": "email" },
                "at": { "type": "number", "minimum": 0 },
                "tags": { "type": "array", "uniqueItems": true, "items": { "type": "string" } },
            },
        });
        Schema::new(&schema)
            .expect("a right schema")
            .with_max_depth(16)
    });
    if let Ok(accepted) = SCHEMA.check(data) {
        let again: serde_json::Value =
            serde_json::from_slice(data).expect("what is accepted is JSON");
        assert_eq!(accepted, again);
    }
}

/// The reserved attribute, an empty line, and a body, as Pub/Sub and as SQS hand them out.
pub fn reserved_attribute(data: &[u8]) {
    let (reserved, body) = halves(data);
    let reserved = String::from_utf8_lossy(reserved).into_owned();
    let id = MessageId::from("id");
    let body = Bytes::copy_from_slice(body);
    let message = wire::restore(body.clone(), &id, Some(&reserved));
    for encoding in [wire::BodyEncoding::Raw, wire::BodyEncoding::Base64] {
        let written = wire::reserved_value(&message, encoding);
        assert!(written.len() <= wire::RESERVED_BYTES);
        assert!(written.chars().all(wire::is_xml_legal));
    }
    let (_, delayed) = wire::restore_delayed(body.clone(), &id, Some(&reserved));
    if let Some(delayed) = delayed {
        for now in [UNIX_EPOCH, SystemTime::now()] {
            let _ = (delayed.rest(now), delayed.first_sent());
        }
        let written = wire::delayed_value(&message, wire::BodyEncoding::Raw, delayed);
        assert!(written.chars().all(wire::is_xml_legal));
    }
    let attributes = [(wire::RESERVED_ATTRIBUTE.to_owned(), reserved.clone())];
    for is_fifo in [false, true] {
        let system = |_: &str| Some(reserved.as_str());
        let envelope = wire::sqs::envelope(
            id.clone(),
            body.clone(),
            attributes.clone(),
            system,
            is_fifo,
        );
        assert_eq!(
            envelope.message.idempotency_key(),
            message.idempotency_key()
        );
    }
}

/// A request to the receiver: a path, then lines of headers, an empty line, and a body. What it
/// accepts is in a queue, as it came.
pub fn receiver(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n');
    let (path, rest) = end.map_or((data, &[][..]), |end| (&data[..end], &data[end + 1..]));
    let (headers, body) = request(rest);
    receiver::post(&String::from_utf8_lossy(path), headers, body);
}

/// The `Authorization` of a push request: only the issuer's token lets in.
pub fn token(data: &[u8]) {
    token::push(data);
}

/// A push request of Pub/Sub: lines of headers, an empty line, and a body.
pub fn push(data: &[u8]) {
    let (headers, body) = request(data);
    if let Ok(pushed) = push_request::read(&headers, Bytes::copy_from_slice(body)) {
        assert!(!pushed.envelope.id.to_string().is_empty());
    }
}

/// An event of AWS Lambda, as JSON: no record is left out.
pub fn lambda(data: &[u8]) {
    let Ok(event) = serde_json::from_slice::<serde_json::Value>(data) else {
        return;
    };
    let records = event
        .get("Records")
        .and_then(|records| Some(records.as_array()?.len()));
    if let Ok(event) = lambda_event::Event::read(event) {
        assert_eq!(Some(event.records.len()), records);
        assert!(event.records.iter().all(|record| !record.id.is_empty()));
    }
}

/// A `Retry-After` header: never longer than the most.
pub fn retry_after(data: &[u8]) {
    let most = Duration::from_secs(3_600);
    let value = String::from_utf8_lossy(data);
    for now in [UNIX_EPOCH, SystemTime::now()] {
        if let Some(wait) = retry_after_header::parse(&value, now, most) {
            assert!(wait <= most);
        }
    }
}

/// What is shown of a destination's answer: a secret, an empty line, and a body that may repeat it.
pub fn answer(data: &[u8]) {
    let (secret, body) = halves(data);
    let secret = String::from_utf8_lossy(secret).into_owned();
    let shown = redacted::excerpt(body, std::slice::from_ref(&secret));
    assert!(shown.len() <= 243 && !shown.contains(char::is_control));
    // What is escaped, and the stars, may form the secret anew.
    let is_plain = body.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if is_plain && secret.len() >= 4 && !secret.contains('*') {
        assert!(!shown.contains(&secret), "{shown}");
    }
}

/// A queue's URL, its options, and what SQS makes of its target.
pub fn queue_url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(config) = QueueConfig::parse(&text) {
        let _ = config.queue_options();
        let _ = sqs_address::Address::parse(config.target());
        // What is written can be read.
        let written = config.to_string();
        let again =
            QueueConfig::parse(&written).unwrap_or_else(|error| panic!("{written}: {error}"));
        assert_eq!(again.target(), config.target(), "{written}");
        assert_eq!(again.scheme(), config.scheme(), "{written}");
    }
    let _ = sqs_address::Address::parse(&text);
}

fn request(data: &[u8]) -> (HeaderMap, &[u8]) {
    let (head, body) = halves(data);
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        if let (Some(name), Some(value)) = (parts.next(), parts.next())
            && let Ok(name) = HeaderName::from_bytes(name)
            && let Ok(value) = HeaderValue::from_bytes(value.trim_ascii())
        {
            headers.append(name, value);
        }
    }
    (headers, body)
}

/// What is before the first empty line, and what is after it.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    match data.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &[]),
    }
}
