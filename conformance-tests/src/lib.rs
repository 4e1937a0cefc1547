//! The conformance tests of towpath, for any backend.
