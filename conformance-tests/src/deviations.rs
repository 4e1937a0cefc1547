//! Cases that fail as is known, each with its reason.

use serde::Deserialize;

use crate::Case;

/// One case that fails on one backend, and why that is accepted for now.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Deviation {
    /// The name of the case.
    pub case: String,
    /// Why it is accepted.
    pub reason: String,
    /// Where more is said about it: documentation, or an issue.
    pub link: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    deviation: Vec<Deviation>,
}

/// Reads a file of `[[deviation]]` tables.
///
/// # Errors
///
/// In words, when it is not such a file, names a case that does not exist or one twice, or gives no
/// reason or no link.
pub(crate) fn read(text: &str, cases: &[Case]) -> Result<Vec<Deviation>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    for (i, deviation) in file.deviation.iter().enumerate() {
        let name = &deviation.case;
        if !cases.iter().any(|case| case.name == name) {
            return Err(format!(
                "there is no case {name:?}; is it spelt as in --list?"
            ));
        }
        if file.deviation[..i]
            .iter()
            .any(|before| before.case == *name)
        {
            return Err(format!("the case {name:?} is there twice"));
        }
        if deviation.reason.trim().is_empty() {
            return Err(format!("the deviation of {name:?} needs a reason"));
        }
        if !deviation.link.contains("://") {
            return Err(format!("the deviation of {name:?} needs a link"));
        }
    }
    Ok(file.deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(case: &str, reason: &str, link: &str) -> String {
        format!("[[deviation]]\ncase = {case:?}\nreason = {reason:?}\nlink = {link:?}\n")
    }

    #[test]
    fn a_deviation_needs_a_case_a_reason_and_a_link() {
        let cases = crate::cases();
        let name = cases[0].name;
        let good = entry(name, "the server is lax", "https://example.com/1");
        let read_one = |text: &str| read(text, &cases);
        assert_eq!(read_one(&good).unwrap().len(), 1);
        assert_eq!(read_one("").unwrap(), []);
        for (text, part) in [
            (entry("no_such_case", "r", "https://x.example"), "no case"),
            (entry(name, " ", "https://x.example"), "reason"),
            (entry(name, "r", "later"), "link"),
            (format!("{good}{good}"), "twice"),
            ("[[deviation]]\ncase = 'x'\n".to_owned(), "missing field"),
            ("[[deviations]]\n".to_owned(), "unknown field"),
        ] {
            let error = read_one(&text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
