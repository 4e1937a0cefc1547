//! `dlq redrive`.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Outcome, ServerTest,
    server::{Server, unique},
    tests,
    tool::{Run, Tool, lines},
};

pub(crate) const TESTS: &[ServerTest] = tests![
    a_dry_run_names_what_would_be_redriven_and_changes_nothing,
    dead_letters_go_back_where_they_failed_with_an_audit_line_each,
    the_dead_letter_queue_finds_its_source_in_the_configuration,
    an_interrupted_redrive_loses_nothing_and_goes_on_later,
    a_target_that_is_the_dead_letter_queue_is_refused,
    what_the_broker_parked_needs_a_named_target,
    an_audit_file_that_cannot_be_written_is_told_before_anything_moves,
    a_target_that_refuses_a_message_makes_it_stay,
];

fn a_dry_run_names_what_would_be_redriven_and_changes_nothing(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = tool.parked(server, &["one", "two"]);
    let table = tool.ok(&[
        "dlq",
        "redrive",
        &url,
        "--dry-run",
        "--reason",
        "handle one",
    ]);
    assert!(
        table.contains("cannot handle one") && !table.contains("cannot handle two"),
        "{table}"
    );
    assert!(table.contains("would_redrive=1 filtered_out=1"), "{table}");
    assert_eq!(tool.json(&["dlq", "list", &url]).len(), 2);
    assert!(tool.drain(&url).is_empty());
    Ok(())
}

fn dead_letters_go_back_where_they_failed_with_an_audit_line_each(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = tool.parked(server, &["one", "two", "three"]);
    let letters = tool.json(&["dlq", "list", &url]);
    let redrive = [
        "dlq",
        "redrive",
        &url,
        "--audit",
        "audit.jsonl",
        "--class",
        "permanent",
        "--idle",
        "10s",
    ];
    let run = tool.run(&redrive);
    assert_eq!(run.code, 2);
    assert!(
        run.err.contains("nothing was redriven; say --yes"),
        "{}",
        run.err
    );

    let one = tool.json(&[&redrive[..], &["--yes", "--limit", "1"]].concat());
    assert_eq!(
        (&one[0]["redriven"], &one[0]["end"]),
        (&1.into(), &"limit".into())
    );
    let rest = tool.json(&[&redrive[..], &["--yes", "--rate", "100"]].concat());
    assert_eq!(
        (&rest[0]["redriven"], &rest[0]["end"]),
        (&2.into(), &"empty".into())
    );
    assert!(tool.json(&["dlq", "list", &url]).is_empty());

    let audit = lines(&tool.read("audit.jsonl"));
    assert_eq!(audit.len(), 3);
    for letter in &letters {
        let line = audit
            .iter()
            .find(|line| line["idempotency_key"] == letter["idempotency_key"])
            .ok_or("a dead letter without an audit line")?;
        assert_eq!(
            (&line["fate"], &line["reason"]),
            (&"redriven".into(), &letter["failure"]["reason"])
        );
    }
    let back = tool.json(&["receive", &url, "--count", "3", "--ack"]);
    for message in &back {
        assert_eq!(message["failure"]["redrives"], 1);
        assert!(
            letters
                .iter()
                .any(|letter| letter["idempotency_key"] == message["idempotency_key"])
        );
    }
    assert_eq!(back.len(), 3);
    Ok(())
}

fn the_dead_letter_queue_finds_its_source_in_the_configuration(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = tool.parked(server, &["one"]);
    let name = url
        .split(['/', '?'])
        .find(|part| part.starts_with("cli-"))
        .ok_or("a name")?;
    let dead = server.url(&format!("{name}-dlq"), "");
    let run = tool.run(&["dlq", "redrive", &dead, "--yes"]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("name the target with --to"), "{}", run.err);
    tool.write(
        "towpath.toml",
        format!("[queues.orders]\nurl = \"{url}\"\n"),
    );
    tool.ok(&["dlq", "redrive", &dead, "--yes"]);
    assert_eq!(tool.drain(&url), ["one"]);
    Ok(())
}

fn an_interrupted_redrive_loses_nothing_and_goes_on_later(server: &Server) -> Outcome {
    let tool = Tool::new();
    let bodies: Vec<String> = (0..40).map(|n| format!("{n:02}")).collect();
    let url = tool.parked(server, &[]);
    tool.ok(&[
        &["send", &url][..],
        &bodies.iter().map(String::as_str).collect::<Vec<_>>(),
    ]
    .concat());
    tool.ok(&["receive", &url, "--count", "40", "--dead-letter", "not now"]);
    let child = tool
        .command(&[
            "dlq",
            "redrive",
            &url,
            "--yes",
            "--rate",
            "10",
            "--audit",
            "audit.jsonl",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let child = interrupt_when(child, || {
        std::fs::read_to_string(tool.folder().join("audit.jsonl"))
            .is_ok_and(|text| text.lines().count() >= 5)
    })?;
    let run = Run::of(child.wait_with_output()?);
    assert_eq!(run.code, 130, "{}{}", run.out, run.err);
    assert!(run.out.contains("end=stopped"), "{}", run.out);
    assert!(run.err.contains("the same command goes on"), "{}", run.err);
    let before = lines(&tool.read("audit.jsonl")).len();
    assert!(
        (5..40).contains(&before),
        "{before} of 40 were redriven before the interruption"
    );
    let rest = tool.json(&["dlq", "redrive", &url, "--yes", "--audit", "audit.jsonl"]);
    assert_eq!(rest[0]["redriven"], 40 - before);
    assert_eq!(tool.drain(&url), bodies);
    assert!(tool.json(&["dlq", "list", &url]).is_empty());
    Ok(())
}

/// Sends Ctrl-C to a program once something is so.
fn interrupt_when(
    mut child: Child,
    is_so: impl Fn() -> bool,
) -> Result<Child, Box<dyn std::error::Error + Send + Sync>> {
    while !is_so() {
        if let Some(status) = child.try_wait()? {
            return Err(format!("it ended before it was interrupted, with {status}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT)?;
    Ok(child)
}

fn a_target_that_is_the_dead_letter_queue_is_refused(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = tool.parked(server, &["one"]);
    let name = url
        .split(['/', '?'])
        .find(|part| part.starts_with("cli-"))
        .ok_or("a name")?;
    let dead = server.url(&format!("{name}-dlq"), "");
    let run = tool.run(&["dlq", "redrive", &url, "--to", &dead, "--yes"]);
    assert_eq!(run.code, 2);
    assert!(
        run.err.contains("is the dead-letter queue itself"),
        "{}",
        run.err
    );
    assert_eq!(tool.json(&["dlq", "list", &url]).len(), 1);
    Ok(())
}

/// SQS keeps no record of a message that it parked itself; Pub/Sub notes the subscription, which
/// pstest leaves out.
fn what_the_broker_parked_needs_a_named_target(server: &Server) -> Outcome {
    let tool = Tool::new();
    let name = unique("broker");
    let url = server.url(&name, &format!("dead_letter={name}-dlq"));
    tool.ok(&["provision", &url, "--apply", "--max-deliveries", "5"]);
    tool.ok(&["send", &url, "one"]);
    // Given back by the broker's count: a delivery that nobody acks, five times.
    for _ in 0..8 {
        tool.ok(&["receive", &url, "--count", "1", "--idle", "2s"]);
        if !tool.json(&["dlq", "list", &url, "--idle", "1s"]).is_empty() {
            break;
        }
    }
    let letters = tool.json(&["dlq", "list", &url]);
    assert_eq!(letters.len(), 1, "the broker parked nothing");
    let run = tool.run(&["dlq", "redrive", &url, "--yes"]);
    match server.name {
        "google" => assert_eq!(run.code, 0, "{}{}", run.out, run.err),
        _ => {
            assert_eq!(run.code, 1, "{}{}", run.out, run.err);
            assert!(run.out.contains("no_route=1"), "{}", run.out);
            assert!(run.err.contains("name the target with --to"), "{}", run.err);
            let run = tool.run(&["dlq", "redrive", &url, "--yes", "--to", &url]);
            assert!(run.out.contains("redriven=1"), "{}", run.out);
            // pstest hands a message that it parked out again after it was acked: it must not be
            // sent again and again.
            let came_again = run.err.contains("came again after they were redriven");
            assert_eq!(run.code, i32::from(came_again), "{}{}", run.out, run.err);
            assert!(!came_again || server.name == "pstest", "{}", run.err);
        }
    }
    assert_eq!(tool.drain(&url), ["one"]);
    Ok(())
}

fn an_audit_file_that_cannot_be_written_is_told_before_anything_moves(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = tool.parked(server, &["one"]);
    let run = tool.run(&[
        "dlq",
        "redrive",
        &url,
        "--yes",
        "--audit",
        "no/such/folder/audit",
    ]);
    assert_eq!(run.code, 2);
    assert!(run.err.contains("nothing was redriven"), "{}", run.err);
    // A full disk shows only while writing; what was not accounted for then is in the error.
    let run = tool.run(&["dlq", "redrive", &url, "--dry-run", "--audit", "/dev/full"]);
    assert_eq!(run.code, 2);
    assert!(
        run.err.contains("the audit file could not be written"),
        "{}",
        run.err
    );
    assert_eq!(tool.json(&["dlq", "list", &url]).len(), 1);
    Ok(())
}

fn a_target_that_refuses_a_message_makes_it_stay(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = tool.parked(server, &["one", "two"]);
    // There is room for one message.
    let target = "memory://small?max_depth=1&send_timeout=1s";
    let run = tool.run(&["dlq", "redrive", &url, "--yes", "--to", target]);
    assert_eq!(run.code, 1, "{}{}", run.out, run.err);
    assert!(run.out.contains("redriven=1 not_sent=1"), "{}", run.out);
    assert!(
        run.err.contains("1 could not be sent and stay"),
        "{}",
        run.err
    );
    assert_eq!(tool.json(&["dlq", "list", &url]).len(), 1);
    Ok(())
}
