//! The worker runtime of towpath: concurrency by permits, retries, dead letters and drain.
