//! `bench` on a server: what it counts.

use crate::{
    Outcome, ServerTest,
    server::{Cloud, Server, unique},
    tests,
    tool::Tool,
};

pub(crate) const TESTS: &[ServerTest] = tests![requests_are_counted_or_marked_as_an_estimate];

fn requests_are_counted_or_marked_as_an_estimate(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = server.url(&unique("bench"), "");
    tool.provision(&url);
    let report = tool.json(&["bench", "--url", &url, "--messages", "95"]);
    let report = &report[0];
    assert_eq!(report["messages"], 95);
    let requests = &report["requests"];
    match server.cloud {
        Cloud::Sqs => {
            assert_eq!(requests["known"], "counted");
            // Four senders: 24, 24, 24 and 23 messages, in batches of ten.
            assert_eq!(requests["send"], 12);
            assert!(requests["receive"].as_u64() >= Some(10), "{requests}");
            assert!(requests["settle"].as_u64() >= Some(10), "{requests}");
            let all = ["send", "receive", "settle", "extend"];
            let sum: u64 = all.iter().filter_map(|sort| requests[sort].as_u64()).sum();
            assert_eq!(requests["billed"], sum);
        }
        Cloud::PubSub => {
            assert_eq!(requests["known"], "estimated");
            assert!(
                requests["billed_bytes"].as_u64() > Some(95 * 2 * 256),
                "{requests}"
            );
        }
    }
    assert!(report["price"]["usd_per_million_messages"].as_f64() > Some(0.0));
    assert!(
        report["price"]["source"]
            .as_str()
            .is_some_and(|url| url.starts_with("https://"))
    );
    let shown = tool.ok(&["bench", &url, "--messages", "20"]);
    assert!(shown.contains("estimated price: "), "{shown}");
    assert!(tool.drain(&url).is_empty(), "it leaves nothing behind");
    Ok(())
}
