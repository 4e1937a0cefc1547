//! The other process, and requests to it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, SystemTime},
};

use towpath_webhook::signature::{Key, Signer, github::Github};

use crate::receiver;

const PATIENCE: Duration = Duration::from_secs(60);

/// A receiver in a process of its own, killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    pub(crate) fn start(folder: &Path, queue: &str, stop_at: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(receiver::FOLDER, folder)
            .env(receiver::QUEUE, queue)
            .env(receiver::STOP_AT, stop_at)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    pub(crate) fn port(&self) -> u16 {
        self.until("listening ").parse().unwrap()
    }

    /// Waits for a line that starts so; what comes after.
    pub(crate) fn until(&self, start: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("no line {start:?}: {error}"));
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_owned();
            }
        }
    }

    /// SIGKILL, where there is one.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The status of the answer to an event, if there is one.
pub(crate) fn post(port: u16, id: &str) -> Option<u16> {
    let body = format!(r#"{{"id":"{id}"}}"#);
    let signed = Github::new([Key::new("secret")])
        .sign(body.as_bytes(), id, SystemTime::now())
        .unwrap();
    let mut request = format!(
        "POST /hook HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n",
        body.len()
    );
    for (name, value) in &signed.headers {
        request += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    request += "\r\n";
    request += &body;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}
