//! The spool that a configuration asks for.

use std::{path::Path, time::Duration};

use towpath_core::ErrorKind;
use towpath_webhook::{
    Config, Receiver,
    spool::{Spool, SpoolOptions},
};

use crate::support::{GITHUB, Mode, TestQueue, get, github, send};

const SPOOL: &str = "[spool]\npath = 'spool'\nmax_backoff = '20ms'\n";

fn config(folder: &Path, spool: &str) -> Config {
    let config = Config::parse(&format!("{spool}{GITHUB}")).unwrap();
    config.with_folder(folder)
}

async fn start(folder: &Path, queue: &TestQueue) -> Receiver {
    let receiver = Receiver::builder().producer("queue", queue.producer());
    receiver.start(config(folder, SPOOL)).await.unwrap()
}

async fn until_empty(receiver: &Receiver) {
    let router = receiver.router();
    let waiting = async {
        while get(&router, "/readyz").await.body["spool"]["depth"] != 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap();
}

#[tokio::test]
async fn events_wait_in_it_while_the_queue_is_down_and_are_sent_on_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let queue = TestQueue::new();
    let receiver = start(folder.path(), &queue).await;
    let router = receiver.router();
    queue.set(Mode::Down);
    let mut ids = Vec::new();
    for event in ["one", "two"] {
        ids.push(send(&router, github(event, "{}")).await.id().to_owned());
    }
    let ready = get(&router, "/readyz").await;
    assert_eq!(ready.status, 200);
    assert_eq!(ready.body["spool"]["depth"], 2);
    queue.set(Mode::Up);
    until_empty(&receiver).await;
    let sent: Vec<String> = queue
        .messages()
        .iter()
        .map(|message| message.idempotency_key().to_string())
        .collect();
    assert_eq!(sent, ids);
    receiver.close().await.unwrap();
}

#[tokio::test]
async fn what_is_in_it_is_sent_on_after_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let queue = TestQueue::new();
    for is_closed in [true, false] {
        let receiver = start(folder.path(), &queue).await;
        queue.set(Mode::Down);
        let before = queue.messages().len();
        send(&receiver.router(), github(&format!("{is_closed}"), "{}"))
            .await
            .id();
        if is_closed {
            receiver.close().await.unwrap();
        }
        drop(receiver);
        // The file is free when the task that sends on has ended.
        let opened = async {
            while Spool::open(folder.path().join("spool"), SpoolOptions::default()).is_err() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), opened)
            .await
            .unwrap();
        queue.set(Mode::Up);
        let receiver = start(folder.path(), &queue).await;
        until_empty(&receiver).await;
        assert_eq!(queue.messages().len(), before + 1);
        receiver.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_used_is_told_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let queue = TestQueue::new();
    let refused = |spool: &'static str| {
        let receiver = Receiver::builder().producer("queue", queue.producer());
        let config = config(folder.path(), spool);
        async move { receiver.start(config).await.unwrap_err() }
    };
    let _open = start(folder.path(), &queue).await;
    for (spool, part) in [
        (SPOOL, "is open elsewhere"),
        (
            "[spool]\npath = 'no/such/folder/spool'\n",
            "no/such/folder/spool",
        ),
    ] {
        let error = refused(spool).await;
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(error.message().starts_with("spool.path: "), "{error}");
        assert!(error.message().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_spool_and_an_overflow_of_the_program_are_one_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let own = Spool::open(folder.path().join("own"), SpoolOptions::default()).unwrap();
    let receiver = Receiver::builder()
        .producer("queue", TestQueue::new().producer())
        .overflow(std::sync::Arc::new(own));
    let error = receiver.start(config(folder.path(), SPOOL)).await;
    let error = error.unwrap_err();
    assert!(
        error.message().contains("ReceiverBuilder::overflow"),
        "{error}"
    );
    assert!(!folder.path().join("spool").exists());
}

#[tokio::test]
async fn it_stays_through_a_reload_and_changes_by_a_restart_only() {
    let folder = tempfile::tempdir().unwrap();
    let queue = TestQueue::new();
    let receiver = start(folder.path(), &queue).await;
    let same = config(folder.path(), &format!("max_in_flight = 5\n{SPOOL}"));
    receiver.reload(same).await.unwrap();
    for other in ["", "[spool]\npath = 'spool'\nmax_messages = 5\n"] {
        let error = receiver
            .reload(config(folder.path(), other))
            .await
            .unwrap_err();
        assert!(error.message().contains("start again"), "{error}");
        let ready = get(&receiver.router(), "/readyz").await;
        assert!(ready.body["configuration"]["rejected_at"].is_string());
    }
    receiver.close().await.unwrap();
}
