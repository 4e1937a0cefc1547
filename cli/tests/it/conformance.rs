//! `conformance`.

use crate::{
    LocalTest, Outcome, ServerTest,
    server::{Cloud, Server, unique},
    tests,
    tool::{Tool, lines},
};

pub(crate) const TESTS: &[LocalTest] = tests![
    the_cases_are_listed_one_a_line,
    a_run_in_memory_passes_and_leaves_nothing_behind,
    nothing_is_created_unasked_and_nothing_runs_without_a_case,
];

pub(crate) const SERVER_TESTS: &[ServerTest] = tests![
    one_case_runs_on_a_server,
    what_a_killed_run_left_is_swept_when_told
];

fn the_cases_are_listed_one_a_line() -> Outcome {
    let tool = Tool::new();
    let text = tool.ok(&["conformance", "--list"]);
    assert!(text.lines().count() >= 60, "{text}");
    assert!(text.lines().all(|line| line.contains("::")), "{text}");
    assert_eq!(
        tool.json(&["conformance", "--list"]).len(),
        text.lines().count()
    );
    Ok(())
}

fn a_run_in_memory_passes_and_leaves_nothing_behind() -> Outcome {
    let tool = Tool::new();
    let text = tool.ok(&[
        "conformance",
        "--url",
        "memory://any",
        "--pace",
        "paused",
        "--yes",
        "--json",
        "found.json",
        "--markdown",
        "found.md",
    ]);
    let last = text.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("backend=memory server=in-process cases=") && last.ends_with("failed=0"),
        "{last}"
    );
    let found: serde_json::Value = serde_json::from_str(&tool.read("found.json"))?;
    assert_eq!(found["server"], "in-process");
    assert!(tool.read("found.md").contains("memory"));
    let mut left: Vec<_> = std::fs::read_dir(tool.folder())?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<Result<_, _>>()?;
    left.sort();
    assert_eq!(left, ["found.json", "found.md"]);
    Ok(())
}

fn nothing_is_created_unasked_and_nothing_runs_without_a_case() -> Outcome {
    let tool = Tool::new();
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
        let run = tool.run(&[&["conformance"][..], &arguments].concat());
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.out);
        assert!(run.err.contains(wanted), "{arguments:?}: {}", run.err);
    }
    Ok(())
}

fn one_case_runs_on_a_server(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = server.url("any", "");
    let text = tool.ok(&[
        "conformance",
        "--url",
        &url,
        "--pace",
        "local",
        "--yes",
        "--filter",
        "an_acked_message",
    ]);
    let last = text.lines().last().unwrap_or_default();
    assert!(
        last.contains(&format!(" server={} ", server.endpoint)),
        "{last}"
    );
    assert!(
        last.ends_with("failed=0") && !last.contains("passed=0"),
        "{text}"
    );
    Ok(())
}

fn what_a_killed_run_left_is_swept_when_told(server: &Server) -> Outcome {
    let tool = Tool::new();
    let name = unique("x").replace("cli-", "towpath-ct-");
    let url = server.url(&name, "");
    tool.provision(&url);
    tool.write(
        "towpath-conformance-killed.leftovers",
        format!("created 2026-11-01T00:00:00Z {url}\n"),
    );
    let sweep = ["conformance", "--sweep"];
    let run = tool.run(&sweep);
    assert_eq!(run.code, 2);
    assert!(run.out.contains(&name), "{}", run.out);
    assert!(
        run.err.contains("nothing was deleted; say --yes"),
        "{}",
        run.err
    );
    tool.ok(&["check", &url]);
    let swept = lines(&tool.ok(&[&sweep[..], &["--yes", "--output", "json"]].concat()));
    assert_eq!(swept.len(), 1);
    assert!(
        std::fs::read_dir(tool.folder())?.next().is_none(),
        "the file is gone"
    );
    // A plan of what is missing names the queue as new.
    let plan = tool.json(&["provision", &url]);
    assert!(!plan.is_empty(), "the queue is still there");
    if server.cloud == Cloud::Sqs {
        assert_eq!(plan[0]["from"], serde_json::Value::Null);
    }
    Ok(())
}
