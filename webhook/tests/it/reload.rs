//! A configuration that changes while requests come.

use std::{fs, path::Path, time::Duration};

use axum::{Router, http::HeaderMap};
use towpath_webhook::{Config, Receiver};

use crate::support::{GITHUB, Mode, TestQueue, get, github, request, send, start};

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// Waits until a request to `path` is answered with `status`.
async fn until(router: &Router, path: &str, status: u16) {
    let waiting = async {
        while send(router, request(path, HeaderMap::new(), "{}"))
            .await
            .status
            != status
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    waited.unwrap_or_else(|_| panic!("{path} never becomes {status}"));
}

/// Waits until a request with a wrong signature is answered with `status`.
async fn until_refused(router: &Router, status: u16) {
    let waiting = async {
        while send(router, github("one", "{}")).await.status != status {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
    waited.unwrap_or_else(|_| panic!("never {status}"));
}

async fn until_rejected(router: &Router, is_rejected: bool) {
    let waiting = async {
        let mut rejected;
        while {
            rejected =
                get(router, "/readyz").await.body["configuration"]["rejected_at"].is_string();
            rejected != is_rejected
        } {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_changed_file_is_taken_over_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("webhooks.toml");
    fs::write(&path, GITHUB).unwrap();
    let queue = TestQueue::new();
    let receiver = Receiver::builder().producer("queue", queue.producer());
    let receiver = receiver.start(Config::read(&path).unwrap()).await.unwrap();
    let router = receiver.router();
    let watch = receiver
        .watch_every(&path, Duration::from_millis(5))
        .unwrap();
    until(&router, "/hook", 401).await;

    replace(&path, &GITHUB.replace("/hook", "/elsewhere"));
    until(&router, "/elsewhere", 401).await;
    until(&router, "/hook", 404).await;

    for bad in [
        "not toml",
        &GITHUB.replace("scheme", "skeme"),
        &GITHUB.replace("\"queue\"", "\"nowhere\""),
    ] {
        replace(&path, bad);
        until_rejected(&router, true).await;
        until(&router, "/elsewhere", 401).await;
        assert_eq!(get(&router, "/readyz").await.status, 200);
        replace(&path, &GITHUB.replace("/hook", "/elsewhere"));
        until_rejected(&router, false).await;
    }
    fs::remove_file(&path).unwrap();
    until_rejected(&router, true).await;
    until(&router, "/elsewhere", 401).await;
    drop(watch);
}

#[tokio::test]
async fn a_changed_secret_file_is_taken_over_too() {
    let folder = tempfile::tempdir().unwrap();
    let (path, secret) = (
        folder.path().join("webhooks.toml"),
        folder.path().join("secret"),
    );
    fs::write(&secret, "old").unwrap();
    let file = format!("[{{ file = {secret:?} }}]");
    fs::write(&path, GITHUB.replace("[\"secret\"]", &file)).unwrap();
    let queue = TestQueue::new();
    let receiver = Receiver::builder().producer("queue", queue.producer());
    let receiver = receiver.start(Config::read(&path).unwrap()).await.unwrap();
    let router = receiver.router();
    let _watch = receiver
        .watch_every(&path, Duration::from_millis(5))
        .unwrap();
    send(&router, github("one", "{}"))
        .await
        .is_refused(401, "signature");
    // What it takes over by itself at the start is behind us when this is seen.
    let config = fs::read_to_string(&path).unwrap();
    replace(&path, &format!("{config}\nprofile = {{ signature = 403 }}"));
    until_refused(&router, 403).await;
    replace(&secret, "secret\n");
    let accepted = async {
        while send(&router, github("one", "{}")).await.status != 202 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), accepted)
        .await
        .unwrap();
}

#[tokio::test]
async fn requests_under_way_finish_on_the_old_configuration() {
    let (queue, other) = (TestQueue::new(), TestQueue::new());
    let receiver = Receiver::builder()
        .producer("queue", queue.producer())
        .producer("other", other.producer());
    let receiver = receiver
        .start(Config::parse(GITHUB).unwrap())
        .await
        .unwrap();
    queue.set(Mode::Hanging);
    let router = receiver.router();
    let under_way = tokio::spawn({
        let router = router.clone();
        async move { send(&router, github("one", "{}")).await }
    });
    queue.until_waiting(1).await;
    let changed = GITHUB.replace("\"queue\"", "\"other\"") + "profile = { accepted = 200 }";
    receiver
        .reload(Config::parse(&changed).unwrap())
        .await
        .unwrap();
    assert_eq!(send(&router, github("two", "{}")).await.status, 200);
    queue.set(Mode::Up);
    assert_eq!(under_way.await.unwrap().status, 202);
    assert_eq!((queue.messages().len(), other.messages().len()), (1, 1));
}

#[tokio::test]
async fn what_was_seen_stays_remembered_where_the_settings_stay() {
    let queue = TestQueue::new();
    let limited = format!("{GITHUB}rate_limit = {{ requests = 3, per = '1h' }}\n");
    let receiver = start(&limited, &queue).await;
    let router = receiver.router();
    let id = send(&router, github("one", "{}")).await.id().to_owned();
    receiver
        .reload(Config::parse(&format!("{limited}headers = ['x-a']")).unwrap())
        .await
        .unwrap();
    assert_eq!(send(&router, github("one", "{}")).await.id(), id);
    queue.only();
    // The rate goes on being counted; with other settings it begins anew.
    send(&router, github("two", "{}")).await.id();
    send(&router, github("three", "{}"))
        .await
        .is_refused(429, "rate_limited");
    receiver
        .reload(Config::parse(GITHUB).unwrap())
        .await
        .unwrap();
    send(&router, github("three", "{}")).await.id();
}

/// In a process of its own: the signal goes to all of it, and would take over the files of other
/// tests.
#[cfg(unix)]
#[test]
fn a_hangup_takes_over_the_file_at_once() {
    const ALONE: &str = "TOWPATH_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        return runtime.block_on(hang_up());
    }
    let name = "reload::a_hangup_takes_over_the_file_at_once";
    let alone = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&alone.stdout);
    assert!(
        alone.status.success() && text.contains("1 passed"),
        "{text}"
    );
}

#[cfg(unix)]
async fn hang_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("webhooks.toml");
    fs::write(&path, GITHUB).unwrap();
    let queue = TestQueue::new();
    let receiver = Receiver::builder().producer("queue", queue.producer());
    let receiver = receiver.start(Config::read(&path).unwrap()).await.unwrap();
    let router = receiver.router();
    // It looks once at the start, and then not for an hour.
    let hour = Duration::from_secs(3_600);
    let _watch = receiver.watch_every(&path, hour).unwrap();
    for elsewhere in ["/elsewhere", "/nowhere", "/anywhere"] {
        replace(&path, &GITHUB.replace("/hook", elsewhere));
        let kill = std::process::Command::new("kill")
            .args(["-HUP", &std::process::id().to_string()])
            .status();
        assert!(kill.unwrap().success());
        until(&router, elsewhere, 401).await;
    }
}
