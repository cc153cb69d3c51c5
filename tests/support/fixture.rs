//! Reads the little format in which the scripts' spans are written; `tests/sql/shop.spans` explains it.

use std::path::Path;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{InstrumentationScope, KeyValue},
    resource::v1::Resource,
    trace::v1::{
        ResourceSpans, ScopeSpans, Span, Status,
        span::{Event, Link},
    },
};

use super::{
    otlp::{attribute, value_of},
    unhex,
};

/// 2026-03-01T12:00:00Z, from which the times of a fixture count, in seconds since 1970.
pub const EPOCH_SECONDS: u64 = 1_772_366_400;

/// One request for each trace of a fixture.
pub fn read(path: &Path) -> Vec<ExportTraceServiceRequest> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut reader = Reader::default();
    for (number, line) in text.lines().enumerate() {
        let content = line.trim_start();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        reader.line(line.len() - content.len(), &mut Words { rest: content, at: format!("{}:{}", path.display(), number + 1) });
    }
    reader.requests
}

#[derive(Default)]
struct Reader {
    requests: Vec<ExportTraceServiceRequest>,
    trace: Vec<u8>,
    start: u64,
    resource: Resource,
    scope: InstrumentationScope,
    /// Indentation and id of the spans above the next line.
    above: Vec<(usize, Vec<u8>)>,
}

impl Reader {
    fn line(&mut self, indent: usize, words: &mut Words<'_>) {
        match words.word() {
            "trace" => {
                self.trace = unhex(words.word(), 16);
                self.start = EPOCH_SECONDS * 1_000_000_000 + words.time(words.peek().trim_start_matches('@'));
                self.above.clear();
                self.requests.push(ExportTraceServiceRequest::default());
            }
            "resource" => self.resource = Resource { attributes: words.attributes(), ..Default::default() },
            "scope" => {
                let (name, version) = (words.text(), words.text());
                self.scope = InstrumentationScope { name, version, attributes: words.attributes(), dropped_attributes_count: 0 };
            }
            "event" => {
                let (name, at) = (words.text(), words.word());
                let time_unix_nano = self.start + words.time(at);
                let event = Event { time_unix_nano, name, attributes: words.attributes(), dropped_attributes_count: 0 };
                self.last_span(indent, words).events.push(event);
            }
            "link" => {
                let (trace_id, span_id) = (unhex(words.word(), 16), unhex(words.word(), 8));
                let link = Link { trace_id, span_id, attributes: words.attributes(), ..Default::default() };
                self.last_span(indent, words).links.push(link);
            }
            id => {
                self.above.retain(|(i, _)| *i < indent);
                let span = self.span(unhex(id, 8), words);
                self.above.push((indent, span.span_id.clone()));
                let scope_spans = vec![ScopeSpans { scope: Some(self.scope.clone()), spans: vec![span], schema_url: String::new() }];
                let group = ResourceSpans { resource: Some(self.resource.clone()), scope_spans, schema_url: String::new() };
                self.requests.last_mut().unwrap_or_else(|| words.wrong("a span before a trace")).resource_spans.push(group);
            }
        }
    }

    fn span(&self, span_id: Vec<u8>, words: &mut Words<'_>) -> Span {
        const KINDS: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];
        const STATUSES: [&str; 3] = ["unset", "ok", "error"];
        let name = words.text();
        let kind = words.one_of(&KINDS);
        let code = words.one_of(&STATUSES);
        let (at, duration) = words.word().split_once('+').unwrap_or_else(|| words.wrong("no AT+DURATION"));
        let start = self.start + words.time(at);
        let mut span = Span {
            trace_id: self.trace.clone(),
            span_id,
            parent_span_id: self.above.last().map(|(_, id)| id.clone()).unwrap_or_default(),
            name,
            kind,
            start_time_unix_nano: start,
            end_time_unix_nano: start + words.time(duration),
            ..Default::default()
        };
        if let Some(parent) = words.peek().strip_prefix("parent=") {
            span.parent_span_id = unhex(parent, 8);
            words.word();
        }
        span.attributes = words.attributes();
        // A status message is written beside the attributes.
        let mut message = String::new();
        if let Some(at) = span.attributes.iter().position(|a| a.key == "message") {
            let value = span.attributes.remove(at).value.and_then(|v| v.value);
            if let Some(opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue(s)) = value {
                message = s;
            }
        }
        span.status = Some(Status { message, code });
        span
    }

    fn last_span(&mut self, indent: usize, words: &Words<'_>) -> &mut Span {
        self.above.retain(|(i, _)| *i < indent);
        let id = self.above.last().map(|(_, id)| id.clone()).unwrap_or_else(|| words.wrong("under no span"));
        let groups = self.requests.iter_mut().rev().take(1).flat_map(|r| &mut r.resource_spans);
        let mut spans = groups.flat_map(|g| &mut g.scope_spans).flat_map(|g| &mut g.spans);
        spans.find(|s| s.span_id == id).unwrap_or_else(|| words.wrong("under no span"))
    }
}

/// The rest of a line.
struct Words<'a> {
    rest: &'a str,
    at: String,
}

impl<'a> Words<'a> {
    fn wrong<T>(&self, what: &str) -> T {
        panic!("{}: {what}", self.at)
    }

    fn peek(&self) -> &'a str {
        self.rest.split(' ').next().unwrap_or_default()
    }

    fn word(&mut self) -> &'a str {
        let word = self.peek();
        self.rest = self.rest[word.len()..].trim_start();
        word
    }

    fn json(&mut self) -> serde_json::Value {
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter();
        let value = match values.next() {
            Some(Ok(value)) => value,
            other => panic!("{}: not JSON: {} ({other:?})", self.at, self.rest),
        };
        self.rest = self.rest[values.byte_offset()..].trim_start();
        value
    }

    fn text(&mut self) -> String {
        self.json().as_str().map_or_else(|| self.wrong("not a quoted text"), str::to_owned)
    }

    fn one_of(&mut self, names: &[&str]) -> i32 {
        let word = self.word();
        names.iter().position(|n| *n == word).unwrap_or_else(|| panic!("{}: {word} is none of {names:?}", self.at)) as i32
    }

    fn attributes(&mut self) -> Vec<KeyValue> {
        let mut attributes = Vec::new();
        while !self.rest.is_empty() {
            let (key, rest) = self.rest.split_once('=').unwrap_or_else(|| self.wrong("no KEY=JSON"));
            self.rest = rest;
            attributes.push(attribute(key, value_of(&self.json())));
        }
        attributes
    }

    /// Nanoseconds of `12ms` or `3s`.
    fn time(&self, text: &str) -> u64 {
        let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
        let unit = match unit {
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            _ => panic!("{}: {text} is not a time such as 12ms", self.at),
        };
        digits.parse::<u64>().unwrap_or_else(|_| panic!("{}: {text} is not a time such as 12ms", self.at)) * unit
    }
}
