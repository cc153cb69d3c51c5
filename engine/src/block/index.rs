//! The file `index`: the highest trace id of each row group. Tempo writes it always and reads it seldom.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use crate::trace::TraceId;

#[derive(Serialize)]
struct IndexFile {
    #[serde(rename = "rowGroups")]
    row_groups: Vec<String>,
}

/// The bytes of the file.
pub fn to_json(last_ids: &[TraceId]) -> Vec<u8> {
    let file = IndexFile { row_groups: last_ids.iter().map(|id| STANDARD.encode(id.0)).collect() };
    serde_json::to_vec(&file).unwrap_or_default()
}
