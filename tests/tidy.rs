//! The rules of the house that no compiler keeps, read off the sources: arrows between crates, who may name what, sizes of
//! files, dead links, dependencies that must exist once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use crate::support::repo;

/// Crate, and the crates of ours it may depend on.
const ARROWS: &[(&str, &[&str])] =
    &[("engine", &[]), ("sql", &["engine"]), ("traceql", &["engine", "sql"]), ("flight", &["engine", "sql"]), ("ingest", &["engine"])];

/// Longest file, in lines.
const LINES_MAX: usize = 600;

/// Dependencies of which two copies do not work together.
const SINGLE: &[&str] = &["arrow", "arrow-flight", "datafusion", "object_store", "parquet", "prost", "reqwest", "sqlparser", "tonic"];

/// `unwrap` and `expect` outside tests, each with the reason why it cannot fail: path, part of the line.
const UNWRAPS: &[(&str, &str)] = &[
    ("sql/src/session.rs", "NonZeroUsize::new(5).unwrap()"), // a constant, checked by the compiler
];

/// A source file: its path from the root of the repository, with `/`, and its text.
struct Source {
    path: String,
    text: String,
}

/// All `.rs` files of the crates and of the tests, except fuzz targets' build output.
fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for folder in ["src", "engine", "sql", "traceql", "flight", "ingest", "tests"] {
        walk(&repo().join(folder), &mut |path| {
            if path.extension().is_some_and(|e| e == "rs") {
                files.push(Source { path: relative(path), text: fs::read_to_string(path).unwrap() });
            }
        });
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(files.len() > 40, "only {} sources found: the walk is wrong", files.len());
    files
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|e| e.unwrap().path()) {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        match path.is_dir() {
            true if matches!(name, "target" | "node_modules" | ".git") => {}
            true => walk(&path, visit),
            false => visit(&path),
        }
    }
}

fn relative(path: &Path) -> String {
    path.strip_prefix(repo()).unwrap().to_str().unwrap().replace('\\', "/")
}

impl Source {
    /// The text without tests, comments and the contents of strings: line number and code. Good enough for names.
    fn code(&self) -> Vec<(usize, String)> {
        if self.is_test() {
            return Vec::new();
        }
        let mut lines = Vec::new();
        let mut tests_follow = false;
        for (i, line) in self.text.lines().enumerate() {
            let trimmed = line.trim_start();
            // Modules of tests stand at the end of a file; a declaration of one does not end it.
            tests_follow |= line == "#[cfg(test)]" && !self.declares_module_at(i + 1);
            if tests_follow || trimmed.starts_with("//") {
                continue;
            }
            lines.push((i + 1, without_strings(line)));
        }
        lines
    }

    fn declares_module_at(&self, line: usize) -> bool {
        self.text.lines().nth(line).is_some_and(|l| l.trim_end().ends_with(';') || l.contains("use "))
    }

    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.starts_with("tests/") || self.path.contains("/tests/") || name.contains("test")
    }
}

/// A line of code with the insides of string literals and a trailing comment left out.
fn without_strings(line: &str) -> String {
    let (mut out, mut in_string, mut escaped) = (String::new(), false, false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' if !out.ends_with('\'') => in_string = true,
            '/' if chars.peek() == Some(&'/') => break,
            _ => out.push(c),
        }
    }
    out
}

fn none(what: &str, found: Vec<String>) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

/// Lines of code outside `allowed` paths that contain one of `needles`.
fn named(needles: &[&str], allowed: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| !allowed(&s.path)) {
        for (line, code) in source.code() {
            if let Some(needle) = needles.iter().find(|n| code.contains(**n)) {
                found.push(format!("{}:{line} names {needle}", source.path));
            }
        }
    }
    found
}

#[test]
fn crates_depend_on_each_other_only_along_the_arrows() {
    for (name, allowed) in ARROWS {
        let manifest = fs::read_to_string(repo().join(name).join("Cargo.toml")).unwrap();
        let ours: BTreeSet<&str> =
            manifest.lines().filter_map(|l| l.strip_prefix("tracehouse-")).filter_map(|l| l.split(['.', ' ', '=']).next()).collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        let extra: Vec<_> = ours.difference(&allowed).collect();
        assert!(extra.is_empty(), "{name} must not depend on {extra:?}: see docs/architecture.md");
    }
    let workspace = fs::read_to_string(repo().join("Cargo.toml")).unwrap();
    let members = workspace.lines().find(|l| l.starts_with("members")).unwrap();
    let members: BTreeSet<&str> = members.split('"').skip(1).step_by(2).collect();
    assert_eq!(members, ARROWS.iter().map(|(n, _)| *n).collect(), "a crate without a row in ARROWS");
}

#[test]
fn the_syntax_of_traceql_stands_alone() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|s| s.path.starts_with("traceql/src/syntax")) {
        for (line, code) in source.code() {
            let foreign = ["arrow", "datafusion", "tracehouse_", "tokio", "axum", "serde", "regex::", "opentelemetry", "prost"];
            // Paths out of the module lead to the rest of the crate.
            let out = code.contains("crate::") && !code.contains("crate::syntax");
            if out || foreign.iter().any(|n| code.contains(n)) {
                found.push(format!("{}:{line} {}", source.path, code.trim()));
            }
        }
    }
    none("traceql/src/syntax uses more than std", found);
}

#[test]
fn only_the_store_names_object_store() {
    // The engine's one table of error kinds maps the store's errors too.
    let allowed = |path: &str| path.starts_with("engine/src/store/") || path == "engine/src/error.rs";
    none("object_store is named outside engine/src/store", named(&["object_store"], allowed));
}

#[test]
fn only_one_file_reads_clocks_and_draws_randomness() {
    let needles = [
        "SystemTime::now",
        // Tokio's clock may be read: tests can stop it. Clippy refuses std's under any name.
        "std::time::Instant::now",
        "Utc::now",
        "Timestamp::now",
        "Zoned::now",
        "new_v4",
        "now_v7",
        "rand::rng(",
        "thread_rng",
        "from_os_rng",
        "rand::random",
    ];
    none("a clock or randomness is read outside engine/src/clock.rs", named(&needles, |path| path == "engine/src/clock.rs"));
}

#[test]
fn only_the_process_reads_flags_and_the_environment() {
    let needles = ["env::var", "env::args", "env::vars", "std::env", "clap", "figment"];
    none("flags or the environment are read outside src", named(&needles, |path| path.starts_with("src/")));
}

#[test]
fn arrow_ipc_stays_in_flight() {
    // `src` writes Arrow files for `--format arrow`, which is not a wire.
    let allowed = |path: &str| path.starts_with("flight/") || path.starts_with("src/");
    none(
        "Arrow IPC or Flight is named outside flight",
        named(&["arrow_flight", "arrow::ipc", "arrow_ipc", "ipc::writer", "ipc::reader"], allowed),
    );
}

#[test]
fn wire_types_stay_at_their_doors() {
    let otlp = |path: &str| {
        path.starts_with("ingest/")
            || path.starts_with("src/load/")
            || path.starts_with("traceql/src/result/")
            || path == "engine/src/trace.rs"
    };
    none("OTLP's types are named outside ingest, engine/src/trace.rs and the answers in OTLP", named(&["opentelemetry_proto"], otlp));
    let tempo = |path: &str| path.starts_with("traceql/src/api") || path.starts_with("traceql/src/result");
    none("Tempo's wire types are named outside traceql/{api,result}", named(&["tempopb"], tempo));
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let mut found = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > LINES_MAX {
            found.push(format!("{} has {lines} lines, at most {LINES_MAX}", source.path));
        }
        if !source.text.starts_with("//!") && !source.text.starts_with("#!") {
            found.push(format!("{} does not open with //!", source.path));
        }
    }
    none("files", found);
}

#[test]
fn code_outside_tests_does_not_unwrap() {
    let mut found = Vec::new();
    for source in sources() {
        for (line, code) in source.code() {
            let allowed = UNWRAPS.iter().any(|(path, part)| *path == source.path && code.contains(part));
            if !allowed && (code.contains(".unwrap()") || code.contains(".expect(")) {
                found.push(format!("{}:{line} {}", source.path, code.trim()));
            }
        }
    }
    none("unwrap or expect outside tests: return an error, or list it in UNWRAPS with its reason", found);
}

#[test]
fn nothing_is_ignored_and_no_place_of_one_machine_is_named() {
    let mut found = Vec::new();
    let (ignored, machines) = (concat!("#[", "ignore"), [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/")]);
    for source in sources() {
        for (line, text) in source.text.lines().enumerate() {
            if text.trim_start().starts_with(ignored) || machines.iter().any(|m| text.contains(m)) {
                found.push(format!("{}:{} {}", source.path, line + 1, text.trim()));
            }
        }
    }
    none("an ignored test or a path of one machine", found);
}

#[test]
fn what_must_be_single_is_single() {
    let lock = fs::read_to_string(repo().join("Cargo.lock")).unwrap();
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut name = "";
    for line in lock.lines() {
        if let Some(n) = line.strip_prefix("name = ") {
            name = n.trim_matches('"');
        } else if let Some(v) = line.strip_prefix("version = ") {
            versions.entry(name).or_default().push(v.trim_matches('"'));
        }
    }
    for name in SINGLE {
        assert_eq!(versions.get(name).map_or(0, Vec::len), 1, "{name} must be in Cargo.lock once: {:?}", versions.get(name));
    }
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut pages: Vec<PathBuf> = fs::read_dir(repo()).unwrap().map(|e| e.unwrap().path()).collect();
    for folder in ["docs", "tests/golden", "deploy"] {
        walk(&repo().join(folder), &mut |path| pages.push(path.to_owned()));
    }
    pages.retain(|p| p.extension().is_some_and(|e| e == "md"));
    assert!(pages.len() > 1, "no documents found");
    let mut dead = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let anchors = || headings(&fs::read_to_string(&target).unwrap_or_default());
            if !target.exists() || (!anchor.is_empty() && !anchors().contains(anchor)) {
                dead.push(format!("{}: {link}", relative(page)));
            }
        }
    }
    none("dead links", dead);
}

/// Targets of the relative links of a Markdown page, code left out.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("_");
        for part in prose.split("](").skip(1) {
            let target = part.split([')', ' ']).next().unwrap_or_default();
            if !target.contains("://") && !target.starts_with("mailto:") {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// The anchors that hosts make of a page's headings.
fn headings(text: &str) -> BTreeSet<String> {
    let heading = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        title
            .chars()
            .filter_map(|c| if c.is_alphanumeric() || c == '-' || c == '_' { Some(c) } else { (c == ' ').then_some('-') })
            .collect()
    };
    text.lines().filter(|l| l.starts_with('#')).map(heading).collect()
}

#[test]
fn the_reader_of_code_sees_through_strings_and_comments() {
    assert_eq!(without_strings(r#"a("x // \" y") + b // c"#), "a() + b ");
    assert_eq!(without_strings(r"let c = 'x';"), r"let c = 'x';");
    let source = Source {
        path: "engine/src/x.rs".into(),
        text: "//! d\nuse a;\n#[cfg(test)]\nmod tests;\nfn f() {}\n#[cfg(test)]\nmod tests {\n x.unwrap()\n}\n".into(),
    };
    let code: Vec<_> = source.code().into_iter().map(|(n, _)| n).collect();
    assert_eq!(code, [2, 3, 4, 5]);
    assert_eq!(links("[a](b.md) `[c](d)` [e](https://f) [g](#h-i)"), ["b.md", "#h-i"]);
    assert!(headings("## Two words, here").contains("two-words-here"));
}
