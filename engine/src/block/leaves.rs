//! The leaf columns of a block, found by dotted path. vParquet4's list and map wrappers are left out of the path, so that
//! a leaf has one name in all versions: that of vParquet5. Levels mean the same with and without the wrappers, because
//! all wrappers are required.
//!
//! Source: Tempo's block schemas (`docs/format.md`). A column of another type or nesting than the version has is an error.

use std::collections::HashMap;

use parquet::{basic::Type, schema::types::SchemaDescriptor};

use super::Version;
use crate::{
    error::{Error, Result},
    scan::AttributeScope,
};

/// How deep the spans' parts lie: the number of lists around them.
pub(super) mod depth {
    pub const TRACE: u32 = 0;
    pub const RESOURCE: u32 = 1;
    pub const SCOPE: u32 = 2;
    pub const SPAN: u32 = 3;
    /// Events and links.
    pub const ITEM: u32 = 4;
}

/// What a leaf holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Int32,
    Int64,
    Double,
    Bool,
    Text,
    Bytes,
}

impl Kind {
    fn physical(self) -> Type {
        match self {
            Self::Int32 => Type::INT32,
            Self::Int64 => Type::INT64,
            Self::Double => Type::DOUBLE,
            Self::Bool => Type::BOOLEAN,
            Self::Text | Self::Bytes => Type::BYTE_ARRAY,
        }
    }
}

/// How many values a leaf has for each thing it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    /// Exactly one.
    One,
    /// At most one, or a list: both are met, and told apart by the levels.
    Any,
}

/// A leaf as the file has it.
#[derive(Clone, Debug)]
pub(super) struct LeafColumn {
    /// Position among the file's leaf columns.
    pub index: usize,
    /// The path in the file, for messages.
    pub path: String,
    pub physical: Type,
    /// Byte arrays are text.
    pub text: bool,
    pub max_rep: u32,
    pub max_def: u32,
    /// The number of lists around the thing that a value belongs to: an attribute's for its values.
    pub depth: u32,
}

impl LeafColumn {
    /// Whether each thing at [`depth`](Self::depth) has exactly one value, so that levels need not be looked at.
    pub fn is_required(&self) -> bool {
        self.max_def == self.depth
    }
}

/// The leaf columns of a file that are understood.
#[derive(Debug)]
pub(super) struct Leaves {
    by_path: HashMap<String, LeafColumn>,
}

impl Leaves {
    /// Finds the columns of a version in a file's schema; fails if one is missing or is not what it must be.
    pub fn new(schema: &SchemaDescriptor, version: Version) -> Result<Self> {
        let mut found: HashMap<String, usize> = HashMap::new();
        for (index, column) in schema.columns().iter().enumerate() {
            let path = logical_path(column.path().parts());
            if found.insert(path, index).is_some() {
                return Err(Error::data(format!("column {} occurs twice", column.path())));
            }
        }
        let mut by_path = HashMap::new();
        for Spec { path, depth, kind, count, required } in specs(version) {
            let Some(&index) = found.get(&path) else {
                if required {
                    return Err(Error::data(format!("column {path} is missing")));
                }
                continue;
            };
            let column = schema.column(index);
            let physical = column.physical_type();
            if physical != kind.physical() {
                return Err(Error::data(format!("column {} is of type {physical} instead of {}", column.path(), kind.physical())));
            }
            let levels = (u32::try_from(column.max_rep_level()), u32::try_from(column.max_def_level()));
            let (Ok(max_rep), Ok(max_def)) = levels else {
                return Err(Error::data(format!("column {} has negative levels", column.path())));
            };
            let fits = match count {
                Count::One => (max_rep, max_def) == (depth, depth),
                Count::Any => max_def == depth + 1 && (max_rep == depth || max_rep == depth + 1),
            };
            if !fits {
                return Err(Error::data(format!("column {} is nested in an unexpected way", column.path())));
            }
            let leaf = LeafColumn { index, path: column.path().string(), physical, text: kind == Kind::Text, max_rep, max_def, depth };
            by_path.insert(path, leaf);
        }
        Ok(Self { by_path })
    }

    /// A leaf by its logical path.
    pub fn get(&self, path: &str) -> Option<&LeafColumn> {
        self.by_path.get(path)
    }

    /// All of them, in no order.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = &LeafColumn> {
        self.by_path.values()
    }

    /// A leaf that every block of the version has.
    pub fn require(&self, path: &str) -> Result<&LeafColumn> {
        self.get(path).ok_or_else(|| Error::data(format!("column {path} is missing")))
    }
}

/// A path without the wrappers of vParquet4.
fn logical_path(parts: &[String]) -> String {
    let mut path = String::new();
    let mut rest = parts.iter().map(String::as_str).peekable();
    while let Some(part) = rest.next() {
        let part = match part {
            "list" if rest.peek() == Some(&"element") => {
                rest.next();
                continue;
            }
            "key_value" => match rest.next() {
                Some("key") => "ServiceName",
                Some("value") => continue,
                other => other.unwrap_or(part),
            },
            part => part,
        };
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(part);
    }
    path
}

/// A leaf as a version must have it.
struct Spec {
    path: String,
    depth: u32,
    kind: Kind,
    count: Count,
    required: bool,
}

/// The path above a scope's attributes, and the depth of what they belong to.
pub(super) fn scope_path(scope: AttributeScope) -> (&'static str, u32) {
    match scope {
        AttributeScope::Resource => ("rs.Resource", depth::RESOURCE),
        AttributeScope::Instrumentation => ("rs.ss.Scope", depth::SCOPE),
        AttributeScope::Span => ("rs.ss.Spans", depth::SPAN),
        AttributeScope::Event => ("rs.ss.Spans.Events", depth::ITEM),
        AttributeScope::Link => ("rs.ss.Spans.Links", depth::ITEM),
    }
}

/// All scopes.
pub(super) const SCOPES: [AttributeScope; 5] =
    [AttributeScope::Resource, AttributeScope::Instrumentation, AttributeScope::Span, AttributeScope::Event, AttributeScope::Link];

/// Attributes that vParquet4 and 3 have columns for whatever the configuration: scope, key, column, whether an integer.
pub(super) const STATIC_COLUMNS: [(AttributeScope, &str, &str, bool); 11] = {
    use AttributeScope::{Resource, Span};
    [
        (Resource, "cluster", "rs.Resource.Cluster", false),
        (Resource, "namespace", "rs.Resource.Namespace", false),
        (Resource, "pod", "rs.Resource.Pod", false),
        (Resource, "container", "rs.Resource.Container", false),
        (Resource, "k8s.cluster.name", "rs.Resource.K8sClusterName", false),
        (Resource, "k8s.namespace.name", "rs.Resource.K8sNamespaceName", false),
        (Resource, "k8s.pod.name", "rs.Resource.K8sPodName", false),
        (Resource, "k8s.container.name", "rs.Resource.K8sContainerName", false),
        (Span, "http.method", "rs.ss.Spans.HttpMethod", false),
        (Span, "http.url", "rs.ss.Spans.HttpUrl", false),
        (Span, "http.status_code", "rs.ss.Spans.HttpStatusCode", true),
    ]
};

/// How many dedicated columns of strings and of integers a version has in a scope.
pub(super) fn dedicated_limits(version: Version, scope: AttributeScope) -> (usize, usize) {
    match (version, scope) {
        (Version::V5, AttributeScope::Span | AttributeScope::Resource | AttributeScope::Event) => (20, 5),
        (Version::V3 | Version::V4, AttributeScope::Span | AttributeScope::Resource) => (10, 0),
        _ => (0, 0),
    }
}

/// Leaves of vParquet3 that hold what vParquet4 has columns for: events' times since the epoch, and records as protobuf.
pub(super) mod v3 {
    pub const EVENT_TIME: &str = "rs.ss.Spans.Events.TimeUnixNano";
    pub const EVENT_KEY: &str = "rs.ss.Spans.Events.Attrs.Key";
    /// An `AnyValue`.
    pub const EVENT_VALUE: &str = "rs.ss.Spans.Events.Attrs.Value";
    /// A message whose field 1 repeats `Span.Link`.
    pub const LINKS: &str = "rs.ss.Spans.Links";
}

/// What vParquet3 has in common with vParquet4, and the leaves of [`v3`]; values without a type of their own are JSON in
/// two leaves. It knows no attributes of scopes, no dropped counts but those of spans and events, no service stats.
fn specs_v3() -> Vec<Spec> {
    let mut specs = Vec::new();
    let mut add = |path: String, depth, kind, count| specs.push(Spec { path, depth, kind, count, required: true });
    for (prefix, depth, fields) in FIELDS {
        for (name, kind, _) in *fields {
            match (*prefix, *name) {
                ("ServiceStats" | "rs.ss.Spans.Links" | "rs.ss", _) | (_, "ChildCount" | "TimeSinceStartNano") => {}
                ("rs.Resource" | "rs.ss.Scope", "DroppedAttributesCount") => {}
                (_, name) if name.starts_with("StartTimeRounded") => {}
                ("", name) => add(name.to_owned(), *depth, *kind, Count::One),
                (prefix, name) => add(format!("{prefix}.{name}"), *depth, *kind, Count::One),
            }
        }
    }
    for scope in [AttributeScope::Resource, AttributeScope::Span] {
        let (prefix, owner) = scope_path(scope);
        add(format!("{prefix}.Attrs.Key"), owner + 1, Kind::Text, Count::One);
        for (name, kind) in [
            ("Value", Kind::Text),
            ("ValueInt", Kind::Int64),
            ("ValueDouble", Kind::Double),
            ("ValueBool", Kind::Bool),
            ("ValueKVList", Kind::Text),
            ("ValueArray", Kind::Text),
        ] {
            add(format!("{prefix}.Attrs.{name}"), owner + 1, kind, Count::Any);
        }
        for i in 1..=dedicated_limits(Version::V3, scope).0 {
            add(format!("{prefix}.DedicatedAttributes.String{i:02}"), owner, Kind::Text, Count::Any);
        }
    }
    for (scope, _, path, int) in STATIC_COLUMNS {
        add(path.to_owned(), scope_path(scope).1, if int { Kind::Int64 } else { Kind::Text }, Count::Any);
    }
    add(v3::EVENT_TIME.to_owned(), depth::ITEM, Kind::Int64, Count::One);
    add(v3::EVENT_KEY.to_owned(), depth::ITEM + 1, Kind::Text, Count::One);
    add(v3::EVENT_VALUE.to_owned(), depth::ITEM + 1, Kind::Bytes, Count::One);
    add(v3::LINKS.to_owned(), depth::SPAN, Kind::Bytes, Count::One);
    specs
}

fn specs(version: Version) -> Vec<Spec> {
    if version == Version::V3 {
        return specs_v3();
    }
    let mut specs = Vec::new();
    let mut add = |path: String, depth, kind, count, required| specs.push(Spec { path, depth, kind, count, required });
    for (prefix, depth, fields) in FIELDS {
        for (name, kind, required) in *fields {
            let path = if prefix.is_empty() { (*name).to_owned() } else { format!("{prefix}.{name}") };
            let required = match (*prefix, *name) {
                (_, "ChildCount" | "SpanCount") if !prefix.starts_with("ServiceStats") => version == Version::V5,
                _ => *required,
            };
            add(path, *depth, *kind, Count::One, required);
        }
    }
    for scope in SCOPES {
        let (prefix, owner) = scope_path(scope);
        add(format!("{prefix}.Attrs.Key"), owner + 1, Kind::Text, Count::One, true);
        add(format!("{prefix}.Attrs.IsArray"), owner + 1, Kind::Bool, Count::One, true);
        for (name, kind) in [
            ("Value", Kind::Text),
            ("ValueInt", Kind::Int64),
            ("ValueDouble", Kind::Double),
            ("ValueBool", Kind::Bool),
            ("ValueUnsupported", Kind::Text),
        ] {
            add(format!("{prefix}.Attrs.{name}"), owner + 1, kind, Count::Any, true);
        }
        let (strings, ints) = dedicated_limits(version, scope);
        for i in 1..=strings {
            add(format!("{prefix}.DedicatedAttributes.String{i:02}"), owner, Kind::Text, Count::Any, false);
        }
        for i in 1..=ints {
            add(format!("{prefix}.DedicatedAttributes.Int{i:02}"), owner, Kind::Int64, Count::Any, false);
        }
    }
    if version < Version::V5 {
        for (scope, _, path, int) in STATIC_COLUMNS {
            add(path.to_owned(), scope_path(scope).1, if int { Kind::Int64 } else { Kind::Text }, Count::Any, true);
        }
    }
    specs
}

type Fields = [(&'static str, Kind, bool)];

/// Leaves with exactly one value: path of the group, depth, and name, kind and whether every version has it.
const FIELDS: &[(&str, u32, &Fields)] = {
    use Kind::{Bytes, Int32, Int64, Text};
    &[
        (
            "",
            depth::TRACE,
            &[
                ("TraceID", Bytes, true),
                ("StartTimeUnixNano", Int64, true),
                ("EndTimeUnixNano", Int64, true),
                ("DurationNano", Int64, true),
                ("RootServiceName", Text, true),
                ("RootSpanName", Text, true),
            ],
        ),
        ("ServiceStats", 1, &[("ServiceName", Text, true), ("SpanCount", Int32, true), ("ErrorCount", Int32, true)]),
        ("rs.Resource", depth::RESOURCE, &[("ServiceName", Text, true), ("DroppedAttributesCount", Int32, true)]),
        ("rs.ss", depth::SCOPE, &[("SpanCount", Int32, false)]),
        ("rs.ss.Scope", depth::SCOPE, &[("Name", Text, true), ("Version", Text, true), ("DroppedAttributesCount", Int32, true)]),
        (
            "rs.ss.Spans",
            depth::SPAN,
            &[
                ("SpanID", Bytes, true),
                ("ParentSpanID", Bytes, true),
                ("ParentID", Int32, true),
                ("NestedSetLeft", Int32, true),
                ("NestedSetRight", Int32, true),
                ("ChildCount", Int32, false),
                ("Name", Text, true),
                ("Kind", Int64, true),
                ("TraceState", Text, true),
                ("StartTimeUnixNano", Int64, true),
                ("DurationNano", Int64, true),
                ("StatusCode", Int64, true),
                ("StatusMessage", Text, true),
                ("DroppedAttributesCount", Int32, true),
                ("DroppedEventsCount", Int32, true),
                ("DroppedLinksCount", Int32, true),
                ("StartTimeRounded15", Int32, false),
                ("StartTimeRounded60", Int32, false),
                ("StartTimeRounded300", Int32, false),
                ("StartTimeRounded3600", Int32, false),
            ],
        ),
        (
            "rs.ss.Spans.Events",
            depth::ITEM,
            &[("TimeSinceStartNano", Int64, true), ("Name", Text, true), ("DroppedAttributesCount", Int32, true)],
        ),
        (
            "rs.ss.Spans.Links",
            depth::ITEM,
            &[("TraceID", Bytes, true), ("SpanID", Bytes, true), ("TraceState", Text, true), ("DroppedAttributesCount", Int32, true)],
        ),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_left_out_of_paths() {
        let path = |p: &str| logical_path(&p.split('.').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(
            path("rs.list.element.ss.list.element.Spans.list.element.Attrs.list.element.Value.list.element"),
            "rs.ss.Spans.Attrs.Value"
        );
        assert_eq!(path("ServiceStats.key_value.key"), "ServiceStats.ServiceName");
        assert_eq!(path("ServiceStats.key_value.value.SpanCount"), "ServiceStats.SpanCount");
        assert_eq!(path("TraceID"), "TraceID");
    }
}
