//! The versions of Tempo's block format.

use std::str::FromStr;

use crate::error::{Error, ErrorKind};

/// A version of the block format that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// vParquet3: events and links as protobuf blobs. Read only.
    V3,
    /// vParquet4: three-level lists, ten dedicated string columns a scope.
    V4,
    /// vParquet5: bare repeated fields, dedicated columns as declared.
    V5,
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
            _ if s.contains("preview") => Err(Error::new(
                ErrorKind::Unsupported,
                format!("{s} is a preview version that no release writes: compact it with the Tempo that wrote it"),
            )),
            _ => Err(Error::data(format!("{s:?} is not a known block version (vParquet3, vParquet4, vParquet5)"))),
        }
    }
}
