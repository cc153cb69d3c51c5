//! What `deploy` names exists: the metrics of the dashboards are on `/metrics`, the data sources refer to each other.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::support::{Server, otlp, repo};

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repo().join(folder)).unwrap().map(|e| e.unwrap().path());
    let found: Vec<PathBuf> = entries.filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    assert!(!found.is_empty(), "no {extension} in {folder}");
    found
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// All texts under a key, wherever it is.
fn texts<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(k, v)| {
            found.extend((k == key).then(|| v.as_str()).flatten());
            texts(v, key, found);
        }),
        Value::Array(items) => items.iter().for_each(|v| texts(v, key, found)),
        _ => {}
    }
}

/// Words of a text in PromQL that are names of metrics of ours.
fn metrics_in(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|w| ["tracehouse_", "tempo_", "tempodb_", "process_"].iter().any(|p| w.starts_with(p)))
}

#[test]
fn dashboards_ask_only_for_metrics_that_there_are() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    server.push(&otlp::request("shop", vec![otlp::span(&[1; 16], 1, "a", 1_772_366_400_000_000_000)]));
    server.flush();
    server.get("/api/search?q=%7B%7D").ok();
    let text = server.get("/metrics").ok().text();
    let samples = text.lines().filter(|l| !l.starts_with('#'));
    let there: BTreeSet<&str> = samples.filter_map(|l| l.split(['{', ' ']).next()).collect();
    let mut asked = BTreeSet::new();
    for path in files("deploy/grafana/dashboards", "json") {
        let dashboard = json(&path);
        let (mut exprs, mut titles) = (Vec::new(), Vec::new());
        texts(&dashboard, "expr", &mut exprs);
        texts(&dashboard, "definition", &mut exprs);
        texts(&dashboard, "title", &mut titles);
        assert!(titles.len() > 1, "{}", path.display());
        assert!(exprs.iter().all(|e| metrics_in(e).next().is_some()), "an expression without a metric of ours: {exprs:?}");
        for name in exprs.iter().flat_map(|e| metrics_in(e)) {
            assert!(there.contains(name), "{}: there is no metric {name} in\n{text}", path.display());
            asked.insert(name.to_owned());
        }
    }
    assert!(asked.len() > 15, "{asked:?}");
}

#[test]
fn data_sources_refer_to_each_other() {
    let text = fs::read_to_string(repo().join("deploy/grafana/provisioning/datasources/tracehouse.yaml")).unwrap();
    let settings: Value = serde_norway::from_str(&text).unwrap();
    let sources = settings["datasources"].as_array().unwrap();
    let defined: BTreeSet<&str> = sources.iter().map(|s| s["uid"].as_str().unwrap()).collect();
    let mut named = Vec::new();
    texts(&settings, "datasourceUid", &mut named);
    assert_eq!(named.into_iter().collect::<BTreeSet<_>>(), defined, "each is defined, and named by another");
    let tempo = sources.iter().find(|s| s["type"] == "tempo").unwrap();
    assert_eq!(tempo["jsonData"]["nodeGraph"]["enabled"], true);
    let streaming = &tempo["jsonData"]["streamingEnabled"];
    assert_eq!((&streaming["search"], &streaming["metrics"]), (&Value::Bool(true), &Value::Bool(true)));
}
