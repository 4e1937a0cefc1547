//! What must hold for every verifier.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderName, HeaderValue};
use towpath_core::ErrorKind;
use towpath_webhook::signature::{
    Key, Malformed, Place, SignatureError, Signed, Signer, Verified, bearer::Bearer,
    github::Github, mailgun::Mailgun, shopify::Shopify, standard_webhooks::StandardWebhooks,
    stripe::Stripe,
};

use crate::senders::{Id, Sender, all};

/// The id stands where Mailgun, Stripe and Slack each look for it.
const BODY: &str = r#"{"id":"in the body","event_id":"in the body","event-data":{"id":"in the body"},"x":"größe"}"#;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

const NOW: u64 = 1_700_000_000;

fn sign(sender: &Sender) -> Signed {
    (sender.make)(&[0])
        .sign(BODY.as_bytes(), "delivery-17", at(NOW))
        .unwrap()
}

fn verify(verifier: &dyn Signer, signed: &Signed) -> Result<Verified, SignatureError> {
    verifier.verify(&signed.headers, &signed.body, at(NOW))
}

#[test]
fn what_was_signed_is_accepted_with_its_id_and_time() {
    for sender in all() {
        let verifier = (sender.make)(&[0]);
        let verified = verify(&*verifier, &sign(&sender)).unwrap();
        let id = match sender.id {
            Id::None => None,
            Id::Delivery => Some("delivery-17"),
            Id::Body => Some("in the body"),
        };
        assert_eq!(verified.event_id.as_deref(), id, "{}", sender.name);
        assert_eq!(verified.key, 0);
        assert_eq!(
            verified.signed_at,
            sender.past.map(|_| at(NOW)),
            "{}",
            sender.name
        );
        assert_eq!(verified.single_use.is_some(), sender.name == "mailgun");
    }
}

#[test]
fn one_changed_bit_in_the_body_is_noticed() {
    for sender in all().iter().filter(|sender| sender.signs_body) {
        let verifier = (sender.make)(&[0]);
        let signed = sign(sender);
        for i in 0..BODY.len() {
            let mut body = BODY.as_bytes().to_vec();
            body[i] ^= 1 << (i % 8);
            let mut changed = signed.clone();
            changed.body = body.into();
            let error = verify(&*verifier, &changed).unwrap_err();
            assert_eq!(error.as_str(), "mismatch", "{} byte {i}", sender.name);
        }
        for body in [&BODY[1..], &BODY[..BODY.len() - 1], ""] {
            let mut changed = signed.clone();
            changed.body = body.to_owned().into();
            assert_eq!(
                verify(&*verifier, &changed).unwrap_err().as_str(),
                "mismatch"
            );
        }
    }
}

#[test]
fn one_changed_bit_in_a_signed_header_is_noticed() {
    for sender in all() {
        let verifier = (sender.make)(&[0]);
        let signed = sign(&sender);
        for name in sender.signed {
            let value = signed.headers[*name].as_bytes();
            for i in 0..value.len() * 8 {
                let mut changed = value.to_vec();
                changed[i / 8] ^= 1 << (i % 8);
                if changed.eq_ignore_ascii_case(value) {
                    continue; // capital hexadecimal digits, schemes
                }
                let Ok(value) = HeaderValue::from_bytes(&changed) else {
                    continue;
                };
                let mut signed = signed.clone();
                signed.headers.insert(HeaderName::from_static(name), value);
                let result = verify(&*verifier, &signed);
                assert!(
                    result.is_err(),
                    "{} {name} bit {i}: {result:?}",
                    sender.name
                );
            }
        }
    }
}

#[test]
fn another_secret_is_refused_and_an_old_one_that_is_still_live_is_accepted() {
    for sender in all() {
        let signed = sign(&sender);
        let verify =
            |numbers: &[u8]| (sender.make)(numbers).verify(&signed.headers, &signed.body, at(NOW));
        let error = verify(&[1]).unwrap_err();
        assert_eq!(error.as_str(), "mismatch", "{}", sender.name);
        assert_eq!(verify(&[1, 2, 0]).unwrap().key, 2, "{}", sender.name);
    }
}

#[test]
fn a_signature_is_accepted_for_its_time_and_no_longer() {
    for sender in all() {
        let verifier = (sender.make)(&[0]);
        let signed = sign(&sender);
        let verify = |seconds: u64| verifier.verify(&signed.headers, &signed.body, at(seconds));
        let Some(past) = sender.past else {
            assert!(verify(NOW + 1_000_000_000).is_ok(), "{}", sender.name);
            continue;
        };
        assert!(verify(NOW + past).is_ok(), "{}", sender.name);
        let error = verify(NOW + past + 1).unwrap_err();
        let (age, tolerance) = (Duration::from_secs(past + 1), Duration::from_secs(past));
        assert_eq!(
            error,
            SignatureError::Expired { age, tolerance },
            "{}",
            sender.name
        );
        assert!(verify(NOW - 300).is_ok(), "{}", sender.name);
        assert_eq!(
            verify(NOW - 301).unwrap_err().as_str(),
            "not_yet_valid",
            "{}",
            sender.name
        );
        let before_1970 = UNIX_EPOCH - Duration::from_secs(1);
        let error = verifier
            .verify(&signed.headers, &signed.body, before_1970)
            .unwrap_err();
        assert_eq!(error.as_str(), "not_yet_valid", "{}", sender.name);
    }
}

#[test]
fn a_missing_a_double_and_a_strange_header_are_named() {
    for sender in all() {
        let verifier = (sender.make)(&[0]);
        let signed = sign(&sender);
        for name in sender.signed.iter().chain(sender.unsigned) {
            let name = HeaderName::from_static(name);
            let place = Place::Header(name.clone());

            let mut without = signed.clone();
            without.headers.remove(&name);
            let result = verify(&*verifier, &without);
            if sender.unsigned.contains(&name.as_str()) {
                assert_eq!(result.unwrap().event_id, None, "{}", sender.name);
            } else {
                assert_eq!(
                    result,
                    Err(SignatureError::Missing(place.clone())),
                    "{}",
                    sender.name
                );
            }

            let mut double = signed.clone();
            double.headers.append(&name, signed.headers[&name].clone());
            let expected = Err(SignatureError::Duplicate(place.clone()));
            assert_eq!(verify(&*verifier, &double), expected, "{}", sender.name);

            let mut strange = signed.clone();
            strange
                .headers
                .insert(&name, HeaderValue::from_bytes(b"\xff\xfe").unwrap());
            let expected = Err(SignatureError::Malformed(Malformed {
                place,
                reason: "is not UTF-8",
            }));
            assert_eq!(verify(&*verifier, &strange), expected, "{}", sender.name);
        }
    }
}

#[test]
fn absurd_timestamps_are_malformed() {
    let timestamps = [
        "",
        "0x10",
        "-9223372036854775808",
        "9223372036854775808",
        "99999999999999999999999999999999",
        "1e9",
        "1700000000.0",
        "+1700000000",
        "NaN",
        "yesterday",
    ];
    for sender in all() {
        let verifier = (sender.make)(&[0]);
        let signed = sign(&sender);
        for timestamp in timestamps {
            for name in sender.signed {
                let mut signed = signed.clone();
                let value = signed.headers[*name].to_str().unwrap();
                if !value.contains(&NOW.to_string()) {
                    continue;
                }
                let value = value.replace(&NOW.to_string(), timestamp);
                signed
                    .headers
                    .insert(HeaderName::from_static(name), value.parse().unwrap());
                let error = verify(&*verifier, &signed).unwrap_err();
                assert_eq!(error.as_str(), "malformed", "{} {timestamp:?}", sender.name);
            }
        }
    }
}

#[test]
fn neither_errors_nor_debug_show_a_secret_or_what_was_sent() {
    for sender in all() {
        let verifier = (sender.make)(&[7]);
        let shown = format!("{verifier:?} {verifier:#?}");
        for secret in ["number", "password", "BwcHBwcH", "7, 7, 7"] {
            assert!(!shown.contains(secret), "{}: {shown}", sender.name);
        }
        let mut signed = sign(&sender);
        for name in sender.signed {
            signed
                .headers
                .insert(HeaderName::from_static(name), "hunter2".parse().unwrap());
            let error = verify(&*verifier, &signed).unwrap_err();
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{}",
                sender.name
            );
        }
    }
}

#[test]
fn a_time_before_1970_and_an_id_that_is_no_header_cannot_be_signed() {
    for sender in all() {
        let signer = (sender.make)(&[0]);
        let before_1970 = UNIX_EPOCH - Duration::from_secs(1);
        let result = signer.sign(BODY.as_bytes(), "x", before_1970);
        assert_eq!(result.is_err(), sender.past.is_some(), "{}", sender.name);
        let result = signer.sign(BODY.as_bytes(), "line\nbreak", at(NOW));
        assert_eq!(
            result.is_err(),
            sender.id == Id::Delivery,
            "{}",
            sender.name
        );
    }
}

#[test]
fn no_key_and_an_empty_key_match_nothing_and_do_not_sign() {
    let empty = || [Key::new("")];
    let verifiers: [Box<dyn Signer>; 6] = [
        Box::new(Mailgun::new(empty())),
        Box::new(Github::new(empty())),
        Box::new(Stripe::new(empty())),
        Box::new(Bearer::new(empty()).with_header(HeaderName::from_static("x-token"))),
        Box::new(Shopify::new([])),
        Box::new(StandardWebhooks::new([]).unwrap()),
    ];
    let mut requests: Vec<Signed> = all().iter().map(sign).collect();
    requests[0].headers.insert("x-token", "".parse().unwrap());
    // HMAC-SHA256 of nothing with an empty key, which anybody can compute.
    let tag = "sha256=b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad";
    let mut request = requests[0].clone();
    request
        .headers
        .insert("x-hub-signature-256", tag.parse().unwrap());
    request.body = Default::default();
    requests.push(request);
    for verifier in &verifiers {
        for request in &requests {
            let result = verify(&**verifier, request);
            assert!(result.is_err(), "{verifier:?}");
        }
        let error = verifier.sign(b"{}", "x", at(NOW)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{verifier:?}");
    }
}
