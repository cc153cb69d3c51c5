//! What the tests share: a real server, spans to send it, ways to ask it.

use std::path::{Path, PathBuf};

/// The root of the repository.
pub fn repo() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A variable that makes a test do more or something else; `docs/contributing.md` lists them.
#[allow(clippy::disallowed_methods)] // the tests are their own process
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// The folder of material handed over with the project, if it is there.
pub fn shared(part: &str) -> Option<PathBuf> {
    let root = variable("TRACEHOUSE_SHARED").map_or_else(|| repo().join("../shared"), PathBuf::from);
    let path = root.join(part);
    path.exists().then_some(path)
}
