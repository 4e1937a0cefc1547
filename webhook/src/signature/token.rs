//! Shared secrets in the `Authorization` header, for senders that sign nothing.

use std::time::SystemTime;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::HeaderMap;
use subtle::ConstantTimeEq;

use super::{Key, Result, SignatureError, Verified, Verifier, header};

const NAME: &str = "authorization";

/// Verifies `Authorization: Bearer <token>`.
#[derive(Clone, Debug)]
pub struct Bearer {
    keys: Vec<Key>,
}

impl Bearer {
    /// A verifier with these tokens.
    pub fn new(keys: Vec<Key>) -> Self {
        Self { keys }
    }
}

impl Verifier for Bearer {
    fn verify(&self, headers: &HeaderMap, _: &[u8], _: SystemTime) -> Result<Verified> {
        let token = credentials(headers, "bearer")?;
        matching(
            self.keys.iter().map(|key| key.bytes().to_vec()),
            token.as_bytes(),
        )
    }
}

/// Verifies `Authorization: Basic <base64 of user:password>`.
#[derive(Clone, Debug)]
pub struct Basic {
    users: Vec<(String, Key)>,
}

impl Basic {
    /// A verifier with these users and passwords.
    pub fn new(users: Vec<(String, Key)>) -> Self {
        Self { users }
    }
}

impl Verifier for Basic {
    fn verify(&self, headers: &HeaderMap, _: &[u8], _: SystemTime) -> Result<Verified> {
        let text = credentials(headers, "basic")?;
        let given = BASE64_STANDARD
            .decode(text)
            .map_err(|_| SignatureError::Malformed(NAME))?;
        let known = self
            .users
            .iter()
            .map(|(user, key)| [user.as_bytes(), b":", key.bytes()].concat());
        matching(known, &given)
    }
}

fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Result<&'a str> {
    match header(headers, NAME)?.split_once(' ') {
        Some((given, rest)) if given.eq_ignore_ascii_case(scheme) => Ok(rest.trim()),
        _ => Err(SignatureError::Malformed(NAME)),
    }
}

/// Looks at every known value, whichever matches.
fn matching(known: impl Iterator<Item = Vec<u8>>, given: &[u8]) -> Result<Verified> {
    let mut found = None;
    for (index, known) in known.enumerate() {
        if bool::from(known.ct_eq(given)) {
            found = found.or(Some(index));
        }
    }
    let key = found.ok_or(SignatureError::Mismatch)?;
    Ok(Verified {
        key,
        ..Verified::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{at, headers};

    #[test]
    fn a_token_must_match_in_full() {
        let bearer = Bearer::new(vec![Key::new("new"), Key::new("old")]);
        let verify = |value| bearer.verify(&headers(&[("authorization", value)]), b"", at(0));
        assert_eq!(verify("Bearer old").unwrap().key, 1);
        assert_eq!(verify("bearer new").unwrap().key, 0);
        assert_eq!(verify("Bearer ne"), Err(SignatureError::Mismatch));
        assert_eq!(
            verify("Basic bmV3"),
            Err(SignatureError::Malformed("authorization"))
        );
    }

    #[test]
    fn a_password_may_hold_colons() {
        let basic = Basic::new(vec![("hook".to_owned(), Key::new("a:b"))]);
        let verify = |value: &str| basic.verify(&headers(&[("authorization", value)]), b"", at(0));
        assert!(verify("Basic aG9vazphOmI=").is_ok());
        assert_eq!(verify("Basic aG9vazphOmM="), Err(SignatureError::Mismatch));
        assert_eq!(
            verify("Basic ???"),
            Err(SignatureError::Malformed("authorization"))
        );
    }
}
