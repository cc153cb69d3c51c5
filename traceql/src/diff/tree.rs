//! One side of a comparison: the spans of a trace as a tree, each with what it is called and where it stands.

use std::collections::HashMap;

use tracehouse_engine::{
    Trace,
    trace::{KeyValue, Span, Value as Any},
};

/// The service of spans that name none.
pub const UNKNOWN_SERVICE: &str = "<unknown>";

/// What a span is, without what is its own only: two spans that do the same in two traces have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity<'a> {
    /// The attribute `service.name` of the span, or else of its resource; empty if neither has one.
    pub service: &'a str,
    /// The span's name.
    pub name: &'a str,
    /// `client`, `server` and so on.
    pub kind: &'static str,
}

/// A span in its tree.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// The span.
    pub span: &'a Span,
    /// What it is.
    pub identity: Identity<'a>,
    /// Its parent, by position in [`Tree::nodes`].
    pub parent: Option<usize>,
    /// Its place among its parent's children, or among the roots.
    pub place: usize,
}

/// A trace as a tree.
#[derive(Clone, Debug)]
pub struct Tree<'a> {
    /// The trace's id in hex.
    pub trace_id: String,
    /// All spans, each before its children; children by their start.
    pub nodes: Vec<Node<'a>>,
}

impl<'a> Tree<'a> {
    /// Orders the spans of a trace. A span whose parent is not there is a root, and so is the first span of a circle. Where
    /// spans share an id, the first of them has the children.
    pub fn new(trace: &'a Trace) -> Self {
        let mut spans: Vec<(Identity<'a>, &'a Span)> = trace
            .spans()
            .map(|(rs, _, span)| {
                let resource = rs.resource.as_ref().map_or(&[][..], |r| &r.attributes);
                let service = text_of(&span.attributes, "service.name").or_else(|| text_of(resource, "service.name"));
                (Identity { service: service.unwrap_or_default(), name: &span.name, kind: kind_of(span) }, span)
            })
            .collect();
        spans.sort_by(|(_, a), (_, b)| (a.start_time_unix_nano, &a.span_id).cmp(&(b.start_time_unix_nano, &b.span_id)));
        let mut first: HashMap<&[u8], usize> = HashMap::new();
        for (i, (_, span)) in spans.iter().enumerate() {
            first.entry(&span.span_id).or_insert(i);
        }
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); spans.len()];
        let mut roots = Vec::new();
        for (i, (_, span)) in spans.iter().enumerate() {
            match first.get(span.parent_span_id.as_slice()).filter(|p| **p != i && !span.parent_span_id.is_empty()) {
                Some(parent) => children[*parent].push(i),
                None => roots.push(i),
            }
        }
        let mut tree = Self { trace_id: trace.id.to_string(), nodes: Vec::with_capacity(spans.len()) };
        let mut placed = vec![false; spans.len()];
        let mut next_root = 0;
        // What no root leads to stands in a circle, and is taken from its first span on.
        for start in roots.into_iter().chain(0..spans.len()) {
            let mut open = vec![(start, None, next_root)];
            next_root += usize::from(!placed[start]);
            while let Some((i, parent, place)) = open.pop() {
                if std::mem::replace(&mut placed[i], true) {
                    continue;
                }
                let at = tree.nodes.len();
                tree.nodes.push(Node { span: spans[i].1, identity: spans[i].0, parent, place });
                let below = children[i].iter().filter(|c| !placed[**c]).enumerate().map(|(place, child)| (*child, Some(at), place));
                open.extend(below.collect::<Vec<_>>().into_iter().rev());
            }
        }
        tree
    }

    /// What the parent of a span is; none for a root.
    pub fn parent_of(&self, node: &Node<'a>) -> Option<Identity<'a>> {
        node.parent.map(|p| self.nodes[p].identity)
    }

    /// The way from the root to a span: the place of each among its siblings.
    pub fn path(&self, node: &Node<'a>) -> Vec<usize> {
        let mut path = vec![node.place];
        let mut above = node.parent;
        while let Some(at) = above {
            path.push(self.nodes[at].place);
            above = self.nodes[at].parent;
        }
        path.reverse();
        path
    }
}

impl Node<'_> {
    /// Nanoseconds from start to end; none if the start is missing or the end is before it.
    pub fn duration_nanos(&self) -> Option<i64> {
        let (start, end) = (self.span.start_time_unix_nano, self.span.end_time_unix_nano);
        (start > 0).then(|| end.checked_sub(start)).flatten().and_then(|d| i64::try_from(d).ok())
    }

    /// `unset`, `ok` or `error`.
    pub fn status(&self) -> &'static str {
        match self.span.status.as_ref().map_or(0, |s| s.code) {
            1 => "ok",
            2 => "error",
            _ => "unset",
        }
    }

    /// Whether the span failed.
    pub fn is_error(&self) -> bool {
        self.status() == "error"
    }

    /// The service, or a name for there being none.
    pub fn service(&self) -> &str {
        if self.identity.service.is_empty() { UNKNOWN_SERVICE } else { self.identity.service }
    }
}

fn text_of<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    attributes.iter().find(|a| a.key == key).and_then(|a| match a.value.as_ref()?.value.as_ref()? {
        Any::StringValue(text) if !text.is_empty() => Some(text.as_str()),
        _ => None,
    })
}

fn kind_of(span: &Span) -> &'static str {
    match span.kind {
        1 => "internal",
        2 => "server",
        3 => "client",
        4 => "producer",
        5 => "consumer",
        _ => "unspecified",
    }
}
