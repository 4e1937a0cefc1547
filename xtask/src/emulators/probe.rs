//! Asking a server for something real, which tells more than an open port.

use anyhow::{Result, bail};

use super::{Protocol, Server};
use crate::http::Request;

/// Lists what the server has: queues, or the topics of a project.
///
/// # Errors
///
/// When nothing answers, or something other than success.
pub(super) fn probe(server: Server, port: u16) -> Result<()> {
    let request = match server.protocol() {
        Protocol::Sqs => Request {
            method: "POST",
            path: "/",
            headers: &[
                ("Content-Type", "application/x-amz-json-1.0"),
                ("X-Amz-Target", "AmazonSQS.ListQueues"),
                // The servers do not check the signature but take the region from it.
                (
                    "Authorization",
                    "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/sqs/aws4_request, \
                     SignedHeaders=host, Signature=0",
                ),
            ],
            body: "{}",
        },
        Protocol::PubSub => Request {
            method: "GET",
            path: "/v1/projects/towpath-probe/topics",
            headers: &[("Accept", "application/json")],
            body: "",
        },
    };
    match request.send(port)? {
        (200, _) => Ok(()),
        (code, body) => bail!(
            "{} {} was answered with {code}: {body}",
            request.method,
            request.path
        ),
    }
}
