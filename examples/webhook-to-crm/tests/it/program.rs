//! `webhook-to-crm` as a process: the same events, the same ledger, on every queue.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use assert_cmd::cargo::cargo_bin;

const LEDGER: &str =
    "accepted=1076 applied=1044 duplicates=64 dead_lettered=32 lost=0 refused=60 unexpected=0";

fn replay(arguments: &[&str]) -> String {
    let output = Command::new(cargo_bin("webhook-to-crm"))
        .args([
            "--events",
            concat!(env!("CARGO_MANIFEST_DIR"), "/events.jsonl"),
            "--exit-when-drained",
        ])
        .args(arguments)
        .env_remove("TOWPATH_QUEUE_URL")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn nothing_is_lost_in_memory() {
    assert_eq!(replay(&[]), LEDGER);
}

#[test]
fn nothing_is_lost_under_the_limits_and_faults_of_sqs() {
    let queue = "memory://mail?profile=sqs&max_attempts=8&dead_letter=mail-dlq\
                 &faults=duplicate:0.05,reorder:0.1,throttle:0.05,lost_ack:0.02&seed=11";
    assert_eq!(replay(&["--queue", queue]), LEDGER);
}

/// The first of the variables that names a server. Where none does, that is said, and it fails
/// where servers are required.
fn server(variables: &[&str]) -> Option<String> {
    let found = variables.iter().find_map(|name| std::env::var(name).ok());
    if found.is_none() {
        let names = variables.join(" or ");
        assert!(
            std::env::var_os("CONFORMANCE_REQUIRED").is_none(),
            "{names} is not set; run `cargo xtask test`"
        );
        let note = format!("not run: {names} is not set; `cargo xtask test` sets it\n");
        std::io::Write::write_all(&mut std::io::stderr(), note.as_bytes()).unwrap();
    }
    found
}

/// On ElasticMQ, because fauxqs refuses characters beyond #xFFFF (the events have emoji), which
/// SQS carries.
#[test]
fn nothing_is_lost_on_an_sqs_server() {
    let Some(endpoint) = server(&["TOWPATH_ELASTICMQ_ENDPOINT"]) else {
        return;
    };
    let name = format!("mail-{}", std::process::id());
    let queue = format!(
        "sqs://{name}?region=us-east-1&endpoint={endpoint}&max_attempts=8&dead_letter={name}-dlq"
    );
    assert_eq!(replay(&["--queue", &queue]), LEDGER);
}

/// On Google's emulator, or on pstest where there is none.
#[test]
fn nothing_is_lost_on_a_pubsub_server() {
    let variables = [
        "TOWPATH_PUBSUB_EMULATOR_ENDPOINT",
        "TOWPATH_PSTEST_ENDPOINT",
    ];
    let Some(endpoint) = server(&variables) else {
        return;
    };
    let name = format!("mail-{}", std::process::id());
    let queue = format!(
        "pubsub://towpath-test/{name}?endpoint={endpoint}&max_attempts=8&dead_letter={name}-dlq"
    );
    assert_eq!(replay(&["--queue", &queue]), LEDGER);
}

#[test]
fn a_wrong_queue_is_told_before_anything_starts() {
    for (queue, wanted) in [
        ("carrier-pigeon://mail", "available: "),
        ("memory://mail?leese=30s", "did you mean \"lease\"?"),
        ("memory://mail?lease=soon", "30s"),
        ("memory://", "names no queue"),
        ("mail", "has no scheme"),
    ] {
        let output = Command::new(cargo_bin("webhook-to-crm"))
            .args(["--queue", queue])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{queue}");
        assert!(text.contains(wanted), "{queue}: {text}");
    }
}

#[cfg(unix)]
#[test]
fn it_introduces_itself_and_drains_on_sigterm() {
    let mut child = Command::new(cargo_bin("webhook-to-crm"))
        .args([
            "--listen",
            "127.0.0.1:0",
            "--events",
            concat!(env!("CARGO_MANIFEST_DIR"), "/events.jsonl"),
        ])
        .env_remove("TOWPATH_QUEUE_URL")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(
        lines.any(
            |line| line.contains("curl -i http://127.0.0.1:") && line.contains("\"signature\"")
        )
    );
    assert!(lines.any(|line| line == LEDGER));
    let kill = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    let rest: Vec<String> = lines.collect();
    assert!(
        rest.iter()
            .any(|line| line.starts_with("updater: received=1076")),
        "{rest:?}"
    );
    assert!(child.wait().unwrap().success());
}
