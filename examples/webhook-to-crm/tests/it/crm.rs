//! The fake CRM over real HTTP.

use std::{collections::BTreeSet, net::SocketAddr, path::Path};

use reqwest::{Client, Response, StatusCode, Url};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use webhook_to_crm::{
    crm::{Control, Crm},
    events::REFUSED_CUSTOMER,
    serve::listen,
};

async fn serve(crm: &Crm) -> Url {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    listen(address, crm.router(), &CancellationToken::new())
        .await
        .unwrap()
        .0
}

async fn change(crm: &Url, customer: &str, key: &str) -> Response {
    let url = crm
        .join(&format!("contacts/{customer}/activities"))
        .unwrap();
    Client::new()
        .post(url)
        .header("idempotency-key", key)
        .json(&json!({ "kind": "x" }))
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_key_is_applied_once_and_a_refused_customer_never() {
    let crm = Crm::in_memory();
    let url = serve(&crm).await;
    assert_eq!(
        change(&url, "a@b.example", "k1").await.status(),
        StatusCode::CREATED
    );
    assert_eq!(
        change(&url, "a@b.example", "k1").await.status(),
        StatusCode::OK
    );
    assert_eq!(
        change(&url, REFUSED_CUSTOMER, "k2").await.status(),
        StatusCode::UNPROCESSABLE_ENTITY
    );
    let summary = crm.summary();
    assert_eq!(
        (summary.applied, summary.duplicates, summary.refused),
        (1, 1, 1)
    );
    let without = Client::new()
        .put(url.join("contacts/a@b.example").unwrap())
        .json(&json!({}))
        .send()
        .await
        .unwrap();
    assert_eq!(without.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn it_can_be_told_to_be_down_or_to_limit_the_rate() {
    let crm = Crm::in_memory();
    let url = serve(&crm).await;
    crm.control(Control {
        down: true,
        ..Control::default()
    });
    assert_eq!(
        change(&url, "a@b.example", "k").await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    crm.control(Control {
        rate_limit: Some(0),
        ..Control::default()
    });
    let limited = change(&url, "a@b.example", "k").await;
    assert_eq!(limited.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(limited.headers()["retry-after"], "1");
    assert_eq!(crm.summary().applied, 0);
}

#[tokio::test]
async fn the_ledger_survives_a_restart_and_a_torn_last_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.jsonl");
    let keys = |path: &Path| Crm::open(path).unwrap().summary().keys;
    let url = serve(&Crm::open(&path).unwrap()).await;
    change(&url, "a@b.example", "k1").await;
    let mut text = std::fs::read(&path).unwrap();
    text.extend_from_slice(br#"{"key":"k2","cust"#);
    std::fs::write(&path, text).unwrap();
    assert_eq!(keys(&path), BTreeSet::from(["k1".to_owned()]));
    let url = serve(&Crm::open(&path).unwrap()).await;
    change(&url, "a@b.example", "k3").await;
    assert_eq!(
        keys(&path),
        BTreeSet::from(["k1".to_owned(), "k3".to_owned()])
    );
    std::fs::write(&path, "not json\n").unwrap();
    assert!(Crm::open(&path).is_err());
}
