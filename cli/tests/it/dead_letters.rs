//! `dlq list`, `dlq show` and `dlq discard`.

use crate::{
    Outcome, ServerTest,
    server::Server,
    tests,
    tool::{Tool, text},
};

pub(crate) const TESTS: &[ServerTest] = tests![
    dead_letters_are_listed_with_reasons_shown_and_stay,
    only_what_was_chosen_is_discarded_and_only_when_told,
];

fn dead_letters_are_listed_with_reasons_shown_and_stay(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = tool.parked(server, &["one", "two"]);
    let table = tool.ok(&["dlq", "list", &url]);
    assert!(
        table.contains("cannot handle one") && table.contains("cannot handle two"),
        "{table}"
    );
    let found = tool.json(&["dlq", "list", &url, "--reason", "HANDLE TWO"]);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["failure"]["class"], "permanent");
    let key = text(&found[0]["idempotency_key"]);
    let shown = tool.json(&["dlq", "show", &url, &key]);
    assert_eq!(shown[0]["body"], "two");
    let run = tool.run(&["dlq", "show", &url, "no-such-id"]);
    assert_eq!(run.code, 2);
    assert!(
        run.err.contains("there is no dead letter no-such-id"),
        "{}",
        run.err
    );
    assert_eq!(tool.json(&["dlq", "list", &url]).len(), 2, "they stay");
    Ok(())
}

fn only_what_was_chosen_is_discarded_and_only_when_told(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = tool.parked(server, &["one", "two", "three"]);
    let chosen = ["dlq", "discard", &url, "--attribute", "id=two"];
    let run = tool.run(&chosen);
    assert_eq!(run.code, 2);
    assert!(
        run.err.contains("nothing was removed; say --yes"),
        "{}",
        run.err
    );
    assert_eq!(tool.json(&["dlq", "list", &url]).len(), 3);
    tool.ok(&[&chosen[..], &["--yes"]].concat());
    let left = tool.json(&["dlq", "list", &url]);
    let mut left: Vec<String> = left.iter().map(|letter| text(&letter["body"])).collect();
    left.sort();
    assert_eq!(left, ["one", "three"]);
    Ok(())
}
