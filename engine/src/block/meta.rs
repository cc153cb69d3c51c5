//! `meta.json`: what a block is. Written last; its presence makes the block visible. Format: Tempo's (`docs/format.md`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Version, leaves::STATIC_COLUMNS};
use crate::{
    clock,
    error::{Error, Result},
    scan::AttributeScope,
    tenant::TenantId,
};

/// `meta.json` of a block. Unknown keys (those of older Tempo versions) are ignored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockMeta {
    /// Version of the block format, such as `vParquet5`.
    pub format: String,
    /// The block's id, also its folder's name.
    #[serde(rename = "blockID")]
    pub block_id: Uuid,
    /// The tenant, also the name of the folder above.
    #[serde(rename = "tenantID")]
    pub tenant_id: String,
    /// Earliest start of a span.
    pub start_time: jiff::Timestamp,
    /// Latest end of a span.
    pub end_time: jiff::Timestamp,
    /// Number of traces (rows).
    pub total_objects: u64,
    /// Exact size of `data.parquet` in bytes. Tempo reads the footer with it and skips the block if it is 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub size: u64,
    /// How often the block went through compaction.
    #[serde(default)]
    pub compaction_level: u32,
    /// Always 0 for parquet.
    #[serde(default)]
    pub index_page_size: u32,
    /// Number of row groups. Tempo skips the block if it is 0.
    #[serde(default)]
    pub total_records: u32,
    /// Number of bloom files. 0 in very old blocks, which have 10.
    #[serde(default)]
    pub bloom_shards: u32,
    /// Length of the parquet footer in bytes.
    #[serde(default)]
    pub footer_size: u32,
    /// Attributes with columns of their own, in the order that assigns the columns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dedicated_columns: Vec<DedicatedColumn>,
    /// 1 for a block that holds each span once. Tempo's metrics ignore other blocks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replication_factor: u32,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Where a dedicated column's attribute is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DedicatedScope {
    /// On the span.
    #[default]
    Span,
    /// On the resource.
    Resource,
    /// On an event.
    Event,
}

impl From<DedicatedScope> for AttributeScope {
    fn from(scope: DedicatedScope) -> Self {
        match scope {
            DedicatedScope::Span => Self::Span,
            DedicatedScope::Resource => Self::Resource,
            DedicatedScope::Event => Self::Event,
        }
    }
}

/// The type of a dedicated column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DedicatedType {
    /// Strings.
    #[default]
    String,
    /// 64-bit integers.
    Int,
}

/// An attribute with a column of its own. Its place among the entries of the same scope and type gives the column:
/// `String01`, `String02`, ... or `Int01`, ...
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DedicatedColumn {
    /// Where it is attached; omitted for span.
    #[serde(rename = "s", default, skip_serializing_if = "is_zero")]
    pub scope: DedicatedScope,
    /// The attribute's key.
    #[serde(rename = "n")]
    pub name: String,
    /// Its type; omitted for string.
    #[serde(rename = "t", default, skip_serializing_if = "is_zero")]
    pub kind: DedicatedType,
    /// `blob` (long or highly distinct values: zstd, no dictionary), `array` (no effect). Unknown options are kept.
    #[serde(rename = "o", default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl DedicatedColumn {
    /// A column without options.
    pub fn new(scope: DedicatedScope, name: &str, kind: DedicatedType) -> Self {
        Self { scope, name: name.to_owned(), kind, options: Vec::new() }
    }

    /// Whether vParquet4 has a column for this attribute in any case.
    pub(super) fn is_static(&self) -> bool {
        let scope = self.scope.into();
        let is = |(s, key, _, int): &(AttributeScope, &str, &str, bool)| {
            *s == scope && *key == self.name && *int == (self.kind == DedicatedType::Int)
        };
        STATIC_COLUMNS.iter().any(is)
    }

    /// The default set of Tempo 3.x.
    pub fn defaults() -> Vec<Self> {
        use {
            DedicatedScope::{Resource, Span},
            DedicatedType::{Int, String},
        };
        [
            (Resource, "k8s.cluster.name", String),
            (Resource, "k8s.namespace.name", String),
            (Resource, "k8s.pod.name", String),
            (Resource, "k8s.container.name", String),
            (Span, "http.request.method", String),
            (Span, "http.response.status_code", Int),
            (Span, "url.path", String),
            (Span, "url.route", String),
            (Span, "server.address", String),
            (Span, "server.port", Int),
            (Span, "http.method", String),
            (Span, "http.url", String),
            (Span, "http.route", String),
            (Span, "http.status_code", Int),
        ]
        .into_iter()
        .map(|(scope, name, kind)| Self::new(scope, name, kind))
        .collect()
    }
}

impl BlockMeta {
    /// Meta of a block about to be written: a vParquet5 block without content.
    pub fn new(tenant: &TenantId, block_id: Uuid, dedicated_columns: Vec<DedicatedColumn>) -> Self {
        Self {
            format: Version::V5.as_str().to_owned(),
            block_id,
            tenant_id: tenant.to_string(),
            start_time: jiff::Timestamp::UNIX_EPOCH,
            end_time: jiff::Timestamp::UNIX_EPOCH,
            total_objects: 0,
            size: 0,
            compaction_level: 0,
            index_page_size: 0,
            total_records: 0,
            bloom_shards: 0,
            footer_size: 0,
            dedicated_columns,
            replication_factor: 1,
        }
    }

    /// The same for a block of another version. Dedicated columns that the version cannot have are left out: vParquet4 has
    /// columns for strings of spans and resources only, and some of these always (Tempo's meta of a block shows the rest).
    #[must_use]
    pub fn with_version(mut self, version: Version) -> Self {
        self.format = version.as_str().to_owned();
        if version < Version::V5 {
            self.dedicated_columns.retain(|c| c.scope != DedicatedScope::Event && c.kind == DedicatedType::String && !c.is_static());
        }
        self
    }

    /// Parses a `meta.json`. The error names the block by `what` and the field that is wrong.
    pub fn from_json(bytes: &[u8], what: &str) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|e| Error::data(format!("{what} is not a valid meta.json")).with_source(e))
    }

    /// The bytes of `meta.json`.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The block's version, if it is one that can be read.
    pub fn version(&self) -> Result<Version> {
        self.format.parse()
    }

    /// A fresh id for a block.
    pub fn new_id() -> Uuid {
        clock::new_block_id()
    }
}
