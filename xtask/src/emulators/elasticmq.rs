//! ElasticMQ, an SQS server from Maven Central.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Program;
use crate::tools::{self, Tools, debian};
use crate::workspace;

/// The version in `pom.xml`.
const VERSION: &str = "1.7.1";

pub(super) struct ElasticMq {
    java: PathBuf,
    folder: PathBuf,
    fingerprint: String,
}

impl ElasticMq {
    pub(super) fn install(tools: &Tools) -> Result<Self> {
        let java = debian::require(debian::JAVA)?;
        let pom = workspace::server_source("elasticmq", "pom.xml")?;
        let config = workspace::server_source("elasticmq", "elasticmq.conf")?;
        let fingerprint = tools::fingerprint(VERSION, &[&pom, &config]);
        let folder = tools.installed(&format!("elasticmq-{VERSION}"), &fingerprint, |folder| {
            tools.maven_jars(&pom, folder)?;
            Ok(fs::write(folder.join("elasticmq.conf"), &config)?)
        })?;
        Ok(Self {
            java,
            folder,
            fingerprint,
        })
    }
}

impl Program for ElasticMq {
    fn version(&self) -> &str {
        &self.fingerprint
    }

    fn command(&self, port: u16, _folder: &Path) -> Result<Command> {
        let mut command = Command::new(&self.java);
        command
            .arg(format!(
                "-Dconfig.file={}",
                self.folder.join("elasticmq.conf").display()
            ))
            .arg(format!("-Dtowpath.port={port}"))
            .arg("-cp")
            // Java itself expands the asterisk to all the jars.
            .arg(self.folder.join("lib").join("*"))
            .arg("org.elasticmq.server.Main");
        Ok(command)
    }

    /// A long poll of a FIFO queue whose message groups are all locked is tried again and again
    /// without a pause until it ends. Some of them at once would take all cores for seconds, and
    /// leases would run out that the tests, without a core, could not extend.
    fn takes_one_core(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_pom() {
        let pom = workspace::server_source("elasticmq", "pom.xml").expect("the pom");
        let (_, server) = pom
            .split_once("<artifactId>elasticmq-server_")
            .expect("the server");
        let (_, version) = server.split_once("<version>").expect("its version");
        assert!(
            version.starts_with(&format!("{VERSION}</version>")),
            "{version}"
        );
    }
}
