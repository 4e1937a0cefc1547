//! A server of one's own making: it answers SQS calls as the test says.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use towpath_core::QueueConfig;

use crate::server;

/// A call: the action without its prefix, and the parameters.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) action: String,
    pub(crate) parameters: Value,
}

/// What the server does with a call.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// HTTP 200 with this.
    Ok(Value),
    /// An error of SQS: status, code, message.
    Error(u16, &'static str, &'static str),
    /// Anything: status, further header lines, body.
    Raw(u16, &'static str, String),
    /// Nothing, for ever.
    Silence,
    /// The connection is closed without an answer.
    Close,
}

/// A scripted server, which ends with its runtime.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) endpoint: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Script {
    /// Starts a server with one queue of any name. `answer` says what happens to calls other than
    /// those that opening a queue makes.
    pub(crate) async fn start(
        answer: impl Fn(&Call) -> Answer + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let calls = Arc::new(Mutex::new(Vec::new()));
        let answer = Arc::new(answer);
        let noted = calls.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, noted) = (answer.clone(), noted.clone());
                tokio::spawn(async move {
                    // A client that goes away ends its connection.
                    let _ = serve(stream, &*answer, &noted).await;
                });
            }
        });
        Ok(Self { endpoint, calls })
    }

    pub(crate) fn config(&self, name: &str) -> QueueConfig {
        server::config(&self.endpoint, name)
    }

    /// The calls so far, of one action.
    pub(crate) fn calls(&self, action: &str) -> Vec<Call> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut calls = calls.clone();
        calls.retain(|call| call.action == action);
        calls
    }
}

async fn serve(
    stream: TcpStream,
    answer: &(dyn Fn(&Call) -> Answer + Send + Sync),
    noted: &Mutex<Vec<Call>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(call) = read(&mut stream).await? else {
            return Ok(());
        };
        noted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(call.clone());
        let (status, headers, body) = match opening(&call).unwrap_or_else(|| answer(&call)) {
            Answer::Ok(value) => (200, "", value.to_string()),
            Answer::Error(status, code, message) => {
                let body =
                    json!({ "__type": format!("com.amazonaws.sqs#{code}"), "message": message });
                (status, "", body.to_string())
            }
            Answer::Raw(status, headers, body) => (status, headers, body),
            Answer::Silence => return std::future::pending().await,
            Answer::Close => return Ok(()),
        };
        let head = format!(
            "HTTP/1.1 {status} Said\r\ncontent-type: application/x-amz-json-1.0\r\n\
             content-length: {}\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body.as_bytes()).await?;
        stream.flush().await?;
    }
}

/// The next request; `None` when the client is done.
async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Call>> {
    let (mut action, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':') {
            let value = value.trim();
            if name.eq_ignore_ascii_case("x-amz-target") {
                action = value.rsplit('.').next().unwrap_or_default().to_owned();
            } else if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().unwrap_or(0);
            }
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let parameters = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Ok(Some(Call { action, parameters }))
}

/// The answers to the calls that opening a queue makes.
fn opening(call: &Call) -> Option<Answer> {
    match call.action.as_str() {
        "GetQueueUrl" => {
            let name = call.parameters["QueueName"].as_str().unwrap_or_default();
            let url = format!("http://127.0.0.1/123456789012/{name}");
            Some(Answer::Ok(json!({ "QueueUrl": url })))
        }
        "GetQueueAttributes" => {
            let url = call.parameters["QueueUrl"].as_str().unwrap_or_default();
            let mut attributes = json!({
                "VisibilityTimeout": "30",
                "MaximumMessageSize": "1048576",
                "QueueArn": "arn:aws:sqs:us-east-1:123456789012:orders",
            });
            if url.ends_with(".fifo") {
                attributes["FifoQueue"] = json!("true");
            }
            Some(Answer::Ok(json!({ "Attributes": attributes })))
        }
        _ => None,
    }
}
