//! What differs between two traces: the answer of `POST /api/v2/traces/diff`.
//!
//! Spans of the two traces are paired by what they are (service, name, kind), not by their ids, which no two traces share. Of
//! each pair it is told what changed; spans without a partner were added or removed. The forms of the answer are Tempo's
//! (experimental there); how spans are paired is our own.

mod summary;
mod tree;

pub use summary::Summary;

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use serde::Serialize;
use serde_json::{Value, json};
use tracehouse_engine::{
    Error, ErrorKind, Result, Trace,
    trace::{AnyValue, Value as Any},
};

use self::tree::{Identity, Node, Tree};
use crate::result::llm::any_value;

/// Largest patch that is attached to a composed answer, in bytes.
const PATCH_BYTES_MAX: usize = 64 * 1024;

/// Most numbers in all paths of an answer: a chain of spans would make it grow with the square of its length.
const PATH_NUMBERS_MAX: usize = 1 << 22;

/// Durations are the same within this part of the longer one, and this many nanoseconds: two runs are never equally fast.
const DURATION_TOLERANCE: (f64, f64) = (0.2, 1e6);

/// Sizes and counts of tokens are the same within this part of the larger one.
const MAGNITUDE_TOLERANCE: (f64, f64) = (0.05, 0.0);

/// Ends of attribute names (OpenTelemetry's) whose numbers are magnitudes, not identifiers or codes.
const MAGNITUDES: &[&str] = &[
    ".body.size",
    "http.request.size",
    "http.response.size",
    "content_length",
    "content_length_uncompressed",
    "envelope.size",
    "compressed_size",
    "uncompressed_size",
    "file.size",
    "input_tokens",
    "output_tokens",
    "prompt_tokens",
    "completion_tokens",
];

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Every change.
    #[default]
    Patch,
    /// Counts by service.
    Summary,
    /// Counts by service, and every change if that is not too long.
    Composed,
}

impl Format {
    /// By Tempo's names; empty is the default.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "" | "trace-patch-v0" => Some(Self::Patch),
            "trace-summary-v0-native" => Some(Self::Summary),
            "trace-summary-v0-composed" => Some(Self::Composed),
            _ => None,
        }
    }
}

/// Compares two traces; the answer as JSON.
pub fn diff(base: &Trace, compare: &Trace, format: Format) -> Result<String> {
    let (base, compare) = (Tree::new(base), Tree::new(compare));
    let pairs = pair(&base, &compare);
    let changes = Changes::new(&base, &compare, &pairs);
    let text = match format {
        Format::Patch => text(&changes.patch()?)?,
        Format::Summary => text(&changes.summary())?,
        Format::Composed => {
            let patch = changes.patch().and_then(|p| text(&p));
            let mut answer = json!({ "version": "trace-summary-v0-composed", "summary": changes.summary() });
            match patch {
                Ok(patch) if patch.len() <= PATCH_BYTES_MAX => {
                    answer["patch"] = serde_json::from_str(&patch).map_err(|e| Error::internal("a patch is no JSON").with_source(e))?;
                }
                Ok(patch) => answer["patchOmitted"] = json!({ "bytes": patch.len(), "reason": "over_budget" }),
                Err(e) if e.kind() == ErrorKind::TooLarge => answer["patchOmitted"] = json!({ "reason": "over_budget" }),
                Err(e) => return Err(e),
            }
            answer.to_string()
        }
    };
    Ok(text)
}

fn text(answer: &impl Serialize) -> Result<String> {
    serde_json::to_string(answer).map_err(|e| Error::internal("an answer is not shown as JSON").with_source(e))
}

/// The partner in `base` of each span of `compare`. Those whose parents are alike too come first, then the others in order, so
/// that a span keeps its partner when something is put above it.
fn pair(base: &Tree<'_>, compare: &Tree<'_>) -> Vec<Option<usize>> {
    type Queue<K> = HashMap<K, VecDeque<usize>>;
    let mut alike: Queue<(Identity<'_>, Option<Identity<'_>>)> = HashMap::new();
    for (i, node) in base.nodes.iter().enumerate() {
        alike.entry((node.identity, base.parent_of(node))).or_default().push_back(i);
    }
    let mut pairs: Vec<Option<usize>> =
        compare.nodes.iter().map(|node| alike.get_mut(&(node.identity, compare.parent_of(node))).and_then(VecDeque::pop_front)).collect();
    let taken: HashSet<usize> = pairs.iter().flatten().copied().collect();
    let mut left: Queue<Identity<'_>> = HashMap::new();
    for (i, node) in base.nodes.iter().enumerate().filter(|(i, _)| !taken.contains(i)) {
        left.entry(node.identity).or_default().push_back(i);
    }
    for (partner, node) in pairs.iter_mut().zip(&compare.nodes).filter(|(partner, _)| partner.is_none()) {
        *partner = left.get_mut(&node.identity).and_then(VecDeque::pop_front);
    }
    pairs
}

/// What happened to each span.
struct Changes<'a> {
    base: &'a Tree<'a>,
    compare: &'a Tree<'a>,
    matched: usize,
    /// A pair, and its changes.
    modified: Vec<(&'a Node<'a>, &'a Node<'a>, Vec<Change>)>,
    added: Vec<&'a Node<'a>>,
    removed: Vec<&'a Node<'a>>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Change {
    op: &'static str,
    target: Value,
    before: Value,
    after: Value,
}

#[derive(Clone, Debug, Serialize)]
struct Warning {
    code: &'static str,
    message: String,
}

impl<'a> Changes<'a> {
    fn new(base: &'a Tree<'a>, compare: &'a Tree<'a>, pairs: &[Option<usize>]) -> Self {
        let taken: HashSet<usize> = pairs.iter().flatten().copied().collect();
        let mut all = Self { base, compare, matched: taken.len(), modified: Vec::new(), added: Vec::new(), removed: Vec::new() };
        for (node, partner) in compare.nodes.iter().zip(pairs) {
            let Some(before) = partner.map(|i| &base.nodes[i]) else {
                all.added.push(node);
                continue;
            };
            let changes = changes(before, node);
            if !changes.is_empty() {
                all.modified.push((before, node, changes));
            }
        }
        all.removed = base.nodes.iter().enumerate().filter(|(i, _)| !taken.contains(i)).map(|(_, node)| node).collect();
        all
    }

    /// How many changes concern fields, or attributes.
    fn count(&self, kind: &str) -> usize {
        self.modified.iter().flat_map(|(.., changes)| changes).filter(|c| c.target["type"] == kind).count()
    }

    /// Every change. An error if the trees are so deep that the ways to the spans fill the answer.
    fn patch(&self) -> Result<Value> {
        let mut numbers = 0;
        let mut path = |tree: &Tree<'a>, node: &Node<'a>| {
            let path = tree.path(node);
            numbers += path.len();
            (numbers <= PATH_NUMBERS_MAX).then_some(path).ok_or_else(|| {
                Error::new(ErrorKind::TooLarge, "the traces differ too much, at too great a depth: ask for trace-summary-v0-native")
            })
        };
        let shown = |node: &Node<'_>, path: &[usize]| {
            json!({
                "path": path, "service": node.identity.service, "name": node.identity.name, "kind": node.identity.kind,
                "duration_nanos": node.duration_nanos().unwrap_or(0), "status": node.status(),
            })
        };
        let (mut modified, mut added, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        for (_, node, changes) in &self.modified {
            let Identity { service, name, kind } = node.identity;
            let span = json!({ "path": path(self.compare, node)?, "service": service, "name": name, "kind": kind });
            modified.push(json!({ "span": span, "changes": changes }));
        }
        for node in &self.added {
            let path = path(self.compare, node)?;
            let mut target = json!({ "type": "span", "index": node.place });
            if path.len() > 1 {
                target["parentPath"] = json!(path[..path.len() - 1]);
            }
            added.push(json!({ "target": target, "span": shown(node, &path) }));
        }
        for node in &self.removed {
            let path = path(self.base, node)?;
            removed.push(json!({ "target": { "type": "span", "path": path }, "span": shown(node, &path) }));
        }
        let side = |tree: &Tree<'_>| json!({ "traceId": tree.trace_id, "spanCount": tree.nodes.len() });
        Ok(json!({
            "version": "trace-patch-v0",
            "base": side(self.base),
            "compare": side(self.compare),
            "stats": {
                "spanCountA": self.base.nodes.len(), "spanCountB": self.compare.nodes.len(), "matchedSpans": self.matched,
                "modifiedSpans": modified.len(), "addedSpans": added.len(), "removedSpans": removed.len(),
                "fieldChanges": self.count("field"), "attributeChanges": self.count("attribute"), "eventChanges": 0,
                "truncated": false,
            },
            "modified": modified,
            "added": added,
            "removed": removed,
            "warnings": self.warnings(),
        }))
    }

    fn summary(&self) -> Summary<'_> {
        summary::summary(self)
    }

    /// What makes the comparison less sure, each kind once.
    fn warnings(&self) -> Vec<Warning> {
        let nodes = || self.base.nodes.iter().chain(&self.compare.nodes);
        let mut warnings = Vec::new();
        if let Some(node) = nodes().find(|n| has_an_id(n.identity.name)) {
            let message = format!(
                "the span name {:?} seems to hold an id: spans are paired by name, so the same operation may count as removed and added",
                node.identity.name
            );
            warnings.push(Warning { code: "high_cardinality_span_name", message });
        }
        let invalid = nodes().filter(|n| n.duration_nanos().is_none()).count();
        if invalid > 0 {
            let message = format!("{invalid} spans have no start, or end before it: their durations are null or 0");
            warnings.push(Warning { code: "invalid_duration", message });
        }
        warnings
    }
}

/// What changed between a span and its partner.
fn changes(before: &Node<'_>, after: &Node<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut field = |name: &str, before: Value, after: Value| {
        changes.push(Change { op: "modify", target: json!({ "type": "field", "name": name }), before, after });
    };
    match (before.duration_nanos(), after.duration_nanos()) {
        (Some(a), Some(b)) if close(a as f64, b as f64, DURATION_TOLERANCE) => {}
        (None, None) => {}
        (a, b) => field("duration_nanos", json!(a), json!(b)),
    }
    if before.status() != after.status() {
        field("status", json!(before.status()), json!(after.status()));
    }
    let of = |node: &Node<'_>| -> HashMap<String, AnyValue> {
        node.span.attributes.iter().map(|a| (a.key.clone(), a.value.clone().unwrap_or_default())).collect()
    };
    let (old, new) = (of(before), of(after));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let (a, b) = (old.get(key), new.get(key));
        let op = match (a, b) {
            (Some(a), Some(b)) if same(key, a, b) => continue,
            (None, _) => "add",
            (_, None) => "remove",
            _ => "modify",
        };
        let shown = |value: Option<&AnyValue>| value.map_or(Value::Null, any_value);
        let target = json!({ "type": "attribute", "scope": "span", "key": key });
        changes.push(Change { op, target, before: shown(a), after: shown(b) });
    }
    changes
}

/// Whether two values of an attribute count as one.
fn same(key: &str, a: &AnyValue, b: &AnyValue) -> bool {
    let number = |value: &AnyValue| match value.value {
        Some(Any::IntValue(v)) => Some(v as f64),
        Some(Any::DoubleValue(v)) => Some(v),
        _ => None,
    };
    if let (Some(a), Some(b)) = (number(a), number(b))
        && MAGNITUDES.iter().any(|end| key.ends_with(end))
    {
        return close(a, b, MAGNITUDE_TOLERANCE);
    }
    let alike = |a: &Option<Any>, b: &Option<Any>| a.as_ref().map(std::mem::discriminant) == b.as_ref().map(std::mem::discriminant);
    alike(&a.value, &b.value) && any_value(a) == any_value(b)
}

fn close(a: f64, b: f64, (part, floor): (f64, f64)) -> bool {
    (a - b).abs() <= floor + part * a.abs().max(b.abs())
}

/// Whether a name holds what looks like an id: six digits or more, or eight hex digits or more with a decimal one among them.
fn has_an_id(name: &str) -> bool {
    name.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).any(|word| {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        let hex = word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        (digits >= 6 && digits == word.len()) || (word.len() >= 8 && hex && digits > 0)
    })
}

#[cfg(test)]
mod tests;
