//! Google's own Pub/Sub emulator, part of the Google Cloud CLI.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Program;
use crate::tools::{self, debian};

/// Names the jar where it is not in a usual place.
const VARIABLE: &str = "TOWPATH_PUBSUB_EMULATOR_JAR";
/// Where a Google Cloud CLI keeps the emulator.
const COMPONENT: &str = "platform/pubsub-emulator/lib";

pub(super) struct Emulator {
    java: PathBuf,
    jar: PathBuf,
    version: String,
}

impl Emulator {
    /// Finds the emulator, which no package registry has.
    pub(super) fn find() -> Result<Self> {
        let jar = jar()?;
        let java = debian::require(debian::JAVA)?;
        let version = jar.display().to_string();
        Ok(Self { java, jar, version })
    }
}

impl Program for Emulator {
    fn version(&self) -> &str {
        &self.version
    }

    fn command(&self, port: u16, _folder: &Path) -> Result<Command> {
        let mut command = Command::new(&self.java);
        command
            .arg("-jar")
            .arg(&self.jar)
            .arg("--host=127.0.0.1")
            .arg(format!("--port={port}"));
        Ok(command)
    }
}

fn jar() -> Result<PathBuf> {
    if let Some(jar) = std::env::var_os(VARIABLE) {
        let jar = PathBuf::from(jar);
        if !jar.is_file() {
            bail!("{VARIABLE} names {}, which is not a file", jar.display());
        }
        // The emulator runs in a folder of its own.
        return jar
            .canonicalize()
            .with_context(|| format!("finding {}", jar.display()));
    }
    let mut folders = vec![
        PathBuf::from("/usr/lib/google-cloud-sdk"),
        PathBuf::from("/usr/share/google-cloud-sdk"),
        PathBuf::from("/opt/google-cloud-sdk"),
        PathBuf::from("/usr/local/google-cloud-sdk"),
        PathBuf::from("/opt/homebrew/share/google-cloud-sdk"),
    ];
    folders.extend(std::env::home_dir().map(|home| home.join("google-cloud-sdk")));
    if let Some(jar) = newest_jar(&folders) {
        return Ok(jar);
    }
    // Asking takes a second, so it comes last.
    let asked = tools::find("gcloud").and_then(|gcloud| {
        tools::output(Command::new(gcloud).args(["info", "--format=value(installation.sdk_root)"]))
    });
    folders.clear();
    folders.extend(asked.map(PathBuf::from));
    newest_jar(&folders).with_context(|| {
        format!(
            "Google's Pub/Sub emulator is not installed. Install it with one of\n\
             \x20   gcloud components install pubsub-emulator\n\
             \x20   sudo apt-get install google-cloud-cli-pubsub-emulator   \
             (with Google's package source, https://cloud.google.com/sdk/docs/install)\n\
             or name its jar: export {VARIABLE}=/path/to/cloud-pubsub-emulator-VERSION-all.jar"
        )
    })
}

/// The emulator of the first of these folders that has one; its newest where there are several.
fn newest_jar(folders: &[PathBuf]) -> Option<PathBuf> {
    folders.iter().find_map(|folder| {
        let entries = std::fs::read_dir(folder.join(COMPONENT)).ok()?;
        let jars = entries.filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((version(path.file_name()?.to_str()?)?, path))
        });
        jars.max().map(|(_, jar)| jar)
    })
}

/// The version in `cloud-pubsub-emulator-VERSION-all.jar`.
fn version(name: &str) -> Option<Vec<u32>> {
    let version = name
        .strip_prefix("cloud-pubsub-emulator-")?
        .strip_suffix("-all.jar")?;
    version
        .split('.')
        .map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sdk(folder: &Path, files: &[&str]) -> PathBuf {
        let lib = folder.join(COMPONENT);
        fs::create_dir_all(&lib).expect("a folder");
        for file in files {
            fs::write(lib.join(file), "").expect("a file");
        }
        folder.to_path_buf()
    }

    #[test]
    fn the_first_folder_that_has_the_emulator_is_taken() {
        let temp = tempfile::tempdir().expect("a folder");
        let missing = temp.path().join("missing");
        let empty = sdk(&temp.path().join("empty"), &["LICENSE"]);
        let first = sdk(
            &temp.path().join("first"),
            &["cloud-pubsub-emulator-0.8.2-all.jar"],
        );
        let second = sdk(
            &temp.path().join("second"),
            &["cloud-pubsub-emulator-0.9.0-all.jar"],
        );
        let jar = newest_jar(&[missing, empty, first.clone(), second]);
        assert_eq!(
            jar,
            Some(
                first
                    .join(COMPONENT)
                    .join("cloud-pubsub-emulator-0.8.2-all.jar")
            )
        );
    }

    #[test]
    fn the_newest_version_is_taken_by_number_not_by_letter() {
        let temp = tempfile::tempdir().expect("a folder");
        let folder = sdk(
            temp.path(),
            &[
                "cloud-pubsub-emulator-0.8.9-all.jar",
                "cloud-pubsub-emulator-0.8.20-all.jar",
                "cloud-pubsub-emulator-0.8.20-sources.jar",
                "other-0.9.0-all.jar",
            ],
        );
        let jar = newest_jar(&[folder]).expect("a jar");
        assert!(
            jar.ends_with("cloud-pubsub-emulator-0.8.20-all.jar"),
            "{}",
            jar.display()
        );
    }

    #[test]
    fn nothing_is_found_where_there_is_nothing() {
        let temp = tempfile::tempdir().expect("a folder");
        assert_eq!(newest_jar(&[temp.path().to_path_buf()]), None);
        assert_eq!(newest_jar(&[]), None);
    }
}
