//! Finds fields that no setting has, and says which one was meant.

use serde_json::Value;

/// The first field of `value` that the schema does not have: its path, and the nearest field that it does have.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Names from the top to the field.
    pub path: Vec<String>,
    /// The nearest known path.
    pub nearest: Option<String>,
}

/// Looks for an unknown field.
pub fn unknown_field(value: &Value, schema: &Value) -> Option<Unknown> {
    find(value, schema, &mut Vec::new()).map(|path| {
        let name = path.last().map_or("", String::as_str);
        let nearest = nearest(&path, name, schema);
        Unknown { path, nearest }
    })
}

fn find(value: &Value, schema: &Value, path: &mut Vec<String>) -> Option<Vec<String>> {
    match value {
        Value::Object(fields) => {
            // Without a list of properties it is a map with free keys.
            let known = schema.get("properties").and_then(Value::as_object);
            for (name, inner) in fields {
                path.push(name.clone());
                let inner_schema = match known {
                    Some(known) => match known.get(name) {
                        Some(schema) => schema,
                        None if is_true(schema.get("additionalProperties")) => &Value::Null,
                        None => return Some(path.clone()),
                    },
                    None => schema.get("additionalProperties").unwrap_or(&Value::Null),
                };
                if let Some(found) = find(inner, inner_schema, path) {
                    return Some(found);
                }
                path.pop();
            }
            None
        }
        Value::Array(items) => items.iter().find_map(|item| find(item, schema.get("items").unwrap_or(&Value::Null), path)),
        _ => None,
    }
}

fn is_true(value: Option<&Value>) -> bool {
    value.is_none_or(|v| v != &Value::Bool(false)) && value.is_some()
}

/// A known path near to this one: in the same section if its name is similar, or anywhere.
fn nearest(path: &[String], name: &str, schema: &Value) -> Option<String> {
    let mut all = Vec::new();
    known_paths(schema, &mut Vec::new(), &mut all);
    let section = &path[..path.len() - 1];
    let score = |candidate: &[String]| {
        let same_section = if candidate.starts_with(section) && candidate.len() == path.len() { 0.1 } else { 0.0 };
        strsim::jaro_winkler(name, candidate.last().map_or("", String::as_str)) + same_section
    };
    let best = all.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(best) > 0.75).then(|| best.join("."))
}

/// Every path the schema has.
fn known_paths(schema: &Value, path: &mut Vec<String>, all: &mut Vec<Vec<String>>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, inner) in properties {
        path.push(name.clone());
        all.push(path.clone());
        known_paths(inner, path, all);
        path.pop();
    }
}

/// The line (from 1) of a field in YAML text in block style.
pub fn line_of(text: &str, path: &[String]) -> Option<usize> {
    let mut wanted = path.iter();
    let mut name = wanted.next()?;
    let mut indent = None;
    for (number, line) in text.lines().enumerate() {
        let content = line.trim_start();
        let depth = line.len() - content.len();
        if indent.is_some_and(|i| depth <= i) && !content.is_empty() && !content.starts_with('#') {
            return None; // the section ended
        }
        let key = content.split(':').next().unwrap_or("").trim().trim_matches(['"', '\'']);
        if content.contains(':') && key == name {
            match wanted.next() {
                None => return Some(number + 1),
                Some(next) => (name, indent) = (next, Some(depth)),
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::schema;

    #[test]
    fn the_nearest_field_is_named() {
        let meant = |value| unknown_field(&value, &schema()).expect("an unknown field").nearest;
        assert_eq!(meant(json!({"server": {"http_adress": 1}})).as_deref(), Some("server.http_addr"));
        assert_eq!(meant(json!({"sever": {}})).as_deref(), Some("server"));
        assert_eq!(meant(json!({"http_addr": "x"})).as_deref(), Some("server.http_addr"));
        assert_eq!(meant(json!({"zzz": "x"})), None);
        assert_eq!(unknown_field(&json!({"server": {"http_addr": "x"}}), &schema()), None);
    }

    #[test]
    fn the_line_of_a_field_is_found() {
        let text = "engine:\n  # a comment\n  http_adr: 1\nserver:\n  data_dir: x\n  http_adr: 1\n";
        let path = |p: &str| p.split('.').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(line_of(text, &path("server.http_adr")), Some(6));
        assert_eq!(line_of(text, &path("server")), Some(4));
        assert_eq!(line_of(text, &path("engine.data_dir")), None);
    }
}
