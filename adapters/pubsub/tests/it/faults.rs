//! Failures that pstest is asked for: see `xtask/servers/pstest/faults.go`.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::server::{Server, subscription, topic};

/// A failure of a call, by default of its next one.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    method: &'static str,
    resource: String,
    code: &'static str,
    count: usize,
    delay: Duration,
    after: Duration,
    is_applied: bool,
}

impl Fault {
    fn new(method: &'static str, resource: String, code: &'static str) -> Self {
        Self {
            method,
            resource,
            code,
            count: 1,
            delay: Duration::ZERO,
            after: Duration::ZERO,
            is_applied: false,
        }
    }

    /// Publishing to the topic `name` ends in `code`.
    pub(crate) fn publish(name: &str, code: &'static str) -> Self {
        Self::new("Publish", topic(name), code)
    }

    /// A call about the subscription `name` ends in `code`.
    pub(crate) fn of(method: &'static str, name: &str, code: &'static str) -> Self {
        Self::new(method, subscription(name), code)
    }

    /// So many calls fail.
    pub(crate) fn times(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    /// The call is answered so much later.
    pub(crate) fn late(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The stream is well for so long.
    pub(crate) fn after(mut self, after: Duration) -> Self {
        self.after = after;
        self
    }

    /// The call takes effect all the same.
    pub(crate) fn applied(mut self) -> Self {
        self.is_applied = true;
        self
    }

    pub(crate) async fn ask(self, server: &Server) -> io::Result<()> {
        let body = format!(
            r#"{{"method":"{}","resource":"{}","code":"{}","count":{},"delay_ms":{},"after_ms":{},"applied":{}}}"#,
            self.method,
            self.resource,
            self.code,
            self.count,
            self.delay.as_millis(),
            self.after.as_millis(),
            self.is_applied,
        );
        call(server, "POST", &body).await.map(drop)
    }
}

/// Whether failures of the queue `name` are still to come.
pub(crate) async fn are_pending(server: &Server, name: &str) -> io::Result<bool> {
    Ok(call(server, "GET", "").await?.contains(name))
}

async fn call(server: &Server, method: &str, body: &str) -> io::Result<String> {
    let host = server.endpoint.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).await?;
    let request = format!(
        "{method} /faults HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.starts_with("HTTP/1.1 200") {
        return Ok(answer);
    }
    Err(io::Error::other(format!("pstest refused {body}: {answer}")))
}
