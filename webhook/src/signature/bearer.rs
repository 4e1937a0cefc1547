//! A secret token in a header.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header::AUTHORIZATION};

use super::{
    Key, Place, SignatureError, Signed, Signer, Verified, Verifier,
    key::{Values, header, header_value},
};
/// `Authorization: Bearer ..`, or the token alone in another header, for senders that sign nothing.
///
/// Whoever sees one request can make others: only over TLS.
#[derive(Clone, Debug)]
pub struct Bearer {
    values: Values,
    header: HeaderName,
}

impl Bearer {
    /// Accepts requests with one of `keys`.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Self {
        Self {
            values: Values::new(keys),
            header: AUTHORIZATION,
        }
    }

    /// Expects the token alone, as the whole value of `header`; GitLab's is `x-gitlab-token`.
    #[must_use]
    pub fn with_header(mut self, header: HeaderName) -> Self {
        self.header = header;
        self
    }
}

/// What follows the scheme, which is written in any case.
pub(super) fn scheme<'a>(value: &'a str, scheme: &str) -> Option<&'a str> {
    let (given, rest) = value.split_once(' ')?;
    given
        .eq_ignore_ascii_case(scheme)
        .then(|| rest.trim_start_matches(' '))
}

impl Verifier for Bearer {
    fn verify(
        &self,
        headers: &HeaderMap,
        _body: &[u8],
        _received_at: SystemTime,
    ) -> Result<Verified, SignatureError> {
        let place = || Place::Header(self.header.clone());
        let value = header(headers, &self.header)?;
        let given = match self.header {
            AUTHORIZATION => scheme(value, "bearer")
                .ok_or_else(|| place().malformed("is not Bearer and a token"))?,
            _ => value,
        };
        Ok(Verified {
            key: self
                .values
                .position(given.as_bytes())
                .ok_or_else(|| SignatureError::Mismatch(place()))?,
            ..Verified::default()
        })
    }
}

impl Signer for Bearer {
    /// `id` and the time are ignored.
    fn sign(&self, body: &[u8], _id: &str, _at: SystemTime) -> towpath_core::Result<Signed> {
        let token = String::from_utf8_lossy(self.values.first()?);
        let text = match self.header {
            AUTHORIZATION => format!("Bearer {token}"),
            _ => token.into_owned(),
        };
        let value = header_value(&self.header, &text)?;
        Ok(Signed {
            headers: HeaderMap::from_iter([(self.header.clone(), value)]),
            body: Bytes::copy_from_slice(body),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(bearer: &Bearer, name: HeaderName, text: &str) -> Result<usize, &'static str> {
        let headers = HeaderMap::from_iter([(name, text.parse().unwrap())]);
        let verified = bearer.verify(&headers, b"", SystemTime::now());
        verified.map(|v| v.key).map_err(|error| error.as_str())
    }

    #[test]
    fn one_of_the_live_tokens_is_needed() {
        let bearer = Bearer::new(["new", "old"].map(Key::new));
        let verify = |text: &str| verify(&bearer, AUTHORIZATION, text);
        assert_eq!(verify("Bearer new"), Ok(0));
        assert_eq!(verify("bearer old"), Ok(1));
        assert_eq!(verify("Bearer ol"), Err("mismatch"));
        assert_eq!(verify("Bearer "), Err("mismatch"));
        assert_eq!(verify("new"), Err("malformed"));
        assert_eq!(verify("Basic new"), Err("malformed"));
    }

    #[test]
    fn another_header_holds_the_token_alone() {
        let name = HeaderName::from_static("x-gitlab-token");
        let bearer = Bearer::new([Key::new("new")]).with_header(name.clone());
        assert_eq!(verify(&bearer, name.clone(), "new"), Ok(0));
        assert_eq!(verify(&bearer, name, "Bearer new"), Err("mismatch"));
        assert_eq!(verify(&bearer, AUTHORIZATION, "Bearer new"), Err("missing"));
    }
}
