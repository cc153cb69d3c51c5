//! The fuzz targets on a small corpus, mutated with a seed: no nightly compiler needed. `FUZZ_INPUTS` (2000 for each target),
//! `FUZZ_SECONDS` (as many as this time allows) and `FUZZ_SEED` make more of it; `tests/fuzz` has the same targets for
//! cargo-fuzz.

use std::{fs, panic};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tracehouse_engine::clock;

use crate::support::{fixture, number, repo};

#[path = "fuzz/targets.rs"]
mod targets;

/// Longest input, in bytes.
const BYTES_MAX: usize = 16 << 10;

/// Runs a target on each input as it is and on many made from them.
fn fuzz(name: &str, corpus: &[Vec<u8>], target: fn(&[u8])) {
    assert!(!corpus.is_empty());
    let (inputs, seed) = (number("FUZZ_INPUTS", 2000), number("FUZZ_SEED", 1));
    let seconds = number("FUZZ_SECONDS", 0);
    let mut random = StdRng::seed_from_u64(seed);
    let check = |input: &[u8]| {
        if panic::catch_unwind(|| target(input)).is_err() {
            panic!("{name}, FUZZ_SEED={seed}: failed on {:?}\n{input:?}", String::from_utf8_lossy(input));
        }
    };
    corpus.iter().for_each(|input| check(input));
    let (start, mut done) = (clock::now_unix_nanos(), 0);
    let passed = || clock::now_unix_nanos().saturating_sub(start) / 1_000_000_000;
    // What was mutated before is mutated further, so that a long run gets far from the corpus.
    let mut pool = corpus.to_vec();
    while done < inputs || passed() < seconds {
        let input = mutated(&pool, &mut random);
        check(&input);
        done += 1;
        if done % 16 == 0 {
            if pool.len() < 2 * corpus.len() {
                pool.push(input);
            } else {
                pool[random.random_range(corpus.len()..2 * corpus.len())] = input;
            }
        }
    }
    if seconds > 0 {
        println!("{name}: {done} inputs in {} s, FUZZ_SEED={seed}", passed());
    }
}

/// One input with a few changes, some of them pieces of another.
fn mutated(corpus: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let pick = |random: &mut StdRng| corpus[random.random_range(0..corpus.len())].clone();
    let mut bytes = pick(random);
    for _ in 0..random.random_range(1..6) {
        let at = random.random_range(0..=bytes.len());
        let end = (at + random.random_range(0..16)).min(bytes.len());
        match random.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = *[0, 1, 0x7f, 0x80, 0xff, b'"', b'{', b'0'].get(random.random_range(0..8)).unwrap_or(&0),
            2 => drop(bytes.drain(at..end)),
            3 => bytes.truncate(at),
            4 => {
                let copy = bytes[at..end].to_vec();
                bytes.splice(at..at, copy);
            }
            _ => {
                let other = pick(random);
                let from = random.random_range(0..=other.len());
                let to = (from + random.random_range(0..64)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn shop() -> Vec<opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest> {
    fixture::read(&repo().join("tests/sql/shop.spans"))
}

#[test]
fn traceql_text() {
    let golden = fs::read(repo().join("tests/golden/queries.json")).unwrap();
    let queries: Vec<serde_json::Value> = serde_json::from_slice(&golden).unwrap();
    let texts: Vec<Vec<u8>> = queries.iter().filter_map(|q| q["params"]["q"].as_str()).map(|q| q.as_bytes().to_vec()).collect();
    fuzz("traceql", &texts, targets::traceql);
}

#[test]
fn otlp_in_protobuf() {
    let bodies: Vec<Vec<u8>> = shop().iter().map(prost::Message::encode_to_vec).collect();
    fuzz("otlp_protobuf", &bodies, targets::otlp_protobuf);
}

#[test]
fn otlp_in_json() {
    let bodies: Vec<Vec<u8>> = shop().iter().map(|r| serde_json::to_vec(r).unwrap()).collect();
    fuzz("otlp_json", &bodies, targets::otlp_json);
}

#[test]
fn write_ahead_log() {
    let mut file = tracehouse_ingest::wal::segment::file_header().to_vec();
    for request in shop() {
        tracehouse_ingest::wal::segment::frame(&mut file, &prost::Message::encode_to_vec(&request));
    }
    fuzz("wal", &[file, Vec::new()], targets::wal);
}

#[test]
fn meta_json() {
    let mut metas = Vec::new();
    for version in ["vParquet5", "vParquet4"] {
        let tenant = repo().join("tests/golden/blocks").join(version).join("single-tenant");
        for block in fs::read_dir(tenant).unwrap() {
            metas.push(fs::read(block.unwrap().path().join("meta.json")).unwrap());
        }
    }
    fuzz("meta", &metas, targets::meta);
}

#[test]
fn vocabularies() {
    let lines = br#"{"tracehouse_vocabulary":1,"spans":4}
{"scope":"intrinsic","name":"name","type":"string","count":4,"complete":false,"values":[["GET /cart",1],["pay",2]]}
{"scope":"span","name":"a \"b\"","type":"float","count":1,"complete":true,"values":[["NaN",1]]}
"#;
    let file = tracehouse_engine::block::vocabulary::Vocabulary::from_lines(&lines[..]).and_then(|v| v.encode()).unwrap();
    fuzz("vocabulary", &[lines.to_vec(), file], targets::vocabulary);
}
