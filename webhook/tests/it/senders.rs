//! Every verifier, with what its signature covers.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderName;
use towpath_webhook::signature::{
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
};

/// Makes a verifier with the numbered secrets; the first one signs.
type Make = fn(&[u8]) -> Box<dyn Signer>;

pub(crate) struct Sender {
    pub(crate) name: &'static str,
    pub(crate) make: Make,
    pub(crate) signs_body: bool,
    /// Headers that are needed, and of which every byte counts.
    pub(crate) signed: &'static [&'static str],
    /// Headers that may be missing, and that anybody can change.
    pub(crate) unsigned: &'static [&'static str],
    /// How long before the receipt a signature may have been made, in seconds.
    pub(crate) past: Option<u64>,
    /// Where the body's id, and not the delivery's, is the id of the event.
    pub(crate) id: Id,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Id {
    None,
    Delivery,
    Body,
}

fn texts<'a>(numbers: &'a [u8]) -> impl Iterator<Item = Key> + 'a {
    numbers
        .iter()
        .map(|n| Key::new(format!("the secret number {n}")))
}

fn standard(prefix: &'static str, numbers: &[u8]) -> Box<dyn Signer> {
    let key = |n: &u8| Key::new(format!("{prefix}{}", STANDARD.encode([*n; 32])));
    Box::new(StandardWebhooks::new(numbers.iter().map(key)).unwrap())
}

fn hmac() -> TemplateConfig {
    TemplateConfig {
        prefix: "v9:".to_owned(),
        content: "{header:x-id}:{timestamp}:{body}".to_owned(),
        timestamp_header: Some("x-time".to_owned()),
        id_header: Some("x-id".to_owned()),
        ..TemplateConfig::new("x-signature")
    }
}

pub(crate) fn all() -> Vec<Sender> {
    let signed_headers = Sender {
        name: "",
        make: |_| unreachable!("replaced below"),
        signs_body: true,
        signed: &[],
        unsigned: &[],
        past: None,
        id: Id::None,
    };
    vec![
        Sender {
            name: "mailgun",
            make: |numbers| Box::new(Mailgun::new(texts(numbers))),
            signs_body: false,
            past: Some(9 * 3_600),
            id: Id::Body,
            ..signed_headers
        },
        Sender {
            name: "standard webhooks v1",
            make: |numbers| standard("whsec_", numbers),
            signed: &["webhook-id", "webhook-timestamp", "webhook-signature"],
            past: Some(300),
            id: Id::Delivery,
            ..signed_headers
        },
        Sender {
            name: "standard webhooks v1a",
            make: |numbers| standard("whsk_", numbers),
            signed: &["webhook-id", "webhook-timestamp", "webhook-signature"],
            past: Some(300),
            id: Id::Delivery,
            ..signed_headers
        },
        Sender {
            name: "github",
            make: |numbers| Box::new(Github::new(texts(numbers))),
            signed: &["x-hub-signature-256"],
            unsigned: &["x-github-delivery"],
            id: Id::Delivery,
            ..signed_headers
        },
        Sender {
            name: "stripe",
            make: |numbers| Box::new(Stripe::new(texts(numbers))),
            signed: &["stripe-signature"],
            past: Some(300),
            id: Id::Body,
            ..signed_headers
        },
        Sender {
            name: "shopify",
            make: |numbers| Box::new(Shopify::new(texts(numbers))),
            signed: &["x-shopify-hmac-sha256"],
            unsigned: &["x-shopify-webhook-id"],
            id: Id::Delivery,
            ..signed_headers
        },
        Sender {
            name: "slack",
            make: |numbers| Box::new(Slack::new(texts(numbers))),
            signed: &["x-slack-signature", "x-slack-request-timestamp"],
            past: Some(300),
            id: Id::Body,
            ..signed_headers
        },
        Sender {
            name: "hmac",
            make: |numbers| Box::new(Template::new(&hmac(), texts(numbers)).unwrap()),
            signed: &["x-signature", "x-time", "x-id"],
            past: Some(300),
            id: Id::Delivery,
            ..signed_headers
        },
        Sender {
            name: "basic",
            make: |numbers| {
                let pair = |n| ("user".to_owned(), Key::new(format!("password {n}")));
                Box::new(Basic::new(numbers.iter().map(pair)).unwrap())
            },
            signs_body: false,
            signed: &["authorization"],
            ..signed_headers
        },
        Sender {
            name: "bearer",
            make: |numbers| Box::new(Bearer::new(texts(numbers))),
            signs_body: false,
            signed: &["authorization"],
            ..signed_headers
        },
        Sender {
            name: "bearer in another header",
            make: |numbers| {
                let header = HeaderName::from_static("x-gitlab-token");
                Box::new(Bearer::new(texts(numbers)).with_header(header))
            },
            signs_body: false,
            signed: &["x-gitlab-token"],
            ..signed_headers
        },
    ]
}
