//! What is in no log.

use std::{
    io,
    sync::{Arc, Mutex},
};

use towpath_updater::{Auth, BreakerConfig, Secret};
use tracing_subscriber::{filter::LevelFilter, fmt::MakeWriter};

use crate::server::{Server, handle, reason, reply, updater};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Refused and failing requests, and all that the updater shows of them.
async fn fail() -> String {
    let mut shown = String::new();
    let secret = || Secret::literal("hunter2hunter2");
    for (auth, echo) in [
        (Auth::Bearer(secret()), "token hunter2hunter2 is not valid"),
        (
            Auth::Basic {
                user: "me".into(),
                password: secret(),
            },
            "token bWU6aHVudGVyMmh1bnRlcjI= is not valid",
        ),
        (
            Auth::Header([("x-api-key".to_owned(), secret())].into()),
            "token hunter2hunter2 is not valid",
        ),
    ] {
        let server = Server::start([reply(401).body(echo), reply(503).body(echo)]).await;
        let breaker = BreakerConfig::default().consecutive_failures(2);
        let updater = updater(server.destination("/").auth(auth).breaker(breaker));
        for _ in 0..2 {
            let outcome = handle(&updater, "the body of a message").await;
            assert!(reason(&outcome).contains("token *** is"), "{outcome:?}");
            shown.push_str(&format!("{outcome:?}"));
        }
        assert_eq!(server.seen()[0].body, "the body of a message");
        shown.push_str(&format!("{updater:?} {:?}", updater.state()));
    }
    shown
}

#[tokio::test]
async fn secrets_and_bodies_are_in_no_log_state_or_reason() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(lines.clone())
        .finish();
    // Current-thread runtime: all of the updater and its client runs under this subscriber.
    let _guard = tracing::subscriber::set_default(subscriber);
    // Other tests may meet an event first, and it is then off for all, since nobody listens in
    // their threads. After one run all are known, and can be turned on.
    let _ = fail().await;
    tracing::callsite::rebuild_interest_cache();
    let mut shown = fail().await;
    shown.push_str(&String::from_utf8_lossy(&lines.0.lock().unwrap()));
    for said in [
        "the configuration of a destination is wrong",
        "the breaker of a destination is open",
    ] {
        assert!(shown.contains(said), "{shown}");
    }
    for word in ["hunter2", "bWU6aHVudGVyMmh1bnRlcjI", "the body of"] {
        assert!(!shown.contains(word), "{word}: {shown}");
    }
}
