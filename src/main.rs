//! The binary: reads the command line, runs the command, turns an error into a line on stderr and an exit code.

use std::process::ExitCode;

use clap::Parser;
use tracehouse::{cli::Cli, command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match command::run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}
