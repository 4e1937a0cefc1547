//! Requests and answers of HTTP/1.1, as far as SQS's clients and servers use it.

use std::io::{Error, ErrorKind, Result};

use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A request or an answer.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// The first line and the headers, without those that frame the body.
    head: Vec<String>,
    pub(super) body: Vec<u8>,
}

impl Piece {
    /// Reads the next one; `None` when the other end is done.
    pub(super) async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<Self>> {
        let mut head = Vec::new();
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let mut line = String::new();
            if from.read_line(&mut line).await? == 0 {
                return if head.is_empty() {
                    Ok(None)
                } else {
                    Err(ErrorKind::UnexpectedEof.into())
                };
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            match name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    length = value.trim().parse().map_err(|_| unreadable(line))?;
                }
                "transfer-encoding" => is_chunked = true,
                _ => head.push(line.to_owned()),
            }
        }
        let body = if is_chunked {
            chunks(from).await?
        } else {
            let mut body = vec![0; length];
            from.read_exact(&mut body).await?;
            body
        };
        Ok(Some(Self { head, body }))
    }

    /// An answer of this status.
    pub(super) fn answer(status: u16, headers: &[&str], body: String) -> Self {
        let mut head = vec![format!("HTTP/1.1 {status} Fault")];
        head.extend(headers.iter().map(|header| (*header).to_owned()));
        Self {
            head,
            body: body.into_bytes(),
        }
    }

    /// The action that a request asks for.
    pub(super) fn action(&self) -> &str {
        let target = self.header("x-amz-target").unwrap_or_default();
        target.rsplit('.').next().unwrap_or_default()
    }

    /// Whether an answer tells of success.
    pub(super) fn is_success(&self) -> bool {
        let status = self.head.first().and_then(|line| line.split(' ').nth(1));
        status.is_some_and(|status| status.starts_with('2'))
    }

    /// Whether the connection ends with this.
    pub(super) fn is_last(&self) -> bool {
        self.header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The same with this body.
    pub(super) fn with_json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head.join("\r\n").into_bytes();
        bytes.extend(format!("\r\ncontent-length: {}\r\n\r\n", self.body.len()).into_bytes());
        bytes.extend(&self.body);
        bytes
    }

    pub(super) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
        to.write_all(&self.bytes()).await?;
        to.flush().await
    }

    fn header(&self, wanted: &str) -> Option<&str> {
        self.head.iter().skip(1).find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    }
}

async fn chunks(from: &mut (impl AsyncBufRead + Unpin)) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).await?;
        let size = usize::from_str_radix(line.trim_end(), 16).map_err(|_| unreadable(&line))?;
        let start = body.len();
        // Each chunk ends with an empty line.
        body.resize(start + size + 2, 0);
        from.read_exact(&mut body[start..]).await?;
        body.truncate(start + size);
        if size == 0 {
            return Ok(body);
        }
    }
}

fn unreadable(line: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("not understood: {line:?}"))
}
