//! Standard Webhooks, by HMAC and by Ed25519.

use std::{fmt, time::SystemTime};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use bytes::Bytes;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use http::{HeaderMap, HeaderName};
use towpath_core::{Error, ErrorKind, Result};

use super::{
    Key, Place, SignatureError, Signed, Signer, Tolerance, Verified, Verifier,
    key::{MacKeys, header, header_value, invalid, no_key},
    tolerance::Timestamp,
};
/// [Standard Webhooks 1.0](https://www.standardwebhooks.com): `webhook-id`, `webhook-timestamp`
/// and `webhook-signature`, which may hold several signatures.
///
/// The kind of a key is told by its prefix: `whsec_` (or none) is base64 of an HMAC-SHA256 key
/// for `v1` signatures, `whpk_` base64 of an Ed25519 public key for `v1a` signatures, `whsk_` of
/// an Ed25519 secret key, which can also sign.
#[derive(Clone, Debug)]
pub struct StandardWebhooks {
    keys: Vec<Kind>,
    headers: [HeaderName; 3],
    tolerance: Tolerance,
}

/// The most signatures that are tried: with Ed25519, each costs a verification.
const MAX_SIGNATURES: usize = 16;

/// Providers differ in whether they write the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[derive(Clone)]
enum Kind {
    Hmac(MacKeys),
    Public(VerifyingKey),
    Secret(SigningKey),
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hmac(_) => "HMAC-SHA256",
            Self::Public(_) | Self::Secret(_) => "Ed25519",
        })
    }
}

impl StandardWebhooks {
    /// Accepts requests signed with one of `keys`.
    ///
    /// # Errors
    ///
    /// `InvalidConfig` when a key is none of the kinds above.
    pub fn new(keys: impl IntoIterator<Item = Key>) -> Result<Self> {
        Ok(Self {
            keys: keys
                .into_iter()
                .map(|key| Kind::parse(&key))
                .collect::<Result<_>>()?,
            headers: [
                HeaderName::from_static("webhook-id"),
                HeaderName::from_static("webhook-timestamp"),
                HeaderName::from_static("webhook-signature"),
            ],
            tolerance: Tolerance::default(),
        })
    }

    /// Reads the headers `svix-id`, `svix-timestamp` and `svix-signature` instead.
    #[must_use]
    pub fn with_svix_headers(mut self) -> Self {
        self.headers = [
            HeaderName::from_static("svix-id"),
            HeaderName::from_static("svix-timestamp"),
            HeaderName::from_static("svix-signature"),
        ];
        self
    }

    /// How far the timestamp may be from the time of receipt. 300 seconds by default.
    #[must_use]
    pub fn with_tolerance(mut self, tolerance: impl Into<Tolerance>) -> Self {
        self.tolerance = tolerance.into();
        self
    }
}

impl Kind {
    fn parse(key: &Key) -> Result<Self> {
        let text = std::str::from_utf8(key.bytes()).unwrap_or_default().trim();
        let (kind, encoded) = match text.split_once('_') {
            Some((kind, encoded)) => (kind, encoded),
            None => ("whsec", text),
        };
        let bytes = BASE64
            .decode(encoded)
            .ok()
            .filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or_else(|| {
            invalid("the key is not base64; write it like whsec_.., whpk_.. or whsk_..")
        })?;
        let public = |bytes: &[u8]| VerifyingKey::try_from(bytes).ok();
        match kind {
            "whsec" => Ok(Self::Hmac(MacKeys::sha256([Key::new(bytes)]))),
            "whpk" => public(&bytes)
                .map(Self::Public)
                .ok_or_else(|| invalid("the whpk_ key is not an Ed25519 public key of 32 bytes")),
            "whsk" => {
                let (seed, rest) = bytes.split_at_checked(32).unwrap_or((&bytes, &[]));
                SigningKey::try_from(seed)
                    .ok()
                    .filter(|key| rest.is_empty() || public(rest) == Some(key.verifying_key()))
                    .map(Self::Secret)
                    .ok_or_else(|| {
                        invalid("the whsk_ key is not an Ed25519 secret key of 32 or 64 bytes")
                    })
            }
            _ => Err(invalid(
                "the key has an unknown prefix; it starts with whsec_, whpk_ or whsk_",
            )),
        }
    }

    fn made_one_of(&self, signatures: &Signatures, signed: &[&[u8]; 5]) -> bool {
        let one_of = |key: &VerifyingKey| {
            let message = signed.concat();
            let mut signatures = signatures.ed25519.iter();
            signatures.any(|signature| key.verify_strict(&message, signature).is_ok())
        };
        match self {
            Self::Hmac(key) => {
                !signatures.hmac.is_empty() && key.position(signed, &signatures.hmac).is_some()
            }
            Self::Public(key) => one_of(key),
            Self::Secret(key) => one_of(&key.verifying_key()),
        }
    }
}

#[derive(Default)]
struct Signatures {
    hmac: Vec<Vec<u8>>,
    ed25519: Vec<Signature>,
}

impl Signatures {
    /// Versions that are not known are left out: a sender may add new ones.
    fn parse(text: &str, place: Place) -> std::result::Result<Self, SignatureError> {
        let mut found = Self::default();
        for (count, signature) in text.split_ascii_whitespace().enumerate() {
            if count == MAX_SIGNATURES {
                return Err(place.malformed("holds more than 16 signatures"));
            }
            let malformed = || place.clone().malformed("is not a list of `version,base64`");
            let (version, encoded) = signature.split_once(',').ok_or_else(malformed)?;
            match version {
                "v1" => {
                    let bytes = BASE64.decode(encoded).map_err(|_| malformed())?;
                    found.hmac.push(bytes);
                }
                "v1a" => {
                    let bytes = BASE64.decode(encoded).map_err(|_| malformed())?;
                    found
                        .ed25519
                        .push(Signature::from_slice(&bytes).map_err(|_| malformed())?);
                }
                _ => {}
            }
        }
        if found.hmac.is_empty() && found.ed25519.is_empty() {
            return Err(place.malformed("holds no signature of a known version (v1, v1a)"));
        }
        Ok(found)
    }
}

impl Verifier for StandardWebhooks {
    fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        received_at: SystemTime,
    ) -> std::result::Result<Verified, SignatureError> {
        let [id_header, timestamp_header, signature_header] = &self.headers;
        let id = header(headers, id_header)?;
        let seconds = header(headers, timestamp_header)?;
        let place = Place::Header(signature_header.clone());
        let signatures = Signatures::parse(header(headers, signature_header)?, place.clone())?;
        let timestamp = Timestamp::parse(seconds, Place::Header(timestamp_header.clone()))?;
        if id.is_empty() {
            return Err(Place::Header(id_header.clone()).malformed("is empty"));
        }
        let signed = [id.as_bytes(), b".", seconds.as_bytes(), b".", body];
        let key = self
            .keys
            .iter()
            .position(|key| key.made_one_of(&signatures, &signed))
            .ok_or(SignatureError::Mismatch(place))?;
        self.tolerance.check(timestamp, received_at)?;
        Ok(Verified {
            event_id: Some(id.to_owned()),
            key,
            signed_at: timestamp.time(),
            single_use: None,
        })
    }
}

impl Signer for StandardWebhooks {
    fn sign(&self, body: &[u8], id: &str, at: SystemTime) -> Result<Signed> {
        let [id_header, timestamp_header, signature_header] = &self.headers;
        if id.is_empty() {
            return Err(Error::new(ErrorKind::InvalidMessage, "the id is empty"));
        }
        let timestamp = Timestamp::at(at)?.to_string();
        let signed = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        let signature = match self.keys.first() {
            Some(Kind::Hmac(key)) => format!("v1,{}", STANDARD.encode(key.sign(&signed)?)),
            Some(Kind::Secret(key)) => {
                let signature = key.sign(&signed.concat());
                format!("v1a,{}", STANDARD.encode(signature.to_bytes()))
            }
            None => return Err(no_key()),
            Some(Kind::Public(_)) => {
                let message = "a public key (whpk_) verifies and cannot sign; give the whsk_ key";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (id_header, id),
            (timestamp_header, &timestamp),
            (signature_header, &signature),
        ] {
            headers.insert(name, header_value(name, value)?);
        }
        Ok(Signed {
            headers,
            body: Bytes::copy_from_slice(body),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const SECRET: &str = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn at() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_614_265_330)
    }

    fn vector(signature: &str) -> HeaderMap {
        let name = HeaderName::from_static;
        HeaderMap::from_iter([
            (
                name("webhook-id"),
                "msg_p5jXN8AQM9LWM0D4loKWxJek".parse().unwrap(),
            ),
            (name("webhook-timestamp"), "1614265330".parse().unwrap()),
            (name("webhook-signature"), signature.parse().unwrap()),
        ])
    }

    fn with(secrets: &[&str]) -> StandardWebhooks {
        StandardWebhooks::new(secrets.iter().map(|s| Key::new(*s))).unwrap()
    }

    #[test]
    fn the_known_signature_is_accepted_with_and_without_the_prefix() {
        for secret in [SECRET.to_owned(), format!("whsec_{SECRET}")] {
            let verified = with(&[&secret])
                .verify(&vector(SIGNATURE), BODY, at())
                .unwrap();
            assert_eq!(
                verified.event_id.as_deref(),
                Some("msg_p5jXN8AQM9LWM0D4loKWxJek")
            );
            assert_eq!(verified.signed_at, Some(at()));
        }
    }

    #[test]
    fn one_right_signature_among_several_is_enough() {
        let wrong = "v1,Z0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let verifier = with(&[SECRET]);
        let verify = |text: &str| verifier.verify(&vector(text), BODY, at());
        assert!(verify(&format!("v2,anything {wrong} {SIGNATURE}")).is_ok());
        assert_eq!(verify(wrong).unwrap_err().as_str(), "mismatch");
        let many = [wrong; 17].join(" ");
        for text in [
            "",
            "v2,x",
            "v1",
            "v1,%%%",
            "v1a,AAAA",
            SIGNATURE.trim_start_matches("v1,"),
            &many,
        ] {
            assert_eq!(verify(text).unwrap_err().as_str(), "malformed", "{text}");
        }
    }

    #[test]
    fn ed25519_signatures_are_made_with_the_secret_and_checked_with_the_public_key() {
        // RFC 8032, test 1 (the seed) and its public key.
        let seed = hex::decode("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let public =
            hex::decode("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        let (seed, public) = (seed.unwrap(), public.unwrap());
        let short = format!("whsk_{}", STANDARD.encode(&seed));
        let long = format!("whsk_{}", STANDARD.encode([seed, public.clone()].concat()));
        let public = with(&[SECRET, &format!("whpk_{}", STANDARD.encode(&public))]);
        for secret in [&short, &long] {
            let signed = with(&[secret]).sign(BODY, "msg_1", at()).unwrap();
            let verified = public.verify(&signed.headers, BODY, at()).unwrap();
            assert_eq!(verified.key, 1);
            assert!(with(&[secret]).verify(&signed.headers, BODY, at()).is_ok());
            let error = public.verify(&signed.headers, b"{}", at()).unwrap_err();
            assert_eq!(error.as_str(), "mismatch");
        }
        let only_public = StandardWebhooks {
            keys: public.keys[1..].to_vec(),
            ..public
        };
        let error = only_public.sign(BODY, "msg_1", at()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn an_hmac_signature_is_not_accepted_as_ed25519_and_the_reverse() {
        let relabelled = SIGNATURE.replace("v1,", "v1a,");
        assert!(
            with(&[SECRET])
                .verify(&vector(&relabelled), BODY, at())
                .is_err()
        );
    }

    #[test]
    fn secrets_that_are_none_are_refused_without_being_shown() {
        for secret in [
            "whsec_",
            "whsec_not base64!",
            "whpk_c2hvcnQ=",
            "whsk_c2hvcnQ=",
            "sk_live_abcd",
        ] {
            let error = StandardWebhooks::new([Key::new(secret)]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig);
            assert!(!error.message().contains("c2hvcnQ") && !error.message().contains("abcd"));
        }
        let mismatched = format!("whsk_{}", STANDARD.encode([1; 64]));
        assert!(StandardWebhooks::new([Key::new(mismatched)]).is_err());
        let shown = format!("{:?}", with(&[SECRET]));
        assert!(!shown.contains(&SECRET[..8]), "{shown}");
    }

    #[test]
    fn the_most_negative_timestamp_is_malformed() {
        let mut headers = vector(SIGNATURE);
        headers.insert("webhook-timestamp", "-9223372036854775808".parse().unwrap());
        let error = with(&[SECRET]).verify(&headers, BODY, at()).unwrap_err();
        assert_eq!(error.as_str(), "malformed");
    }

    #[test]
    fn svix_headers_are_read_when_asked_for() {
        let verifier = with(&[SECRET]).with_svix_headers();
        let signed = verifier.sign(BODY, "msg_1", at()).unwrap();
        assert!(signed.headers.contains_key("svix-id"));
        assert!(verifier.verify(&signed.headers, BODY, at()).is_ok());
        assert!(verifier.verify(&vector(SIGNATURE), BODY, at()).is_err());
    }
}
