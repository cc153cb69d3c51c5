//! What a question costs a process that knows nothing yet, over a bucket that counts (`tests/bench/cold.py`).

use std::{collections::BTreeMap, process::Command};

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

/// What each of these queries costs over Tempo's blocks of the golden sets.
fn ask(queries: &[&str]) -> BTreeMap<String, Cost> {
    let program = repo().join("tests/bench/cold.py");
    let mut python: Command = tools::python();
    python.arg(program).arg(env!("CARGO_BIN_EXE_tracehouse")).arg(repo().join("tests/golden/blocks/vParquet5"));
    let out = tools::run(python.args(["--json", "--delay", "60", "--traceql"]).args(queries));
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

#[test]
fn a_question_reads_little_and_soon() {
    const BLOCKS: u64 = 2;
    let no_key = r#"{ span.nosuch = "x" }"#;
    let no_value = r#"{ resource.service.name = "nosuch" && span.http.url = "x" }"#;
    let too_long = "{ duration > 10000h }";
    let too_high = "{ span.http.status_code >= 100000 }";
    let few = "{ status = error }";
    let costs = ask(&[no_key, no_value, too_long, too_high, few]);
    for (query, cost) in &costs {
        assert!(cost.first_data <= 3, "{query}: {cost:?}");
        // Each footer comes with its page index, once.
        assert_eq!(cost.end_requests, BLOCKS, "{query}: {cost:?}");
        assert!(cost.end_bytes <= BLOCKS * 64 * 1024, "{query}: {cost:?}");
    }
    let data = |query: &str| costs[query].bytes - costs[query].end_bytes;
    // Statistics and bounds answer by themselves; where there are words to be looked up, a dictionary of each block.
    assert_eq!((costs[too_long].requests, data(too_long)), (BLOCKS, 0));
    assert!(costs[no_key].requests <= 2 * BLOCKS && data(no_key) < 4096, "{:?}", costs[no_key]);
    assert!(costs[no_value].requests <= 3 * BLOCKS && data(no_value) < 16 * 1024, "{:?}", costs[no_value]);
    assert!(data(too_high) < 16 * 1024, "{:?}", costs[too_high]);
    assert!(costs[few].answer.contains("traceID"), "{:?}", costs[few]);
}
