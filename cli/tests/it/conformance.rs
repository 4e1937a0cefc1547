//! `towpath conformance`.

use assert_cmd::Command;

fn towpath(folder: &std::path::Path) -> Command {
    let mut command = Command::cargo_bin("towpath").unwrap();
    command.current_dir(folder).env_remove("RUST_LOG");
    command
}

#[test]
fn the_cases_are_listed_one_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let output = towpath(folder.path())
        .args(["conformance", "--list"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(text.lines().count() >= 60, "{text}");
    assert!(text.lines().all(|line| line.contains("::")), "{text}");
}

#[test]
fn a_run_in_memory_passes_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "conformance",
        "--url",
        "memory://any",
        "--pace",
        "paused",
        "--yes",
    ];
    let files = ["--json", "found.json", "--markdown", "found.md"];
    let output = towpath(folder.path())
        .args(arguments)
        .args(files)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let last = text.lines().last().unwrap();
    assert!(
        last.starts_with("backend=memory ") && last.ends_with("failed=0"),
        "{last}"
    );
    assert!(folder.path().join("found.json").exists() && folder.path().join("found.md").exists());
    assert!(!folder.path().join("towpath-conformance.leftovers").exists());
}

#[test]
fn nothing_is_created_unasked_and_nothing_runs_without_a_case() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, wanted) in [
        (vec!["--url", "memory://any"], "--yes"),
        (
            vec!["--url", "memory://any", "--yes", "--filter", "no such case"],
            "--list",
        ),
        (
            vec!["--url", "memry://any", "--yes"],
            "did you mean \"memory\"?",
        ),
        (vec![], "--url"),
    ] {
        let output = towpath(folder.path())
            .arg("conformance")
            .args(&arguments)
            .write_stdin("")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            !output.status.success() && text.contains(wanted),
            "{arguments:?}: {text}"
        );
    }
}
