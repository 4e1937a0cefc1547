//! `provision`, `check`, `depth` and `purge`.

use crate::{
    Outcome, ServerTest,
    server::{Cloud, Server, unique},
    tests,
    tool::Tool,
};

pub(crate) const TESTS: &[ServerTest] = tests![
    a_plan_changes_nothing_and_applying_it_leaves_nothing_to_do,
    a_check_names_what_is_missing_and_how_to_mend_it,
    the_depth_is_told_or_refused_but_never_guessed,
    a_purge_asks_first_and_empties_the_queue,
];

fn a_plan_changes_nothing_and_applying_it_leaves_nothing_to_do(server: &Server) -> Outcome {
    let tool = Tool::new();
    let name = unique("plan");
    let url = server.url(
        &name,
        &format!("dead_letter={name}-dlq&max_attempts=5&lease=40s"),
    );
    for _ in 0..2 {
        let plan = tool.ok(&["provision", &url]);
        assert!(plan.contains("TO BE") && plan.contains("--apply"), "{plan}");
    }
    let done = tool.json(&["provision", &url, "--apply"]);
    assert!(
        done.iter()
            .any(|change| change["setting"].to_string().contains(&name))
    );
    let plan = tool.ok(&["provision", &url]);
    assert!(plan.contains("is as wanted"), "{plan}");
    Ok(())
}

fn a_check_names_what_is_missing_and_how_to_mend_it(server: &Server) -> Outcome {
    let tool = Tool::new();
    let name = unique("check");
    let url = server.url(&name, &format!("dead_letter={name}-dlq&max_attempts=5"));
    let run = tool.run(&["check", &url]);
    assert_eq!(run.code, 1, "{}", run.out);
    assert!(run.out.contains("towpath provision"), "{}", run.out);
    tool.provision(&url);
    let findings = tool.json(&["check", &url]);
    assert!(
        findings
            .iter()
            .all(|finding| finding["severity"] == "warning"),
        "{findings:?}"
    );
    let run = tool.run(&["check", &url, "--handler-timeout", "20h"]);
    assert_eq!(run.code, 1, "{}", run.out);
    assert!(run.out.contains("it would run twice"), "{}", run.out);
    Ok(())
}

fn the_depth_is_told_or_refused_but_never_guessed(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = server.url(&unique("depth"), "");
    tool.provision(&url);
    tool.ok(&["send", &url, "one", "two"]);
    match server.cloud {
        Cloud::Sqs => {
            let depth = tool.json(&["depth", &url]);
            assert_eq!(depth[0]["depth"]["ready"], 2, "{depth:?}");
            let table = tool.ok(&["depth", &url]);
            assert!(table.starts_with("QUEUE"), "{table}");
        }
        Cloud::PubSub => {
            let run = tool.run(&["depth", &url]);
            assert_eq!(run.code, 2);
            assert!(run.err.contains("num_undelivered_messages"), "{}", run.err);
        }
    }
    Ok(())
}

fn a_purge_asks_first_and_empties_the_queue(server: &Server) -> Outcome {
    let tool = Tool::new();
    let url = server.url(&unique("purge"), "");
    tool.provision(&url);
    tool.ok(&["send", &url, "one", "two"]);
    let run = tool.run(&["purge", &url]);
    assert_eq!(run.code, 2);
    assert!(
        run.err.contains("nothing was removed; say --yes"),
        "{}",
        run.err
    );
    let purged = tool.json(&["purge", &url, "--yes"]);
    assert_eq!(purged.len(), 1);
    assert!(tool.drain(&url).is_empty());
    Ok(())
}
