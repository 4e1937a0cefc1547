//! Test keys, tokens, requests, and a handler that does what the body says.

use std::{
    sync::{Arc, LazyLock, Mutex},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use aws_lc_rs::{
    encoding::AsDer,
    rsa::{KeyPair, KeySize},
};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode, header},
};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};
use tower::ServiceExt;
use towpath_core::{Attempt, FailureClass, Handler, Outcome};
use towpath_push::{PushEndpoint, PushEndpointBuilder, TokenVerifier};

pub(crate) const AUDIENCE: &str = "https://orders.example/push";
pub(crate) const EMAIL: &str = "pusher@my-project.iam.gserviceaccount.com";

/// A key pair made for this run.
pub(crate) struct TestKey {
    pub(crate) signing: EncodingKey,
    pub(crate) jwk: Value,
}

impl TestKey {
    pub(crate) fn new(id: &str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let signing = EncodingKey::from_rsa_der(pkcs1(pair.as_der().unwrap().as_ref()));
        let mut jwk = Jwk::from_encoding_key(&signing, Algorithm::RS256).unwrap();
        jwk.common.key_id = Some(id.to_owned());
        Self {
            signing,
            jwk: serde_json::to_value(jwk).unwrap(),
        }
    }
}

/// The RSA key within a PKCS #8 one: what its last octet string holds.
fn pkcs1(pkcs8: &[u8]) -> &[u8] {
    // SEQUENCE, version, algorithm (26 bytes in all), then the tag and the length of two bytes.
    &pkcs8[26..]
}

/// The issuer's key, and one of somebody else with the same id.
pub(crate) static ISSUER: LazyLock<TestKey> = LazyLock::new(|| TestKey::new("key-1"));
pub(crate) static STRANGER: LazyLock<TestKey> = LazyLock::new(|| TestKey::new("key-1"));

pub(crate) fn key_set(keys: &[&TestKey]) -> String {
    let keys: Vec<&Value> = keys.iter().map(|key| &key.jwk).collect();
    json!({ "keys": keys }).to_string()
}

pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap().as_secs().try_into().unwrap()
}

/// The claims of a token as Pub/Sub sends it.
pub(crate) fn claims() -> Value {
    json!({
        "aud": AUDIENCE,
        "azp": "113774264463038321964",
        "email": EMAIL,
        "email_verified": true,
        "exp": now() + 3_600,
        "iat": now(),
        "iss": "https://accounts.google.com",
        "sub": "113774264463038321964",
    })
}

pub(crate) fn token_by(key: &TestKey, id: &str, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some(id.to_owned());
    encode(&header, claims, &key.signing).unwrap()
}

pub(crate) fn token(claims: &Value) -> String {
    token_by(&ISSUER, "key-1", claims)
}

pub(crate) fn builder(handler: impl Handler) -> PushEndpointBuilder {
    let verifier = TokenVerifier::with_keys(AUDIENCE, EMAIL, &key_set(&[&ISSUER])).unwrap();
    PushEndpoint::builder(handler, verifier)
}

pub(crate) fn router(handler: impl Handler) -> Router {
    builder(handler).build().unwrap().router("/push")
}

/// A request with a valid token.
pub(crate) fn request(body: impl Into<Body>) -> Request<Body> {
    Request::post("/push")
        .header(
            header::AUTHORIZATION,
            format!("Bearer {}", token(&claims())),
        )
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.into())
        .unwrap()
}

/// A wrapped message with this text as its data.
pub(crate) fn wrapped(text: &str) -> Value {
    use base64::{Engine, prelude::BASE64_STANDARD};
    json!({
        "message": {"messageId": "m-1", "data": BASE64_STANDARD.encode(text)},
        "subscription": "projects/p/subscriptions/orders",
    })
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.unwrap()
}

pub(crate) async fn status(router: &Router, body: &Value) -> StatusCode {
    send(router, request(body.to_string())).await.status()
}

/// The detail of a refusal, which must be problem JSON.
pub(crate) async fn problem(response: Response<Body>) -> String {
    let status = response.status().as_u16();
    assert_eq!(
        response.headers()[header::CONTENT_TYPE],
        "application/problem+json"
    );
    let body = to_bytes(response.into_body(), 65_536).await.unwrap();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["status"], status);
    problem["detail"].as_str().unwrap().to_owned()
}

/// Does what the body says, and remembers the attempts.
#[derive(Clone, Default)]
pub(crate) struct Scripted(Arc<Mutex<Vec<Attempt>>>);

impl Scripted {
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl Handler for Scripted {
    async fn handle(&self, attempt: Attempt) -> Outcome {
        self.0.lock().unwrap().push(attempt.clone());
        let reason = "as the body says".to_owned();
        match &attempt.envelope().message.body()[..] {
            b"retry" => Outcome::Retry {
                after: Some(Duration::from_millis(29_500)),
                reason,
            },
            b"release" => Outcome::Release {
                after: None,
                reason,
            },
            b"dead letter" => Outcome::DeadLetter {
                class: FailureClass::Permanent,
                reason,
            },
            b"panic" => panic!("as the body says"),
            b"hang" => std::future::pending().await,
            _ => Outcome::Ack,
        }
    }
}
