//! Mistakes in a configuration, and the one of the README.

use std::collections::BTreeMap;

use towpath_core::{ErrorKind, Registry};
use towpath_memory::MemoryBackend;
use towpath_webhook::{Config, Receiver, Secret};

use crate::support::{GITHUB, TestQueue, github, send};

const VERIFY: &str = "verify = { scheme = \"github\", secrets = [\"secret\"] }";

#[test]
fn every_mistake_is_told_with_its_place_and_what_would_be_right() {
    let source = |line: &str| format!("{GITHUB}{line}");
    let verify = |verify: &str| GITHUB.replace(VERIFY, verify);
    let table = [
        (
            "".to_owned(),
            "sources: there are none; add a table [sources.NAME]",
        ),
        ("x =".to_owned(), "line 1 is not TOML"),
        ("a = 1\nkey = 'hunter2".to_owned(), "line 2 is not TOML"),
        (
            "[source.x]".to_owned(),
            "source: unknown key \"source\"; did you mean \"sources\"?",
        ),
        ("sources = 1".to_owned(), "sources: must be a table"),
        ("spool = 'file'".to_owned(), "spool: must be a table"),
        ("[spool]".to_owned(), "spool: missing field `path`"),
        (
            "[spool]\npath = 's'\nmax_mesages = 1".to_owned(),
            "spool.max_mesages: unknown key \"max_mesages\"; did you mean \"max_messages\"?",
        ),
        ("[spool]\npath = ''".to_owned(), "spool.path: is empty"),
        (
            "[spool]\npath = 's'\nmax_messages = 0".to_owned(),
            "spool.max_messages: ",
        ),
        (
            "[spool]\npath = 's'\nmax_bytes = -1".to_owned(),
            "spool.max_bytes: ",
        ),
        (
            "[spool]\npath = 's'\npublish_timeout = '0s'".to_owned(),
            "spool.publish_timeout: must be longer than zero",
        ),
        (
            "[spool]\npath = 's'\nmax_backoff = '0s'".to_owned(),
            "spool.max_backoff: must be longer than zero",
        ),
        ("max_in_flight = 0\n[sources]".to_owned(), "max_in_flight: "),
        (
            "[queues]\nq = 'memory:/x'\n[sources]".to_owned(),
            "queues.q: \"memory:/x\" has no scheme",
        ),
        ("[sources]\nx = 1".to_owned(), "sources.x: must be a table"),
        (
            "[sources.x]\npath = '/x'\nqueue = 'q'".to_owned(),
            "sources.x.verify: is missing",
        ),
        (
            source("pth = '/x'"),
            "sources.github.pth: unknown key \"pth\"; did you mean \"path\"?",
        ),
        (
            source("zzz = 1"),
            "(known: path, queue, verify, schema, dedup, rate_limit, route, profile, ",
        ),
        (
            GITHUB.replace("path = \"/hook\"", ""),
            "sources.github: missing field `path`",
        ),
        (
            GITHUB.replace("/hook", "hook"),
            "sources.github.path: \"hook\" must be a plain path",
        ),
        (
            GITHUB.replace("/hook", "/readyz"),
            "sources.github.path: \"/readyz\" is answered by the receiver",
        ),
        (
            format!("{GITHUB}\n[sources.z]\npath = '/hook'\nqueue = 'queue'\nverify = 'none'"),
            "sources.z.path: \"/hook\" is the path of sources.github too",
        ),
        (
            verify("verify = 1"),
            "sources.github.verify: must be a table",
        ),
        (
            verify("verify = {}"),
            "sources.github.verify: `scheme` is missing; it is one of mailgun, ",
        ),
        (
            verify("verify = 'githab'"),
            "verify.scheme: unknown scheme \"githab\"; did you mean \"github\"?",
        ),
        (
            verify("verify = 'github'"),
            "sources.github.verify: missing field `secrets`",
        ),
        (
            verify("verify = { scheme = 'none', secrets = [] }"),
            "sources.github.verify.secrets: unknown key",
        ),
        (
            verify("verify = { scheme = 'github', secrets = ['x'], tolerence = '5m' }"),
            "sources.github.verify.tolerence: unknown key",
        ),
        (
            verify("verify = { scheme = 'slack', secrets = ['x'], tolerance = 300 }"),
            "sources.github.verify.tolerance: invalid type: integer",
        ),
        (
            verify("verify = { scheme = 'slack', secrets = ['x'], tolerance = 'long' }"),
            "write it like 250ms, 30s or 5m",
        ),
        (
            verify("verify = { scheme = 'github', secrets = [8675309] }"),
            "sources.github.verify.secrets[0]: a secret is a string, { env = \"NAME\" } or",
        ),
        (
            source("content_types = []"),
            "sources.github.content_types: is empty",
        ),
        (
            source("content_types = ['json']"),
            "\"json\" must be a media type",
        ),
        (
            source("max_body_bytes = 0"),
            "sources.github.max_body_bytes: must be at least 1",
        ),
        (
            source("max_body_bytes = '1MB'"),
            "sources.github.max_body_bytes: invalid type: string",
        ),
        (
            source("publish_timeout = '0s'"),
            "sources.github.publish_timeout: must be longer than zero",
        ),
        (
            source("retry_after = 10"),
            "sources.github.retry_after: invalid type: integer",
        ),
        (
            source("headers = ['a', 'b', 'c', 'd', 'e']"),
            "has 5 headers, and at most 4 are carried",
        ),
        (source("headers = ['Authorization']"), "holds a secret"),
        (
            source("headers = ['Content-Type']"),
            "is an attribute of every message already",
        ),
        (source("headers = ['x y']"), "is not the name of a header"),
        (source("headers = ['goog-x']"), "is reserved by the queues"),
        (
            source("ordering_key = 'customer'"),
            "sources.github.ordering_key: \"customer\" must be a JSON pointer",
        ),
        (
            source("schema = 'x'"),
            "sources.github.schema: must be a table",
        ),
        (
            source("schema = {}"),
            "sources.github.schema: needs either `file` or `inline`",
        ),
        (
            source("schema = { inline = '{}', max_depth = 200 }"),
            "schema.max_depth: must be 1 to 127",
        ),
        (
            source("schema = { fil = 'x' }"),
            "schema.fil: unknown key \"fil\"; did you mean \"file\"?",
        ),
        (
            source("schema.inline = '{}'\ncontent_types = ['text/plain']"),
            "sources.github.schema: needs a JSON type",
        ),
        (source("dedup.horizont = '1h'"), "did you mean \"horizon\"?"),
        (
            source("dedup.capacity = 0"),
            "sources.github.dedup.capacity: ",
        ),
        (
            source("dedup = { id_header = 'a', id_pointer = '/b' }"),
            "needs only one of",
        ),
        (
            source("dedup.id_header = 'a b'"),
            "dedup.id_header: \"a b\" is not the name of a header",
        ),
        (
            source("rate_limit = { requests = 0 }"),
            "sources.github.rate_limit.requests: ",
        ),
        (
            source("rate_limit = { requests = 10, per = '1ns' }"),
            "rate_limit.per: must be longer",
        ),
        (
            source("rate_limit = { requests = 4000000000 }"),
            "rate_limit.per: must be longer",
        ),
        (
            source("rate_limit = { per = '1s' }"),
            "sources.github.rate_limit: missing field `requests`",
        ),
        (
            source("route = { queues = { a = 'queue' } }"),
            "route: needs either `header` or `pointer`",
        ),
        (
            source("route = { header = 'a', queues = {} }"),
            "route.queues: is empty",
        ),
        (
            source("profile = 'mailgum'"),
            "sources.github.profile: there is no profile",
        ),
        (
            source("profile = { accepted = 500 }"),
            "sources.github.profile: ",
        ),
    ];
    for (text, wanted) in table {
        let error = Config::parse(&text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(
            error.message().contains(wanted),
            "{text}\n{error}\nwanted: {wanted}"
        );
        assert!(!error.message().contains("hunter2"), "{error}");
        assert!(!error.message().contains("8675309"), "{error}");
    }
}

#[tokio::test]
async fn what_shows_only_at_the_start_is_told_with_its_place_too() {
    let source = |line: &str| format!("{GITHUB}{line}");
    let verify = |verify: &str| GITHUB.replace(VERIFY, verify);
    let table = [
        (
            GITHUB.replace("\"queue\"", "\"queu\""),
            "sources.github.queue: unknown queue \"queu\"; did you mean \"queue\"?",
        ),
        (
            source("route = { header = 'a', queues = { b = 'nowhere' } }"),
            "sources.github.route.queues.b: unknown queue \"nowhere\" (known: queue)",
        ),
        (
            source("[queues]\nunused = 'memry://x'"),
            "queues.unused: scheme \"memry\"",
        ),
        (
            source("[queues]\nunused = 'memory://x?leese=1s'"),
            "did you mean \"lease\"?",
        ),
        (
            verify("verify = { scheme = 'github', secrets = [] }"),
            "sources.github.verify.secrets: is empty",
        ),
        (
            verify("verify = { scheme = 'github', secrets = ['x', { env = 'TOWPATH_NOT_SET' }] }"),
            "sources.github.verify.secrets[1]: the environment variable \"TOWPATH_NOT_SET\" is not set",
        ),
        (
            verify("verify = { scheme = 'basic', users = { ana = '' } }"),
            "sources.github.verify.users.ana: ",
        ),
        (
            verify("verify = { scheme = 'standard_webhooks', secrets = ['?'] }"),
            "sources.github.verify: the key is not base64",
        ),
        (
            verify("verify = { scheme = 'hmac', secrets = ['x'], header = 'x', content = 'x' }"),
            "sources.github.verify: the signed content must contain {body}",
        ),
        (
            source("schema.file = 'nowhere.json'"),
            "sources.github.schema: cannot read nowhere.json",
        ),
        (
            source("schema.inline = '{\"type\": 7}'"),
            "sources.github.schema: the JSON Schema is wrong",
        ),
        (
            source("ordering_key = '/id'"),
            "sources.github.ordering_key: the queue \"queue\" keeps no order",
        ),
        (
            source("max_body_bytes = 800000"),
            "800000 is more than the queue \"queue\" carries, which is 737280",
        ),
    ];
    for (text, wanted) in table {
        let queue = TestQueue::with(|capabilities| capabilities.ordering = false);
        let receiver = Receiver::builder()
            .registry(Registry::new().with(MemoryBackend::new()))
            .producer("queue", queue.producer());
        let error = receiver
            .start(Config::parse(&text).unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        assert!(
            error.message().contains(wanted),
            "{text}\n{error}\nwanted: {wanted}"
        );
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "[queues]\nq = 'x'\n[sources.a]\npth = 1\nqueu = 2\n[sources.b]\npath = 'b'\nqueue = 'q'\nverify = 'none'";
    let error = Config::parse(text).unwrap_err();
    let places: Vec<&str> = error
        .message()
        .lines()
        .skip(1)
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert!(error.message().starts_with("6 mistakes:"), "{error}");
    let expected = [
        "- queues.q",
        "- sources.a.pth",
        "- sources.a.queu",
        "- sources.a.verify",
        "- sources.a",
        "- sources.b.path",
    ];
    assert_eq!(places, expected);
}

#[tokio::test]
async fn secrets_may_come_from_elsewhere() {
    let parse = |verify: &str| Config::parse(&GITHUB.replace(VERIFY, verify)).unwrap();
    let empty = parse("verify = { scheme = 'github', secrets = [] }");
    let config = empty
        .with_secrets("github", [Secret::literal("secret")])
        .unwrap();
    let queue = TestQueue::new();
    let receiver = Receiver::builder().producer("queue", queue.producer());
    let receiver = receiver.start(config.clone()).await.unwrap();
    send(&receiver.router(), github("one", "{}")).await.id();
    let error = config.with_secrets("gihub", []).unwrap_err();
    assert!(
        error.message().contains("did you mean \"github\"?"),
        "{error}"
    );
    let error = parse("verify = 'none'")
        .with_secrets("github", [])
        .unwrap_err();
    assert!(
        error.message().contains("takes no list of secrets"),
        "{error}"
    );
}

#[test]
fn it_can_be_part_of_a_larger_configuration() {
    #[derive(Debug, serde::Deserialize)]
    struct File {
        webhooks: Config,
    }
    let inner = "[webhooks.sources.x]\npath = '/x'\nqueue = 'q'\nverify = 'none'";
    let file: File = toml::from_str(inner).unwrap();
    assert_eq!(file.webhooks.sources().collect::<Vec<_>>(), ["x"]);
    let error = toml::from_str::<File>(&inner.replace("path", "pth")).unwrap_err();
    assert!(
        error.message().contains("did you mean \"path\"?"),
        "{error}"
    );
}

const README: &str = include_str!("../../README.md");

/// The configuration in the README.
fn example() -> &'static str {
    let (_, rest) = README.split_once("```toml\n").unwrap();
    rest.split_once("```").unwrap().0
}

#[tokio::test]
async fn the_example_of_the_readme_starts() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("schemas")).unwrap();
    std::fs::write(folder.path().join("schemas/mailgun.json"), "{}").unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "whsec_c2VjcmV0\n").unwrap();
    // The environment of a test cannot be set safely, so all secrets come from one file.
    let file = format!("{{ file = {secret:?} }}");
    let mut text = String::new();
    for line in example().lines() {
        let mut line = line.to_owned();
        while let Some(start) = line
            .find("{ env = ")
            .or_else(|| line.find("{ file = \"/run"))
        {
            let end = start + line[start..].find('}').unwrap();
            line.replace_range(start..=end, "SECRET");
        }
        text += &line.replace("SECRET", &file);
        text.push('\n');
    }
    let config = Config::parse(&text).unwrap().with_folder(folder.path());
    assert!(config.sources().count() >= 5);
    let receiver = Receiver::builder().registry(Registry::new().with(MemoryBackend::new()));
    let receiver = receiver.start(config).await.unwrap();
    receiver.close().await.unwrap();
}

/// Every key that the code knows, as its own errors list them.
fn known_keys() -> BTreeMap<&'static str, Vec<String>> {
    let with = |line: &str| format!("{GITHUB}{line}");
    let verify = |scheme: &str| {
        GITHUB.replace(
            VERIFY,
            &format!("verify = {{ scheme = '{scheme}', qqqqqq = 1 }}"),
        )
    };
    let texts = [
        ("top", "qqqqqq = 1".to_owned()),
        ("spool", "[spool]\nqqqqqq = 1".to_owned()),
        ("source", with("qqqqqq = 1")),
        ("schema", with("schema = { qqqqqq = 1 }")),
        ("dedup", with("dedup = { qqqqqq = 1 }")),
        ("rate_limit", with("rate_limit = { qqqqqq = 1 }")),
        ("route", with("route = { qqqqqq = 1 }")),
        ("mailgun", verify("mailgun")),
        ("standard_webhooks", verify("standard_webhooks")),
        ("hmac", verify("hmac")),
        ("basic", verify("basic")),
        ("bearer", verify("bearer")),
    ];
    texts
        .into_iter()
        .map(|(name, text)| {
            let error = Config::parse(&text).unwrap_err();
            let (_, rest) = error
                .message()
                .split_once("unknown key \"qqqqqq\" (known: ")
                .unwrap();
            let keys = rest.split_once(')').unwrap().0.split(", ");
            (name, keys.map(str::to_owned).collect())
        })
        .collect()
}

#[test]
fn every_key_has_a_line_in_the_readme_and_no_other_has() {
    let rows: std::collections::BTreeSet<&str> = README
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| `")?
                .split_once('`')
                .map(|(key, _)| key)
        })
        .collect();
    let mut expected = std::collections::BTreeSet::new();
    for (table, keys) in known_keys() {
        for key in keys {
            let key = match table {
                "top" | "source" => key,
                "spool" | "schema" | "dedup" | "rate_limit" | "route" => format!("{table}.{key}"),
                _ => format!("verify.{key}"),
            };
            expected.insert(key);
        }
    }
    for table in [
        "spool",
        "verify",
        "schema",
        "dedup",
        "rate_limit",
        "route",
        "sources",
        "queues",
    ] {
        expected.remove(table);
    }
    expected.extend(["verify.scheme", "queues.NAME"].map(str::to_owned));
    let expected: std::collections::BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    assert_eq!(rows, expected);
}
