//! The file `index`: the highest trace id of each row group. Tempo writes it always and reads it seldom.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    trace::TraceId,
};

#[derive(Serialize, Deserialize)]
struct IndexFile {
    #[serde(rename = "rowGroups")]
    row_groups: Vec<String>,
}

/// The bytes of the file.
pub fn to_json(last_ids: &[TraceId]) -> Vec<u8> {
    let file = IndexFile { row_groups: last_ids.iter().map(|id| STANDARD.encode(id.0)).collect() };
    serde_json::to_vec(&file).unwrap_or_default()
}

/// The highest trace id of each row group.
pub fn from_json(bytes: &[u8]) -> Result<Vec<TraceId>> {
    let bad = || Error::data("index is not a list of trace ids under `rowGroups`");
    let file: IndexFile = serde_json::from_slice(bytes).map_err(|e| bad().with_source(e))?;
    file.row_groups.iter().map(|id| STANDARD.decode(id).ok().and_then(|id| TraceId::from_slice(&id)).ok_or_else(bad)).collect()
}
