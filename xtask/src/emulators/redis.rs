//! Redis, for the example of an idempotency store.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Program;
use crate::tools::debian;

pub(super) struct Redis {
    server: PathBuf,
}

impl Redis {
    pub(super) fn install() -> Result<Self> {
        let server = debian::require(debian::REDIS)?;
        Ok(Self { server })
    }
}

impl Program for Redis {
    fn version(&self) -> &str {
        // Whatever the system has: the example uses what every version can do.
        "of the system"
    }

    fn command(&self, port: u16, folder: &Path) -> Result<Command> {
        let mut command = Command::new(&self.server);
        command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            // Nothing is written to disk.
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(folder);
        Ok(command)
    }
}
