//! `cargo xtask conformance`: the conformance tests on every backend and local server, as lines, as
//! JSON and as the matrix in `conformance-tests/MATRIX.md`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::Path,
    process::{ExitCode, Stdio},
};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    emulators::{self, Instance, Server},
    process,
    tools::Tools,
    workspace,
};

/// What `cargo xtask conformance` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Test only these
    #[arg(long, value_enum, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    only: Vec<Backend>,
}

/// A backend that has a test program `conformance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Backend {
    /// The in-memory queue, in each profile
    Memory,
    /// Amazon SQS, on fauxqs and ElasticMQ
    Sqs,
    /// Google Cloud Pub/Sub, on Google's emulator and pstest
    #[value(name = "pubsub")]
    PubSub,
    /// The example of a backend of one's own
    Directory,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqs => "sqs",
            Self::PubSub => "pubsub",
            Self::Directory => "directory",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Memory => "towpath-conformance",
            Self::Sqs => "towpath-sqs",
            Self::PubSub => "towpath-pubsub",
            Self::Directory => "directory-queue",
        }
    }

    fn servers(self) -> &'static [Server] {
        match self {
            Self::Sqs => &[Server::Fauxqs, Server::ElasticMq],
            Self::PubSub => &[Server::Google, Server::Pstest],
            Self::Memory | Self::Directory => &[],
        }
    }
}

/// What a test program found on one backend and server.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Run {
    backend: String,
    cases: Vec<Case>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Case {
    name: String,
    group: String,
    outcome: String,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Runs the conformance tests and writes what they found. Fails when a case failed.
///
/// # Errors
///
/// When a server cannot be started, or the tests cannot be run at all.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut wanted = options.only.clone();
    if wanted.is_empty() {
        wanted = Backend::value_variants().to_vec();
    }
    let servers: Vec<Server> = wanted
        .iter()
        .flat_map(|backend| backend.servers())
        .copied()
        .collect();
    let tools = Tools::open()?;
    let available = Server::available(&servers)?;
    let left_out = Server::leaving_out(&servers, &available);
    let instance = Instance::own(&tools)?;
    let tested = instance.up(&tools, &available).and_then(|running| {
        let environment = emulators::environment(&running);
        wanted
            .iter()
            .map(|backend| test(*backend, &environment, left_out))
            .collect::<Result<Vec<_>>>()
    });
    let ended = instance.end(&tools, tested.is_ok());
    let tested = tested?;
    ended?;

    let mut is_clean = true;
    let mut runs = Vec::new();
    for (backend, found) in wanted.iter().zip(tested) {
        for run in found {
            let (line, failed) = line(*backend, &run);
            println!("{line}");
            is_clean &= failed == 0;
            runs.push(run);
        }
    }
    let root = workspace::root();
    let json = root.join("target/conformance.json");
    write(&json, &serde_json::to_string_pretty(&runs)?)?;
    if options.only.is_empty() {
        write(&root.join("conformance-tests/MATRIX.md"), &matrix(&runs))?;
        let readme = root.join("README.md");
        let text = fs::read_to_string(&readme).context("reading README.md")?;
        write(&readme, &with_summary(&text, &summary(&runs))?)?;
    }
    Ok(if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs one test program; its own exit code says no more than what it found.
fn test(
    backend: Backend,
    environment: &BTreeMap<String, String>,
    left_out: &[&str],
) -> Result<Vec<Run>> {
    let found = workspace::root().join(format!("target/conformance/{}.json", backend.name()));
    // What an earlier run found is not to be taken for this one's.
    if found.exists() {
        fs::remove_file(&found).with_context(|| format!("removing {}", found.display()))?;
    }
    let mut command = workspace::cargo();
    command
        .args([
            "test",
            "--quiet",
            "--package",
            backend.package(),
            "--test",
            "conformance",
            "--",
        ])
        .args(left_out)
        .envs(environment)
        .env("CONFORMANCE_REQUIRED", "1")
        .env("CONFORMANCE_JSON", &found)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    say!("running {}", workspace::cargo_line(&command));
    let mut child = process::start(&mut command).context("starting the tests")?;
    process::wait(&mut child)?;
    let text = fs::read(&found).with_context(|| {
        format!(
            "{} found nothing; run it to see why",
            workspace::cargo_line(&command)
        )
    })?;
    let runs: Vec<Run> = serde_json::from_slice(&text).context("what the tests found")?;
    ensure!(
        !runs.is_empty(),
        "{} ran no case",
        workspace::cargo_line(&command)
    );
    Ok(runs)
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// `backend=sqs server=fauxqs cases=..`, and how many cases failed.
fn line(backend: Backend, run: &Run) -> (String, usize) {
    let count = |outcome: &str| {
        run.cases
            .iter()
            .filter(|report| report.outcome == outcome)
            .count()
    };
    let failed = count("failed");
    let line = format!(
        "backend={} server={} cases={} passed={} ignored={} deviations={} failed={failed}",
        backend.name(),
        run.backend.replace(' ', "_"),
        run.cases.len(),
        count("passed"),
        count("ignored"),
        count("deviation"),
    );
    (line, failed)
}

/// Case by backend.
fn matrix(runs: &[Run]) -> String {
    let mut text = String::from(
        "# What holds where\n\nWritten by `cargo xtask conformance`. `yes`: it holds. `-`: the queue does \
         not claim what the case needs. `known`: a known deviation of the local server, which the backend's \
         `tests/deviations` explain.\n\n| case |",
    );
    for run in runs {
        let _ = write!(text, " {} |", run.backend);
    }
    let _ = writeln!(text, "\n|---|{}", "---|".repeat(runs.len()));
    let mut names: Vec<(&str, &str)> = Vec::new();
    for case in runs.iter().flat_map(|run| &run.cases) {
        let name = (case.group.as_str(), case.name.as_str());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    for (group, name) in names {
        let _ = write!(text, "| {group}: {} |", name.replace('_', " "));
        for run in runs {
            let outcome = run
                .cases
                .iter()
                .find(|report| report.name == name && report.group == group);
            let cell = match outcome.map(|report| report.outcome.as_str()) {
                Some("passed") => "yes",
                Some("ignored") => "-",
                Some("deviation") => "known",
                Some(_) => "**no**",
                None => "",
            };
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

/// A row per backend and server.
fn summary(runs: &[Run]) -> String {
    let mut text = String::from(
        "| | cases | passed | not claimed | known deviations | failed |\n|---|---|---|---|---|---|\n",
    );
    for run in runs {
        let count = |outcome: &str| {
            run.cases
                .iter()
                .filter(|case| case.outcome == outcome)
                .count()
        };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            run.backend,
            run.cases.len(),
            count("passed"),
            count("ignored"),
            count("deviation"),
            count("failed"),
        );
    }
    text
}

/// The README with the summary between its marks.
fn with_summary(readme: &str, summary: &str) -> Result<String> {
    const BEGIN: &str = "<!-- conformance: written by `cargo xtask conformance` -->\n";
    const END: &str = "<!-- conformance: end -->";
    let (before, rest) = readme
        .split_once(BEGIN)
        .context("README.md has no mark where the summary begins")?;
    let (_, after) = rest
        .split_once(END)
        .context("README.md has no mark where the summary ends")?;
    Ok(format!("{before}{BEGIN}{summary}{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs() -> Vec<Run> {
        let json = r#"[
            {"backend": "fauxqs fifo", "cases": [
                {"name": "an_ack_is_final", "group": "settle", "outcome": "passed", "milliseconds": 3},
                {"name": "a_body_arrives", "group": "send", "outcome": "deviation", "reason": "lax"}]},
            {"backend": "elasticmq", "cases": [
                {"name": "an_ack_is_final", "group": "settle", "outcome": "failed", "failure": "x"},
                {"name": "a_body_arrives", "group": "send", "outcome": "ignored"}]}
        ]"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_line_counts_each_outcome() {
        let wanted =
            "backend=sqs server=fauxqs_fifo cases=2 passed=1 ignored=0 deviations=1 failed=0";
        assert_eq!(line(Backend::Sqs, &runs()[0]), (wanted.to_owned(), 0));
        assert_eq!(line(Backend::Sqs, &runs()[1]).1, 1);
    }

    #[test]
    fn the_summary_replaces_what_stands_between_the_marks() {
        let begin = "<!-- conformance: written by `cargo xtask conformance` -->\n";
        let readme = format!("a\n{begin}old\n<!-- conformance: end -->\nb");
        let new = with_summary(&readme, &summary(&runs())).unwrap();
        assert!(
            new.starts_with("a\n") && new.ends_with("\nb") && !new.contains("old"),
            "{new}"
        );
        assert!(new.contains("| fauxqs fifo | 2 | 1 | 0 | 1 | 0 |"), "{new}");
        assert!(with_summary("no marks", "x").is_err());
    }

    #[test]
    fn the_matrix_has_a_row_per_case() {
        let text = matrix(&runs());
        assert!(
            text.contains("| case | fauxqs fifo | elasticmq |"),
            "{text}"
        );
        assert!(
            text.contains("| send: a body arrives | known | - |"),
            "{text}"
        );
        assert!(
            text.contains("| settle: an ack is final | yes | **no** |"),
            "{text}"
        );
    }
}
