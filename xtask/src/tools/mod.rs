//! The folder that holds what tasks install, and the programs they need to do so.

pub(crate) mod debian;
mod go;
mod maven;
mod node;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{process, signals, workspace};

/// The name of the file that says that an installation is complete.
const MARKER: &str = ".installed";

/// `.tools/` in the project root: everything that is installed, cached or written by tasks.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    root: PathBuf,
}

impl Tools {
    /// The project's own folder, created when it is missing.
    ///
    /// # Errors
    ///
    /// When the folder cannot be created.
    pub(crate) fn open() -> Result<Self> {
        Self::open_at(workspace::root().join(".tools"))
    }

    fn open_at(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root).with_context(|| format!("creating {}", root.display()))?;
        Ok(Self { root })
    }

    /// A place in the folder, which need not exist.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Waits until no other task changes the folder and keeps them out until the result is
    /// dropped.
    ///
    /// # Errors
    ///
    /// When the lock file cannot be opened, or a signal ends the wait.
    pub(crate) fn lock(&self) -> Result<File> {
        use rustix::fs::{FlockOperation, flock};

        let path = self.path(".lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            say!("waiting for another task that uses {}", self.root.display());
            loop {
                match flock(&file, FlockOperation::LockExclusive) {
                    Err(rustix::io::Errno::INTR) => signals::check()?,
                    locked => {
                        break locked.with_context(|| format!("locking {}", path.display()))?;
                    }
                }
            }
        }
        Ok(file)
    }

    /// Runs `install` on an empty folder of this name, unless that was done before with the same
    /// `fingerprint`: the version and whatever else the result depends on.
    ///
    /// # Errors
    ///
    /// When `install` fails; the next call starts afresh.
    pub(crate) fn installed(
        &self,
        name: &str,
        fingerprint: &str,
        install: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let folder = self.path(name);
        let marker = folder.join(MARKER);
        if fs::read_to_string(&marker).is_ok_and(|text| text == fingerprint) {
            return Ok(folder);
        }
        say!("installing {name} into {}", self.root.display());
        if folder.exists() {
            fs::remove_dir_all(&folder)
                .with_context(|| format!("removing the incomplete {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        install(&folder).with_context(|| format!("installing {name}"))?;
        fs::write(&marker, fingerprint).with_context(|| format!("writing {}", marker.display()))?;
        Ok(folder)
    }

    /// Removes a cache after the installation that filled it, for some take much room.
    ///
    /// # Errors
    ///
    /// When a file cannot be removed.
    pub(crate) fn forget(&self, cache: &Path) -> Result<()> {
        match fs::remove_dir_all(cache) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", cache.display()))
            }
            _ => Ok(()),
        }
    }
}

/// A version with a mark of the files of ours that the result is made from, so that a change of
/// either is seen.
pub(crate) fn fingerprint(version: &str, files: &[&str]) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};

    let mut hasher = DefaultHasher::new();
    files.hash(&mut hasher);
    format!("{version}-{:016x}", hasher.finish())
}

/// The path of a program that the shell would find.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Runs a command whose output goes to standard error, since standard output belongs to the
/// task's own answer.
///
/// # Errors
///
/// When the command cannot be started or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    let status = process::start(command.stdin(Stdio::null()).stdout(std::io::stderr()))
        .and_then(|mut child| process::wait(&mut child))
        .with_context(|| format!("running `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// What a command prints on standard output, trimmed; `None` when it cannot be run or fails.
pub(crate) fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

/// A command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// The first numbers of a version such as `v22.5.0` or `go1.26.8`, text around them left out.
fn version_numbers(text: &str) -> Option<(u32, u32)> {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut numbers = digits.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers
        .next()
        .and_then(|minor| minor.parse().ok())
        .unwrap_or(0);
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools() -> (tempfile::TempDir, Tools) {
        let folder = tempfile::tempdir().expect("a folder");
        let tools = Tools::open_at(folder.path().join("tools")).expect("the tools folder");
        (folder, tools)
    }

    #[test]
    fn what_is_installed_is_not_installed_again() {
        let (_folder, tools) = tools();
        let mut runs = 0;
        for _ in 0..2 {
            tools
                .installed("thing", "1.0", |_| {
                    runs += 1;
                    Ok(())
                })
                .expect("installed");
        }
        assert_eq!(runs, 1);
    }

    #[test]
    fn another_fingerprint_installs_afresh() {
        let (_folder, tools) = tools();
        let first = |folder: &Path| Ok(fs::write(folder.join("old"), "")?);
        let place = tools.installed("thing", "1.0", first).expect("installed");
        assert!(place.join("old").exists());
        let place = tools
            .installed("thing", "1.1", |_| Ok(()))
            .expect("installed");
        assert!(!place.join("old").exists());
    }

    #[test]
    fn the_fingerprint_changes_with_the_version_and_with_each_file() {
        let base = fingerprint("1.0", &["a", "b"]);
        assert_eq!(base, fingerprint("1.0", &["a", "b"]));
        for other in [
            ("1.1", ["a", "b"]),
            ("1.0", ["a", "c"]),
            ("1.0", ["ab", ""]),
        ] {
            assert_ne!(base, fingerprint(other.0, &other.1));
        }
    }

    #[test]
    fn a_failed_installation_is_tried_again() {
        let (_folder, tools) = tools();
        let failed = tools.installed("thing", "1.0", |folder| {
            fs::write(folder.join("half"), "")?;
            bail!("no network")
        });
        assert!(format!("{:#}", failed.expect_err("it failed")).contains("no network"));
        let place = tools
            .installed("thing", "1.0", |_| Ok(()))
            .expect("installed");
        assert!(!place.join("half").exists());
    }

    #[test]
    fn version_numbers_are_found_in_what_programs_print() {
        assert_eq!(version_numbers("v22.5.0"), Some((22, 5)));
        assert_eq!(
            version_numbers("go version go1.26.8 linux/amd64"),
            Some((1, 26))
        );
        assert_eq!(version_numbers("24"), Some((24, 0)));
        assert_eq!(version_numbers("unknown"), None);
    }

    #[test]
    fn a_command_is_shown_as_typed() {
        assert_eq!(
            show(Command::new("npm").args(["ci", "--omit=dev"])),
            "npm ci --omit=dev"
        );
    }
}
