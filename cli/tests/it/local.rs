//! What needs no server.

use assert_cmd::Command;

fn run(arguments: &[&str], folder: &std::path::Path) -> (bool, String, String) {
    let mut command = Command::cargo_bin("towpath").unwrap();
    let output = command
        .current_dir(folder)
        .env_remove("TOWPATH_CONFIG")
        .args(arguments)
        .output()
        .unwrap();
    (
        output.status.success(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn config_explain_names_each_setting_and_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = "[queues.orders]\nurl = 'memory://orders'\nlease = '40s'\n[profiles.aws.queues.orders]\nurl = 'sqs://orders'\n";
    std::fs::write(folder.path().join("towpath.toml"), file).unwrap();
    let (ok, text, _) = run(&["config", "explain"], folder.path());
    assert!(
        ok && text.contains("memory://orders")
            && text.contains("40s")
            && text.contains("towpath.toml"),
        "{text}"
    );
    let (ok, text, _) = run(
        &["config", "explain", "--profile", "aws", "--output", "json"],
        folder.path(),
    );
    assert!(ok && text.contains("sqs://orders"), "{text}");
}

#[test]
fn mistakes_are_told_with_what_would_be_right() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, wanted) in [
        (
            vec!["depth", "sqs://orders?regoin=x"],
            "did you mean \"region\"?",
        ),
        (vec!["depth", "orders"], "TOWPATH_QUEUES__ORDERS__URL"),
        (vec!["purge", "memory://orders"], "--yes"),
        (
            vec!["send", "memory://orders", "x", "--attribute", "novalue"],
            "NAME=VALUE",
        ),
        (
            vec!["send", "memory://orders", "x", "--attribute", "towpath=1"],
            "reserved",
        ),
        (
            vec!["migrate", "--from", "memory://a", "--to", "memory://a"],
            "the same queue",
        ),
    ] {
        let (ok, _, error) = run(&arguments, folder.path());
        assert!(!ok && error.contains(wanted), "{arguments:?}: {error}");
    }
}

#[test]
fn a_bench_in_memory_reports_rate_and_latency() {
    let folder = tempfile::tempdir().unwrap();
    let (ok, text, error) = run(
        &[
            "bench",
            "memory://b",
            "--messages",
            "500",
            "--output",
            "json",
        ],
        folder.path(),
    );
    assert!(ok, "{error}");
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["messages"], 500);
    assert!(report["latency_ms"]["p99"].as_f64().unwrap() > 0.0);
}

#[test]
fn completions_are_printed_for_each_shell() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (ok, text, _) = run(&["completions", shell], folder.path());
        assert!(
            ok && text.contains("towpath") && text.contains("conformance"),
            "{shell}"
        );
    }
}
