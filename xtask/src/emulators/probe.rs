//! Asking a server for something real, which tells more than an open port.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Protocol, Server};
use crate::http::Request;

/// How long Redis may take to answer.
const LIMIT: Duration = Duration::from_secs(5);

/// Lists what the server has: queues, or the topics of a project. Redis is greeted.
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
        Protocol::Redis => return ping(port),
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

fn ping(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    if answer != *b"+PONG\r\n" {
        bail!(
            "PING was answered with {:?}",
            String::from_utf8_lossy(&answer)
        );
    }
    Ok(())
}
