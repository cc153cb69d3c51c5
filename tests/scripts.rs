//! Questions and answers as text files: `tests/sql/*.slt` (sqllogictest) and `tests/traceql/*.tql`, both about the spans of
//! `tests/sql/shop.spans`. Each script runs on live spans and again on blocks; the answers must be the same.
//!
//! A case of a `.tql` file is a query after `? `, and its answer: a line for each trace, newest first, with its spans by id
//! and what the answer shows of each; `none`; or `! STATUS part of the text`. A metrics query stands after `?? `; a line of its
//! answer is a series, with its values by hours after the fixture's start. `UPDATE_EXPECT=1` writes the answers into the
//! files: read the difference before you commit it, the answer is what the specification says, not what we say.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use sqllogictest::{DB, DBOutput, DefaultColumnType, Runner};

use crate::support::{
    Server, fixture, repo,
    sql::{Sql, Table},
    variable,
};

fn scripts(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repo().join(folder)).unwrap().map(|e| e.unwrap().path());
    let mut found: Vec<_> = entries.filter(|p| p.extension().is_some_and(|e| e == extension)).collect();
    found.sort();
    assert!(!found.is_empty(), "no {extension} files in {folder}");
    found
}

/// Runs `check` on live spans, and again on the same spans in blocks.
fn live_and_in_blocks(check: &dyn Fn(&Server)) {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start_with(home.path(), &[("TRACEHOUSE_INGEST__MAX_BLOCK_DURATION_MS", "3600000")]);
    for request in fixture::read(&repo().join("tests/sql/shop.spans")) {
        server.push(&request);
    }
    assert!(server.blocks().is_empty(), "the spans are not live any more");
    check(&server);
    server.flush();
    assert!(!server.blocks().is_empty(), "flushed, but there is no block");
    check(&server);
}

// ------------------------------------------------------------------------------------------------------------- SQL

struct Connection(Sql);

impl DB for Connection {
    type Error = arrow_flight::error::FlightError;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Self::Error> {
        let Table { types, rows } = self.0.try_query(sql)?;
        let types = types
            .iter()
            .map(|t| match t {
                t if t.is_integer() => DefaultColumnType::Integer,
                t if t.is_floating() => DefaultColumnType::FloatingPoint,
                _ => DefaultColumnType::Text,
            })
            .collect();
        Ok(DBOutput::Rows { types, rows })
    }

    fn engine_name(&self) -> &str {
        "tracehouse"
    }
}

#[test]
fn sql_scripts() {
    let scripts = scripts("tests/sql", "slt");
    live_and_in_blocks(&|server| {
        for script in &scripts {
            let mut runner = Runner::new(|| async { Ok(Connection(Sql::connect(server))) });
            runner.with_column_validator(sqllogictest::strict_column_validator);
            if variable("UPDATE_EXPECT").is_some() {
                let (validator, columns) = (sqllogictest::default_validator, sqllogictest::strict_column_validator);
                let update = runner.update_test_file(script, " ", validator, sqllogictest::default_normalizer, columns);
                futures::executor::block_on(update).unwrap();
            } else if let Err(e) = runner.run_file(script) {
                panic!("{}", e.display(false));
            }
        }
    });
}

// --------------------------------------------------------------------------------------------------------- TraceQL

/// One question of a `.tql` file.
struct Case {
    line: usize,
    query: String,
    metrics: bool,
    expected: Vec<String>,
}

fn cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let metrics = line.strip_prefix("?? ");
        match (metrics.or_else(|| line.strip_prefix("? ")), cases.last_mut()) {
            (Some(query), _) => {
                cases.push(Case { line: number + 1, query: query.to_owned(), metrics: metrics.is_some(), expected: Vec::new() });
            }
            (None, Some(case)) if !line.is_empty() && !line.starts_with('#') => case.expected.push(line.to_owned()),
            _ => {}
        }
    }
    cases
}

/// The series of a metrics query in steps of an hour.
fn series(server: &Server, query: &str) -> Vec<String> {
    let (start, end) = (fixture::EPOCH_SECONDS.to_string(), (fixture::EPOCH_SECONDS + 14_400).to_string());
    let answer = server.ask("/api/metrics/query_range", &[("q", query), ("start", &start), ("end", &end), ("step", "3600")]);
    if answer.status != 200 {
        return vec![format!("! {} {}", answer.status, answer.text().lines().next().unwrap_or_default())];
    }
    let json = answer.json();
    let mut lines: Vec<String> = json["series"].as_array().into_iter().flatten().map(series_line).collect();
    lines.sort();
    if lines.is_empty() { vec!["none".to_owned()] } else { lines }
}

/// A series in one line: its labels, and its values by hour.
fn series_line(series: &Value) -> String {
    let point = |sample: &Value| {
        let millis: u64 = sample["timestampMs"].as_str().unwrap().parse().unwrap();
        let hour = (millis / 1000 - fixture::EPOCH_SECONDS) / 3600;
        let value = sample["value"].as_f64().unwrap_or(0.0);
        format!(" {hour}h={}", (value * 1e9).round() / 1e9)
    };
    let labels = series["labels"].as_array().into_iter().flatten();
    let labels: Vec<String> = labels.map(|l| format!("{}={}", l["key"].as_str().unwrap(), value_text(&l["value"]))).collect();
    let points: String = series["samples"].as_array().into_iter().flatten().map(point).collect();
    format!("{{{}}}:{points}", labels.join(", "))
}

fn answer(server: &Server, case: &Case) -> Vec<String> {
    if case.metrics {
        return series(server, &case.query);
    }
    let query = case.query.as_str();
    let (start, end) = (fixture::EPOCH_SECONDS - 60, fixture::EPOCH_SECONDS + 14_400);
    let (start, end) = (start.to_string(), end.to_string());
    let answer = server.ask("/api/search", &[("q", query), ("start", &start), ("end", &end), ("limit", "100"), ("spss", "100")]);
    if answer.status != 200 {
        return vec![format!("! {} {}", answer.status, answer.text().lines().next().unwrap_or_default())];
    }
    let json = answer.json();
    let traces: Vec<String> = json["traces"].as_array().into_iter().flatten().map(trace_line).collect();
    if traces.is_empty() { vec!["none".to_owned()] } else { traces }
}

/// A trace of a search answer in one line; several spansets are set apart by `|`.
fn trace_line(trace: &Value) -> String {
    let sets = trace["spanSets"].as_array().unwrap().iter().map(|set| {
        let list = set["spans"].as_array().unwrap();
        assert_eq!(set["matched"].as_u64(), Some(list.len() as u64), "fewer spans shown than matched");
        let mut spans: Vec<String> = list.iter().map(span_text).collect();
        spans.sort();
        format!("{}{}", attributes_text(set).trim_start(), spans.join(" "))
    });
    let mut sets: Vec<String> = sets.collect();
    sets.sort();
    format!("{}: {}", trace["traceID"].as_str().unwrap(), sets.join(" | "))
}

fn span_text(span: &Value) -> String {
    let id = span["spanID"].as_str().unwrap().trim_start_matches('0');
    let name = span["name"].as_str().map(|n| format!("{n:?}")).unwrap_or_default();
    format!("{id}{name}{}", attributes_text(span))
}

fn attributes_text(of: &Value) -> String {
    let shown = |a: &Value| format!("{}={}", a["key"].as_str().unwrap(), value_text(&a["value"]));
    let mut list: Vec<String> = of["attributes"].as_array().into_iter().flatten().map(shown).collect();
    list.sort();
    if list.is_empty() { String::new() } else { format!("{{{}}}", list.join(", ")) }
}

/// An OTLP value: integers come as text in JSON, but are shown as numbers.
fn value_text(value: &Value) -> String {
    match value.as_object().and_then(|o| o.iter().next()) {
        Some((kind, Value::String(digits))) if kind == "intValue" => digits.clone(),
        Some((kind, array)) if kind == "arrayValue" => {
            let items: Vec<String> = array["values"].as_array().into_iter().flatten().map(value_text).collect();
            format!("[{}]", items.join(","))
        }
        Some((_, plain)) => plain.to_string(),
        None => "null".to_owned(),
    }
}

/// Whether the answer is the expected one. Of an error the status must be the same and the expected text be a part of it.
fn agrees(expected: &[String], got: &[String]) -> bool {
    match (expected.first().and_then(|e| e.strip_prefix("! ")), got.first().and_then(|g| g.strip_prefix("! "))) {
        (Some(e), Some(g)) => {
            let ((status, part), (got_status, text)) = (e.split_once(' ').unwrap_or((e, "")), g.split_once(' ').unwrap_or((g, "")));
            status == got_status && text.contains(part)
        }
        _ => expected == got,
    }
}

fn run_traceql(server: &Server, script: &Path) {
    let text = fs::read_to_string(script).unwrap();
    let cases = cases(&text);
    assert!(!cases.is_empty(), "{}: no cases", script.display());
    let answers: Vec<Vec<String>> = cases.iter().map(|c| answer(server, c)).collect();
    if variable("UPDATE_EXPECT").is_some() {
        return fs::write(script, updated(&text, &cases, &answers)).unwrap();
    }
    let mut wrong = String::new();
    for (case, got) in cases.iter().zip(&answers).filter(|(c, a)| !agrees(&c.expected, a)) {
        wrong += &format!("{}:{} {}\n  expected {:#?}\n  got {got:#?}\n", script.display(), case.line, case.query, case.expected);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The script with the answers we got where they are not the expected ones.
fn updated(text: &str, cases: &[Case], answers: &[Vec<String>]) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut out: Vec<String> = Vec::new();
    let mut at = 0;
    for (case, got) in cases.iter().zip(answers) {
        out.extend(lines[at..case.line].iter().map(|l| (*l).to_owned()));
        at = case.line;
        if !agrees(&case.expected, got) {
            at += lines[at..].iter().take_while(|l| !l.is_empty() && !l.starts_with('#')).count();
            out.extend(got.iter().cloned());
        }
    }
    out.extend(lines[at..].iter().map(|l| (*l).to_owned()));
    out.join("\n") + "\n"
}

#[test]
fn traceql_scripts() {
    let scripts = scripts("tests/traceql", "tql");
    live_and_in_blocks(&|server| scripts.iter().for_each(|s| run_traceql(server, s)));
}

#[test]
fn scripts_are_read_and_completed() {
    let text = "# c\n\n? {a}\n1: 2\n\n? {b}\n! 400 bad\n";
    let read = cases(text);
    assert_eq!(read.iter().map(|c| c.line).collect::<Vec<_>>(), [3, 6]);
    assert!(agrees(&read[1].expected, &["! 400 very bad text".to_owned()]));
    assert!(!agrees(&read[1].expected, &["! 500 very bad text".to_owned()]));
    let new = updated(text, &read, &[vec!["none".to_owned()], vec!["! 400 bad".to_owned()]]);
    assert_eq!(new, "# c\n\n? {a}\nnone\n\n? {b}\n! 400 bad\n");
}
