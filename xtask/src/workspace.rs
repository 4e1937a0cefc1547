//! Where the project's files are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable for `cargo xtask`; the compiled-in value serves a binary that is
    // started directly.
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    package.parent().map_or(package.clone(), Path::to_path_buf)
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
