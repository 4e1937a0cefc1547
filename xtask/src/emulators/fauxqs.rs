//! fauxqs, an SQS server from npm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Program;
use crate::tools::{self, Tools};
use crate::workspace;

/// Tells tests how to start a server of their own, for instance one to kill: the words of the
/// command as a JSON list, to which they add a port and a folder for its messages.
const COMMAND: &str = "TOWPATH_FAUXQS_COMMAND";
/// The version in `package.json`.
const VERSION: &str = "2.4.1";

pub(super) struct Fauxqs {
    node: PathBuf,
    main: PathBuf,
    fingerprint: String,
}

impl Fauxqs {
    pub(super) fn install(tools: &Tools) -> Result<Self> {
        let node = tools.node()?;
        let main = workspace::server_source("fauxqs", "main.mjs")?;
        let lock = workspace::server_source("fauxqs", "package-lock.json")?;
        let fingerprint = tools::fingerprint(VERSION, &[&main, &lock]);
        let folder = tools.installed(&format!("fauxqs-{VERSION}"), &fingerprint, |folder| {
            tools.npm_ci(&workspace::server_sources("fauxqs"), folder)?;
            Ok(fs::write(folder.join("main.mjs"), &main)?)
        })?;
        Ok(Self {
            node,
            main: folder.join("main.mjs"),
            fingerprint,
        })
    }
}

impl Program for Fauxqs {
    fn version(&self) -> &str {
        &self.fingerprint
    }

    fn command(&self, port: u16, _folder: &Path) -> Result<Command> {
        let mut command = Command::new(&self.node);
        command.arg(&self.main).arg(port.to_string());
        Ok(command)
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let words = [&self.node, &self.main].map(|word| word.to_string_lossy());
        vec![(COMMAND, serde_json::json!(words).to_string())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_package_file() {
        let package = workspace::server_source("fauxqs", "package.json").expect("the file");
        let package: serde_json::Value = serde_json::from_str(&package).expect("JSON");
        assert_eq!(package["dependencies"]["fauxqs"], VERSION);
    }
}
