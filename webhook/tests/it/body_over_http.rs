//! The bounds on bodies, through a real connection.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, extract::Request, response::IntoResponse, routing::post};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use towpath_webhook::{BodyRules, Profile, Refusal};

const LIMIT: usize = 100_000;

async fn serve(rules: BodyRules) -> SocketAddr {
    let handler = move |request: Request| {
        let rules = rules.clone();
        async move {
            let (parts, body) = request.into_parts();
            match rules.read(&parts.headers, body).await {
                Ok(body) => body.len().to_string().into_response(),
                Err(error) => Profile::standard()
                    .refused(&Refusal::from(error))
                    .into_response(),
            }
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/", post(handler));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

async fn send_head(address: SocketAddr, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head =
        format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// The status line and what else came until `end`.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while !String::from_utf8_lossy(&text).contains(end) {
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => break,
            Ok(n) => text.extend_from_slice(&chunk[..n]),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn an_endless_chunked_body_is_answered_with_413_at_the_limit() {
    let address = serve(BodyRules::default().with_max_bytes(LIMIT)).await;
    let stream = send_head(address, "transfer-encoding: chunked\r\n").await;
    let (mut reader, mut writer) = stream.into_split();
    // Ends when the receiver closes the connection, and not before.
    let sending = tokio::spawn(async move {
        let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1_000));
        let mut sent = 0_usize;
        while writer.write_all(chunk.as_bytes()).await.is_ok() {
            sent += 1_000;
        }
        sent
    });
    let mut answer = vec![0; 12];
    reader.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413");
    drop(reader);
    assert!(sending.await.unwrap() >= LIMIT);
}

#[tokio::test]
async fn a_declared_size_beyond_the_limit_is_answered_before_a_byte_of_it_is_sent() {
    let address = serve(BodyRules::default().with_max_bytes(LIMIT)).await;
    let mut stream = send_head(address, &format!("content-length: {}\r\n", LIMIT + 1)).await;
    let answer = read_until(&mut stream, "bytes\"}").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("larger than 100000 bytes"), "{answer}");
}

#[tokio::test]
async fn a_chunked_body_within_the_limit_arrives_whole() {
    let address = serve(BodyRules::default().with_max_bytes(LIMIT)).await;
    let mut stream = send_head(address, "transfer-encoding: chunked\r\n").await;
    let chunk = format!("2710\r\n{}\r\n", "x".repeat(10_000));
    for _ in 0..10 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let answer = read_until(&mut stream, "100000").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_connection_that_breaks_is_not_a_short_body() {
    let (sender, mut results) = tokio::sync::mpsc::channel(1);
    let handler = move |request: Request| {
        let sender = sender.clone();
        async move {
            let (parts, body) = request.into_parts();
            let result = BodyRules::default().read(&parts.headers, body).await;
            sender.send(result).await.unwrap();
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new().route("/", post(handler));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let mut stream = send_head(address, "content-length: 10\r\n").await;
    stream.write_all(b"{\"a\":").await.unwrap();
    stream.shutdown().await.unwrap();
    let result = results.recv().await.unwrap();
    assert_eq!(result, Err(towpath_webhook::BodyError::Broken));
}

#[tokio::test]
async fn a_body_that_stalls_is_answered_with_408() {
    let rules = BodyRules::default().with_timeout(Duration::from_millis(50));
    let address = serve(rules).await;
    let mut stream = send_head(address, "content-length: 10\r\n").await;
    stream.write_all(b"{").await.unwrap();
    let answer = read_until(&mut stream, "}").await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}
