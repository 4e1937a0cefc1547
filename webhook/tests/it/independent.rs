//! The verifiers beside implementations by others: what one side signs, the other accepts, and what
//! one refuses, so does the other.

use std::time::{Duration, SystemTime};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue};
use towpath_webhook::signature::{
    Key, Signer, Verifier as _, github::Github, shopify::Shopify, slack::Slack,
    standard_webhooks::StandardWebhooks, stripe::Stripe,
};
use webhook_verify::{Provider, Secret, verify};

const BODY: &[u8] = r#"{"id":"evt_1","event_id":"Ev1","größe":[1.0,null]}"#.as_bytes();

/// Bodies that an implementation could trip over.
fn bodies() -> Vec<Vec<u8>> {
    vec![
        BODY.to_vec(),
        b"".to_vec(),
        b"payload=%7B%7D&x=1".to_vec(),
        vec![0xff, 0x00, b'\n', 0xfe],
        vec![b'x'; 100_000],
    ]
}

#[test]
fn standard_webhooks_agrees_with_the_library_of_its_authors() {
    let secret = format!("whsec_{}", STANDARD.encode([7; 32]));
    let ours = StandardWebhooks::new([Key::new(secret.clone())]).unwrap();
    let theirs = standardwebhooks::Webhook::new(&secret).unwrap();
    // Theirs takes text only.
    let is_text = |body: &Vec<u8>| std::str::from_utf8(body).is_ok();
    for body in bodies().into_iter().filter(is_text) {
        let now = SystemTime::now();
        let signed = ours.sign(&body, "msg_1", now).unwrap();
        theirs.verify(&body, &signed.headers).unwrap();

        let seconds = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let signature = theirs
            .sign("msg_2", i64::try_from(seconds).unwrap(), &body)
            .unwrap();
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("webhook-id", "msg_2"),
            ("webhook-timestamp", &seconds.to_string()),
            ("webhook-signature", &signature),
        ] {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let verified = ours.verify(&headers, &body, now).unwrap();
        assert_eq!(verified.event_id.as_deref(), Some("msg_2"));

        let mut changed = body.clone();
        changed.push(b' ');
        assert!(ours.verify(&headers, &changed, now).is_err());
        assert!(theirs.verify(&changed, &signed.headers).is_err());
    }
}

/// What a secret makes: our signer, and the provider by the name of the other library.
type Case = (&'static str, fn(&str) -> Box<dyn Signer>, Provider);

fn cases() -> Vec<Case> {
    fn key(secret: &str) -> [Key; 1] {
        [Key::new(secret)]
    }
    vec![
        (
            "github",
            |s| Box::new(Github::new(key(s))),
            Provider::GitHub,
        ),
        (
            "shopify",
            |s| Box::new(Shopify::new(key(s))),
            Provider::Shopify,
        ),
        ("slack", |s| Box::new(Slack::new(key(s))), Provider::Slack),
        (
            "stripe",
            |s| Box::new(Stripe::new(key(s))),
            Provider::Stripe,
        ),
    ]
}

#[test]
fn the_providers_schemes_agree_with_another_library() {
    let hour = Duration::from_secs(3_600);
    for (name, make, provider) in cases() {
        for secret in ["a secret", "whsec_0123456789abcdef", "\u{fc}ber-geheim"] {
            let (ours, theirs) = (make(secret), Secret::new(secret));
            for body in bodies() {
                let now = SystemTime::now();
                let accepts = |headers: &HeaderMap, body: &[u8]| {
                    let other = verify(provider, headers, body, &theirs, Default::default());
                    let own = ours.verify(headers, body, now);
                    assert_eq!(own.is_ok(), other.is_ok(), "{name}: {own:?} {other:?}");
                    own.is_ok()
                };
                let signed = ours.sign(&body, "delivery-1", now).unwrap();
                assert!(accepts(&signed.headers, &signed.body), "{name}");
                assert!(!accepts(&signed.headers, b"something else"), "{name}");
                assert!(!accepts(&HeaderMap::new(), &body), "{name}");
                let foreign = make("another secret")
                    .sign(&body, "delivery-1", now)
                    .unwrap();
                assert!(!accepts(&foreign.headers, &foreign.body), "{name}");
                let old = ours.sign(&body, "delivery-1", now - hour).unwrap();
                let has_time = ["slack", "stripe"].contains(&name);
                assert_eq!(accepts(&old.headers, &old.body), !has_time, "{name}");
            }
        }
    }
}
