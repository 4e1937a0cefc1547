//! Live keys, and the headers that signatures stand in.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use towpath_core::{Error, ErrorKind, Result, config::Secret};

use super::{Place, SignatureError, hmac::Hash};

/// A key, or whatever else must be kept secret. `Debug` does not show it.
///
/// [`read`](Self::read) takes one from the environment or a file.
#[derive(Clone)]
pub struct Key(Vec<u8>);

impl Key {
    /// A key of these bytes. An empty key matches nothing.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The key that `secret` holds.
    ///
    /// # Errors
    ///
    /// As [`Secret::read`].
    pub fn read(secret: &Secret) -> Result<Self> {
        secret.read().map(Self)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// The keys of an HMAC, with the part of the work done that does not depend on the message.
#[derive(Clone)]
pub(super) struct MacKeys(Vec<Option<MacKey>>);

#[derive(Clone)]
enum MacKey {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
}

impl MacKeys {
    pub(super) fn new(hash: Hash, keys: impl IntoIterator<Item = Key>) -> Self {
        // An empty key is one that anybody has.
        let key = |key: Key| (!key.bytes().is_empty()).then(|| MacKey::new(hash, &key));
        Self(keys.into_iter().map(key).collect())
    }

    pub(super) fn sha256(keys: impl IntoIterator<Item = Key>) -> Self {
        Self::new(Hash::Sha256, keys)
    }

    /// Which key made one of `signatures` of the concatenation of `parts`.
    pub(super) fn position<S: AsRef<[u8]>>(
        &self,
        parts: &[&[u8]],
        signatures: &[S],
    ) -> Option<usize> {
        self.0.iter().position(|key| {
            key.as_ref().is_some_and(|key| {
                let tag = key.tag(parts);
                let mut signatures = signatures.iter();
                signatures.any(|signature| tag.ct_eq(signature.as_ref()).into())
            })
        })
    }

    /// The signature by the first key.
    pub(super) fn sign(&self, parts: &[&[u8]]) -> Result<Vec<u8>> {
        let key = self.0.first().and_then(Option::as_ref);
        key.map(|key| key.tag(parts)).ok_or_else(no_key)
    }
}

impl fmt::Debug for MacKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl MacKey {
    fn new(hash: Hash, key: &Key) -> Self {
        fn mac<M: KeyInit>(key: &Key) -> M {
            M::new_from_slice(key.bytes()).expect("HMAC takes keys of every length")
        }
        match hash {
            Hash::Sha1 => Self::Sha1(mac(key)),
            Hash::Sha256 => Self::Sha256(mac(key)),
            Hash::Sha512 => Self::Sha512(mac(key)),
        }
    }

    fn tag(&self, parts: &[&[u8]]) -> Vec<u8> {
        fn tag<M: Mac + Clone>(key: &M, parts: &[&[u8]]) -> Vec<u8> {
            let mut mac = key.clone();
            parts.iter().for_each(|part| mac.update(part));
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Self::Sha1(key) => tag(key, parts),
            Self::Sha256(key) => tag(key, parts),
            Self::Sha512(key) => tag(key, parts),
        }
    }
}

/// The HMAC-SHA256 of the concatenation of `parts`, also with an empty key.
pub(super) fn hmac_sha256(key: &Key, parts: &[&[u8]]) -> Vec<u8> {
    MacKey::new(Hash::Sha256, key).tag(parts)
}

/// Keys that are sent as they are, compared in constant time whatever their length.
#[derive(Clone)]
pub(super) struct Values(Vec<Key>);

impl Values {
    pub(super) fn new(keys: impl IntoIterator<Item = Key>) -> Self {
        Self(keys.into_iter().collect())
    }

    pub(super) fn first(&self) -> Result<&[u8]> {
        let key = self.0.first().map(Key::bytes);
        key.filter(|key| !key.is_empty()).ok_or_else(no_key)
    }

    pub(super) fn position(&self, given: &[u8]) -> Option<usize> {
        let given = Sha256::digest(given);
        self.0.iter().position(|key| {
            !key.bytes().is_empty() && Sha256::digest(key.bytes()).ct_eq(&given).into()
        })
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

pub(super) fn no_key() -> Error {
    Error::new(ErrorKind::Unsupported, "there is no key to sign with")
}

pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

/// The one value of a header, as text.
pub(super) fn header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<&'a str, SignatureError> {
    optional_header(headers, name)?
        .ok_or_else(|| SignatureError::Missing(Place::Header(name.clone())))
}

/// The one value of a header that may be missing, as text.
pub(super) fn optional_header<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'a str>, SignatureError> {
    let place = || Place::Header(name.clone());
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(SignatureError::Duplicate(place()));
    }
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text)),
        Err(_) => Err(place().malformed("is not UTF-8")),
    }
}

/// A header that names a delivery; an empty one is none.
pub(super) fn id_header(
    headers: &HeaderMap,
    name: &HeaderName,
) -> Result<Option<String>, SignatureError> {
    let id = optional_header(headers, name)?;
    Ok(id.filter(|id| !id.is_empty()).map(str::to_owned))
}

/// A header's value made from text, for signing.
pub(super) fn header_value(name: &HeaderName, text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| {
        Error::new(
            ErrorKind::InvalidMessage,
            format!("the value for the header {name} has characters that a header cannot hold"),
        )
    })
}
