//! `send` and `receive`.

use std::{io::Write, process::Stdio};

use crate::{
    Outcome, ServerTest,
    server::{Cloud, Server, unique},
    tests,
    tool::{Run, Tool, text},
};

pub(crate) const TESTS: &[ServerTest] = tests![
    what_is_sent_is_received_and_stays_until_it_is_acked,
    bodies_come_from_files_lines_and_standard_input,
    a_message_that_is_refused_is_named_and_the_rest_is_not_lost,
    a_closed_pipe_ends_it_quietly,
];

fn what_is_sent_is_received_and_stays_until_it_is_acked(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = server.url(&unique("messages"), "");
    tool.provision(&url);
    let sent = tool.json(&["send", &url, "one", "two", "-a", "tenant=acme"]);
    assert_eq!(sent.len(), 2);
    let seen = tool.json(&["receive", &url, "--count", "2"]);
    let mut bodies: Vec<String> = seen.iter().map(|message| text(&message["body"])).collect();
    bodies.sort();
    assert_eq!(bodies, ["one", "two"]);
    for message in &seen {
        assert_eq!(message["attributes"]["tenant"], "acme");
        let key = &message["idempotency_key"];
        assert!(sent.iter().any(|sent| sent["idempotency_key"] == *key));
    }
    let human = tool.ok(&["tail", &url, "--count", "2"]);
    assert!(
        human.contains("tenant=acme") && human.contains("  one\n"),
        "{human}"
    );
    let raw = tool.ok(&["receive", &url, "--count", "2", "--raw", "--ack"]);
    let mut raw: Vec<&str> = raw.lines().collect();
    raw.sort_unstable();
    assert_eq!(raw, ["one", "two"]);
    assert!(tool.drain(&url).is_empty());
    Ok(())
}

fn bodies_come_from_files_lines_and_standard_input(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = server.url(&unique("bodies"), "");
    tool.provision(&url);
    tool.write("body", "from a file");
    tool.ok(&["send", &url, "--file", "body"]);
    tool.write(
        "lines",
        "{\"body\":\"from a line\",\"attributes\":{\"n\":\"1\"}}\n\n{\"body\":{\"n\":2}}\n",
    );
    tool.ok(&["send", &url, "--jsonl", "lines"]);
    let mut child = tool
        .command(&["send", &url, "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    child
        .stdin
        .take()
        .ok_or("no input")?
        .write_all(b"from a pipe")?;
    assert!(child.wait()?.success());
    assert_eq!(
        tool.drain(&url),
        ["from a file", "from a line", "from a pipe", "{\"n\":2}"]
    );
    Ok(())
}

fn a_message_that_is_refused_is_named_and_the_rest_is_not_lost(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = server.url(&unique("refused"), "");
    tool.provision(&url);
    let large = "x".repeat(800_000);
    tool.write(
        "lines",
        format!("{{\"body\":\"a\"}}\n{{\"body\":\"{large}\"}}\n{{\"body\":\"b\"}}\n"),
    );
    let run = tool.run(&["send", &url, "--jsonl", "lines"]);
    assert_eq!(run.code, 2);
    assert!(
        run.err.contains("message 2") && run.err.contains("too_large"),
        "{}",
        run.err
    );
    assert_eq!(
        run.out.lines().count(),
        2,
        "the ids of those that were sent: {}",
        run.out
    );
    assert_eq!(tool.drain(&url), ["a", "b"]);
    Ok(())
}

fn a_closed_pipe_ends_it_quietly(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = server.url(&unique("pipe"), "");
    tool.provision(&url);
    tool.ok(&["send", &url, "one", "two", "three"]);
    let mut child = tool
        .command(&["receive", &url, "--idle", "3s"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    drop(child.stdout.take());
    let run = Run::of(child.wait_with_output()?);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    if server.cloud == Cloud::Sqs {
        let depth = tool.json(&["depth", &url]);
        let depth = &depth[0]["depth"];
        let sum = depth["ready"].as_u64().unwrap_or(0) + depth["leased"].as_u64().unwrap_or(0);
        assert_eq!(sum, 3, "{depth}");
    }
    Ok(())
}
