//! HTTP Basic authentication.

use std::time::SystemTime;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, header::AUTHORIZATION};

use super::{
    Key, Place, SignatureError, Signed, Signer, Verified, Verifier,
    bearer::scheme,
    key::{Values, header, header_value, invalid},
};
use towpath_core::Result;

/// `Authorization: Basic ..`, for senders that sign nothing.
///
/// Whoever sees one request can make others: only over TLS.
#[derive(Clone, Debug)]
pub struct Basic {
    values: Values,
}

impl Basic {
    /// Accepts requests of one of `users`, each with its password.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` when a user has a colon, or a password is empty.
    pub fn new(users: impl IntoIterator<Item = (String, Key)>) -> Result<Self> {
        let pair = |(user, password): (String, Key)| {
            if user.contains(':') {
                Err(invalid(format!(
                    "the user {user:?} has a colon; Basic allows none"
                )))
            } else if password.bytes().is_empty() {
                Err(invalid(format!("the password of {user:?} is empty")))
            } else {
                Ok(Key::new([user.as_bytes(), b":", password.bytes()].concat()))
            }
        };
        let pairs = users.into_iter().map(pair).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            values: Values::new(pairs),
        })
    }
}

impl Verifier for Basic {
    fn verify(
        &self,
        headers: &HeaderMap,
        _body: &[u8],
        _received_at: SystemTime,
    ) -> Result<Verified, SignatureError> {
        let place = || Place::Header(AUTHORIZATION);
        let given = scheme(header(headers, &AUTHORIZATION)?, "basic")
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .ok_or_else(|| place().malformed("is not Basic and base64"))?;
        Ok(Verified {
            key: self
                .values
                .position(&given)
                .ok_or_else(|| SignatureError::Mismatch(place()))?,
            ..Verified::default()
        })
    }
}

impl Signer for Basic {
    /// `id` and the time are ignored.
    fn sign(&self, body: &[u8], _id: &str, _at: SystemTime) -> Result<Signed> {
        let text = format!("Basic {}", STANDARD.encode(self.values.first()?));
        let value = header_value(&AUTHORIZATION, &text)?;
        Ok(Signed {
            headers: HeaderMap::from_iter([(AUTHORIZATION, value)]),
            body: Bytes::copy_from_slice(body),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify(text: &str) -> Result<Verified, SignatureError> {
        let users = [("Aladdin", "open sesame"), ("ops", "a:b")];
        let users = users.map(|(user, password)| (user.to_owned(), Key::new(password)));
        let basic = Basic::new(users).unwrap();
        let headers = HeaderMap::from_iter([(AUTHORIZATION, text.parse().unwrap())]);
        basic.verify(&headers, b"", SystemTime::now())
    }

    #[test]
    fn the_known_credentials_are_accepted() {
        // The example of RFC 7617.
        let verified = verify("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==").unwrap();
        assert_eq!(verified.key, 0);
        let second = format!("basic  {}", STANDARD.encode("ops:a:b"));
        assert_eq!(verify(&second).unwrap().key, 1);
    }

    #[test]
    fn other_credentials_are_refused() {
        for pair in [
            "Aladdin:open sesam",
            "Aladdin:",
            ":",
            "",
            "aladdin:open sesame",
        ] {
            let error = verify(&format!("Basic {}", STANDARD.encode(pair))).unwrap_err();
            assert_eq!(error.as_str(), "mismatch", "{pair}");
        }
        for text in [
            "",
            "Basic",
            "Basic %",
            "Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        ] {
            assert_eq!(verify(text).unwrap_err().as_str(), "malformed", "{text}");
        }
        assert!(Basic::new([("a:b".to_owned(), Key::new("c"))]).is_err());
        assert!(Basic::new([("a".to_owned(), Key::new(""))]).is_err());
    }
}
