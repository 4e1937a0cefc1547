use super::*;
use serde_json::json;
use towpath_core::{Envelope, Message};

fn attempt(body: &str) -> Attempt {
    let message = Message::new(body.to_owned()).with_attribute("content-type", "text/csv");
    Attempt::new(Envelope::new(1.into(), message), "events")
}

fn destination() -> Destination {
    Destination::new("https://crm.example/x")
}

fn body(body: Body, message: &str) -> Result<String, Failure> {
    let template = RequestTemplate::parse(&destination().body(body)).unwrap();
    let request = template.fill(&attempt(message))?;
    Ok(String::from_utf8(request.body.to_vec()).unwrap())
}

#[test]
fn json_keeps_types_and_cannot_be_broken_out_of() {
    let template = json!({
        "email": "{/email}", "n": "{/n}", "all": "{/list}", "fixed": 7, "note": "{/note?}",
        "text": "mail to {/email}", "items": ["{/email}", "{/note?}"], "id": "{message_id}",
    });
    let message = r#"{"email": "a\"},{\"x", "n": 4.5, "list": [1, null], "note": null}"#;
    let sent: Value = serde_json::from_str(&body(Body::Json(template), message).unwrap()).unwrap();
    assert_eq!(
        sent,
        json!({
            "email": "a\"},{\"x", "n": 4.5, "all": [1, null], "fixed": 7,
            "text": "mail to a\"},{\"x", "items": ["a\"},{\"x"], "id": "1",
        })
    );
}

#[test]
fn form_fields_are_encoded_and_optional_ones_left_out() {
    let fields = [("a", "{/a}"), ("b", "{/b?}"), ("c", "[{/b?}]")];
    let fields = fields.map(|(k, v)| (k.to_owned(), v.to_owned()));
    let sent = body(Body::Form(fields.into()), r#"{"a": "x&b=1 é"}"#).unwrap();
    assert_eq!(sent, "a=x%26b%3D1+%C3%A9&c=%5B%5D");
}

#[test]
fn the_body_passes_through_with_its_content_type() {
    let template = RequestTemplate::parse(&destination()).unwrap();
    let request = template.fill(&attempt("a;b")).unwrap();
    assert_eq!(request.body, "a;b");
    assert_eq!(request.headers["content-type"], "text/csv");
    let config = destination().header("Content-Type", "application/x-other");
    let template = RequestTemplate::parse(&config).unwrap();
    let request = template.fill(&attempt("a;b")).unwrap();
    assert_eq!(request.headers["content-type"], "application/x-other");
}

#[test]
fn a_header_cannot_be_split() {
    let config = destination().header("x-subject", "{/s}");
    let template = RequestTemplate::parse(&config).unwrap();
    let failure = template
        .fill(&attempt(r#"{"s": "a\r\nx-admin: 1"}"#))
        .unwrap_err();
    assert!(failure.is_permanent() && failure.reason().contains("x-subject"));
}

#[test]
fn mistakes_are_found_when_the_destination_is_made() {
    let token = || Auth::Bearer(Secret::literal("hunter2"));
    for (config, hint) in [
        (destination().method("TRACE"), "method"),
        (destination().header("a b", "x"), "legal name"),
        (destination().header("Host", "x"), "set by the client"),
        (
            destination().header("idempotency-key", "x"),
            "idempotency_header",
        ),
        (
            destination().header("Authorization", "x").auth(token()),
            "auth",
        ),
        (destination().header("X-A", "1").header("x-a", "2"), "twice"),
        (destination().header("x", "{y}"), "headers: \"x\""),
        (
            destination().idempotency_header("a b"),
            "idempotency_header",
        ),
        (
            destination().body(Body::Json(json!({"a": ["{"]}))),
            "body.json.a.0",
        ),
    ] {
        let error = RequestTemplate::parse(&config).unwrap_err();
        assert!(error.contains(hint), "{hint}: {error}");
        assert!(!error.contains("hunter2"));
    }
}

#[test]
fn credentials_are_not_shown() {
    let password = || Secret::literal("hunter2");
    for auth in [
        Auth::Bearer(password()),
        Auth::Basic {
            user: "me".into(),
            password: password(),
        },
        Auth::Header([("x-api-key".to_owned(), password())].into()),
    ] {
        let credentials = Credentials::read(&auth).unwrap();
        let shown = format!("{auth:?} {credentials:?} {:?}", credentials.headers());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains("bWU6aHVudGVyMg"), "{shown}");
    }
    let error = Credentials::read(&Auth::Bearer(Secret::literal("hunter\n2"))).unwrap_err();
    assert!(error.contains("no header carries") && !error.contains("hunter"));
}
