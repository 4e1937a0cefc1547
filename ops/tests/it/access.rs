//! Who may look.

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use tokio::net::TcpListener;
use towpath_ops::{Ops, OpsError, WatchedQueue};

use crate::support::{Setup, ask, get};

const TOKEN: &str = "c2f0a1c9d1a54b38";

#[tokio::test]
async fn without_a_token_only_loopback_hosts_are_answered() {
    let router = Setup::new().router();
    assert_eq!(get(&router, "/").await.status, StatusCode::OK);
    for host in ["rebound.example", "10.1.2.3:9180", ""] {
        let request = Request::get("/").header(header::HOST, host);
        let answer = ask(&router, request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{host}");
        assert!(!answer.text.contains("mail"), "{}", answer.text);
    }
}

#[tokio::test]
async fn with_a_token_every_path_needs_it() {
    let router = Setup::new().ops().token(TOKEN).router().unwrap();
    for path in [
        "/",
        "/status.json",
        "/queues/mail/dead-letters",
        "/style.css",
        "/nowhere",
    ] {
        let answer = get(&router, path).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(answer.headers.contains_key(header::WWW_AUTHENTICATE));
    }
    let request = Request::get("/")
        .header(header::HOST, "ops.internal")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"));
    let answer = ask(&router, request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
}

#[tokio::test]
async fn it_is_not_served_to_the_world_without_a_token() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let error = Setup::new().ops().serve(listener).await.unwrap_err();
    assert!(matches!(error, OpsError::Config(_)));
    let text = error.to_string();
    assert!(
        text.contains("127.0.0.1") && text.contains("token"),
        "{text}"
    );
}

#[tokio::test]
async fn wrong_settings_are_told() {
    let setup = Setup::new();
    let watched = |name: &str| WatchedQueue::new(name, setup.queue.clone());
    for (ops, wanted) in [
        (Ops::new("x").queue(watched("a/b")), "letters, digits"),
        (Ops::new("x").queue(watched("..")), "letters, digits"),
        (
            Ops::new("x").queue(watched("a")).queue(watched("a")),
            "two queues",
        ),
        (Ops::new("x").token("short"), "16 characters"),
    ] {
        let error = ops.router().unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

#[tokio::test]
async fn answers_forbid_scripts_frames_and_caches() {
    let answer = get(&Setup::new().router(), "/").await;
    let header = |name: &str| answer.headers[name].to_str().unwrap().to_owned();
    assert!(header("content-security-policy").starts_with("default-src 'none'"));
    assert_eq!(header("x-frame-options"), "DENY");
    assert_eq!(header("cache-control"), "no-store");
    assert!(!answer.text.contains("<script"));
}
