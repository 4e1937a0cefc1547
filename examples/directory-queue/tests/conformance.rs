//! The proof that the directory queue keeps towpath's contract.

use std::process::ExitCode;

use directory_queue::DirectoryBackend;
use towpath_conformance::{Suite, UrlHarness};
use towpath_core::Registry;

fn main() -> ExitCode {
    let root = tempfile::tempdir().expect("a temporary directory can be made");
    let url = format!("directory://{{name}}?root={}", root.path().display());
    towpath_conformance::main([Suite::new(UrlHarness::new(
        "directory",
        || Registry::new().with(DirectoryBackend),
        url,
    ))])
}
