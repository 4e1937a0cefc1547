//! Where the project's files are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable for `cargo xtask`; the compiled-in value serves a binary that is
    // started directly.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_path_buf)
}

/// A `cargo` command in the project root.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    // Cargo sets these for this program. Build scripts that look at them would be run again, and
    // once more when cargo is next started by hand.
    for (name, _) in std::env::vars_os() {
        let own = name.to_str().is_some_and(|name| {
            [
                "CARGO_PKG_",
                "CARGO_MANIFEST_",
                "CARGO_BIN_",
                "CARGO_CRATE_",
                "CARGO_PRIMARY_",
            ]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        });
        if own {
            command.env_remove(name);
        }
    }
    command
}

/// A command from [`cargo`] as one would type it, with the variables that were set for it.
pub(crate) fn cargo_line(command: &Command) -> String {
    let variables = command.get_envs().filter_map(|(name, value)| {
        Some(format!(
            "{}='{}' ",
            name.to_string_lossy(),
            value?.to_string_lossy()
        ))
    });
    // The program is a path inside the toolchain; `cargo` is what one types.
    let words = command
        .get_args()
        .map(|word| word.to_string_lossy().into_owned());
    let words: Vec<String> = std::iter::once("cargo".to_owned()).chain(words).collect();
    format!("{}{}", variables.collect::<String>(), words.join(" "))
}

/// The files of ours that a server is built from or started with.
pub(crate) fn server_sources(name: &str) -> PathBuf {
    root().join("xtask").join("servers").join(name)
}

/// Reads one of those files.
///
/// # Errors
///
/// When it cannot be read.
pub(crate) fn server_source(name: &str, file: &str) -> Result<String> {
    let path = server_sources(name).join(file);
    std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
}
