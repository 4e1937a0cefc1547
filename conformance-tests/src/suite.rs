//! All cases against one harness, as a test binary.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::{
    Case, Deviation, Harness, Outcome, Report, cases, deviations,
    report::{Run, junit, markdown},
    run_case,
};

/// How many cases run at once in real time, where they mostly wait.
const REAL_TIME_THREADS: usize = 16;

/// All cases against one harness.
#[derive(Clone, Debug)]
pub struct Suite {
    name: String,
    /// The harness, or what is to be done to get one.
    harness: Result<Arc<dyn Harness>, String>,
    cases: Vec<Case>,
    deviations: Result<Vec<Deviation>, String>,
}

impl Suite {
    /// All cases against `harness`.
    pub fn new(harness: impl Harness) -> Self {
        Self {
            name: harness.name().to_owned(),
            harness: Ok(Arc::new(harness)),
            cases: cases(),
            deviations: Ok(Vec::new()),
        }
    }

    /// A suite whose server is not there: all cases are shown as ignored with `reason`, which says
    /// what is to be done; with `CONFORMANCE_REQUIRED=1` in the environment they fail.
    pub fn without_environment(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            harness: Err(reason.into()),
            cases: cases(),
            deviations: Ok(Vec::new()),
        }
    }

    /// The suite that `suite` makes of the value of an environment variable, or
    /// [one without environment](Self::without_environment) where it is not set.
    pub fn from_env(name: &str, variable: &str, suite: impl FnOnce(&str) -> Self) -> Self {
        match std::env::var(variable) {
            Ok(value) if !value.is_empty() => suite(&value),
            _ => Self::without_environment(name, format!("{variable} is not set")),
        }
    }

    /// Adds cases of your own.
    #[must_use]
    pub fn with_cases(mut self, more: impl IntoIterator<Item = Case>) -> Self {
        self.cases.extend(more);
        self
    }

    /// Accepts what a file of known deviations lists. A case that is listed and passes fails.
    ///
    /// ```toml
    /// [[deviation]]
    /// case = "purge_removes_everything"
    /// reason = "the server purges in the background"
    /// link = "https://example.com/issues/17"
    /// ```
    #[must_use]
    pub fn with_deviations(mut self, toml: &str) -> Self {
        self.deviations = deviations::read(toml, &self.cases);
        self
    }

    /// The name of the harness.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cases.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// Runs one case.
    pub fn run(&self, case: Case) -> Report {
        let failed = |failure: String| Report {
            case,
            outcome: Outcome::Failed { failure },
            elapsed: std::time::Duration::ZERO,
        };
        let harness = match &self.harness {
            Ok(harness) => harness.clone(),
            Err(reason) if is_required() => {
                return failed(format!("{reason}, and CONFORMANCE_REQUIRED=1 wants it"));
            }
            Err(reason) => {
                return Report {
                    outcome: Outcome::Ignored {
                        reason: reason.clone(),
                    },
                    ..failed(String::new())
                };
            }
        };
        let known = match &self.deviations {
            Ok(deviations) => deviations.iter().find(|known| known.case == case.name),
            Err(error) => return failed(format!("the file of known deviations: {error}")),
        };
        let mut report = run_case(harness, case);
        if let Some(known) = known {
            report.outcome = judge(known, report.outcome);
        }
        report
    }
}

/// What a known deviation makes of an outcome.
fn judge(known: &Deviation, outcome: Outcome) -> Outcome {
    let stale = |how: &str| Outcome::Failed {
        failure: format!(
            "it is {how}, but listed as a known deviation ({}); remove it from the list",
            known.reason
        ),
    };
    match outcome {
        Outcome::Failed { failure } => Outcome::Deviation {
            reason: known.reason.clone(),
            link: known.link.clone(),
            failure,
        },
        Outcome::Passed => stale("passed"),
        Outcome::Ignored { reason } => stale(&format!("ignored ({reason})")),
        outcome @ Outcome::Deviation { .. } => outcome,
    }
}

fn is_required() -> bool {
    std::env::var("CONFORMANCE_REQUIRED").is_ok_and(|value| value == "1")
}

/// The whole `main` of a test binary with `harness = false`: runs the suites under the usual
/// arguments of tests (`--list`, a filter, `--test-threads`, ...).
///
/// | variable | effect |
/// |---|---|
/// | `CONFORMANCE_REQUIRED=1` | a suite without environment fails instead of being ignored |
/// | `CONFORMANCE_JSON=FILE` | writes what was found as JSON |
/// | `CONFORMANCE_JUNIT=FILE` | writes what was found as JUnit XML |
/// | `CONFORMANCE_MARKDOWN=FILE` | writes what was found as a table, case by backend |
///
/// The last lines say, per suite, how many cases passed, were ignored, deviate as known, failed.
pub fn main(suites: impl IntoIterator<Item = Suite>) -> ExitCode {
    let suites: Vec<Suite> = suites.into_iter().collect();
    let mut arguments = Arguments::from_args();
    if arguments.test_threads.is_none() && suites.iter().any(Suite::waits) {
        arguments.test_threads = Some(REAL_TIME_THREADS);
    }
    let reports: Arc<Vec<Mutex<Vec<Report>>>> =
        Arc::new(suites.iter().map(|_| Mutex::default()).collect());
    let mut trials = Vec::new();
    for (i, suite) in suites.iter().enumerate() {
        for case in suite.cases.clone() {
            let suite = suite.clone();
            let reports = reports.clone();
            let name = format!("{}::{}", suite.name.replace(' ', "_"), case.path());
            trials.push(Trial::ignorable_test(name, move || {
                let report = suite.run(case);
                let completion = completion(&report.outcome);
                reports[i]
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(report);
                completion
            }));
        }
    }
    let is_list = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if is_list {
        return conclusion.exit_code();
    }
    let runs: Vec<Run> = suites
        .iter()
        .zip(reports.iter())
        .map(|(suite, reports)| {
            let reports = reports.lock().unwrap_or_else(PoisonError::into_inner);
            Run::new(&suite.name, reports.clone())
        })
        .filter(|run| !run.reports.is_empty())
        .collect();
    for run in &runs {
        print(&run.to_string());
    }
    let json = serde_json::to_string_pretty(&runs).unwrap_or_default();
    let written = [
        ("CONFORMANCE_JSON", json),
        ("CONFORMANCE_JUNIT", junit(&runs)),
        ("CONFORMANCE_MARKDOWN", markdown(&runs)),
    ]
    .into_iter()
    .try_for_each(|(variable, text)| write(variable, &text));
    if let Err(error) = written {
        print(&error);
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

impl Suite {
    fn waits(&self) -> bool {
        self.harness
            .as_ref()
            .is_ok_and(|harness| !harness.timing().is_paused)
    }
}

#[expect(clippy::print_stdout, reason = "the output of a test binary")]
fn print(line: &str) {
    println!("{line}");
}

fn write(variable: &str, text: &str) -> Result<(), String> {
    let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) else {
        return Ok(());
    };
    let path = PathBuf::from(path);
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(&path, text))
        .map_err(|error| format!("{variable}={}: {error}", path.display()))
}

fn completion(outcome: &Outcome) -> Result<Completion, Failed> {
    match outcome {
        Outcome::Passed => Ok(Completion::Completed),
        Outcome::Ignored { reason } => Ok(Completion::ignored_with(reason)),
        Outcome::Deviation { reason, link, .. } => Ok(Completion::ignored_with(format!(
            "known deviation: {reason} ({link})"
        ))),
        Outcome::Failed { failure } => Err(failure.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_deviation_must_go_on_failing() {
        let known = Deviation {
            case: "x".into(),
            reason: "lax".into(),
            link: "https://example.com".into(),
        };
        let failure = "it deletes".to_owned();
        let failed = judge(&known, Outcome::Failed { failure });
        assert!(matches!(failed, Outcome::Deviation { .. }));
        for outcome in [
            Outcome::Passed,
            Outcome::Ignored {
                reason: "no purge".into(),
            },
        ] {
            let Outcome::Failed { failure } = judge(&known, outcome) else {
                panic!("a stale deviation must fail");
            };
            assert!(failure.contains("remove it"), "{failure}");
        }
    }
}
