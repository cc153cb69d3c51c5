//! The flat columns of a span: what can be asked of a scan, under which name, in which Arrow type.
//!
//! One row is one span. The fixed columns are the SQL table `spans`; the others are asked for one by one by TraceQL plans
//! and by SQL filters on attributes.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

/// Where an attribute is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttributeScope {
    /// On the span itself.
    Span,
    /// On the resource that made the span.
    Resource,
    /// On the instrumentation scope.
    Instrumentation,
    /// On an event of the span.
    Event,
    /// On a link of the span.
    Link,
}

impl AttributeScope {
    /// TraceQL's name of the scope, without the dot.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Resource => "resource",
            Self::Instrumentation => "instrumentation",
            Self::Event => "event",
            Self::Link => "link",
        }
    }

    /// Whether a span has a list of these values (one for each event or link) instead of one.
    pub fn is_repeated(self) -> bool {
        matches!(self, Self::Event | Self::Link)
    }
}

/// A fixed column of the table `spans`. The order of [`SpanField::ALL`] is the order of the table's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // each is described by `SpanField::describe`
pub enum SpanField {
    TraceId,
    SpanId,
    ParentSpanId,
    Name,
    Kind,
    StartTime,
    EndTime,
    DurationNs,
    Status,
    StatusMessage,
    ServiceName,
    ResourceAttributes,
    ScopeName,
    ScopeVersion,
    ScopeAttributes,
    SpanAttributes,
    Events,
    Links,
    TraceState,
    KindCode,
    StatusCode,
    RootServiceName,
    RootSpanName,
    TraceStartTime,
    TraceEndTime,
    TraceDurationNs,
    NestedSetLeft,
    NestedSetRight,
    NestedSetParent,
    ChildCount,
    DroppedAttributesCount,
    DroppedEventsCount,
    DroppedLinksCount,
}

impl SpanField {
    /// All fixed columns, in table order.
    pub const ALL: [SpanField; 33] = {
        use SpanField::*;
        [
            TraceId,
            SpanId,
            ParentSpanId,
            Name,
            Kind,
            StartTime,
            EndTime,
            DurationNs,
            Status,
            StatusMessage,
            ServiceName,
            ResourceAttributes,
            ScopeName,
            ScopeVersion,
            ScopeAttributes,
            SpanAttributes,
            Events,
            Links,
            TraceState,
            KindCode,
            StatusCode,
            RootServiceName,
            RootSpanName,
            TraceStartTime,
            TraceEndTime,
            TraceDurationNs,
            NestedSetLeft,
            NestedSetRight,
            NestedSetParent,
            ChildCount,
            DroppedAttributesCount,
            DroppedEventsCount,
            DroppedLinksCount,
        ]
    };

    /// The column's name, its type, whether it may be NULL, and what it holds.
    pub fn describe(self) -> (&'static str, DataType, bool, &'static str) {
        use SpanField::*;
        let (text, time) = (DataType::Utf8, timestamp_type());
        match self {
            TraceId => ("trace_id", text, false, "trace id, 32 hex digits"),
            SpanId => ("span_id", text, false, "span id, 16 hex digits"),
            ParentSpanId => ("parent_span_id", text, true, "span id of the parent, 16 hex digits; NULL for a root span"),
            Name => ("name", dictionary_type(), false, "span name"),
            Kind => (
                "kind",
                dictionary_type(),
                false,
                "unspecified, internal, server, client, producer, consumer, or the number of an unknown kind",
            ),
            StartTime => ("start_time", time, false, "start, nanoseconds, UTC"),
            EndTime => ("end_time", time, false, "end, nanoseconds, UTC"),
            DurationNs => {
                ("duration_ns", DataType::Int64, false, "end minus start in nanoseconds; negative if the span ends before it starts")
            }
            Status => ("status", dictionary_type(), false, "unset, ok, error, or the number of an unknown status"),
            StatusMessage => ("status_message", text, false, "status message, or the empty string"),
            ServiceName => {
                ("service_name", dictionary_type(), true, "resource attribute service.name; NULL if absent, empty or not a string")
            }
            ResourceAttributes => ("resource_attributes", text, false, "attributes of the resource, a JSON object (service.name included)"),
            ScopeName => ("scope_name", dictionary_type(), false, "name of the instrumentation scope, or the empty string"),
            ScopeVersion => ("scope_version", dictionary_type(), false, "version of the instrumentation scope, or the empty string"),
            ScopeAttributes => ("scope_attributes", text, false, "attributes of the instrumentation scope, a JSON object"),
            SpanAttributes => ("span_attributes", text, false, "attributes of the span, a JSON object"),
            Events => ("events", text, false, "events, a JSON array of {time_unix_nano, name, attributes, dropped_attributes_count}"),
            Links => {
                ("links", text, false, "links, a JSON array of {trace_id, span_id, trace_state, attributes, dropped_attributes_count}")
            }
            TraceState => ("trace_state", text, false, "W3C trace state, or the empty string"),
            KindCode => ("kind_code", DataType::Int32, false, "OTLP's number of the span kind"),
            StatusCode => ("status_code", DataType::Int32, false, "OTLP's number of the status"),
            RootServiceName => {
                ("root_service_name", dictionary_type(), false, "service name of the trace's root span; empty if no root was seen")
            }
            RootSpanName => ("root_span_name", dictionary_type(), false, "name of the trace's root span; empty if no root was seen"),
            TraceStartTime => ("trace_start_time", time, false, "earliest span start of the stored trace"),
            TraceEndTime => ("trace_end_time", time, false, "latest span end of the stored trace"),
            TraceDurationNs => {
                ("trace_duration_ns", DataType::Int64, false, "latest span end minus earliest span start of the stored trace")
            }
            NestedSetLeft => ("nested_set_left", DataType::Int32, false, "nested-set number on entry; 0 if the tree is broken here"),
            NestedSetRight => ("nested_set_right", DataType::Int32, false, "nested-set number on exit; 0 if the tree is broken here"),
            NestedSetParent => {
                ("nested_set_parent", DataType::Int32, false, "the parent's nested_set_left; -1 for a root, 0 if the tree is broken here")
            }
            ChildCount => ("child_count", DataType::Int32, true, "number of direct children; NULL in blocks older than vParquet5"),
            DroppedAttributesCount => ("dropped_attributes_count", DataType::Int32, false, "attributes the SDK dropped"),
            DroppedEventsCount => ("dropped_events_count", DataType::Int32, false, "events the SDK dropped"),
            DroppedLinksCount => ("dropped_links_count", DataType::Int32, false, "links the SDK dropped"),
        }
    }
}

/// One column of a scan's output.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpanColumn {
    /// A fixed column of the table `spans`.
    Field(SpanField),
    /// The values of one attribute: [`any_value_type`], or a list of it (one entry for each event or link, NULL entries
    /// where that one lacks the attribute) if the scope is repeated. NULL where the attribute is absent or is of a kind
    /// TraceQL does not see (bytes, key/value list, mixed or nested array). If a key occurs twice, the last counts.
    Attribute {
        /// Where it is attached.
        scope: AttributeScope,
        /// Its key.
        key: Arc<str>,
    },
    /// A JSON object of one attribute or none: what [`SpanField::SpanAttributes`] and its like hold for one key. The scope is not
    /// repeated.
    AttributeJson {
        /// Where it is attached.
        scope: AttributeScope,
        /// Its key.
        key: Arc<str>,
    },
    /// The end of the interval of `seconds` on the epoch grid, closed on its right, in which a span starts: a column that blocks
    /// may have for the [`ROUNDED_SECONDS`](super::ROUNDED_SECONDS). Asked for only where a chunk says that it has it.
    RoundedStart {
        /// Length of the intervals.
        seconds: u32,
    },
    /// All attributes of the span, its resource or its instrumentation scope: list of [`attribute_type`](super::attribute_type),
    /// each key once, in no order. Not of events and links.
    Attributes(AttributeScope),
    /// Where the span lies: a number of 38 digits. Row groups are told apart in it by 93 bits of a hash, and exact copies of a live
    /// span may share it. It changes with the blocks and live segments.
    Place,
    /// `event:name`: list of strings, one for each event.
    EventName,
    /// `event:timeSinceStart`: list of Int64 nanoseconds since the span's start (negative if before it), one for each event.
    EventTimeSinceStart,
    /// `link:traceID`: list of strings, 32 hex digits, one for each link.
    LinkTraceId,
    /// `link:spanID`: list of strings, 16 hex digits, one for each link.
    LinkSpanId,
    /// Spans and errors by service of the span's trace: list of [`service_stats_type`] items.
    TraceServiceStats,
}

impl SpanColumn {
    /// The column's name in a scan's schema: a fixed name, `scope.key`, or TraceQL's name of the intrinsic.
    pub fn name(&self) -> String {
        match self {
            Self::Field(f) => f.describe().0.to_owned(),
            Self::Attribute { scope, key } => format!("{}.{key}", scope.as_str()),
            Self::AttributeJson { scope: AttributeScope::Instrumentation, key } => format!("scope_attributes[{key}]"),
            Self::AttributeJson { scope, key } => format!("{}_attributes[{key}]", scope.as_str()),
            Self::RoundedStart { seconds } => format!("start_time[{seconds}s]"),
            Self::Attributes(scope) => format!("attributes({})", scope.as_str()),
            Self::Place => "place".to_owned(),
            Self::EventName => "event:name".to_owned(),
            Self::EventTimeSinceStart => "event:timeSinceStart".to_owned(),
            Self::LinkTraceId => "link:traceID".to_owned(),
            Self::LinkSpanId => "link:spanID".to_owned(),
            Self::TraceServiceStats => "trace_service_stats".to_owned(),
        }
    }

    /// The column's Arrow type.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Field(f) => f.describe().1,
            Self::Attribute { scope, .. } if scope.is_repeated() => list_of(any_value_type()),
            Self::Attribute { .. } => any_value_type(),
            Self::AttributeJson { .. } => DataType::Utf8,
            Self::RoundedStart { .. } => timestamp_type(),
            Self::Attributes(_) => list_of(super::attribute_type()),
            Self::Place => super::place::place_type(),
            Self::EventName | Self::LinkTraceId | Self::LinkSpanId => list_of(DataType::Utf8),
            Self::EventTimeSinceStart => list_of(DataType::Int64),
            Self::TraceServiceStats => list_of(service_stats_type()),
        }
    }

    /// The column as a field of a schema.
    pub fn field(&self) -> FieldRef {
        let nullable = match self {
            Self::Field(f) => f.describe().2,
            Self::Attribute { .. } => true,
            _ => false,
        };
        Arc::new(Field::new(self.name(), self.data_type(), nullable))
    }
}

/// The schema of these columns, in this order.
pub fn schema_of(columns: &[SpanColumn]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(SpanColumn::field).collect::<Fields>()))
}

/// Dictionary-encoded text: names, kinds, services.
pub fn dictionary_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// Nanosecond timestamps in UTC.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))
}

/// A list whose items are called `item` and may be NULL.
pub fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

/// An attribute's value: a struct with one child for each type TraceQL knows; exactly one child is not NULL (an array of
/// one element is a scalar; an empty array has all children NULL, and the struct itself is NULL).
pub fn any_value_type() -> DataType {
    static FIELDS: LazyLock<Fields> = LazyLock::new(|| {
        let field = |name: &str, t| Field::new(name, t, true);
        vec![
            field("string", dictionary_type()),
            field("int", DataType::Int64),
            field("double", DataType::Float64),
            field("bool", DataType::Boolean),
            field("strings", list_of(DataType::Utf8)),
            field("ints", list_of(DataType::Int64)),
            field("doubles", list_of(DataType::Float64)),
            field("bools", list_of(DataType::Boolean)),
        ]
        .into()
    });
    DataType::Struct(FIELDS.clone())
}

/// One service's share of a trace: name, spans, spans with status error.
pub fn service_stats_type() -> DataType {
    DataType::Struct(
        vec![
            Field::new("service_name", DataType::Utf8, false),
            Field::new("span_count", DataType::Int64, false),
            Field::new("error_count", DataType::Int64, false),
        ]
        .into(),
    )
}
