//! The versions of Tempo's block format.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A version of the block format that is read here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// vParquet3: events and links as protobuf blobs. Read only.
    V3,
    /// vParquet4: three-level lists, ten dedicated string columns a scope.
    V4,
    /// vParquet5: bare repeated fields, dedicated columns as declared.
    #[default]
    V5,
}

/// A version of the block format that blocks are written in, as settings name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // a version says it all, and the page of settings shows the names as one list
pub enum BlockVersion {
    #[serde(rename = "vParquet4")]
    V4,
    #[default]
    #[serde(rename = "vParquet5")]
    V5,
}

impl From<BlockVersion> for Version {
    fn from(version: BlockVersion) -> Self {
        match version {
            BlockVersion::V4 => Self::V4,
            BlockVersion::V5 => Self::V5,
        }
    }
}

impl Version {
    /// The name in `meta.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V3 => "vParquet3",
            Self::V4 => "vParquet4",
            Self::V5 => "vParquet5",
        }
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self, Error> {
        match s {
            "vParquet3" => Ok(Self::V3),
            "vParquet4" => Ok(Self::V4),
            "vParquet5" => Ok(Self::V5),
            _ if s.contains("preview") => Err(Error::data(format!(
                "{s} is a preview version that no release reads: let the Tempo that wrote it rewrite the block, or delete it"
            ))),
            _ => Err(Error::data(format!(
                "{s:?} is not a block version that is read (vParquet3, vParquet4, vParquet5): let the program that wrote the \
                 block rewrite it as one of these, or delete it"
            ))),
        }
    }
}
