//! pstest, the fake of Pub/Sub that Google tests its Go client against, in a program of ours that
//! serves HTTP/JSON beside gRPC.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Program;
use crate::tools::{self, Tools};
use crate::workspace;

/// The version of `cloud.google.com/go/pubsub/v2` in `go.mod`.
const VERSION: &str = "2.8.1";
/// What the program is made from.
const SOURCES: [&str; 6] = [
    "go.mod",
    "go.sum",
    "main.go",
    "guard.go",
    "faults.go",
    "rest.go",
];

pub(super) struct Pstest {
    binary: PathBuf,
    fingerprint: String,
}

impl Pstest {
    pub(super) fn install(tools: &Tools) -> Result<Self> {
        let mut sources = Vec::new();
        for file in SOURCES {
            sources.push(workspace::server_source("pstest", file)?);
        }
        let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
        let fingerprint = tools::fingerprint(VERSION, &sources);
        let folder = tools.installed(&format!("pstest-{VERSION}"), &fingerprint, |folder| {
            tools.go_build(&workspace::server_sources("pstest"), &folder.join("pstest"))
        })?;
        Ok(Self {
            binary: folder.join("pstest"),
            fingerprint,
        })
    }
}

impl Program for Pstest {
    fn version(&self) -> &str {
        &self.fingerprint
    }

    fn command(&self, port: u16, _folder: &Path) -> Result<Command> {
        let mut command = Command::new(&self.binary);
        command.arg("-port").arg(port.to_string());
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_version_is_that_of_the_module() {
        let module = workspace::server_source("pstest", "go.mod").expect("go.mod");
        let line = format!("cloud.google.com/go/pubsub/v2 v{VERSION}");
        assert!(module.lines().any(|found| found.trim() == line), "{module}");
    }

    #[test]
    fn every_file_of_the_program_is_listed() {
        let folder = fs::read_dir(workspace::server_sources("pstest")).expect("the folder");
        let mut files: Vec<String> = folder
            .map(|entry| {
                entry
                    .expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .filter(|name| !name.ends_with("_test.go"))
            .collect();
        files.sort();
        let mut listed = SOURCES.to_vec();
        listed.sort_unstable();
        assert_eq!(files, listed);
    }
}
