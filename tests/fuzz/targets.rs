//! What the fuzzers call: one function for each input that others write. None may panic, and what was read once reads the same
//! again. `tests/fuzz.rs` calls them with some thousands of mutated inputs in every test run.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tracehouse_engine::block::{BlockMeta, vocabulary::Vocabulary};
use tracehouse_ingest::{
    distributor::split_by_trace,
    otlp::{json, validate},
    wal::segment::{FILE_HEADER_BYTES, Header, Item, Records, check_header, file_header, frame},
};
use tracehouse_traceql::syntax;

/// TraceQL text: reads, checks and prints; the printed text is the same tree.
pub fn traceql(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let _ = syntax::parse_attribute(text);
    let _ = syntax::parse_lenient(text);
    let Ok(query) = syntax::parse(text) else { return };
    let _ = syntax::check(&query, &|pattern| if pattern.contains("[") { Err("no classes".into()) } else { Ok(()) });
    let printed = syntax::print(&query);
    match syntax::parse(&printed) {
        Ok(again) => {
            assert_eq!(syntax::print(&again), printed, "printed twice, from {text:?}");
            assert_eq!(again, query, "another tree, from {text:?}");
        }
        Err(e) => panic!("{text:?} is printed as {printed:?}, which does not parse: {e}"),
    }
}

/// A body of `/v1/traces` in protobuf.
pub fn otlp_protobuf(input: &[u8]) {
    if let Ok(request) = ExportTraceServiceRequest::decode(input) {
        take(request);
    }
}

/// A body of `/v1/traces` in JSON.
pub fn otlp_json(input: &[u8]) {
    if let Ok(request) = json::decode(input) {
        let bytes = request.encode_to_vec();
        assert!(ExportTraceServiceRequest::decode(bytes.as_slice()).is_ok(), "what JSON gave cannot be read back from the log");
        take(request);
    }
}

/// What the receivers do with a request.
fn take(mut request: ExportTraceServiceRequest) {
    let spans = |r: &ExportTraceServiceRequest| r.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum::<usize>();
    let sent = spans(&request);
    let verdict = validate::validate(&mut request);
    assert_eq!(verdict.accepted + verdict.rejected(), sent);
    assert_eq!(spans(&request), verdict.accepted);
    validate::truncate(&mut request, 64);
    let traces = split_by_trace(request);
    assert_eq!(traces.iter().map(|t| t.span_count()).sum::<usize>(), verdict.accepted);
}

/// A segment of the write-ahead log: what stands in it is covered by records and damage, and nothing hides a whole record that
/// was written behind it.
pub fn wal(input: &[u8]) {
    let mut file = input.to_vec();
    if check_header(input) != Header::Good {
        file = file_header().to_vec();
        file.extend_from_slice(input);
    }
    let good = |file: &[u8]| Records::new(file).filter(|i| matches!(i, Item::Record(_))).count();
    let mut covered = FILE_HEADER_BYTES;
    for item in Records::new(&file) {
        covered = match item {
            Item::Record(payload) => covered + tracehouse_ingest::wal::segment::RECORD_HEADER_BYTES + payload.len(),
            Item::Torn(range) | Item::Corrupt(range) => {
                assert_eq!(range.start, covered);
                range.end
            }
        };
    }
    assert_eq!(covered, file.len());
    let before = good(&file);
    frame(&mut file, b"written behind it");
    assert!(Records::new(&file).any(|i| i == Item::Record(b"written behind it")), "a whole record is hidden");
    assert!(good(&file) <= before + 1);
}

/// A `meta.json`.
pub fn meta(input: &[u8]) {
    if let Ok(meta) = BlockMeta::from_json(input, "fuzzed") {
        let _ = meta.version();
        let again = BlockMeta::from_json(&meta.to_json(), "written").unwrap_or_else(|e| panic!("{meta:?} cannot be read back: {e}"));
        assert_eq!(again, meta);
    }
}

/// What completion asks of a block, as a file and as the lines inside it (damage to a file is found by its checksum).
pub fn vocabulary(input: &[u8]) {
    for vocabulary in [Vocabulary::decode(input), Vocabulary::from_lines(input)].into_iter().flatten() {
        let again = vocabulary.encode().and_then(|bytes| Vocabulary::decode(&bytes));
        assert!(matches!(again, Ok(again) if again == vocabulary), "what was read reads differently when written");
    }
}
