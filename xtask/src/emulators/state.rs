//! What runs: kept in a file between commands, and told to tests as environment variables.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Server;
use crate::process::Identity;

/// A server that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// The server's name.
    pub(super) name: String,
    /// What was started.
    pub(super) version: String,
    /// The process.
    pub(super) process: Identity,
    /// The loopback port it serves on.
    pub(super) port: u16,
    /// The variables that tell tests of it.
    pub(super) env: BTreeMap<String, String>,
}

impl Running {
    pub(super) fn new(server: Server, version: &str, process: Identity, port: u16) -> Self {
        let endpoint = format!("{}://127.0.0.1:{port}", server.protocol().scheme());
        Self {
            name: server.name().to_owned(),
            version: version.to_owned(),
            process,
            port,
            env: BTreeMap::from([(server.variable().to_owned(), endpoint)]),
        }
    }
}

/// The servers that the file names; none when there is no file.
///
/// # Errors
///
/// When the file cannot be read or was not written by this program.
pub(super) fn read(path: &Path) -> Result<Vec<Running>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| {
            format!(
                "{} is damaged; stop the servers it names and remove it",
                path.display()
            )
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Replaces the file, which is removed when nothing runs.
///
/// # Errors
///
/// When the file cannot be written or removed.
pub(super) fn write(path: &Path, running: &[Running]) -> Result<()> {
    if running.is_empty() {
        return match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", path.display()))
            }
            _ => Ok(()),
        };
    }
    // A command that is killed in between leaves the old file whole.
    let new = path.with_extension("json.new");
    fs::write(&new, serde_json::to_vec_pretty(running)?)
        .with_context(|| format!("writing {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("writing {}", path.display()))
}

/// The variables of all these servers.
pub(crate) fn environment(running: &[Running]) -> BTreeMap<String, String> {
    running
        .iter()
        .flat_map(|server| server.env.clone())
        .collect()
}

/// Lines that a POSIX shell evaluates to set the variables.
pub(super) fn shell_lines(environment: &BTreeMap<String, String>) -> String {
    environment
        .iter()
        .map(|(name, value)| format!("export {name}={}\n", quoted(value)))
        .collect()
}

/// A word that the shell reads as exactly this text.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+=,".contains(c);
    if !value.is_empty() && value.chars().all(plain) {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(server: Server, port: u16) -> Running {
        let process = Identity::of(std::process::id()).expect("this process runs");
        Running::new(server, "1.0", process, port)
    }

    #[test]
    fn the_environment_names_each_server_once() {
        let servers = [
            running(Server::Google, 20_002),
            running(Server::Fauxqs, 20_001),
        ];
        assert_eq!(
            shell_lines(&environment(&servers)),
            "export TOWPATH_FAUXQS_ENDPOINT=http://127.0.0.1:20001\n\
             export TOWPATH_PUBSUB_EMULATOR_ENDPOINT=http://127.0.0.1:20002\n"
        );
    }

    #[test]
    fn values_that_the_shell_would_read_otherwise_are_quoted() {
        assert_eq!(quoted("http://127.0.0.1:9324"), "http://127.0.0.1:9324");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("emulators.json");
        assert_eq!(read(&path).expect("no file is fine"), []);
        let servers = [running(Server::Fauxqs, 20_001)];
        write(&path, &servers).expect("written");
        assert_eq!(read(&path).expect("read"), servers);
        write(&path, &[]).expect("removed");
        assert!(!path.exists());
        write(&path, &[]).expect("removing nothing is fine");
    }

    #[test]
    fn a_damaged_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("emulators.json");
        fs::write(&path, "[{").expect("written");
        let error = read(&path).expect_err("it is damaged");
        assert!(error.to_string().contains("emulators.json"), "{error}");
    }
}
