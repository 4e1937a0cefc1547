//! The list of metrics, the code that writes them, and the dashboard that shows them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use towpath_worker::metrics::{ALL, Metric, MetricKind};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn names() -> BTreeSet<String> {
    ALL.iter().map(|metric| metric.name.to_owned()).collect()
}

/// The words in `text` that begin as our metrics do.
fn metrics_in(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("towpath_"))
}

/// All strings under the key `name`, anywhere.
fn strings<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                if key == name {
                    found.extend(value.as_str());
                }
                strings(value, name, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| strings(value, name, found)),
        _ => {}
    }
}

fn dashboard() -> Value {
    let text = fs::read_to_string(here("../docs/grafana/towpath-worker.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The metric that a word in a query is about: Prometheus has three series for a histogram.
fn metric(word: &str) -> &'static Metric {
    let base = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|end| word.strip_suffix(end));
    let is_series = |metric: &&Metric| match metric.kind {
        MetricKind::Histogram => base == Some(metric.name),
        _ => word == metric.name,
    };
    ALL.iter()
        .find(is_series)
        .unwrap_or_else(|| panic!("{word} is no series of a metric in metrics::ALL"))
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard = dashboard();
    let mut queries = Vec::new();
    strings(&dashboard["panels"], "expr", &mut queries);
    let shown: BTreeSet<String> = queries
        .iter()
        .flat_map(|query| metrics_in(query))
        .map(|word| metric(word).name.to_owned())
        .collect();
    assert_eq!(shown, names());
    let mut definitions = Vec::new();
    strings(&dashboard["templating"], "query", &mut definitions);
    let words = definitions.iter().flat_map(|text| metrics_in(text));
    let asked: Vec<&str> = words.map(|word| metric(word).name).collect();
    assert_eq!(asked, ["towpath_received_total", "towpath_depth"]);
}

#[test]
fn the_dashboard_asks_only_for_labels_that_a_metric_has() {
    // What Prometheus adds itself.
    let known = |metric: &Metric, label: &str| {
        metric.labels.contains(&label) || ["le", "instance"].contains(&label)
    };
    let dashboard = dashboard();
    let mut queries = Vec::new();
    strings(&dashboard["panels"], "expr", &mut queries);
    assert!(queries.len() >= ALL.len());
    for query in queries {
        let metric = metric(metrics_in(query).next().unwrap());
        let selectors = between(query, '{', '}').into_iter();
        let labels = selectors.flat_map(|text| text.split(',')).map(|part| {
            let end = part.find(['=', '!']).unwrap();
            part[..end].trim()
        });
        let groups = query.split("by (").skip(1);
        let groups = groups.flat_map(|rest| rest.split_once(')').unwrap().0.split(','));
        for label in labels.chain(groups.map(str::trim)) {
            assert!(known(metric, label), "{label} in {query}");
        }
    }
}

fn between(text: &str, open: char, close: char) -> Vec<&str> {
    text.split(open)
        .skip(1)
        .map(|rest| rest.split_once(close).unwrap().0)
        .collect()
}

#[test]
fn the_panels_have_numbers_and_places_of_their_own() {
    let dashboard = dashboard();
    let mut places = BTreeMap::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let (id, place) = (panel["id"].as_u64().unwrap(), &panel["gridPos"]);
        let number = |name: &str| place[name].as_u64().unwrap();
        assert!(number("x") + number("w") <= 24, "{panel}");
        assert!(
            places.insert((number("x"), number("y")), id).is_none(),
            "{panel}"
        );
    }
    assert_eq!(places.values().collect::<BTreeSet<_>>().len(), places.len());
}

/// Adds the names of the metrics that the code in a folder writes.
fn written(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            written(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for macro_name in ["counter!(", "gauge!(", "histogram!("] {
            let call = format!("metrics::{macro_name}");
            for (at, _) in text.match_indices(&call) {
                let name = metrics_in(&text[at..]).next().unwrap();
                found.insert(name.to_owned());
            }
        }
    }
}

#[test]
fn the_list_has_every_metric_that_the_code_writes_and_no_other() {
    let mut found = BTreeSet::new();
    written(&here("src"), &mut found);
    assert_eq!(found, names());
    // The table of the documentation, too.
    let text = fs::read_to_string(here("src/metrics.rs")).unwrap();
    let rows = text
        .lines()
        .filter(|line| line.starts_with("//! | `towpath_"));
    let rows: BTreeSet<String> = rows
        .map(|line| metrics_in(line).next().unwrap().to_owned())
        .collect();
    assert_eq!(rows, names());
}
