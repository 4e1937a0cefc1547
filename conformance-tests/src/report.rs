//! What was found, for people and for machines.

use std::{collections::BTreeSet, fmt, fmt::Write};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{Outcome, Report};

/// The reports of one suite.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Run {
    /// What was tested.
    pub backend: String,
    /// The cases that were run, by group and name.
    #[serde(rename = "cases")]
    pub reports: Vec<Report>,
}

impl Run {
    /// The reports of one suite.
    pub fn new(backend: impl Into<String>, mut reports: Vec<Report>) -> Self {
        reports.sort_by_key(|report| (report.case.group, report.case.name));
        Self {
            backend: backend.into(),
            reports,
        }
    }

    /// How many cases ended in each way.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for report in &self.reports {
            *match report.outcome {
                Outcome::Passed => &mut counts.passed,
                Outcome::Ignored { .. } => &mut counts.ignored,
                Outcome::Deviation { .. } => &mut counts.deviations,
                Outcome::Failed { .. } => &mut counts.failed,
            } += 1;
        }
        counts
    }
}

/// `backend=memory cases=3 passed=2 ignored=1 deviations=0 failed=0`
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts {
            passed,
            ignored,
            deviations,
            failed,
        } = self.counts();
        write!(
            f,
            "backend={} cases={} passed={passed} ignored={ignored} deviations={deviations} \
             failed={failed}",
            self.backend.replace(' ', "_"),
            self.reports.len()
        )
    }
}

/// How many cases ended in each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// What is promised holds.
    pub passed: usize,
    /// The queue or the harness cannot do what the case needs.
    pub ignored: usize,
    /// They fail as is known and accepted.
    pub deviations: usize,
    /// What is promised does not hold.
    pub failed: usize,
}

impl Outcome {
    /// `passed`, `ignored`, `deviation` or `failed`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Ignored { .. } => "ignored",
            Self::Deviation { .. } => "deviation",
            Self::Failed { .. } => "failed",
        }
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut s = serializer.serialize_struct("Report", 8)?;
        s.serialize_field("name", self.case.name)?;
        s.serialize_field("group", &self.case.group)?;
        s.serialize_field("promise", self.case.promise)?;
        s.serialize_field("needs", self.case.needs)?;
        s.serialize_field("outcome", self.outcome.as_str())?;
        let (reason, link, failure) = match &self.outcome {
            Outcome::Passed => (None, None, None),
            Outcome::Ignored { reason } => (Some(reason), None, None),
            Outcome::Deviation {
                reason,
                link,
                failure,
            } => (Some(reason), Some(link), Some(failure)),
            Outcome::Failed { failure } => (None, None, Some(failure)),
        };
        for (name, value) in [("reason", reason), ("link", link), ("failure", failure)] {
            match value {
                Some(value) => s.serialize_field(name, value)?,
                None => s.skip_field(name)?,
            }
        }
        s.serialize_field("milliseconds", &self.elapsed.as_millis())?;
        s.end()
    }
}

/// The runs as JUnit XML, one suite each.
pub fn junit(runs: &[Run]) -> String {
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for run in runs {
        let counts = run.counts();
        let seconds: f64 = run
            .reports
            .iter()
            .map(|report| report.elapsed.as_secs_f64())
            .sum();
        // Writing to a string never fails.
        let _ = writeln!(
            xml,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" \
             time=\"{seconds:.3}\">",
            escape(&run.backend),
            run.reports.len(),
            counts.failed,
            counts.ignored + counts.deviations,
        );
        for report in &run.reports {
            let _ = write!(
                xml,
                "    <testcase classname=\"{}.{}\" name=\"{}\" time=\"{:.3}\"",
                escape(&run.backend),
                report.case.group,
                report.case.name,
                report.elapsed.as_secs_f64(),
            );
            let _ = match &report.outcome {
                Outcome::Passed => writeln!(xml, "/>"),
                Outcome::Ignored { reason } => {
                    writeln!(xml, "><skipped message=\"{}\"/></testcase>", escape(reason))
                }
                Outcome::Deviation { reason, link, .. } => writeln!(
                    xml,
                    "><skipped message=\"known deviation: {} ({})\"/></testcase>",
                    escape(reason),
                    escape(link)
                ),
                Outcome::Failed { failure } => writeln!(
                    xml,
                    "><failure message=\"{}\"/></testcase>",
                    escape(failure)
                ),
            };
        }
        xml.push_str("  </testsuite>\n");
    }
    xml.push_str("</testsuites>\n");
    xml
}

/// Escaped for an XML attribute; what XML cannot carry is replaced.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            c if towpath_core::wire::is_xml_legal(c) => escaped.push(c),
            _ => escaped.push('\u{fffd}'),
        }
    }
    escaped
}

/// The runs as a table in Markdown, case by backend, with the reasons of what did not pass below.
pub fn markdown(runs: &[Run]) -> String {
    let mut text = String::from(
        "Written by the conformance tests. `yes`: it holds. `-`: the queue does not claim what the \
         case needs. `known`: a known deviation.\n\n| case |",
    );
    for run in runs {
        let _ = write!(text, " {} |", run.backend);
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(runs.len()));
    text.push('\n');
    let cases: BTreeSet<_> = runs
        .iter()
        .flat_map(|run| &run.reports)
        .map(|report| (report.case.group, report.case.name))
        .collect();
    let mut notes: Vec<String> = Vec::new();
    for (group, name) in cases {
        let _ = write!(text, "| {group}: {} |", name.replace('_', " "));
        for run in runs {
            let report = run.reports.iter().find(|report| report.case.name == name);
            let cell = match report.map(|report| &report.outcome) {
                None => String::new(),
                Some(Outcome::Passed) => "yes".to_owned(),
                Some(Outcome::Ignored { reason }) => format!("- {}", note(&mut notes, reason)),
                Some(Outcome::Deviation { reason, link, .. }) => {
                    format!("known {}", note(&mut notes, &format!("{reason}: {link}")))
                }
                Some(Outcome::Failed { failure }) => {
                    format!("**no** {}", note(&mut notes, failure))
                }
            };
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    for (i, note) in notes.iter().enumerate() {
        let _ = write!(text, "\n({}) {}  ", i + 1, note.replace('\n', " "));
    }
    if !notes.is_empty() {
        text.push('\n');
    }
    text
}

/// The number of a note, which is added where it is new.
fn note(notes: &mut Vec<String>, text: &str) -> String {
    let at = notes
        .iter()
        .position(|note| note == text)
        .unwrap_or_else(|| {
            notes.push(text.to_owned());
            notes.len() - 1
        });
    format!("({})", at + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Case, Group};

    fn run() -> Run {
        let cases = ["first", "second", "third", "fourth"].map(|name| {
            Case::new(Group::Send, name, "It holds.", |_| {
                Box::pin(async { Ok(()) })
            })
        });
        let outcomes = [
            Outcome::Passed,
            Outcome::Ignored {
                reason: "no <ordering>".into(),
            },
            Outcome::Deviation {
                reason: "lax".into(),
                link: "https://example.com/?a&b".into(),
                failure: "deleted".into(),
            },
            Outcome::Failed {
                failure: "the body is \"x\"\n\u{1}".into(),
            },
        ];
        let reports = outcomes
            .into_iter()
            .zip(cases)
            .map(|(outcome, case)| Report {
                case,
                outcome,
                elapsed: Duration::from_millis(1_500),
            });
        Run::new("my queue", reports.collect())
    }

    #[test]
    fn the_line_counts_every_case_once() {
        assert_eq!(
            run().to_string(),
            "backend=my_queue cases=4 passed=1 ignored=1 deviations=1 failed=1"
        );
    }

    #[test]
    fn junit_escapes_what_xml_cannot_carry() {
        let xml = junit(&[run()]);
        assert!(
            xml.contains("tests=\"4\" failures=\"1\" skipped=\"2\" time=\"6.000\""),
            "{xml}"
        );
        assert!(xml.contains("no &lt;ordering&gt;"), "{xml}");
        assert!(xml.contains("?a&amp;b"), "{xml}");
        assert!(xml.contains("&quot;x&quot;&#10;\u{fffd}"), "{xml}");
        assert!(!xml.contains('\u{1}'), "{xml}");
    }

    #[test]
    fn json_has_every_outcome_with_its_reason() {
        let json = serde_json::to_value([run()]).unwrap();
        let cases = json[0]["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 4);
        let outcome = |outcome: &str| {
            cases
                .iter()
                .find(|case| case["outcome"] == outcome)
                .unwrap()
                .clone()
        };
        assert_eq!(outcome("ignored")["reason"], "no <ordering>");
        assert_eq!(outcome("deviation")["link"], "https://example.com/?a&b");
        assert_eq!(outcome("failed")["failure"], "the body is \"x\"\n\u{1}");
        assert_eq!(outcome("passed")["milliseconds"], 1_500);
        assert!(outcome("passed").get("reason").is_none());
    }

    #[test]
    fn the_matrix_has_a_row_per_case_and_a_column_per_backend() {
        let mut other = run();
        other.backend = "other".into();
        other.reports.retain(|report| report.case.name != "fourth");
        let text = markdown(&[run(), other]);
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            lines[..6],
            [
                "| case | my queue | other |",
                "|---|---|---|",
                "| send: first | yes | yes |",
                "| send: fourth | **no** (1) |  |",
                "| send: second | - (2) | - (2) |",
                "| send: third | known (3) | known (3) |",
            ]
        );
        assert!(text.contains("(2) no <ordering>"), "{text}");
    }
}
