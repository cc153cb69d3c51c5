//! Puts the settings together: defaults, then the file, then the environment, then flags.

use std::path::Path;

use figment::{Figment, providers::Serialized, value::Value};

use super::{
    Config,
    check::{line_of, unknown_field},
    schema,
};
use crate::error::{Error, Result};

const PREFIX: &str = "TRACEHOUSE_";
/// Stands between a section and a field in the name of a variable.
const SEPARATOR: &str = "__";

/// Settings that flags have: paths such as `server.http_addr` and their values.
pub type Overrides = Vec<(String, String)>;

/// The effective settings, from an optional file, this process's environment and flags.
pub fn from_process(file: Option<&Path>, flags: Overrides) -> Result<Config> {
    load(file, environment(), flags)
}

/// The environment of this process, as far as it is text.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
}

/// The effective settings.
pub fn load(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>, flags: Overrides) -> Result<Config> {
    let mut layers = Figment::from(Serialized::defaults(Config::default()));
    if let Some(path) = file {
        layers = layers.merge(Serialized::defaults(read(path)?));
    }
    for (name, value) in environment {
        let Some(path) = path_of(&name) else { continue };
        known(&path).map_err(|hint| Error::usage(format!("environment variable {name}: there is no setting {path}{hint}")))?;
        let value = parse(&path, &value);
        layers = layers.merge((path, value));
    }
    for (path, value) in flags {
        let value = parse(&path, &value);
        layers = layers.merge((path, value));
    }
    layers.extract().map_err(|e| Error::usage(format!("configuration: {}", describe(&e))))
}

/// The path a variable sets. Variables without the separator are not ours: Kubernetes sets `TRACEHOUSE_PORT` and more in
/// the pods beside a service of that name.
fn path_of(name: &str) -> Option<String> {
    let rest = name.strip_prefix(PREFIX)?;
    rest.contains(SEPARATOR).then(|| rest.to_lowercase().replace(SEPARATOR, "."))
}

/// A value from text: as it is where the setting is a text (a folder may be called `2026`), else `true`, `5` or `[1, 2]`.
fn parse(path: &str, text: &str) -> Value {
    let pointer: String = path.split('.').map(|name| format!("/properties/{name}")).collect();
    match schema().pointer(&format!("{pointer}/type")) {
        Some(kind) if kind.to_string().contains("\"string\"") => Value::from(text),
        _ => text.parse().unwrap_or_else(|_| Value::from(text)),
    }
}

fn read(path: &Path) -> Result<serde_json::Value> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|e| Error::usage(format!("--config {shown}: {e}")))?;
    let value: serde_json::Value = match text.trim().is_empty() {
        true => serde_json::json!({}),
        false => serde_norway::from_str(&text).map_err(|e| Error::usage(format!("--config {shown}: not YAML: {e}")))?,
    };
    let value = if value.is_null() { serde_json::json!({}) } else { value };
    if !value.is_object() {
        return Err(Error::usage(format!("--config {shown}: must be a map of sections such as `server:`")));
    }
    if let Some(unknown) = unknown_field(&value, &schema()) {
        let line = line_of(&text, &unknown.path).map(|n| format!(", line {n}")).unwrap_or_default();
        let path = unknown.path.join(".");
        return Err(Error::usage(format!("--config {shown}{line}: there is no setting {path}{}", hint(unknown.nearest))));
    }
    // Named here too, where the line is known.
    if let Err(e) = serde_norway::from_str::<Config>(&text)
        && e.location().is_some()
    {
        return Err(Error::usage(format!("--config {shown}: {e}")));
    }
    Ok(without_nulls(value))
}

/// A section without content (`engine:`) changes nothing.
fn without_nulls(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(map) => map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        other => other,
    }
}

/// Whether a path exists; the error is the hint.
fn known(path: &str) -> Result<(), String> {
    let leaf = path.rsplit('.').fold(serde_json::Value::Null, |inner, name| serde_json::json!({ name: inner }));
    unknown_field(&leaf, &schema()).map_or(Ok(()), |u| Err(hint(u.nearest)))
}

fn hint(nearest: Option<String>) -> String {
    match nearest {
        Some(path) => format!(": did you mean {path}?"),
        None => ": `tracehouse config` prints all settings".to_owned(),
    }
}

fn describe(error: &figment::Error) -> String {
    let path = error.path.join(".");
    if path.is_empty() { error.kind.to_string() } else { format!("{path}: {}", error.kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tracehouse.yaml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn env(name: &str, value: &str) -> Vec<(String, String)> {
        vec![(name.to_owned(), value.to_owned())]
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file_which_beats_the_defaults() {
        let (_dir, path) = file("server:\n  http_addr: a:1\n  flight_addr: a:2\n  data_dir: a\nengine:\n");
        let vars = [("TRACEHOUSE_SERVER__HTTP_ADDR", "b:1"), ("TRACEHOUSE_SERVER__FLIGHT_ADDR", "b:2"), ("TRACEHOUSE_PORT", "tcp://x")];
        let vars = vars.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let config = load(Some(&path), vars, env("server.http_addr", "c:1")).unwrap();
        let got = [config.server.http_addr, config.server.flight_addr, config.server.data_dir, config.server.otlp_grpc_addr];
        assert_eq!(got, ["c:1", "b:2", "a", "127.0.0.1:4317"]);
    }

    #[test]
    fn texts_that_look_like_numbers_stay_texts() {
        let config = load(None, env("TRACEHOUSE_ENGINE__SCAN_BATCH_ROWS", "7"), env("server.data_dir", "2026")).unwrap();
        assert_eq!((config.engine.scan_batch_rows, config.server.data_dir.as_str()), (7, "2026"));
    }

    #[test]
    fn unknown_fields_name_the_line_and_the_nearest() {
        let (_dir, path) = file("server:\n  http_adr: a:1\n");
        let text = load(Some(&path), [], vec![]).unwrap_err().to_string();
        assert!(text.ends_with("tracehouse.yaml, line 2: there is no setting server.http_adr: did you mean server.http_addr?"), "{text}");
        let text = load(None, env("TRACEHOUSE_SERVER__DATADIR", "x"), vec![]).unwrap_err().to_string();
        assert!(text.ends_with("there is no setting server.datadir: did you mean server.data_dir?"), "{text}");
    }

    #[test]
    fn wrong_types_name_the_field() {
        let text = load(None, env("TRACEHOUSE_ENGINE__SCAN_BATCH_ROWS", "many"), vec![]).unwrap_err().to_string();
        assert!(text.contains("engine.scan_batch_rows") && text.contains("many"), "{text}");
        let (_dir, path) = file("engine:\n  scan_batch_rows: many\n");
        let text = load(Some(&path), [], vec![]).unwrap_err().to_string();
        assert!(text.contains("scan_batch_rows") && text.contains("line 2"), "{text}");
    }

    #[test]
    fn files_that_are_not_settings_are_refused() {
        for text in ["- a\n", "a: [", "server: 5\n"] {
            let (_dir, path) = file(text);
            assert!(load(Some(&path), [], vec![]).is_err(), "{text}");
        }
        assert!(load(Some(Path::new("/nowhere/tracehouse.yaml")), [], vec![]).is_err());
        let (_dir, path) = file("# nothing\n");
        assert_eq!(load(Some(&path), [], vec![]).unwrap(), Config::default());
    }
}
