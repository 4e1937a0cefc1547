//! `migrate` between two clouds.

use crate::{
    CloudsTest, Outcome,
    server::{Server, unique},
    tests,
    tool::Tool,
};

pub(crate) const TESTS: &[CloudsTest] =
    tests![a_queue_moves_to_the_other_cloud_and_back_and_nothing_is_lost];

fn a_queue_moves_to_the_other_cloud_and_back_and_nothing_is_lost(
    sqs: &Server,
    pubsub: &Server,
) -> Outcome {
    let tool = Tool::new();
    let name = unique("migrate");
    let (here, there) = (sqs.url(&name, ""), pubsub.url(&name, ""));
    tool.provision(&here);
    tool.provision(&there);
    let count = 230;
    let mut input = String::new();
    for n in 0..count {
        let line = serde_json::json!({ "body": format!("body {n:03} ä"), "attributes": { "n": n.to_string() } });
        input.push_str(&format!("{line}\n"));
    }
    tool.write("lines", input);
    let sent = tool.json(&["send", &here, "--jsonl", "lines"]);
    assert_eq!(sent.len(), count);

    for (from, to) in [(&here, &there), (&there, &here)] {
        let part = tool.json(&["migrate", "--from", from, "--to", to, "--limit", "50"]);
        assert_eq!(part[0]["moved"], 50);
        let mut moved = 50;
        // An answer that got lost on the way brings its messages back when their lease ends.
        for _ in 0..5 {
            let rest = tool.json(&["migrate", "--from", from, "--to", to, "--idle", "5s"]);
            assert_eq!(
                (&rest[0]["refused"], &rest[0]["possibly_twice"]),
                (&0.into(), &0.into())
            );
            moved += rest[0]["moved"].as_u64().unwrap_or(0);
            if moved >= count as u64 {
                break;
            }
        }
        assert_eq!(moved, count as u64);
    }

    let back = tool.json(&["receive", &here, "--ack", "--idle", "3s"]);
    let mut found: Vec<(u64, String)> = back
        .iter()
        .map(|message| {
            let n = message["attributes"]["n"]
                .as_str()
                .and_then(|n| n.parse().ok());
            assert_eq!(
                message["body"],
                format!("body {:03} ä", n.unwrap_or(u64::MAX))
            );
            (
                n.unwrap_or(u64::MAX),
                message["idempotency_key"].to_string(),
            )
        })
        .collect();
    found.sort();
    let keys: Vec<String> = sent
        .iter()
        .map(|sent| sent["idempotency_key"].to_string())
        .collect();
    let wanted: Vec<(u64, String)> = (0..).zip(keys).collect();
    assert_eq!(found, wanted, "each message once, with its own key");
    assert!(tool.drain(&there).is_empty());
    Ok(())
}
