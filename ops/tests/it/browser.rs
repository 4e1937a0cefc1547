//! The page in a real browser: headless Chromium, driven by chromedriver.

use std::{
    env,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::json;
use tokio::net::TcpListener;
use towpath_core::{Attempt, Failure};
use towpath_ops::{Ops, Status, WatchedQueue};
use towpath_worker::Worker;

use crate::support::{SECOND, Setup, bury, total};

/// chromedriver on a port of its own choice, ended when dropped.
struct Driver {
    child: Child,
    port: u16,
}

impl Driver {
    /// `None` where it is not installed and need not be.
    fn start() -> Option<Self> {
        let started = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn();
        let mut child = match started {
            Ok(child) => child,
            Err(error) => {
                assert!(
                    env::var_os("CONFORMANCE_REQUIRED").is_none(),
                    "chromedriver cannot be started ({error}); on Debian: apt-get install chromium \
                     chromium-driver"
                );
                eprintln!("not run: chromedriver is not installed; `cargo xtask test` needs it");
                return None;
            }
        };
        // "ChromeDriver was started successfully on port 40123."
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        Some(Self {
            child,
            port: port.expect("chromedriver names its port"),
        })
    }

    async fn browser(&self, profile: &std::path::Path) -> Client {
        let capabilities = json!({"goog:chromeOptions": {"args": [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--window-size=1200,760",
            format!("--user-data-dir={}", profile.display()),
        ]}});
        let serde_json::Value::Object(capabilities) = capabilities else {
            unreachable!("written above")
        };
        ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{}", self.port))
            .await
            .unwrap()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn click(browser: &Client, css: &str) {
    let element = browser.find(Locator::Css(css)).await.expect(css);
    element.click().await.unwrap();
}

async fn text(browser: &Client, css: &str) -> String {
    let element = browser.wait().for_element(Locator::Css(css)).await;
    element.expect(css).text().await.unwrap()
}

/// Keeps a picture where `TOWPATH_SCREENSHOTS` names a folder, for the documentation.
async fn picture(browser: &Client, name: &str) {
    if let Some(folder) = env::var_os("TOWPATH_SCREENSHOTS") {
        let png = browser.screenshot().await.unwrap();
        std::fs::write(PathBuf::from(folder).join(name), png).unwrap();
    }
}

#[tokio::test]
async fn an_operator_looks_redrives_and_discards() {
    let Some(driver) = Driver::start() else {
        return;
    };
    let setup = Setup::new();
    let crm = setup
        .registry
        .open("memory://crm-updates?dead_letter=crm-updates-dlq")
        .unwrap();
    let hostile = r#"{"name":"<img src=x onerror=\"document.title='owned'\">"}"#;
    setup
        .bury(&[hostile], "CRM answered 422: name is not allowed")
        .await;
    setup
        .bury(
            &[r#"{"name":"Ada"}"#, r#"{"name":"Grace"}"#],
            "CRM answered 503 for 24 h",
        )
        .await;
    bury(&crm, &["{}"], "no such contact").await;
    let producer = crm.producer().await.unwrap();
    for _ in 0..12 {
        producer.send("{}").await.unwrap();
    }
    let consumer = crm.consumer().await.unwrap();
    let worker = Worker::new(consumer, |_: Attempt| async { Ok::<_, Failure>(()) }).unwrap();
    let _held = worker.gate().hold("the circuit breaker crm is open");
    let ops = Ops::new("webhook-to-crm")
        .queue(WatchedQueue::new("mail", setup.queue.clone()))
        .queue(WatchedQueue::new("crm-updates", crm.clone()).worker(&worker))
        .status("breaker crm", || Status::bad("open, next try in 41 s"))
        .status("spool", || Status::good("empty"));
    let _working = tokio::spawn(worker.run());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _serving = tokio::spawn(ops.serve(listener));

    let profile = env::temp_dir().join(format!("towpath-ops-{}", std::process::id()));
    let browser = driver.browser(&profile).await;
    browser.goto(&format!("http://{address}/")).await.unwrap();
    let row = text(&browser, "#queue-crm-updates").await;
    assert!(
        row.contains("paused: the circuit breaker crm is open"),
        "{row}"
    );
    assert!(
        text(&browser, "#statuses")
            .await
            .contains("next try in 41 s")
    );
    picture(&browser, "ops-queues.png").await;

    click(&browser, "#queue-mail a").await;
    let table = text(&browser, "#dead-letters").await;
    assert!(table.contains("CRM answered 422"), "{table}");
    click(&browser, "details summary").await;
    assert!(text(&browser, "details pre").await.contains("<img src=x"));
    assert_eq!(
        browser.title().await.unwrap(),
        "Dead letters of mail - webhook-to-crm"
    );
    picture(&browser, "ops-dead-letters.png").await;

    // Discards the hostile one, which is the only one open.
    click(&browser, "tr:has(details[open]) input[type=checkbox]").await;
    click(&browser, "button.danger").await;
    // The page before has a heading too.
    text(&browser, "#yes").await;
    assert!(
        text(&browser, "h1")
            .await
            .contains("Discard 1 dead letters of mail for good?")
    );
    assert_eq!(setup.depths().await, (0, 3), "not before the confirmation");
    click(&browser, "#yes").await;
    assert_eq!(text(&browser, "#done").await, "1 of 1 discarded.");
    assert_eq!(setup.depths().await, (0, 2));

    click(&browser, "main a").await;
    text(&browser, "#dead-letters").await;
    click(&browser, "#redrive-all").await;
    text(&browser, "#yes").await;
    click(&browser, "#yes").await;
    assert_eq!(text(&browser, "#done").await, "2 of 2 redriven.");
    assert_eq!(setup.depths().await, (2, 0));
    assert_eq!(total(&crm).await, 12, "the other queue is untouched");

    browser.close().await.unwrap();
    tokio::time::sleep(SECOND / 5).await;
    std::fs::remove_dir_all(&profile).ok();
}
