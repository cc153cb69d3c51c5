//! TraceQL as text: from a query string to a checked tree, and back.
//!
//! ```text
//! text --lexer--> tokens --parser--> Query (constants folded) --check--> accepted
//!                                      |  ^
//!                                      v  |
//!                                     print
//! ```
//! * [`parse`] reads a whole query, [`parse_lenient`] one that is being typed, [`parse_attribute`] one attribute or intrinsic.
//! * [`check`] applies the static rules (types, nil, grouping, unsupported features).
//! * [`value`] evaluates operators on values: constant folding and the executor share it.
//! * [`print()`] writes the canonical text; parsing that text gives the same tree.
//!
//! Only `std` is used: whether a regular expression is valid is asked of a function that
//! the caller hands in. Nothing here panics on input. Text size, recursion and tree height
//! are bounded ([`TEXT_BYTES_MAX`], [`RECURSION_MAX`], [`TREE_HEIGHT_MAX`]), so that code
//! which walks a tree recursively stays within a 2 MiB stack.
//!
//! The language is described in Grafana's TraceQL documentation; section numbers (§) in
//! this module point into `spec/traceql.md`.

pub mod ast;
mod check;
pub mod duration;
mod error;
mod lenient;
mod lexer;
mod parser;
mod print;
#[cfg(test)]
mod tests;
pub mod value;
mod visit;

pub use ast::*;
pub use check::{GROUP_BY_MAX, check};
pub use error::{Error, ErrorKind, Place};
pub use lenient::parse_lenient;
pub use print::print;
pub use value::{EvalError, Kind, Static, Status, Type};
pub use visit::{visit_fields, visit_pipeline_fields};

/// Largest query text, in bytes (Tempo: `query_frontend.max_query_expression_size_bytes`).
pub const TEXT_BYTES_MAX: usize = 128 * 1024;

/// Deepest recursion of the parser, in nested expressions: each unary operator, right operand
/// and pair of parentheses counts one, parentheses outside braces two. Measured: all of it
/// takes less than 700 KiB of stack in a debug build.
pub const RECURSION_MAX: usize = 100;

/// Tallest tree the parser builds, in nodes from root to leaf. A chain `a || b || c ...` is
/// as tall as it has operators.
pub const TREE_HEIGHT_MAX: usize = 500;

/// Reads a query. Constants are folded, but nothing is checked: call [`check`] next.
///
/// # Errors
/// [`ErrorKind::Parse`], with the place of the first token that does not fit.
pub fn parse(text: &str) -> Result<Query, Error> {
    parser::parse_query(text)
}

/// Reads one attribute or intrinsic, such as `resource.service.name`, `.foo`, `span."a b"`,
/// `name` or `event:name` (the form used in paths of the tag-values API).
///
/// # Errors
/// [`ErrorKind::Parse`] when the text is anything else, or more than that.
pub fn parse_attribute(text: &str) -> Result<Field, Error> {
    parser::parse_attribute(text)
}
