//! Developer tasks of the towpath workspace.
fn main() {}
