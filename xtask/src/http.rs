//! One HTTP request on loopback: just enough to ask a server whether it serves.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// The longest a server may take to accept, to read or to answer a probe.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most that is read of an answer.
const LIMIT: usize = 64 * 1024;

/// A request to a server on this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// `GET`, `POST` and so on.
    pub(crate) method: &'a str,
    /// The path and query.
    pub(crate) path: &'a str,
    /// Headers beside those that every request has.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// The body, empty for none.
    pub(crate) body: &'a str,
}

impl Request<'_> {
    /// Sends the request to a loopback port and returns the status code with the text after the
    /// header.
    ///
    /// # Errors
    ///
    /// When nothing listens, the server is too slow, or the answer is not HTTP.
    pub(crate) fn send(&self, port: u16) -> Result<(u16, String)> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
            .with_context(|| format!("connecting to {address}"))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream
            .write_all(self.render(address).as_bytes())
            .with_context(|| format!("writing to {address}"))?;
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        // Not every server closes the connection when it is asked to, so the announced length
        // ends the answer as well.
        while !is_complete(&answer) && answer.len() < LIMIT {
            match stream
                .read(&mut buffer)
                .with_context(|| format!("reading from {address}"))?
            {
                0 => break,
                count => answer.extend_from_slice(&buffer[..count]),
            }
        }
        parse(&String::from_utf8_lossy(&answer))
    }

    fn render(&self, address: SocketAddr) -> String {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.method,
            self.path,
            self.body.len()
        );
        for (name, value) in self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(self.body);
        text
    }
}

/// Whether the answer has as many bytes after the header as the header announces.
fn is_complete(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((header, _)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = header.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().ok())?
    });
    // The header is ASCII in every answer that is of use, so its length in the text is its length
    // in bytes.
    length.is_some_and(|length| answer.len() >= header.len() + 4 + length)
}

/// Splits an answer into its status code and what follows the header.
fn parse(answer: &str) -> Result<(u16, String)> {
    let (header, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status_line = header.lines().next().unwrap_or_default();
    let mut words = status_line.split(' ');
    let code = match (words.next(), words.next()) {
        (Some(protocol), Some(code)) if protocol.starts_with("HTTP/") => code.parse().ok(),
        _ => None,
    };
    match code {
        Some(code) => Ok((code, body.to_owned())),
        None => bail!("not an HTTP answer: {status_line:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_splits_into_status_and_body() {
        let answer = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n\r\nno\r\n\r\nsuch";
        let (code, body) = parse(answer).expect("an HTTP answer");
        assert_eq!(code, 404);
        assert_eq!(body, "no\r\n\r\nsuch");
    }

    #[test]
    fn an_answer_is_complete_at_its_announced_length() {
        assert!(is_complete(
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{\n}\n"
        ));
        assert!(is_complete(
            b"HTTP/1.1 204 No Content\r\nContent-Length:0\r\n\r\n"
        ));
        assert!(!is_complete(
            b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n{"
        ));
        assert!(!is_complete(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n"));
        assert!(!is_complete(b"HTTP/1.1 200 OK\r\n\r\nof any length"));
    }

    #[test]
    fn what_is_not_http_is_an_error() {
        for answer in [
            "",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/1.1\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
        ] {
            assert!(parse(answer).is_err(), "{answer:?}");
        }
    }

    #[test]
    fn a_request_carries_its_length_headers_and_body() {
        let request = Request {
            method: "POST",
            path: "/",
            headers: &[("X-Amz-Target", "AmazonSQS.ListQueues")],
            body: "{}",
        };
        let text = request.render(SocketAddr::from((Ipv4Addr::LOCALHOST, 9324)));
        assert!(
            text.starts_with("POST / HTTP/1.1\r\nHost: 127.0.0.1:9324\r\n"),
            "{text}"
        );
        assert!(text.contains("\r\nContent-Length: 2\r\n"), "{text}");
        assert!(
            text.ends_with("\r\nX-Amz-Target: AmazonSQS.ListQueues\r\n\r\n{}"),
            "{text}"
        );
    }
}
