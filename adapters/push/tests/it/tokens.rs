//! Who may push.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use towpath_core::ErrorKind;
use towpath_push::TokenVerifier;

use crate::harness::{
    AUDIENCE, EMAIL, ISSUER, STRANGER, Scripted, claims, key_set, now, problem, router, send,
    token, token_by, wrapped,
};

fn with(authorization: Option<&str>) -> Request<Body> {
    let mut request = Request::post("/push");
    if let Some(value) = authorization {
        request = request.header(header::AUTHORIZATION, value);
    }
    request.body(wrapped("x").to_string().into()).unwrap()
}

/// Sends with this `Authorization`; when it is refused, the handler must not have run.
async fn try_with(authorization: Option<&str>) -> (StatusCode, Option<String>) {
    let handler = Scripted::default();
    let response = send(&router(handler.clone()), with(authorization)).await;
    let status = response.status();
    if status == StatusCode::NO_CONTENT {
        assert_eq!(handler.attempts().len(), 1);
        return (status, None);
    }
    assert!(handler.attempts().is_empty());
    if status == StatusCode::UNAUTHORIZED {
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }
    (status, Some(problem(response).await))
}

async fn status_of(token: &str) -> StatusCode {
    try_with(Some(&format!("Bearer {token}"))).await.0
}

fn changed(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[tokio::test]
async fn a_valid_token_is_accepted() {
    assert_eq!(status_of(&token(&claims())).await, StatusCode::NO_CONTENT);
    let other = changed("iss", json!("accounts.google.com"));
    assert_eq!(status_of(&token(&other)).await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_token_that_is_not_for_us_or_not_valid_now_is_refused() {
    for claims in [
        changed("aud", json!("https://other.example/push")),
        changed("iss", json!("https://accounts.evil.example")),
        changed("exp", json!(now() - 3_600)),
        without("aud"),
        without("iss"),
        without("exp"),
    ] {
        assert_eq!(
            status_of(&token(&claims)).await,
            StatusCode::UNAUTHORIZED,
            "{claims}"
        );
    }
}

#[tokio::test]
async fn a_token_of_another_account_is_refused() {
    for claims in [
        changed("email", json!("other@my-project.iam.gserviceaccount.com")),
        changed("email_verified", json!(false)),
        without("email"),
        without("email_verified"),
    ] {
        assert_eq!(
            status_of(&token(&claims)).await,
            StatusCode::FORBIDDEN,
            "{claims}"
        );
    }
}

#[tokio::test]
async fn a_wrong_signature_is_refused() {
    // Another key under the id of ours, an id that nobody has, and claims that were changed.
    let stranger = token_by(&STRANGER, "key-1", &claims());
    let unknown = token_by(&ISSUER, "key-2", &claims());
    let good = token(&claims());
    let mut parts: Vec<&str> = good.split('.').collect();
    let changed = BASE64_URL_SAFE_NO_PAD.encode(changed("email", json!("x@y.z")).to_string());
    parts[1] = &changed;
    let unsigned = format!("{}.{}.", parts[0], good.split('.').nth(1).unwrap());
    for token in [stranger, unknown, parts.join("."), unsigned] {
        assert_eq!(status_of(&token).await, StatusCode::UNAUTHORIZED, "{token}");
    }
}

#[tokio::test]
async fn the_algorithm_is_the_keys_and_never_the_tokens() {
    let encoded = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let none = json!({"alg": "none", "kid": "key-1", "typ": "JWT"});
    let none = format!("{}.{}.", encoded(none), encoded(claims()));
    // The public key taken for the secret of an HMAC.
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("key-1".into());
    let secret = EncodingKey::from_secret(key_set(&[&ISSUER]).as_bytes());
    let hmac = encode(&header, &claims(), &secret).unwrap();
    let mut header = Header::new(Algorithm::RS512);
    header.kid = Some("key-1".into());
    let longer = encode(&header, &claims(), &ISSUER.signing).unwrap();
    for token in [none, hmac, longer] {
        assert_eq!(status_of(&token).await, StatusCode::UNAUTHORIZED, "{token}");
    }
}

#[tokio::test]
async fn a_request_without_a_token_is_refused() {
    let long = format!("Bearer {}", "x".repeat(10_000));
    let without_key = encode(&Header::new(Algorithm::RS256), &claims(), &ISSUER.signing).unwrap();
    let without_key = format!("Bearer {without_key}");
    for authorization in [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Bearer not.a.token"),
        Some("Basic bWU6aHVudGVyMg=="),
        Some(long.as_str()),
        Some(without_key.as_str()),
    ] {
        let (status, detail) = try_with(authorization).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{authorization:?}");
        let detail = detail.unwrap();
        assert!(
            !detail.contains(EMAIL) && !detail.contains(AUDIENCE),
            "{detail}"
        );
    }
}

#[test]
fn a_verifier_that_could_accept_nobody_or_everybody_is_refused() {
    let keys = key_set(&[&ISSUER]);
    for (audience, email, keys, hint) in [
        ("", EMAIL, keys.as_str(), "audience"),
        (AUDIENCE, "", keys.as_str(), "email"),
        (AUDIENCE, EMAIL, r#"{"keys": []}"#, "no key"),
        (AUDIENCE, EMAIL, "no json", "JSON Web Key Set"),
    ] {
        let error = TokenVerifier::with_keys(audience, email, keys).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().contains(hint), "{error}");
    }
}
