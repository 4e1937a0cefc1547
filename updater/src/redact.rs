//! Answers that repeat what they were sent.

/// Replaces every secret in `text`, for answers that repeat what they were sent.
pub(crate) fn redact(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    // The longest first, so that a secret within another leaves no rest.
    let mut secrets: Vec<&String> = secrets.iter().filter(|secret| secret.len() >= 4).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        text = text.replace(secret.as_str(), "***");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_within_another_leaves_no_rest() {
        let secrets = ["abcd".to_owned(), "abcdefgh".to_owned()];
        assert_eq!(redact("x abcdefgh abcd", &secrets), "x *** ***");
    }
}
