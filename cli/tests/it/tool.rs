//! The tool, in a folder of its own.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::server::{Server, unique};

/// A folder in which the tool runs, with nothing of the environment that would steer it.
#[derive(Debug)]
pub(crate) struct Tool {
    folder: TempDir,
    variables: Vec<(String, String)>,
}

/// What one run of the tool said.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Tool {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            variables: Vec::new(),
        }
    }

    pub(crate) fn with_variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into the folder.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.folder().join(name), content).expect("a file");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder().join(name)).expect("a file")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("towpath"));
        for (name, _) in std::env::vars() {
            let steers = [
                "TOWPATH_", "AWS_", "PUBSUB_", "RUST_LOG", "NO_COLOR", "EDITOR", "VISUAL",
            ]
            .iter()
            .any(|prefix| name.starts_with(prefix));
            if steers {
                command.env_remove(name);
            }
        }
        command
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .args(arguments);
        command
    }

    /// Runs the tool to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().expect("the tool runs"))
    }

    /// Runs the tool, which must succeed, and returns what it wrote.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let run = self.run(arguments);
        assert_eq!(
            run.code,
            0,
            "towpath {}: {}{}",
            arguments.join(" "),
            run.out,
            run.err
        );
        run.out
    }

    /// Runs the tool with `--output json`, which must succeed, and returns the lines that it wrote.
    pub(crate) fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let arguments = [arguments, &["--output", "json"]].concat();
        lines(&self.ok(&arguments))
    }

    /// Creates the queue of `url` and its dead-letter queue.
    pub(crate) fn provision(&self, url: &str) {
        self.ok(&["provision", url, "--apply"]);
    }

    /// The bodies of all messages in a queue, sorted; they are removed.
    pub(crate) fn drain(&self, url: &str) -> Vec<String> {
        let mut bodies: Vec<String> = self
            .json(&["receive", url, "--ack", "--idle", "3s"])
            .iter()
            .map(|message| text(&message["body"]))
            .collect();
        bodies.sort();
        bodies
    }

    /// A queue with a dead-letter queue, in which each of `bodies` is parked with a reason of its
    /// own, `cannot handle BODY`.
    pub(crate) fn parked(&self, server: &Server, bodies: &[&str]) -> String {
        let name = unique("parked");
        let url = server.url(&name, &format!("dead_letter={name}-dlq&max_attempts=5"));
        self.provision(&url);
        for body in bodies {
            self.ok(&["send", &url, body, "--attribute", &format!("id={body}")]);
            let reason = format!("cannot handle {body}");
            self.ok(&["receive", &url, "--count", "1", "--dead-letter", &reason]);
        }
        url
    }
}

impl Run {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

/// Lines of JSON.
pub(crate) fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// A JSON string without its quotes.
pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}
