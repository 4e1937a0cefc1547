//! Benchmarks of towpath beside its peers: `cargo bench -p towpath-benches`.
