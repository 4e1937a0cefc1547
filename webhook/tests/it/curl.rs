//! A real `curl` posts to a real listener.

use std::{net::SocketAddr, process::Stdio, time::SystemTime};

use tokio::{io::AsyncWriteExt, net::TcpListener, process::Command};
use towpath_webhook::{
    Config, Receiver,
    signature::{Key, Signer, github::Github, mailgun::signed_body},
};

use crate::support::TestQueue;

const CONFIG: &str = r#"
    [sources.routes]
    path = "/routes"
    queue = "queue"
    content_types = ["multipart/form-data", "application/x-www-form-urlencoded"]
    verify = { scheme = "mailgun", secrets = ["key"] }

    [sources.github]
    path = "/hook"
    queue = "queue"
    max_body_bytes = 300000
    verify = { scheme = "github", secrets = ["secret"] }
"#;

async fn serve(queue: &TestQueue) -> SocketAddr {
    let receiver = Receiver::builder().producer("queue", queue.producer());
    let receiver = receiver
        .start(Config::parse(CONFIG).unwrap())
        .await
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, receiver.router()).await.unwrap() });
    address
}

/// The status and the body of the answer.
async fn curl(arguments: &[String], input: &[u8]) -> (u16, String) {
    let mut child = Command::new("curl")
        .args(["-sS", "--max-time", "20", "-w", "\n%{http_code}"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("these tests need curl");
    let mut stdin = child.stdin.take().unwrap();
    // It may stop reading when it is refused.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

/// Timestamp, token and signature, as Mailgun adds them to forms.
fn fields(token: &str) -> [(&'static str, String); 3] {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let timestamp = serde_json::json!(now.as_secs().to_string());
    let signed = signed_body(&Key::new("key"), &timestamp, token, &serde_json::json!({}));
    ["timestamp", "token", "signature"]
        .map(|name| (name, signed["signature"][name].as_str().unwrap().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_multipart_form_with_a_file_arrives_byte_for_byte() {
    let queue = TestQueue::new();
    let address = serve(&queue).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let content: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(file.path(), &content).unwrap();
    let mut arguments = vec![format!("http://{address}/routes")];
    for (name, value) in fields("token-1") {
        arguments.extend(["-F".to_owned(), format!("{name}={value}")]);
    }
    let attachment = format!(
        "attachment-1=@{};type=application/octet-stream",
        file.path().display()
    );
    arguments.extend(["-F".to_owned(), attachment]);
    let (status, answer) = curl(&arguments, b"").await;
    assert_eq!(status, 200, "{answer}");
    let message = queue.only();
    let position = message
        .body()
        .windows(content.len())
        .position(|w| w == content);
    assert!(position.is_some());
    let content_type = message.attributes().get("content-type").unwrap();
    assert!(
        content_type.starts_with("multipart/form-data; boundary="),
        "{content_type}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_urlencoded_form_is_accepted_once() {
    let queue = TestQueue::new();
    let address = serve(&queue).await;
    let mut arguments = vec![format!("http://{address}/routes")];
    for (name, value) in fields("token-2") {
        arguments.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
    }
    arguments.extend([
        "--data-urlencode".to_owned(),
        "subject=größe & more".to_owned(),
    ]);
    let first = curl(&arguments, b"").await;
    assert_eq!(first.0, 200, "{}", first.1);
    assert_eq!(curl(&arguments, b"").await, first);
    queue.only();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_body_arrives_whole_or_is_refused_at_the_limit() {
    let queue = TestQueue::new();
    let address = serve(&queue).await;
    let body = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8)).into_bytes();
    for (bytes, wanted) in [(300_000, 202), (300_001, 413)] {
        let body = body(bytes);
        let github = Github::new([Key::new("secret")]);
        let signed = github.sign(&body, "d1", SystemTime::now()).unwrap();
        let mut arguments = vec![
            format!("http://{address}/hook"),
            "-H".to_owned(),
            "transfer-encoding: chunked".to_owned(),
            "-H".to_owned(),
            "content-type: application/json".to_owned(),
            "--data-binary".to_owned(),
            "@-".to_owned(),
        ];
        for (name, value) in &signed.headers {
            arguments.extend([
                "-H".to_owned(),
                format!("{name}: {}", value.to_str().unwrap()),
            ]);
        }
        let (status, answer) = curl(&arguments, &body).await;
        assert_eq!(status, wanted, "{answer}");
        assert_eq!(queue.only().body().len(), 300_000);
    }
}
