//! The push endpoint, with requests as Pub/Sub sends them.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::SystemTime,
};

use assert_cmd::cargo::cargo_bin;
use aws_lc_rs::{
    encoding::AsDer as _,
    rsa::{KeyPair, KeySize},
};
use axum::{Json, Router, routing::get};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::lambda::Running;

const AUDIENCE: &str = "https://orders.example/push";
const ACCOUNT: &str = "pusher@my-project.iam.gserviceaccount.com";

/// A push request as
/// [Google documents it](https://docs.cloud.google.com/pubsub/docs/push#receive_push).
fn wrapped(body: &str) -> Value {
    json!({
        "message": {
            "attributes": {"key": "value"},
            "data": BASE64_STANDARD.encode(body),
            "messageId": "2070443601311540",
            "publishTime": "2021-02-26T19:13:55.749Z"
        },
        "subscription": "projects/my-project/subscriptions/orders"
    })
}

#[tokio::test]
async fn the_endpoint_answers_as_the_handler_says() {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = pair.as_der().unwrap();
    // The RSA key within the PKCS #8 one stands behind 26 bytes.
    let signing = EncodingKey::from_rsa_der(&der.as_ref()[26..]);
    let mut key = Jwk::from_encoding_key(&signing, Algorithm::RS256).unwrap();
    key.common.key_id = Some("key-1".to_owned());
    let keys = json!({"keys": [key]});
    let router = Router::new().route("/keys", get(async move || Json(keys)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let keys_url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let mut child = Command::new(cargo_bin("push"))
        .env("PUSH_AUDIENCE", AUDIENCE)
        .env("PUSH_ACCOUNT", ACCOUNT)
        .env("PUSH_KEYS_URL", keys_url)
        .env("PORT", "0")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let _running = Running(child);
    let line = lines.next().unwrap().unwrap();
    let url = line.strip_prefix("listening on ").unwrap().to_owned();

    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = json!({
        "aud": AUDIENCE, "email": ACCOUNT, "email_verified": true,
        "iss": "https://accounts.google.com", "iat": now, "exp": now + 3_600,
        "azp": "113774264463038321964", "sub": "113774264463038321964",
    });
    let mut header = Header::new(Algorithm::RS256);
    header.kid = Some("key-1".to_owned());
    let token = encode(&header, &claims, &signing).unwrap();
    let client = reqwest::Client::new();
    let push = async |body: &str, token: &str| {
        let request = client.post(&url).bearer_auth(token).json(&wrapped(body));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(push("17", &token).await, 204);
    assert_eq!(push("0", &token).await, 503);
    assert_eq!(push("17", "somebody else's").await, 401);
    assert_eq!(lines.next().unwrap().unwrap(), "order 17");
}
