//! The description of the HTTP API (OpenAPI), as `openapi.yaml` keeps it, with the prefix of this server.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The description as JSON. `prefix` (such as `/tempo`, or empty) comes before each path of the API.
pub fn document(prefix: &str) -> Result<String> {
    let mut document: Value =
        serde_norway::from_str(include_str!("openapi.yaml")).map_err(|e| Error::failed(format!("openapi.yaml: {e}")))?;
    if let Some(Value::Object(paths)) = document.get_mut("paths") {
        let below = |path: String| if path.starts_with("/api/") { format!("{prefix}{path}") } else { path };
        *paths = std::mem::take(paths).into_iter().map(|(path, item)| (below(path), item)).collect::<Map<_, _>>();
    }
    Ok(document.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::ENDPOINTS;

    #[test]
    fn every_endpoint_is_described_and_no_other() {
        let document: Value = serde_json::from_str(&document("/tempo").unwrap()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let described: BTreeSet<(String, &str)> = paths
            .iter()
            .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.as_str())))
            .collect();
        // But for families of paths that repeat others, and protocols of their own.
        let rows = ENDPOINTS.iter().filter(|(methods, path, _)| !["any", "gRPC"].contains(methods) && !path.ends_with("..."));
        let rows = rows.map(|(methods, path, _)| (methods, path.replace("{api}", "/tempo"))).collect::<Vec<_>>();
        let listed = rows.iter().flat_map(|(methods, path)| methods.split(", ").map(move |m| (m.to_owned(), path.as_str())));
        assert_eq!(described, listed.collect());
    }

    #[test]
    fn references_lead_somewhere() {
        let text = document("").unwrap();
        let document: Value = serde_json::from_str(&text).unwrap();
        let references: Vec<&str> = text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(references.len() > 50);
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
    }
}
