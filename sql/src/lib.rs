//! The relational model of traces: tables, functions, sessions. The one door through which every plan is made and run,
//! whether it was written in SQL or in TraceQL. Knows no wire.

mod admission;
mod attribute_rule;
mod built;
mod config;
mod functions;
mod guard;
mod memory;
mod placeholders;
mod query;
mod session;
mod tables;

pub use admission::AdmissionStats;
pub use config::Config;
pub use query::Execution;
pub use session::{Extensions, SessionExtension, Sessions};
pub use tables::{CATALOG, SCHEMA, describe_tables_markdown};
