//! The configuration file, its profiles and the environment.

use crate::{
    CloudsTest, LocalTest, Outcome,
    server::{Server, unique},
    tests,
    tool::Tool,
};

pub(crate) const TESTS: &[LocalTest] = tests![
    every_setting_is_explained_with_its_place,
    an_unknown_name_is_an_error_with_the_nearest_right_one,
];

pub(crate) const CLOUDS_TESTS: &[CloudsTest] = tests![
    one_variable_takes_a_program_from_memory_to_either_cloud,
    one_profile_takes_a_program_from_memory_to_either_cloud,
];

const FILE: &str = "
[queues.orders]
url = 'memory://orders'
lease = '40s'

[profiles.dev.queues.orders]
wait = '1s'

[profiles.aws.queues.orders]
url = 'sqs://orders'
region = 'eu-central-1'

[profiles.gcp.queues.orders]
url = 'pubsub://my-project/orders'
";

fn every_setting_is_explained_with_its_place() -> Outcome {
    let tool = Tool::new().with_variable("TOWPATH_QUEUES__ORDERS__PREFETCH", "7");
    tool.write("towpath.toml", FILE);
    for (profile, wanted) in [
        ("dev", "memory://orders"),
        ("aws", "sqs://orders"),
        ("gcp", "pubsub://my-project/orders"),
    ] {
        let settings = tool.json(&["config", "explain", "--profile", profile]);
        let find = |option: &str| settings.iter().find(|setting| setting["option"] == option);
        let url = find("url").ok_or("no url")?;
        assert_eq!(
            (&url["value"], &url["source"]),
            (&wanted.into(), &"towpath.toml".into())
        );
        let prefetch = find("prefetch").ok_or("no prefetch")?;
        assert_eq!(prefetch["source"], "TOWPATH_QUEUES__ORDERS__PREFETCH");
    }
    let table = tool.ok(&["config", "explain"]);
    assert!(
        table.starts_with("profile: none\n") && table.contains("40s"),
        "{table}"
    );
    Ok(())
}

fn an_unknown_name_is_an_error_with_the_nearest_right_one() -> Outcome {
    for (file, arguments, wanted) in [
        (
            "[queue.orders]\nurl = 'memory://x'",
            vec!["depth"],
            "did you mean \"queues\"?",
        ),
        (
            "[queues.orders]\nurl = 'memory://x'\nleese = '3s'",
            vec!["depth"],
            "did you mean \"lease\"?",
        ),
        (FILE, vec!["depth", "order"], "did you mean \"orders\"?"),
        (
            FILE,
            vec!["depth", "--profile", "awss"],
            "did you mean \"aws\"?",
        ),
        (
            FILE,
            vec!["depth", "memry://orders"],
            "did you mean \"memory\"?",
        ),
    ] {
        let tool = Tool::new();
        tool.write("towpath.toml", file);
        let run = tool.run(&arguments);
        assert_eq!(run.code, 2);
        assert!(run.err.contains(wanted), "{}", run.err);
    }
    Ok(())
}

/// The program: it sends, receives and acks, and says how much of it.
fn program(tool: &Tool) -> u64 {
    let report = tool.json(&["bench", "orders", "--messages", "30"]);
    report[0]["messages"].as_u64().unwrap_or(0)
}

fn one_variable_takes_a_program_from_memory_to_either_cloud(
    sqs: &Server,
    pubsub: &Server,
) -> Outcome {
    let name = unique("swap");
    let urls = [
        "memory://orders".to_owned(),
        sqs.url(&name, ""),
        pubsub.url(&name, ""),
    ];
    for url in urls {
        let tool = Tool::new().with_variable("TOWPATH_QUEUES__ORDERS__URL", &url);
        tool.provision("orders");
        assert_eq!(program(&tool), 30, "{url}");
    }
    Ok(())
}

fn one_profile_takes_a_program_from_memory_to_either_cloud(
    sqs: &Server,
    pubsub: &Server,
) -> Outcome {
    let name = unique("profile");
    let file = format!(
        "profile = 'dev'\n\
         [queues.orders]\nurl = 'memory://orders'\n\
         [profiles.dev]\n\
         [profiles.aws.queues.orders]\nurl = '{}'\n\
         [profiles.gcp.queues.orders]\nurl = '{}'\n",
        sqs.url(&name, ""),
        pubsub.url(&name, "")
    );
    for profile in ["dev", "aws", "gcp"] {
        let tool = Tool::new().with_variable("TOWPATH_PROFILE", profile);
        tool.write("towpath.toml", &file);
        tool.provision("orders");
        assert_eq!(program(&tool), 30, "{profile}");
    }
    Ok(())
}
