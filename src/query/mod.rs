//! `tracehouse sql` and `tracehouse traceql`: questions to a folder or a bucket, without a server.

mod output;
mod source;
mod sql;
mod traceql;

pub use output::table;
pub use sql::run as run_sql;
pub use traceql::{run as run_traceql, spans as spans_of};

use std::io::Read;

use crate::error::{Error, Result};

/// The question, from the command line or stdin.
fn question(given: &str) -> Result<String> {
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        std::io::stdin().read_to_string(&mut text).map_err(|e| Error::failed(format!("cannot read the query from stdin: {e}")))?;
    }
    match text.trim() {
        "" => Err(Error::usage("the query is empty")),
        _ => Ok(text),
    }
}
