//! What is shown of answers: their beginning, without the secrets that they repeat.

/// How many bytes of an answer's body are shown.
const EXCERPT: usize = 240;

/// The beginning of what a destination wrote, on one line and without `secrets`.
pub(crate) fn excerpt(bytes: &[u8], secrets: &[String]) -> String {
    // Before the cut, which would leave the first part of a secret.
    let text = redact(&String::from_utf8_lossy(bytes), secrets);
    let mut shown = String::new();
    for c in text.chars() {
        let c: String = match c {
            '\u{fffd}' => c.into(),
            ' '..='~' => c.into(),
            _ if c.is_alphanumeric() => c.into(),
            _ => c.escape_default().collect(),
        };
        if shown.len() + c.len() > EXCERPT {
            shown.push('…');
            break;
        }
        shown.push_str(&c);
    }
    shown
}

/// Replaces every secret in `text`, as it is and as JSON writes it. Secrets of fewer than four
/// bytes are left: they are parts of ordinary words.
pub(crate) fn redact(text: &str, secrets: &[String]) -> String {
    let mut text = text.to_owned();
    let mut forms: Vec<String> = Vec::new();
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        forms.push(secret.clone());
        let json = serde_json::Value::from(secret.as_str()).to_string();
        forms.push(json[1..json.len() - 1].to_owned());
    }
    // The longest first, so that a secret within another leaves no rest.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    for form in forms {
        text = text.replace(&form, "***");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_secret_within_another_leaves_no_rest() {
        let secrets = ["abcd".to_owned(), "abcdefgh".to_owned()];
        assert_eq!(redact("x abcdefgh abcd", &secrets), "x *** ***");
    }

    #[test]
    fn a_secret_that_the_cut_would_split_leaves_no_part() {
        let secrets = ["hunter2hunter2".to_owned()];
        for before in EXCERPT - 20..EXCERPT + 5 {
            let body = format!("{}hunter2hunter2 is wrong", ".".repeat(before));
            let shown = excerpt(body.as_bytes(), &secrets);
            assert!(!shown.contains('h'), "{before}: {shown}");
        }
    }

    #[test]
    fn a_secret_that_json_escapes_is_found() {
        for secret in ["hunt\"er2\\", "hunter2\"", "\"hunter2"] {
            let body = serde_json::json!({ "password": secret }).to_string();
            let shown = excerpt(body.as_bytes(), &[secret.to_owned()]);
            assert_eq!(shown, r#"{"password":"***"}"#);
        }
    }

    proptest! {
        #[test]
        fn an_excerpt_is_one_bounded_line(bytes in any::<Vec<u8>>(), times in 1_usize..40) {
            let shown = excerpt(&bytes.repeat(times), &[]);
            prop_assert!(shown.len() <= EXCERPT + '…'.len_utf8());
            prop_assert!(!shown.contains(char::is_control));
        }
    }
}
