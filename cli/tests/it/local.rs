//! What needs no server.

use crate::{LocalTest, Outcome, tests, tool::Tool};

pub(crate) const TESTS: &[LocalTest] = tests![
    mistakes_are_told_with_what_would_be_right,
    a_bench_in_memory_reports_rate_and_latency_and_no_price,
    completions_are_printed_for_each_shell,
    every_command_explains_itself_with_an_example_of_a_queue,
    colours_come_only_where_they_are_wanted,
    commands_work_in_memory_as_far_as_a_process_reaches,
    a_migration_in_memory_ends_when_nothing_more_comes,
];

fn mistakes_are_told_with_what_would_be_right() -> Outcome {
    let tool = Tool::new();
    for (arguments, wanted) in [
        (
            vec!["depth", "sqs://orders?regoin=x"],
            "did you mean \"region\"?",
        ),
        (vec!["depth", "orders"], "TOWPATH_QUEUES__ORDERS__URL"),
        (vec!["depth"], "no queue is configured"),
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
            vec![
                "migrate",
                "--from",
                "memory://a",
                "--to",
                "memory://a?lease=40s",
            ],
            "the same queue",
        ),
        (
            vec![
                "receive",
                "memory://a",
                "--dead-letter",
                "no",
                "--count",
                "1",
                "--ack",
            ],
            "cannot be used with",
        ),
        (
            vec!["dlq", "redrive", "memory://a", "--yes"],
            "name the target with --to",
        ),
        (vec!["bench"], "<QUEUE>"),
    ] {
        let run = tool.run(&arguments);
        assert_eq!(run.code, 2, "{arguments:?}");
        assert!(run.err.contains(wanted), "{arguments:?}: {}", run.err);
    }
    Ok(())
}

fn a_bench_in_memory_reports_rate_and_latency_and_no_price() -> Outcome {
    let tool = Tool::new();
    let report = tool.json(&["bench", "memory://b", "--messages", "500"]);
    let report = &report[0];
    assert_eq!(report["messages"], 500);
    assert!(report["latency_ms"]["p99"].as_f64() > Some(0.0));
    assert!(report.get("price").is_none() && report.get("requests").is_none());
    let shown = tool.ok(&["bench", "memory://b", "--messages", "500"]);
    assert!(shown.contains("requests: none"), "{shown}");
    Ok(())
}

fn completions_are_printed_for_each_shell() -> Outcome {
    let tool = Tool::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = tool.ok(&["completions", shell]);
        assert!(
            text.contains("towpath") && text.contains("conformance"),
            "{shell}"
        );
    }
    Ok(())
}

fn every_command_explains_itself_with_an_example_of_a_queue() -> Outcome {
    let tool = Tool::new();
    let all = tool.ok(&["--help"]);
    for command in [
        "send",
        "receive",
        "depth",
        "check",
        "provision",
        "dlq",
        "migrate",
        "purge",
        "bench",
        "conformance",
        "config",
        "completions",
    ] {
        assert!(all.contains(&format!("  {command} ")), "{command} in {all}");
        let help = tool.ok(&[command, "--help"]);
        assert!(help.contains("Usage: towpath"), "{help}");
        let undocumented = help
            .lines()
            .find(|line| line.trim_start().starts_with("--") && !line.trim().contains("  "))
            .filter(|_| !help.contains("\n          "));
        assert_eq!(
            undocumented, None,
            "an option of {command} is not explained"
        );
    }
    for command in ["list", "show", "redrive", "edit", "discard"] {
        tool.ok(&["dlq", command, "--help"]);
    }
    Ok(())
}

fn colours_come_only_where_they_are_wanted() -> Outcome {
    let depth = ["dlq", "list", "memory://c", "--idle", "10ms"];
    let colored = |tool: &Tool, more: &[&str]| {
        let run = tool.run(&[&depth[..], more].concat());
        assert_eq!(run.code, 0, "{}", run.err);
        run.out.contains('\u{1b}')
    };
    let tool = Tool::new();
    assert!(!colored(&tool, &[]), "not in a pipe");
    assert!(colored(&tool, &["--color", "always"]));
    assert!(!colored(&tool, &["--color", "never"]));
    let tool = Tool::new().with_variable("NO_COLOR", "1");
    assert!(!colored(&tool, &["--color", "auto"]));
    assert!(
        colored(&tool, &["--color", "always"]),
        "what is said goes before what is set"
    );
    Ok(())
}

fn commands_work_in_memory_as_far_as_a_process_reaches() -> Outcome {
    let tool = Tool::new();
    let url = "memory://m?dead_letter=m-dlq&max_attempts=5";
    tool.ok(&["provision", url, "--apply"]);
    // A new process has a new memory.
    let run = tool.run(&["check", url]);
    assert_eq!(run.code, 1);
    assert!(run.out.contains("create it with"), "{}", run.out);
    for command in [vec!["depth", url], vec!["purge", url, "--yes"]] {
        let run = tool.run(&command);
        assert_eq!(run.code, 2);
        assert!(run.err.contains("there is no queue"), "{}", run.err);
    }
    assert_eq!(tool.json(&["send", url, "x"]).len(), 1);
    assert!(tool.json(&["receive", url, "--idle", "10ms"]).is_empty());
    assert!(
        tool.json(&["dlq", "list", url, "--idle", "10ms"])
            .is_empty()
    );
    let redriven = tool.json(&["dlq", "redrive", url, "--idle", "10ms", "--yes"]);
    assert_eq!(redriven[0]["end"], "empty");
    Ok(())
}

fn a_migration_in_memory_ends_when_nothing_more_comes() -> Outcome {
    let tool = Tool::new();
    let report = tool.json(&[
        "migrate",
        "--from",
        "memory://a",
        "--to",
        "memory://b",
        "--idle",
        "10ms",
    ]);
    assert_eq!(report[0]["moved"], 0);
    Ok(())
}
