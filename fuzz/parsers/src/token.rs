//! The token of a push request: nobody gets in without the one that the issuer signed.

use std::sync::LazyLock;

use axum::{Router, body::Body};
use http::{
    HeaderValue, Method, Request, StatusCode, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt as _;
use towpath_core::Attempt;
use towpath_push::{PushEndpoint, TokenVerifier};

/// The account that may push, of a subscription with this audience.
const AUDIENCE: &str = "a";
const EMAIL: &str = "e@p";
/// What the key `k` signed for it, until the year 2100. Nobody has the private key any more.
const RIGHT: &str = include_str!("../../corpus/token/right");
/// The key `k`.
const MODULUS: &str = "1GdT7dHg6kvr8z6zJuoPI4TqEXEX1VNY-qFz1yn6fbHlecRFN9BLQt-SoTSXY5rT2j5JwgacX4Cp_YH5TCwpknNe_qJHLBMsg8FptugktgeomRXRPnZWS8FTYdWBDHoUrwyKvsZYXbOzJoI72W6vvX1EpYW5JxO_s7TYwKKt-z3clXHI0L34r3_3BuUU1XYewHhy5iXv8Fv6_7WF0c8gYPZ9OhAYq8nMkrfjw0kUZX4W4AoyukXUtqiNGX3AYLa_mWRFWVmkcWzoPLZPCyy_iPQLH9fDCINB3NRORtbRxT4JhgqyvEeW_D6DPSmvFBVONdhiA_VCRLJsdPfjsZBRdQ";

static SETUP: LazyLock<(Runtime, Router)> = LazyLock::new(|| {
    let keys = json!({
        "keys": [{ "kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k", "n": MODULUS, "e": "AQAB" }],
    });
    let verifier = TokenVerifier::with_keys(AUDIENCE, EMAIL, &keys.to_string());
    let handler = |_: Attempt| async { Ok::<(), String>(()) };
    let endpoint = PushEndpoint::builder(handler, verifier.expect("right keys")).build();
    let runtime = Builder::new_current_thread().enable_all().build();
    let router = endpoint.expect("a right endpoint").router("/push");
    (runtime.expect("a runtime"), router)
});

/// A push request with this `Authorization`.
pub(super) fn push(authorization: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(authorization) else {
        return;
    };
    let body = json!({ "message": { "messageId": "1", "data": "eA==" }, "subscription": "s" });
    let mut request = Request::new(Body::from(body.to_string()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static("/push");
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(AUTHORIZATION, value);
    let (runtime, router) = &*SETUP;
    let Ok(answer) = runtime.block_on(router.clone().oneshot(request));
    match answer.status() {
        StatusCode::NO_CONTENT => {
            let signed = RIGHT.split_once(' ').expect("a scheme").1;
            assert!(authorization.ends_with(signed.as_bytes()));
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {}
        other => panic!("{other}"),
    }
}
