//! The tests of the whole, in one binary: the rules of the house, and a real server asked over its wires.
//!
//! `cargo test --workspace` runs all; `cargo test --test tests tidy::` one file of them. `docs/contributing.md` lists what each
//! file checks and the variables that make it check more.

// Code outside `#[test]` functions is test code here too.
#![allow(clippy::unwrap_used)]

mod support;

mod api;
mod bad_input;
mod clients;
mod cold;
mod compat;
mod crash;
mod data;
mod deploy;
mod drilldown;
mod fuzz;
mod grafana;
mod grpc;
mod jaeger;
mod limits;
mod parameters;
mod scripts;
mod split;
mod streaming;
mod tags;
mod tidy;
