//! System packages: installed where this is possible without asking, named otherwise.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{find, run};

/// A program that comes with a system package.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    /// The command's name.
    pub(crate) name: &'static str,
    /// The Debian packages that bring it.
    pub(crate) packages: &'static [&'static str],
}

/// Runs ElasticMQ and Google's Pub/Sub emulator.
pub(crate) const JAVA: Program = Program {
    name: "java",
    packages: &["default-jre-headless"],
};
/// Fetches ElasticMQ.
pub(crate) const MAVEN: Program = Program {
    name: "mvn",
    packages: &["maven"],
};
/// Fetches Go where the system has none or an older one.
pub(crate) const PYTHON: Program = Program {
    name: "python3",
    packages: &["python3", "python3-venv"],
};
/// Installs fauxqs, and Node.js itself where the system's is too old.
pub(crate) const NPM: Program = Program {
    name: "npm",
    packages: &["nodejs", "npm"],
};

/// Remembers handled messages in an example.
pub(crate) const REDIS: Program = Program {
    name: "redis-server",
    packages: &["redis-server"],
};

/// The path of the program, installed first when it is missing, the system is Debian or made from
/// it, and this runs as root.
///
/// # Errors
///
/// When the program is missing and cannot be installed; the error names the line that does.
pub(crate) fn require(program: Program) -> Result<PathBuf> {
    if let Some(path) = find(program.name) {
        return Ok(path);
    }
    install(program.name, program.packages)?;
    find(program.name)
        .with_context(|| format!("{} brought no {}", program.packages.join(" "), program.name))
}

/// Installs packages because `missing` is not there.
///
/// # Errors
///
/// When this does not run as root on Debian or a system made from it, or the packages cannot be
/// had.
pub(crate) fn install(missing: &str, packages: &[&str]) -> Result<()> {
    if find("apt-get").is_none() || !rustix::process::geteuid().is_root() {
        bail!(
            "{missing} is not installed; on Debian and Ubuntu: sudo apt-get install -y {}",
            packages.join(" ")
        );
    }
    say!(
        "{missing} is not installed; installing {}",
        packages.join(" ")
    );
    run(apt_get().arg("update"))?;
    run(apt_get()
        .args(["install", "-y", "--no-install-recommends"])
        .args(packages))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .current_dir(Path::new("/"));
    command
}
