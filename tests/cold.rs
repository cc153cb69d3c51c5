//! What a question costs a process that knows nothing yet, over a bucket that counts (`tests/bench/cold.py`).

use std::{collections::BTreeMap, fs, process::Command};

use serde::Deserialize;

use crate::support::{repo, tools};

#[derive(Debug, Deserialize)]
struct Cost {
    requests: u64,
    bytes: u64,
    end_requests: u64,
    end_bytes: u64,
    first_data: u64,
    answer: String,
}

/// The block of Tempo's that is asked.
const BLOCK: &str = "single-tenant/198a93d0-49a8-47f0-9e45-286fd0733096";

/// What each of these queries costs.
fn ask(queries: &[&str]) -> BTreeMap<String, Cost> {
    let bucket = tempfile::tempdir().unwrap();
    fs::create_dir_all(bucket.path().join(BLOCK)).unwrap();
    for file in fs::read_dir(repo().join("tests/golden/blocks/vParquet5").join(BLOCK)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), bucket.path().join(BLOCK).join(file.file_name())).unwrap();
    }
    let program = repo().join("tests/bench/cold.py");
    let mut python: Command = tools::python();
    python.arg(program).arg(env!("CARGO_BIN_EXE_tracehouse")).arg(bucket.path());
    let out = tools::run(python.args(["--json", "--delay", "60", "--traceql"]).args(queries));
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

#[test]
fn a_question_reads_little_and_soon() {
    let no_key = r#"{ span.nosuch = "x" }"#;
    let no_value = r#"{ resource.service.name = "nosuch" && span.http.url = "x" }"#;
    let too_long = "{ duration > 10000h }";
    let too_high = "{ span.http.status_code >= 100000 }";
    let few = "{ status = error }";
    let costs = ask(&[no_key, no_value, too_long, too_high, few]);
    for (query, cost) in &costs {
        assert!(cost.first_data <= 3, "{query}: {cost:?}");
        // The footer comes with its page index, once.
        assert!(cost.end_requests == 1 && cost.end_bytes < 32 * 1024, "{query}: {cost:?}");
    }
    let data = |query: &str| costs[query].bytes - costs[query].end_bytes;
    // Statistics answer by themselves; where there are words to be looked up, dictionaries do.
    assert_eq!((costs[too_long].requests, data(too_long)), (1, 0));
    assert!(costs[no_key].requests == 2 && data(no_key) < 4096, "{:?}", costs[no_key]);
    assert!(costs[no_value].requests <= 4, "{:?}", costs[no_value]);
    // Attributes among the generic ones have no bounds. Of so small a file what lies near is read at once.
    assert!(costs[too_high].requests <= 4, "{:?}", costs[too_high]);
    assert!(costs[few].answer.contains("trace"), "{:?}", costs[few]);
}
