//! `cargo xtask ci`: what has to hold before a change is merged.

use std::{
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::{process, test, tools, workspace};

/// The package whose features are each checked alone.
const FACADE: &str = "towpath";

/// What `cargo xtask ci` takes.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave these steps out
    #[arg(long, value_enum, value_name = "STEP", value_delimiter = ',')]
    skip: Vec<Step>,
}

/// A part of what is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// The code is formatted
    Fmt,
    /// No lint has anything to say
    Clippy,
    /// The documentation builds without a warning
    Docs,
    /// The facade compiles with no feature and with each feature alone
    Features,
    /// Every crate could be published: its metadata is whole, and it packs
    Publish,
    /// All tests pass
    Test,
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Docs => "docs",
            Self::Features => "features",
            Self::Publish => "publish",
            Self::Test => "test",
        }
    }

    /// The commands of the step, except for the tests, which are run in this process.
    fn commands(self) -> Result<Vec<Command>> {
        Ok(match self {
            Self::Fmt => vec![cargo(&["fmt", "--all", "--check"])],
            Self::Clippy => {
                vec![cargo(&[
                    "clippy",
                    "--workspace",
                    "--all-targets",
                    "--",
                    "-D",
                    "warnings",
                ])]
            }
            Self::Docs => {
                let mut docs = cargo(&["doc", "--workspace", "--no-deps"]);
                docs.env("RUSTDOCFLAGS", "-D warnings");
                vec![docs]
            }
            Self::Features => {
                let alone = ["check", "--package", FACADE, "--no-default-features"];
                let mut commands = vec![cargo(&alone)];
                for feature in features()? {
                    let mut command = cargo(&alone);
                    command.args(["--features", &feature]);
                    commands.push(command);
                }
                commands
            }
            Self::Publish => {
                let lacking = lacking(&metadata()?)?;
                if !lacking.is_empty() {
                    bail!("not ready to be published:\n    {}", lacking.join("\n    "));
                }
                // The same sources were built by the steps before; building them once more from the
                // packages takes as long as all of these.
                vec![cargo(&[
                    "publish",
                    "--workspace",
                    "--dry-run",
                    "--no-verify",
                    "--allow-dirty",
                ])]
            }
            Self::Test => Vec::new(),
        })
    }

    fn run(self) -> Result<()> {
        for mut command in self.commands()? {
            let line = workspace::cargo_line(&command);
            say!("$ {line}");
            let child = process::start(command.stdin(Stdio::null()));
            let status = child
                .and_then(|mut child| process::wait(&mut child))
                .with_context(|| format!("running `{line}`"))?;
            if !status.success() {
                bail!("{} failed; run it again with:\n    {line}", self.name());
            }
        }
        if self == Self::Test && test::run(&test::Options::default())? != ExitCode::SUCCESS {
            bail!("test failed; run it again with:\n    cargo xtask test");
        }
        Ok(())
    }
}

/// Runs the steps in their order up to the first that fails.
///
/// # Errors
///
/// When a step fails: its name and the line that runs it again.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    for &step in Step::value_variants() {
        if options.skip.contains(&step) {
            say!("== {}: left out", step.name());
            continue;
        }
        say!("== {}", step.name());
        let begun = Instant::now();
        step.run()?;
        say!(
            "== {}: passed in {:.1} s",
            step.name(),
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = workspace::cargo();
    command.args(arguments);
    command
}

/// What cargo knows of the packages.
fn metadata() -> Result<String> {
    let mut command = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    tools::output(&mut command).with_context(|| format!("`{}` failed", tools::show(&command)))
}

fn packages(metadata: &str) -> Result<Vec<Value>> {
    let mut metadata: Value =
        serde_json::from_str(metadata).context("reading what `cargo metadata` printed")?;
    Ok(match metadata["packages"].take() {
        Value::Array(packages) => packages,
        _ => Vec::new(),
    })
}

/// What the packages lack that are to be published, a line each.
fn lacking(metadata: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for package in packages(metadata)? {
        // `publish = false` is an empty list of registries.
        if package["publish"].as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        let name = package["name"].as_str().unwrap_or_default();
        for key in ["description", "license", "repository", "readme"] {
            if package[key].as_str().is_none_or(str::is_empty) {
                lines.push(format!("{name} has no {key} in its Cargo.toml"));
            }
        }
        for key in ["keywords", "categories"] {
            if package[key].as_array().is_none_or(Vec::is_empty) {
                lines.push(format!("{name} has no {key} in its Cargo.toml"));
            }
        }
        let folder = package["manifest_path"].as_str().map(Path::new);
        let folder = folder.and_then(Path::parent).unwrap_or(Path::new(""));
        for file in ["LICENSE-MIT", "LICENSE-APACHE"] {
            if !folder.join(file).is_file() {
                lines.push(format!(
                    "{name} has no {file}; link it to that of the workspace"
                ));
            }
        }
    }
    Ok(lines)
}

/// The features of the facade, without `default`.
fn features() -> Result<Vec<String>> {
    features_in(&metadata()?)
}

fn features_in(metadata: &str) -> Result<Vec<String>> {
    let packages = packages(metadata)?;
    let facade = packages.iter().find(|package| package["name"] == FACADE);
    let features = facade
        .and_then(|package| package["features"].as_object())
        .with_context(|| format!("`cargo metadata` names no package {FACADE}"))?;
    Ok(features
        .keys()
        .filter(|name| *name != "default")
        .cloned()
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_are_those_of_the_facade_without_the_default() {
        let metadata = r#"{"packages": [
            {"name": "towpath-core", "features": {"other": []}},
            {"name": "towpath", "features": {"default": ["memory"], "memory": [], "sqs": []}}
        ]}"#;
        assert_eq!(
            features_in(metadata).expect("the features"),
            ["memory", "sqs"]
        );
    }

    #[test]
    fn what_a_package_lacks_is_named() {
        let metadata = r#"{"packages": [
            {"name": "private", "publish": [], "manifest_path": "/nowhere/Cargo.toml"},
            {"name": "bare", "publish": null, "manifest_path": "/nowhere/Cargo.toml",
             "description": "x", "license": "MIT", "repository": "", "keywords": ["x"]}
        ]}"#;
        let lines = lacking(metadata).expect("the lines");
        let wanted = [
            "bare has no repository in its Cargo.toml",
            "bare has no readme in its Cargo.toml",
            "bare has no categories in its Cargo.toml",
            "bare has no LICENSE-MIT; link it to that of the workspace",
            "bare has no LICENSE-APACHE; link it to that of the workspace",
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn a_missing_facade_is_an_error() {
        for metadata in [
            r#"{"packages": []}"#,
            r#"{"packages": [{"name": "other"}]}"#,
            "{}",
            "",
        ] {
            assert!(features_in(metadata).is_err(), "{metadata}");
        }
    }

    #[test]
    fn the_line_to_run_again_has_the_variables() {
        let docs = Step::Docs.commands().expect("the commands");
        assert_eq!(
            workspace::cargo_line(&docs[0]),
            "RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps"
        );
    }
}
