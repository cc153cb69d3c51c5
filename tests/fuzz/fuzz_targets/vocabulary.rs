//! cargo-fuzz target: see `targets::vocabulary`.
#![no_main]

#[allow(dead_code)]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::vocabulary(input));
