//! Completion, whatever it is answered from: live spans, a block's vocabulary, a block without one, one that is damaged.

use std::fs;

use serde_json::Value;

use crate::support::{Server, fixture, repo};

/// Name of the vocabulary in a block's folder.
const VOCABULARY: &str = "tracehouse-vocabulary.json.zst";

/// Questions of all kinds; each is asked of the time of the fixture.
const QUESTIONS: [&str; 16] = [
    "/api/search/tags",
    "/api/v2/search/tags",
    "/api/v2/search/tags?scope=resource",
    "/api/v2/search/tags?scope=span&limit=2",
    "/api/v2/search/tags?q=%7Bstatus%3Derror%7D&scope=span",
    "/api/search/tag/service.name/values",
    "/api/search/tag/region/values",
    "/api/v2/search/tag/resource.service.name/values",
    "/api/v2/search/tag/span.mixed/values",
    "/api/v2/search/tag/span.tags/values",
    "/api/v2/search/tag/.region/values",
    "/api/v2/search/tag/name/values",
    "/api/v2/search/tag/status/values",
    "/api/v2/search/tag/duration/values",
    "/api/v2/search/tag/event.exception.type/values",
    "/api/v2/search/tag/name/values?q=%7Bresource.service.name%3D%22web%22%20%26%26%20status%3D",
];

fn ask(server: &Server, question: &str) -> Value {
    let (start, end) = (fixture::EPOCH_SECONDS - 60, fixture::EPOCH_SECONDS + 14_400);
    let separator = if question.contains('?') { '&' } else { '?' };
    server.get(&format!("{question}{separator}start={start}&end={end}")).ok().json()
}

fn answers(server: &Server) -> Vec<(&'static str, Value)> {
    let without_cost = |question| {
        let mut answer = ask(server, question);
        answer.as_object_mut().unwrap().remove("metrics").unwrap();
        answer
    };
    QUESTIONS.into_iter().map(|question| (question, without_cost(question))).collect()
}

fn bytes_for(server: &Server, question: &str) -> u64 {
    ask(server, question)["metrics"]["inspectedBytes"].as_str().map_or(0, |n| n.parse().unwrap())
}

#[test]
fn completion_is_the_same_from_everywhere() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start_with(home.path(), &[("TRACEHOUSE_INGEST__MAX_BLOCK_DURATION_MS", "3600000")]);
    for request in fixture::read(&repo().join("tests/sql/shop.spans")) {
        server.push(&request);
    }
    let live = answers(&server);
    let services = &live.iter().find(|(q, _)| q.contains("resource.service.name/")).unwrap().1["tagValues"];
    let names = services.as_array().unwrap().iter().map(|v| v["value"].as_str().unwrap_or_default());
    assert_eq!(names.collect::<Vec<_>>(), ["", "auth", "late", "web"]);
    server.flush();
    let vocabularies = |server: &Server| server.blocks().into_iter().map(|b| b.join(VOCABULARY)).collect::<Vec<_>>();
    let size: u64 = vocabularies(&server).iter().map(|v| v.metadata().unwrap().len()).sum();
    // The file is read once, and nothing else.
    assert_eq!(bytes_for(&server, "/api/v2/search/tags"), size);
    assert_eq!(bytes_for(&server, "/api/v2/search/tag/resource.service.name/values"), 0);
    assert_eq!(answers(&server), live, "in blocks");

    for vocabulary in vocabularies(&server) {
        let mut bytes = fs::read(&vocabulary).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0xff;
        fs::write(&vocabulary, bytes).unwrap();
    }
    let server = server.crash_and_restart();
    assert_eq!(answers(&server), live, "with a damaged vocabulary");
    let log = fs::read_to_string(home.path().join("log")).unwrap();
    assert!(log.contains("vocabulary left out"), "{log}");

    vocabularies(&server).iter().for_each(|v| fs::remove_file(v).unwrap());
    let server = server.crash_and_restart();
    assert_eq!(answers(&server), live, "without a vocabulary");
    // What was read of such a block is known.
    assert_eq!(bytes_for(&server, "/api/v2/search/tag/resource.service.name/values"), 0);
}

#[test]
fn odd_questions_are_answered_or_refused_clearly() {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(home.path());
    for path in [
        "/api/v2/search/tag/span.a/b/values",
        "/api/v2/search/tag/span.%22a%20b%22/values?tag=span.x&q=%7B%20name%20%3D&maxStaleValues=x&limit=-1",
        "/api/search/tag/a/b/values/values",
        "/api/v2/search/tags?q=%7B%7B%7B%22",
        "/api/v2/search/tags?scope=",
        "/api/search?tags=a%3Db%20c&minDuration=0s&maxDuration=0s",
        "/api/search?service.name=web",
    ] {
        assert_eq!(server.get(path).status, 200, "{path}: {}", server.get(path).text());
    }
    assert_eq!(server.get("/api/v2/search/tag/values").status, 404);
    let or = |n: usize| vec!["span.a=1"; n].iter().enumerate().map(|(i, c)| format!("{c}{i}")).collect::<Vec<_>>().join("||");
    for (path, says) in [
        ("/api/v2/search/tag/nope/values".to_owned(), "valid tagName"),
        ("/api/v2/search/tags?scope=all".to_owned(), "invalid scope"),
        ("/api/v2/search/tags?start=2&end=1".to_owned(), "start"),
        (format!("/api/v2/search/tags?q=%7B{}%7D", or(101)), "limit: 100"),
        ("/api/search?tags=a%3Db%20a%3Dc".to_owned(), "set twice"),
        ("/api/search?tags=a%3D%22".to_owned(), "unterminated"),
        ("/api/search?minDuration=2s&maxDuration=1s".to_owned(), "maxDuration"),
    ] {
        let answer = server.get(&path);
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert!(answer.text().contains(says), "{path}: {}", answer.text());
    }
}
