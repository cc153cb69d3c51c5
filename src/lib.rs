//! The process: flags, configuration, roles, listeners, shutdown, and the commands that need no server.
//!
//! ```text
//! main -> command -> serve -> listen (sockets, gates) + roles (every crate) + http, metrics
//!                    query -> source (a folder or a bucket) -> sql | traceql -> output
//!                    load  -> shop (traces) -> send (OTLP)
//!                    demo  =  serve + load + questions
//! ```
//! The other crates know nothing of it; it knows all of them, in `roles`.

pub mod cli;
pub mod command;
pub mod config;
pub mod demo;
pub mod error;
pub mod http;
pub mod listen;
pub mod load;
pub mod metrics;
pub mod openapi;
pub mod query;
pub mod roles;
pub mod serve;

pub use config::Config;
pub use serve::run;
