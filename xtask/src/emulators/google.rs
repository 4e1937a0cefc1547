//! Google's own Pub/Sub emulator, part of the Google Cloud CLI.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Program;
use crate::tools::{self, Tools, debian};
use crate::workspace;

/// Names the jar where it is not in a usual place.
const VARIABLE: &str = "TOWPATH_PUBSUB_EMULATOR_JAR";
/// The version that is packed with two versions of gRPC that do not fit: it does not notice when a
/// client cancels a stream or its connection breaks, and goes on sending messages there.
const UNFIT: [u32; 3] = [0, 8, 20];
/// The version of `io.grpc:grpc-api` in `pom.xml`, that of the rest of gRPC in that emulator.
const GRPC: &str = "1.68.1";
const MAIN: &str = "com.google.cloud.pubsub.testing.v1.Main";
/// Where a Google Cloud CLI keeps the emulator.
const COMPONENT: &str = "platform/pubsub-emulator/lib";

pub(super) struct Emulator {
    java: PathBuf,
    /// The jar, after what mends it.
    classes: Vec<PathBuf>,
    version: String,
}

impl Emulator {
    /// Finds the emulator, which no package registry has, and mends it where it is broken.
    pub(super) fn install(tools: &Tools) -> Result<Self> {
        let jar = find()?.with_context(missing)?;
        let java = debian::require(debian::JAVA)?;
        let mut version = jar.display().to_string();
        let mut classes = Vec::new();
        if is_unfit(&jar) {
            let pom = workspace::server_source("google", "pom.xml")?;
            let fingerprint = tools::fingerprint(GRPC, &[&pom]);
            let folder = tools.installed(&format!("grpc-api-{GRPC}"), &fingerprint, |folder| {
                tools.maven_jars(&pom, folder)
            })?;
            version = format!("{version} {fingerprint}");
            classes.push(folder.join("lib").join(format!("grpc-api-{GRPC}.jar")));
        }
        classes.push(jar);
        Ok(Self {
            java,
            classes,
            version,
        })
    }
}

impl Program for Emulator {
    fn version(&self) -> &str {
        &self.version
    }

    fn command(&self, port: u16, _folder: &Path) -> Result<Command> {
        let mut command = Command::new(&self.java);
        command
            .arg("-cp")
            .arg(std::env::join_paths(&self.classes).context("the path of the emulator")?)
            .arg(MAIN)
            .arg("--host=127.0.0.1")
            .arg(format!("--port={port}"));
        Ok(command)
    }
}

fn is_unfit(jar: &Path) -> bool {
    let name = jar.file_name().and_then(|name| name.to_str());
    name.and_then(version).is_some_and(|found| found == UNFIT)
}

/// Whether there is no emulator on this machine.
///
/// # Errors
///
/// When one is named that is not there.
pub(super) fn is_missing() -> Result<bool> {
    Ok(find()?.is_none())
}

/// How to come by the emulator.
pub(super) fn missing() -> String {
    format!(
        "Google's Pub/Sub emulator is not installed. Install it with one of\n\
         \x20   gcloud components install pubsub-emulator\n\
         \x20   sudo apt-get install google-cloud-cli-pubsub-emulator   \
         (with Google's package source, https://cloud.google.com/sdk/docs/install)\n\
         or name its jar: export {VARIABLE}=/path/to/cloud-pubsub-emulator-VERSION-all.jar"
    )
}

fn find() -> Result<Option<PathBuf>> {
    if let Some(jar) = std::env::var_os(VARIABLE) {
        let jar = PathBuf::from(jar);
        if !jar.is_file() {
            bail!("{VARIABLE} names {}, which is not a file", jar.display());
        }
        // The emulator runs in a folder of its own.
        return jar
            .canonicalize()
            .map(Some)
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
        return Ok(Some(jar));
    }
    // Asking takes a second, so it comes last.
    let asked = tools::find("gcloud").and_then(|gcloud| {
        tools::output(Command::new(gcloud).args(["info", "--format=value(installation.sdk_root)"]))
    });
    folders.clear();
    folders.extend(asked.map(PathBuf::from));
    Ok(newest_jar(&folders))
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
    fn only_the_version_that_does_not_fit_is_mended() {
        for (name, unfit) in [
            ("cloud-pubsub-emulator-0.8.20-all.jar", true),
            ("cloud-pubsub-emulator-0.8.19-all.jar", false),
            ("cloud-pubsub-emulator-0.8.21-all.jar", false),
            ("emulator.jar", false),
        ] {
            assert_eq!(is_unfit(&Path::new("lib").join(name)), unfit, "{name}");
        }
        let pom = workspace::server_source("google", "pom.xml").expect("the pom");
        assert!(pom.contains(&format!("<version>{GRPC}</version>")));
    }

    #[test]
    fn nothing_is_found_where_there_is_nothing() {
        let temp = tempfile::tempdir().expect("a folder");
        assert_eq!(newest_jar(&[temp.path().to_path_buf()]), None);
        assert_eq!(newest_jar(&[]), None);
    }
}
