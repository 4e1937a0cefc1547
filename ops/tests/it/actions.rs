//! Redriving and discarding.

use axum::http::StatusCode;
use towpath_ops::WatchedQueue;

use crate::support::{Setup, bury, get, inputs, post, total};

/// The form token and the keys of the page.
async fn form(router: &axum::Router) -> (String, Vec<String>) {
    let page = get(router, "/queues/mail/dead-letters").await.text;
    let token = inputs(&page, "form_token").swap_remove(0);
    let keys = page
        .split("type=\"checkbox\" name=\"key\" value=\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().to_owned())
        .collect();
    (token, keys)
}

#[tokio::test]
async fn what_is_ticked_is_redriven_after_a_confirmation() {
    let setup = Setup::new();
    setup.bury(&["a", "b", "c"], "down").await;
    let router = setup.router();
    let (token, keys) = form(&router).await;
    assert_eq!(keys.len(), 3);
    let chosen = [
        ("form_token", token.as_str()),
        ("action", "redrive"),
        ("key", &keys[0]),
        ("key", &keys[2]),
    ];
    let confirm = post(&router, "/queues/mail/confirm", &chosen).await;
    assert!(confirm.text.contains("Redrive 2 dead letters of mail?"));
    assert_eq!(setup.depths().await, (0, 3), "asking changes nothing");
    assert_eq!(inputs(&confirm.text, "key").len(), 2);

    let done = post(&router, "/queues/mail/redrive", &chosen).await;
    assert_eq!(done.status, StatusCode::OK);
    assert!(done.text.contains("2 of 2 redriven."), "{}", done.text);
    assert_eq!(setup.depths().await, (2, 1));
    let consumer = setup.queue.consumer().await.unwrap();
    let delivery = consumer.receive().await.unwrap();
    let message = &delivery.envelope().message;
    assert!(keys.contains(&message.idempotency_key().to_string()));
    assert_eq!(message.failure().unwrap().redrives, 1);
}

#[tokio::test]
async fn what_is_ticked_is_discarded_and_the_rest_stays() {
    let setup = Setup::new();
    setup.bury(&["a", "b", "c"], "down").await;
    let router = setup.router();
    let (token, keys) = form(&router).await;
    let missing = "00000000-0000-4000-8000-000000000000";
    let chosen = [
        ("form_token", token.as_str()),
        ("key", &keys[1]),
        ("key", missing),
    ];
    let done = post(&router, "/queues/mail/discard", &chosen).await;
    assert!(
        done.text.contains("1 of 2 discarded. 1 not found"),
        "{}",
        done.text
    );
    let (_, left) = form(&router).await;
    assert_eq!(left.len(), 2);
    assert!(!left.contains(&keys[1]));
    assert_eq!(setup.depths().await, (0, 2));
}

#[tokio::test]
async fn a_form_of_another_site_changes_nothing() {
    let setup = Setup::new();
    setup.bury(&["a"], "down").await;
    let router = setup.router();
    let (token, keys) = form(&router).await;
    let other = setup.router();
    for path in ["confirm", "redrive", "discard"] {
        let path = format!("/queues/mail/{path}");
        for forged in [
            vec![],
            vec![("form_token", "")],
            vec![("form_token", &*token)],
        ] {
            let mut fields = vec![("action", "discard"), ("key", keys[0].as_str())];
            fields.extend(forged);
            // The token is that of another process.
            let answer = post(&other, &path, &fields).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} {fields:?}");
        }
    }
    assert_eq!(setup.depths().await, (0, 1));
}

#[tokio::test]
async fn wrong_forms_are_told() {
    let setup = Setup::new();
    let router = setup.router();
    let (key, path) = (
        "00000000-0000-4000-8000-000000000000",
        "/queues/mail/confirm",
    );
    setup.bury(&["a"], "down").await;
    let (token, _) = form(&router).await;
    let token = ("form_token", token.as_str());
    for (fields, wanted) in [
        (vec![token, ("action", "redrive")], "Nothing was chosen"),
        (vec![token, ("key", key)], "redrive or discard"),
        (
            vec![token, ("key", key), ("action", "dance")],
            "redrive or discard",
        ),
        (vec![token, ("key", "x")], "cannot be read"),
    ] {
        let answer = post(&router, path, &fields).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{fields:?}");
        assert!(answer.text.contains(wanted), "{}", answer.text);
    }
}

#[tokio::test]
async fn each_goes_back_to_where_it_failed_and_nowhere_else() {
    let setup = Setup::new();
    let news = setup
        .registry
        .open("memory://news?dead_letter=mail-dlq")
        .unwrap();
    let hidden = setup
        .registry
        .open("memory://hidden?dead_letter=mail-dlq")
        .unwrap();
    setup.bury(&["of mail"], "down").await;
    bury(&news, &["of news"], "down").await;
    bury(&hidden, &["of hidden"], "down").await;
    // As a broker leaves it: no record.
    let dead = setup.dead().producer().await.unwrap();
    dead.send("of nobody").await.unwrap();
    let router = setup
        .ops()
        .queue(WatchedQueue::new("news", news.clone()))
        .router()
        .unwrap();
    let (token, keys) = form(&router).await;
    assert_eq!(keys.len(), 4);
    let mut fields = vec![("form_token", token.as_str())];
    fields.extend(keys.iter().map(|key| ("key", key.as_str())));
    let done = post(&router, "/queues/mail/redrive", &fields).await;
    assert!(
        done.text.contains("3 of 4 redriven. 1 not found"),
        "{}",
        done.text
    );
    assert_eq!(setup.depths().await, (2, 1));
    assert_eq!(total(&news).await, 1);
    assert_eq!(total(&hidden).await, 0);
}
