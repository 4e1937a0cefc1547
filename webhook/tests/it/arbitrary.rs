//! Nothing that a stranger sends makes a verifier panic.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use crate::senders::all;

/// Every header that some verifier reads, with values near the right form and far from it.
fn headers() -> impl Strategy<Value = HeaderMap> {
    let mut names = vec!["content-type", "svix-id"];
    for sender in all() {
        names.extend(sender.signed);
        names.extend(sender.unsigned);
    }
    let value = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        any::<i64>().prop_map(|n| n.to_string().into_bytes()),
        "(v0=|v1=|v1,|v1a,|sha256=|t=|t=-?[0-9]{1,20},v1=|v9:|Basic |Bearer )[A-Za-z0-9+/=]{0,90}"
            .prop_map(String::into_bytes),
        "(v1,|v1a,|v1=|v0=)?[0-9a-f]{64}([ ,]v1[,=][0-9a-f]{64}){0,3}".prop_map(String::into_bytes),
        "(application/x-www-form-urlencoded|multipart/form-data; boundary=[a-z\"]{0,3})"
            .prop_map(String::into_bytes),
    ];
    let header = (proptest::sample::select(names), value);
    proptest::collection::vec(header, 0..14).prop_map(|headers| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                map.append(HeaderName::from_static(name), value);
            }
        }
        map
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let text = prop_oneof!["[0-9-]{0,22}", "[0-9a-f]{64}", "\\PC{0,20}"];
    let block = (text.clone(), text.clone(), text);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        block.clone().prop_map(|(timestamp, token, signature)| {
            serde_json::json!({
                "signature": { "timestamp": timestamp, "token": token, "signature": signature },
                "event-data": { "id": token },
            })
            .to_string()
            .into_bytes()
        }),
        block.prop_map(|(timestamp, token, signature)| {
            format!("timestamp={timestamp}&token={token}&signature={signature}").into_bytes()
        }),
        "(--|\r\n|a|--a|\r\nContent-Disposition: form-data; name=\"(token|timestamp)\"|\r\n\r\n|\"|x){0,30}"
            .prop_map(String::into_bytes),
    ]
}

fn time() -> impl Strategy<Value = SystemTime> {
    any::<i64>().prop_map(|seconds| {
        let distance = Duration::from_secs(seconds.unsigned_abs() / 4);
        match seconds < 0 {
            true => UNIX_EPOCH - distance,
            false => UNIX_EPOCH + distance,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn arbitrary_requests_are_refused_without_a_panic(
        headers in headers(),
        body in body(),
        received_at in time(),
    ) {
        for sender in all() {
            let result = (sender.make)(&[0, 1]).verify(&headers, &body, received_at);
            prop_assert!(result.is_err(), "{}: {result:?}", sender.name);
        }
    }

    #[test]
    fn whatever_is_signed_is_accepted(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        id in "[!-~]{1,60}",
        seconds in 0..1_u64 << 40,
    ) {
        let at = UNIX_EPOCH + Duration::from_secs(seconds);
        for sender in all() {
            let signer = (sender.make)(&[0]);
            let Ok(signed) = signer.sign(&body, &id, at) else {
                prop_assert_eq!(sender.name, "mailgun"); // takes JSON objects only
                continue;
            };
            let result = signer.verify(&signed.headers, &signed.body, at);
            prop_assert!(result.is_ok(), "{}: {result:?}", sender.name);
        }
    }
}
