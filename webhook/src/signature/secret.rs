//! Keys that are never shown, and what is computed with them.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{Result, SignatureError};

/// A secret key. `Debug` does not show it.
#[derive(Clone)]
pub struct Key(Vec<u8>);

impl Key {
    /// A key of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The HMAC-SHA256 of `parts`, one after the other.
    pub(super) fn hmac_sha256(&self, parts: &[&[u8]]) -> Vec<u8> {
        mac::<Hmac<Sha256>>(&self.0, parts)
            .finalize()
            .into_bytes()
            .to_vec()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

/// A MAC that has seen `parts`. HMAC takes keys of every length.
pub(super) fn mac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> M {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of every length");
    for part in parts {
        mac.update(part);
    }
    mac
}

/// Which key signed `parts` with one of `signatures`, all of them raw bytes. Looks at every pair.
pub(super) fn matching(keys: &[Key], signatures: &[Vec<u8>], parts: &[&[u8]]) -> Result<usize> {
    let mut found = None;
    for (index, key) in keys.iter().enumerate() {
        for signature in signatures {
            let mac: Hmac<Sha256> = mac(key.bytes(), parts);
            // Compares in constant time.
            if mac.verify_slice(signature).is_ok() {
                found = found.or(Some(index));
            }
        }
    }
    found.ok_or(SignatureError::Mismatch)
}
