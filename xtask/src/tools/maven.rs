//! Jars from Maven Central.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::{Tools, debian, run};

impl Tools {
    /// Copies what `pom` depends on into the folder's `lib`.
    ///
    /// # Errors
    ///
    /// When Maven is missing and cannot be installed, or cannot fetch something.
    pub(crate) fn maven_jars(&self, pom: &str, folder: &Path) -> Result<()> {
        let maven = debian::require(debian::MAVEN)?;
        // A copy, so that Maven leaves nothing beside the committed file.
        fs::write(folder.join("pom.xml"), pom)?;
        let repository = self.path("maven");
        let local = format!("-Dmaven.repo.local={}", repository.display());
        let mut command = Command::new(maven);
        command
            .current_dir(folder)
            .args(["--batch-mode", "--quiet", "-Dstyle.color=never", &local])
            .args([
                "dependency:copy-dependencies",
                "-DincludeScope=runtime",
                "-DoutputDirectory=lib",
            ]);
        run(&mut command)?;
        fs::read_dir(folder.join("lib")).context("Maven copied nothing")?;
        self.forget(&repository)
    }
}
