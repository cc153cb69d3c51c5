//! What the tests share: a real server, spans to send it, ways to ask it.

pub mod answers;
pub mod fixture;
pub mod http;
pub mod otlp;
pub mod querier;
pub mod server;
pub mod shop;
pub mod sql;
pub mod tools;

use std::{
    future::Future,
    path::{Path, PathBuf},
    sync::LazyLock,
};

pub use http::Answer;
pub use server::Server;

/// The root of the repository.
pub fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A variable that makes a test do more or something else; `docs/contributing.md` lists them.
#[allow(clippy::disallowed_methods)] // the tests are their own process
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// A number from a variable.
pub fn number(name: &str, default: u64) -> u64 {
    variable(name).map_or(default, |v| v.parse().unwrap_or_else(|_| panic!("{name}={v}: not a number")))
}

/// A part of the folder of material handed over with the project, if it is there.
pub fn shared(part: &str) -> Option<PathBuf> {
    let root = variable("TRACEHOUSE_SHARED").map_or_else(|| repo().join("../shared"), PathBuf::from);
    let path = root.join(part);
    path.exists().then_some(path)
}

/// Runs a future to its end; tests are threads without a runtime of their own.
pub fn block_on<F: Future>(future: F) -> F::Output {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> =
        LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    RUNTIME.block_on(future)
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Bytes of hex text, padded with zeros on the left to `len` bytes.
pub fn unhex(text: &str, len: usize) -> Vec<u8> {
    let padded = format!("{text:0>width$}", width = 2 * len);
    assert_eq!(padded.len(), 2 * len, "{text} is longer than {len} bytes");
    (0..len).map(|i| u8::from_str_radix(&padded[2 * i..2 * i + 2], 16).unwrap_or_else(|_| panic!("{text} is not hex"))).collect()
}

/// Copies a folder with all that is in it; the copy can be written.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display())) {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            // Not `fs::copy`: it would keep the file read-only.
            false => std::fs::write(target, std::fs::read(entry.path()).unwrap()).unwrap(),
        }
    }
}
