//! The process: flags, configuration, roles, listeners, shutdown, and the commands that need no server.
//!
//! The other crates know nothing of it; it knows all of them, in `roles`.

pub mod cli;
pub mod config;
pub mod error;
pub mod http;
pub mod listen;
pub mod load;
pub mod metrics;
