//! A value that is never shown.

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use crate::{Error, ErrorKind, Result};

/// The largest file that is read as a secret, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// A secret, or where to read it: a literal, an environment variable or a file.
///
/// No `Debug` output and no error shows the value; `Display` and `Serialize` do not exist. A file
/// (at most 64 KiB) is read without the line break at its end, and read anew with every call of
/// [`read`](Self::read).
///
/// ```
/// # #[derive(serde::Deserialize)] struct File { a: Secret, b: Secret, c: Secret }
/// use towpath_core::config::Secret;
///
/// let file: File = toml::from_str(r#"
///     a = { env = "MAILGUN_SIGNING_KEY" }
///     b = { file = "/run/secrets/mailgun" }
///     c = "for tests only"
/// "#).unwrap();
/// assert_eq!(format!("{:?}", file.a), r#"Secret(env "MAILGUN_SIGNING_KEY")"#);
/// assert_eq!(format!("{:?}", file.c), "Secret(literal)");
/// ```
///
/// ```compile_fail
/// towpath_core::config::Secret::literal("hunter2").to_string();
/// ```
///
/// ```compile_fail
/// serde_json::to_string(&towpath_core::config::Secret::literal("hunter2"));
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

    /// The value of an environment variable.
    pub fn env(name: impl Into<String>) -> Self {
        Self(Source::Env(name.into()))
    }

    /// The content of a file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// The file that it is read from, where it is a file.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Source::File(path) => Some(path),
            _ => None,
        }
    }

    /// Reads the value.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig), which says where the value was looked for, when
    /// it is not there or empty.
    pub fn read(&self) -> Result<Vec<u8>> {
        let value = match &self.0 {
            Source::Literal(value) => value.clone().into_bytes(),
            Source::Env(name) => std::env::var(name)
                .map_err(|error| {
                    invalid(match error {
                        std::env::VarError::NotPresent => {
                            format!("the environment variable {name:?} is not set")
                        }
                        std::env::VarError::NotUnicode(_) => {
                            format!("the environment variable {name:?} is not UTF-8")
                        }
                    })
                })?
                .into_bytes(),
            Source::File(path) => read_file(path).map_err(|error| {
                invalid(format!("cannot read the file {}: {error}", path.display()))
                    .with_source(error)
            })?,
        };
        if value.is_empty() {
            return Err(invalid(format!("{self:?} is empty")));
        }
        Ok(value)
    }

    /// As [`read`](Self::read), for a value that is text.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and when it is not UTF-8.
    pub fn read_text(&self) -> Result<String> {
        String::from_utf8(self.read()?).map_err(|_| invalid(format!("{self:?} is not UTF-8")))
    }
}

fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut value = Vec::new();
    fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut value)?;
    if value.len() as u64 > MAX_FILE {
        let message = format!("it is larger than {MAX_FILE} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    if value.ends_with(b"\n") {
        value.pop();
        if value.ends_with(b"\r") {
            value.pop();
        }
    }
    Ok(value)
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
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
            let error = toml::from_str::<File>(text).unwrap_err();
            assert!(error.message().contains("{ env = "), "{error}");
            assert!(!error.message().contains("8675309"), "{error}");
        }
        let file: File = toml::from_str("secret = { env = 'A' }").unwrap();
        assert_eq!(file.secret, Secret::env("A"));
    }

    #[test]
    fn debug_and_errors_name_the_place_and_never_the_value() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "hunter2\r\n").unwrap();
        let secret = Secret::file(file.path());
        assert_eq!(secret.read_text().unwrap(), "hunter2");
        let shown = format!("{secret:?} {:?}", Secret::literal("hunter2"));
        assert!(!shown.contains("hunter2"), "{shown}");
        let error = Secret::env("TOWPATH_TEST_NOT_SET").read().unwrap_err();
        assert!(error.message().contains("TOWPATH_TEST_NOT_SET"));
    }

    #[test]
    fn one_line_break_is_removed_and_an_empty_secret_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let secret = Secret::file(file.path());
        fs::write(file.path(), b"\xff \n\n").unwrap();
        assert_eq!(secret.read().unwrap(), b"\xff \n");
        let error = secret.read_text().unwrap_err();
        assert!(error.message().ends_with("is not UTF-8"), "{error}");
        fs::write(file.path(), "\n").unwrap();
        assert!(secret.read().unwrap_err().message().ends_with("is empty"));
        assert!(Secret::literal("").read().is_err());
        fs::write(file.path(), vec![b'x'; 64 * 1024 + 1]).unwrap();
        assert!(
            secret
                .read()
                .unwrap_err()
                .message()
                .contains("larger than 65536")
        );
    }
}
