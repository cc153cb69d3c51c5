//! Settings of the Flight door: plain data. Only the process reads them from flags, environment and files.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bounds on what is sent and taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Largest batch of rows put into one message of an answer, in bytes; a single row may be larger. Clients commonly
    /// refuse messages above 4 MiB.
    pub batch_bytes_max: usize,
    /// Largest message taken from a client, in bytes.
    pub message_bytes_max: usize,
    /// Largest set of parameters bound to one statement, in bytes.
    pub parameters_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { batch_bytes_max: 2_000_000, message_bytes_max: 4 << 20, parameters_bytes_max: 1 << 20 }
    }
}
