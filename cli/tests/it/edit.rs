//! `dlq edit`.

use serde_json::Value;

use crate::{
    Outcome, ServerTest,
    server::Server,
    tests,
    tool::{Tool, text},
};

pub(crate) const TESTS: &[ServerTest] = tests![
    an_edited_copy_goes_back_with_its_key_and_the_edit_counted,
    an_editor_changes_the_body,
    an_edit_that_fails_keeps_the_dead_letter_and_what_was_written,
];

/// A queue with one dead letter, and its idempotency key.
fn one(tool: &Tool, server: &Server) -> (String, String) {
    let url = tool.parked(server, &[r#"{"id":1}"#]);
    let letters = tool.json(&["dlq", "list", &url]);
    let key = text(&letters[0]["idempotency_key"]);
    (url, key)
}

fn only(messages: Vec<Value>) -> Value {
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.into_iter().next().unwrap_or_default()
}

fn an_edited_copy_goes_back_with_its_key_and_the_edit_counted(server: &Server) -> Outcome {
    let tool = Tool::new();
    let (url, key) = one(&tool, server);
    tool.write("body", r#"{"id":2}"#);
    let edit = [
        "dlq",
        "edit",
        &url,
        &key,
        "--body",
        "body",
        "--set-attribute",
        "fixed=yes",
        "--remove-attribute",
        "id",
    ];
    let shown = tool.ok(&[&edit[..], &["--dry-run"]].concat());
    for line in [
        r#"- {"id":1}"#,
        r#"+ {"id":2}"#,
        "+ fixed: yes",
        r#"- id: {"id":1}"#,
    ] {
        assert!(
            shown.lines().any(|shown| shown == line),
            "{line} in {shown}"
        );
    }
    let run = tool.run(&edit);
    assert_eq!(run.code, 2);
    assert!(
        run.err.contains("nothing was sent; say --yes"),
        "{}",
        run.err
    );
    assert_eq!(tool.json(&["dlq", "list", &url]).len(), 1);

    let report = only(tool.json(&[&edit[..], &["--yes"]].concat()));
    assert_eq!(
        (&report["edited"], &report["idempotency_key"]),
        (&true.into(), &key.as_str().into())
    );
    assert!(tool.json(&["dlq", "list", &url]).is_empty());
    let back = only(tool.json(&["receive", &url, "--count", "1", "--ack"]));
    assert_eq!(back["body"], r#"{"id":2}"#);
    assert_eq!(back["idempotency_key"], key.as_str());
    assert_eq!(back["attributes"], serde_json::json!({ "fixed": "yes" }));
    assert_eq!(
        (&back["failure"]["redrives"], &back["failure"]["edits"]),
        (&1.into(), &1.into())
    );
    Ok(())
}

fn an_editor_changes_the_body(server: &Server) -> Outcome {
    let tool = Tool::new().with_variable("EDITOR", "sed -i s/1/7/");
    let (url, key) = one(&tool, server);
    tool.ok(&["dlq", "edit", &url, &key, "--yes"]);
    assert_eq!(tool.drain(&url), [r#"{"id":7}"#]);
    Ok(())
}

fn an_edit_that_fails_keeps_the_dead_letter_and_what_was_written(server: &Server) -> Outcome {
    let tool = Tool::new().with_variable("EDITOR", "sed -i s/1/1,/");
    let (url, key) = one(&tool, server);
    let edit = ["dlq", "edit", &url, &key, "--yes"];
    let run = tool.run(&edit);
    assert_eq!(run.code, 2);
    assert!(
        run.err.contains("was JSON and is not any more"),
        "{}",
        run.err
    );
    let kept = run
        .err
        .split_whitespace()
        .map(|word| word.trim_end_matches([',', ':']))
        .find(|word| word.ends_with(".json"))
        .ok_or("no file is named")?;
    assert_eq!(std::fs::read_to_string(kept)?.trim_end(), r#"{"id":1,}"#);
    std::fs::remove_file(kept)?;

    let nothing = tool.run(&[
        "dlq",
        "edit",
        &url,
        &key,
        "--yes",
        "--set-attribute",
        r#"id={"id":1}"#,
    ]);
    assert_eq!(nothing.code, 0, "{}", nothing.err);
    assert!(
        nothing.err.contains("nothing was changed"),
        "{}",
        nothing.err
    );
    for (arguments, wanted) in [
        (vec!["--set-attribute", "towpath=1"], "reserved"),
        (vec!["--body", "nowhere"], "nowhere"),
        (
            vec!["--remove-attribute", "nothing"],
            "there is no attribute nothing",
        ),
    ] {
        let run = tool.run(&[&edit[..], &arguments].concat());
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.out);
        assert!(run.err.contains(wanted), "{arguments:?}: {}", run.err);
    }
    let letters = tool.json(&["dlq", "list", &url]);
    assert_eq!(only(letters)["body"], r#"{"id":1}"#);
    assert!(tool.drain(&url).is_empty());
    Ok(())
}
