//! What the test programs said, in sum.

use std::fmt;

/// The results of all test programs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    programs: usize,
    passed: u64,
    failed: u64,
    ignored: u64,
    failures: Vec<String>,
}

impl Outcome {
    /// Counts what a line of output says; most say nothing.
    pub(super) fn read(&mut self, line: &str) {
        let line = line.trim();
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.programs += 1;
            self.passed += count(counts, "passed");
            self.failed += count(counts, "failed");
            self.ignored += count(counts, "ignored");
        } else if let Some(name) = failure(line) {
            self.failures.push(name.to_owned());
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.failures {
            writeln!(f, "failed: {name}")?;
        }
        write!(
            f,
            "{} passed, {} failed, {} ignored in {} test programs",
            self.passed, self.failed, self.ignored, self.programs
        )
    }
}

/// The number before a word in `ok. 3 passed; 0 failed; ...`.
fn count(counts: &str, word: &str) -> u64 {
    let mut words = counts
        .split([' ', ';'])
        .filter(|part| !part.is_empty())
        .peekable();
    while let Some(part) = words.next() {
        if words.peek() == Some(&word) {
            return part.parse().unwrap_or(0);
        }
    }
    0
}

/// The name in `test NAME ... FAILED`.
fn failure(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?
        .strip_suffix(" ... FAILED")
        .map(str::trim_end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test lease::expires ... ok
test lease::is_kept ... FAILED
test order::holds ... ignored, no ordering here

failures:
    lease::is_kept

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s

test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.50s
";

    #[test]
    fn results_of_all_programs_are_summed() {
        let mut outcome = Outcome::default();
        OUTPUT.lines().for_each(|line| outcome.read(line));
        assert_eq!(
            outcome,
            Outcome {
                programs: 2,
                passed: 13,
                failed: 1,
                ignored: 1,
                failures: vec!["lease::is_kept".to_owned()],
            }
        );
        assert_eq!(
            outcome.to_string(),
            "failed: lease::is_kept\n13 passed, 1 failed, 1 ignored in 2 test programs"
        );
    }
}
