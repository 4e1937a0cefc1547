//! A value that is never shown.

use std::{fmt, path::PathBuf};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

/// A secret, or where to read it: a literal, an environment variable or a file.
///
/// Neither `Debug` nor an error shows the value. A file is read without the line break at its end,
/// and read again when the destination refuses the secret (401 or 403), so that a rotated one is
/// picked up.
///
/// ```
/// # #[derive(serde::Deserialize)] struct File { a: Secret, b: Secret, c: Secret }
/// use towpath_updater::Secret;
///
/// let file: File = toml::from_str(r#"
///     a = { env = "CRM_TOKEN" }
///     b = { file = "/run/secrets/crm" }
///     c = "for tests only"
/// "#).unwrap();
/// assert_eq!(format!("{:?}", file.a), r#"Secret(env "CRM_TOKEN")"#);
/// assert_eq!(format!("{:?}", file.c), "Secret(literal)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Source);

#[derive(Clone, PartialEq, Eq)]
enum Source {
    Literal(String),
    Env(String),
    File(PathBuf),
}

impl Secret {
    /// The value itself.
    pub fn literal(value: impl Into<String>) -> Self {
        Self(Source::Literal(value.into()))
    }

    /// The value of an environment variable, read when the updater is made.
    pub fn env(name: impl Into<String>) -> Self {
        Self(Source::Env(name.into()))
    }

    /// The content of a file, read when the updater is made.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// Reads the value; the error says where it was looked for.
    pub(crate) fn read(&self) -> Result<String, String> {
        let value = match &self.0 {
            Source::Literal(value) => value.clone(),
            Source::Env(name) => std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => {
                    format!("the environment variable {name:?} is not set")
                }
                std::env::VarError::NotUnicode(_) => {
                    format!("the environment variable {name:?} is not UTF-8")
                }
            })?,
            Source::File(path) => {
                let mut text = std::fs::read_to_string(path)
                    .map_err(|error| format!("cannot read the file {}: {error}", path.display()))?;
                text.truncate(text.trim_end_matches(['\r', '\n']).len());
                text
            }
        };
        if value.is_empty() {
            return Err(format!("{self:?} is empty"));
        }
        Ok(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::Literal(_) => f.write_str("Secret(literal)"),
            Source::Env(name) => write!(f, "Secret(env {name:?})"),
            Source::File(path) => write!(f, "Secret(file {path:?})"),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SecretVisitor)
    }
}

/// Takes every type, so that the error for a wrong one does not repeat the value.
struct SecretVisitor;

const FORMS: &str = "a secret is a string, { env = \"NAME\" } or { file = \"/path\" }";

macro_rules! refuse {
    ($($method:ident: $type:ty),*) => {
        $(fn $method<E: serde::de::Error>(self, _: $type) -> Result<Secret, E> {
            Err(E::custom(FORMS))
        })*
    };
}

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FORMS)
    }

    refuse!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_bytes: &[u8]);

    fn visit_str<E>(self, value: &str) -> Result<Secret, E> {
        Ok(Secret::literal(value))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
        let forms = || A::Error::custom(FORMS);
        let key = map.next_key::<String>()?.ok_or_else(forms)?;
        let secret = match key.as_str() {
            "env" => Secret::env(map.next_value::<String>()?),
            "file" => Secret::file(map.next_value::<PathBuf>()?),
            _ => return Err(forms()),
        };
        match map.next_key::<String>()? {
            None => Ok(secret),
            Some(_) => Err(forms()),
        }
    }
}

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

    #[derive(Debug, Deserialize)]
    struct File {
        secret: Secret,
    }

    #[test]
    fn a_wrong_form_is_refused_without_its_value() {
        for text in [
            "secret = 8675309",
            "secret = true",
            "secret = 86.75",
            "secret = { enf = '8675309' }",
            "secret = { env = 'A', file = '8675309' }",
        ] {
            let error = toml::from_str::<File>(text).map(|file| file.secret);
            let error = error.unwrap_err();
            assert!(error.message().contains("{ env = "), "{error}");
            assert!(!error.message().contains("8675309"), "{error}");
        }
    }

    #[test]
    fn debug_and_errors_name_the_place_and_never_the_value() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\n").unwrap();
        let secret = Secret::file(file.path());
        assert_eq!(secret.read().unwrap(), "hunter2");
        let shown = format!("{secret:?} {:?}", Secret::literal("hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
        std::fs::write(file.path(), "\n").unwrap();
        assert!(secret.read().unwrap_err().ends_with("is empty"));
        let error = Secret::env("TOWPATH_UPDATER_NOT_SET").read().unwrap_err();
        assert!(error.contains("TOWPATH_UPDATER_NOT_SET"), "{error}");
    }

    #[test]
    fn a_secret_within_another_leaves_no_rest() {
        let secrets = ["abcd".to_owned(), "abcdefgh".to_owned()];
        assert_eq!(redact("x abcdefgh abcd", &secrets), "x *** ***");
    }
}
