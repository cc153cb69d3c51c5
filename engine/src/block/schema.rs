//! The parquet schema of a vParquet5 or vParquet4 block, made from its dedicated columns, and where each leaf is in it.
//!
//! Format: Tempo's (`docs/format.md`). Tempo decodes rows against the schema it derives itself, so names, order, types
//! and repetition are exact; encodings and codecs are ours to choose. The versions nest the same things equally deep:
//! vParquet4 wraps each list as the LIST of the parquet specification, and its wrappers are required, so levels are alike.

use std::sync::Arc;

// Hashes faster than std's: the key of each attribute that is written is looked up.
use datafusion::common::HashMap;
use parquet::{
    basic::{Compression, Encoding, LogicalType, Repetition, Type as PhysicalType, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr, WriterVersion},
    schema::types::{SchemaDescPtr, SchemaDescriptor, Type, TypePtr},
};

use crate::{
    block::{
        DedicatedColumn, DedicatedScope, DedicatedType, Version,
        leaves::{STATIC_COLUMNS, dedicated_limits},
    },
    error::Result,
    scan::AttributeScope,
};

/// Leaves of an `Attrs` group.
pub(super) const ATTRIBUTE_LEAVES: usize = 7;

/// Measured (docs/benchmarks.md): 5 % smaller than level 3 for half a CPU second more in a million spans; level 9 is 2 %
/// smaller for as much again.
const ZSTD_LEVEL: i32 = 6;

/// V1 pages compress levels together with the values, V2 pages leave them uncompressed, and here levels are 40 % of the
/// file: 1 M spans in V1 take 0.50 of what Tempo writes, in V2 0.77.
const PAGE_VERSION: WriterVersion = WriterVersion::PARQUET_1_0;

/// Uncompressed size of a page's values. Tempo's value.
const PAGE_BYTES: usize = 256 * 1024;

/// Entries (values and nulls) of a page of what a trace by id reads, about. Levels are most of such a page, and nearly all of the
/// time that a lookup takes goes into pages of which it needs one row (docs/benchmarks.md).
const PAGE_ENTRIES: f64 = 8192.0;

/// The same of generic attributes, which scans read whole: half as many take a scan of their values 8 to 14 % longer.
const GENERIC_PAGE_ENTRIES: f64 = 32_768.0;

/// Rows of a page of trace ids: one page is read to find out which row a trace has.
const ID_PAGE_ROWS: usize = 1024;

/// A chunk whose dictionary outgrows this falls back to plain pages, and then a predicate can no longer be decided on its
/// dictionary alone. parquet-rs stops at 1 MiB, too early for statements and URLs. More would cost a lookup by trace id,
/// which reads the dictionary whole.
const DICTIONARY_BYTES: usize = 8 * 1024 * 1024;

/// Where the min and max of a page are cut in the column index: Tempo's value.
const COLUMN_INDEX_TRUNCATE_BYTES: usize = 16;

/// How a leaf's values are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// As they are. For start times too: traces are in random order of time, so that in each block of differences one is
    /// large and makes all wide, while zstd sees that the high bytes of a trace's spans are equal (2 % of the file less).
    Plain,
    /// Integers as differences, bit-packed.
    Delta,
    /// Codes into a dictionary. For integers too where few are distinct, numbers of the nested set too: never larger than
    /// Tempo's plain or delta values (3 % of the file less), and a predicate is decided once for each distinct value. Not for floats: parquet-rs's
    /// dictionary compares them with `==`, to which the two zeros are one.
    Dictionary,
    /// Byte strings: lengths bit-packed, then the bytes.
    Lengths,
    /// Long and rarely repeated strings: no dictionary.
    Blob,
}

/// The shape of one leaf or of several: which list of levels belongs to it. Leaves of one repeated group share theirs.
pub(super) type ShapeId = usize;

/// A repeated group: its first leaf and its levels.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GroupPlace {
    /// Position of the first leaf in it.
    pub leaf: usize,
    /// The levels of its required leaves.
    pub shape: ShapeId,
    /// One past the last shape in it, groups inside it included.
    pub shapes_end: ShapeId,
    /// One past the last leaf in it, groups inside it included.
    pub leaves_end: usize,
}

/// Where the attributes of one scope go.
#[derive(Clone, Debug, Default)]
pub(super) struct AttributePlace {
    /// The group `Attrs`.
    pub generic: GroupPlace,
    /// Definition and repetition level of an element of `Attrs`. Dedicated columns are lists at the same level.
    pub depth: i16,
    /// Dedicated columns by key: the one for strings, the one for integers.
    pub dedicated: HashMap<String, [Option<DedicatedPlace>; 2]>,
    /// All dedicated columns, in the order of the schema.
    pub columns: Vec<DedicatedPlace>,
    /// Whether dedicated columns are lists, which take arrays; else they are optional scalars.
    pub arrays: bool,
}

/// One dedicated column.
#[derive(Clone, Copy, Debug)]
pub(super) struct DedicatedPlace {
    /// Position among the dedicated columns of its scope.
    pub slot: usize,
    /// Its leaf.
    pub leaf: usize,
    /// Its levels.
    pub shape: ShapeId,
}

/// Where everything is.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// Which leaves there are, and in which order.
    pub version: Version,
    pub service_stats: GroupPlace,
    pub resource_spans: GroupPlace,
    pub resource: AttributePlace,
    pub scope_spans: GroupPlace,
    pub scope: AttributePlace,
    pub spans: GroupPlace,
    pub span: AttributePlace,
    pub events: GroupPlace,
    pub event: AttributePlace,
    pub links: GroupPlace,
    pub link: AttributePlace,
}

/// The schema of a block.
#[derive(Clone, Debug)]
pub(super) struct BlockSchema {
    /// The leaves as parquet numbers them.
    pub descriptor: SchemaDescPtr,
    /// Where the parts of a trace go.
    pub layout: Layout,
    /// The shape of each leaf.
    pub shape_of: Vec<ShapeId>,
    /// Number of shapes.
    pub shapes: usize,
    styles: Vec<Style>,
}

impl BlockSchema {
    /// The schema of a block of a version that is written (vParquet5 or 4), with these dedicated columns.
    pub fn new(version: Version, dedicated: &[DedicatedColumn]) -> Result<Self> {
        let layout = Layout { version, ..Layout::default() };
        let mut b = Builder { version, dedicated, layout, shape_of: Vec::new(), shapes: 1, shape: 0, styles: Vec::new() };
        let root = b.trace()?;
        Ok(Self {
            descriptor: Arc::new(SchemaDescriptor::new(root)),
            layout: b.layout,
            shape_of: b.shape_of,
            shapes: b.shapes,
            styles: b.styles,
        })
    }

    /// The root type, called `Trace`.
    pub fn root(&self) -> TypePtr {
        self.descriptor.root_schema_ptr()
    }

    /// Whether a leaf is written with a dictionary.
    pub fn has_dictionary(&self, leaf: usize) -> bool {
        self.styles[leaf] == Style::Dictionary
    }

    /// How parquet-rs is to write it.
    pub fn properties(&self) -> Result<WriterPropertiesPtr> {
        let mut properties = WriterProperties::builder()
            .set_writer_version(PAGE_VERSION)
            .set_created_by(concat!("tracehouse version ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
            .set_data_page_size_limit(PAGE_BYTES)
            .set_dictionary_page_size_limit(DICTIONARY_BYTES)
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_column_index_truncate_length(Some(COLUMN_INDEX_TRUNCATE_BYTES));
        for (column, style) in self.descriptor.columns().iter().zip(&self.styles) {
            let path = column.path().clone();
            properties = match style {
                Style::Plain => properties.set_column_encoding(path.clone(), Encoding::PLAIN),
                Style::Delta => properties.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED),
                Style::Lengths | Style::Blob => properties.set_column_encoding(path.clone(), Encoding::DELTA_LENGTH_BYTE_ARRAY),
                Style::Dictionary => properties.set_column_dictionary_enabled(path.clone(), true),
            };
            // Any value may be in any page of generic attributes: bounds of pages would tell nothing and be half of all bounds.
            if is_generic(path.parts()) {
                properties = properties.set_column_statistics_enabled(path, EnabledStatistics::Chunk);
            }
        }
        Ok(Arc::new(properties.build()))
    }

    /// The most rows of a page of a leaf that has so many entries a row; `None` if only the size of its values counts.
    pub fn page_rows(&self, leaf: usize, entries_a_row: f64) -> Option<usize> {
        let path = self.descriptor.column(leaf).path().clone();
        match path.parts() {
            [id] if id == "TraceID" => Some(ID_PAGE_ROWS),
            parts if is_of_spans(parts) => {
                let entries = if is_generic(parts) { GENERIC_PAGE_ENTRIES } else { PAGE_ENTRIES };
                Some((entries / entries_a_row).ceil().max(1.0) as usize)
            }
            _ => None,
        }
    }
}

/// Whether a leaf holds generic attributes.
fn is_generic(path: &[String]) -> bool {
    path.iter().rev().skip(1).any(|part| part == "Attrs")
}

/// Whether a leaf holds a part of spans as they came in, not what was derived of them. Start times are left out, too: metrics read
/// them whole.
fn is_of_spans(path: &[String]) -> bool {
    let others = ["ParentID", "NestedSetLeft", "NestedSetRight", "ChildCount", "StartTimeUnixNano"];
    let name = path.last().map_or("", String::as_str);
    path.first().is_some_and(|first| first == "rs") && !others.contains(&name) && !name.starts_with("StartTimeRounded")
}

/// Builds the types from left to right and notes positions as it goes: leaves and shapes are numbered in schema order, so
/// those of a group are one range.
struct Builder<'a> {
    version: Version,
    dedicated: &'a [DedicatedColumn],
    layout: Layout,
    shape_of: Vec<ShapeId>,
    shapes: usize,
    /// The shape of the repeated group that is being built.
    shape: ShapeId,
    styles: Vec<Style>,
}

impl Builder<'_> {
    fn trace(&mut self) -> Result<TypePtr> {
        let fields = vec![
            self.bytes("TraceID")?,
            self.text("TraceIDText", Style::Lengths)?,
            self.nanos("StartTimeUnixNano")?,
            self.nanos("EndTimeUnixNano")?,
            self.nanos("DurationNano")?,
            self.text("RootServiceName", Style::Dictionary)?,
            self.text("RootSpanName", Style::Dictionary)?,
            self.repeated("ServiceStats", |b| &mut b.layout.service_stats, Self::service_stats)?,
            self.repeated("rs", |b| &mut b.layout.resource_spans, Self::resource_spans)?,
        ];
        Ok(Arc::new(Type::group_type_builder("Trace").with_fields(fields).build()?))
    }

    fn service_stats(&mut self) -> Result<Vec<TypePtr>> {
        let name = if self.is_v5() { "ServiceName" } else { "key" };
        let name = self.text(name, Style::Dictionary)?;
        let counts = vec![self.count("SpanCount", Primitive::UInt32)?, self.count("ErrorCount", Primitive::UInt32)?];
        if !self.is_v5() {
            return Ok(vec![name, group("value", counts)?]);
        }
        Ok([vec![name], counts].concat())
    }

    fn resource_spans(&mut self) -> Result<Vec<TypePtr>> {
        let mut resource = Vec::new();
        if self.is_v5() {
            resource.push(self.text("ServiceName", Style::Dictionary)?);
        }
        resource.push(self.attributes(2, |l| &mut l.resource)?);
        resource.push(self.count("DroppedAttributesCount", Primitive::Int32)?);
        if !self.is_v5() {
            resource.push(self.text("ServiceName", Style::Dictionary)?);
            resource.extend(self.static_columns(AttributeScope::Resource, |l| &mut l.resource)?);
        }
        resource.extend(self.dedicated_group(AttributeScope::Resource, DedicatedScope::Resource, |l| &mut l.resource)?);
        Ok(vec![group("Resource", resource)?, self.repeated("ss", |b| &mut b.layout.scope_spans, Self::scope_spans)?])
    }

    fn scope_spans(&mut self) -> Result<Vec<TypePtr>> {
        let scope = vec![
            self.text("Name", Style::Dictionary)?,
            self.text("Version", Style::Dictionary)?,
            self.attributes(3, |l| &mut l.scope)?,
            self.count("DroppedAttributesCount", Primitive::Int32)?,
        ];
        let mut fields = vec![group("Scope", scope)?, self.repeated("Spans", |b| &mut b.layout.spans, Self::span)?];
        if self.is_v5() {
            fields.push(self.count("SpanCount", Primitive::Int32)?);
        }
        Ok(fields)
    }

    fn span(&mut self) -> Result<Vec<TypePtr>> {
        let mut fields = vec![
            self.bytes("SpanID")?,
            self.bytes("ParentSpanID")?,
            // No dictionary: Tempo reads a 32-bit -1 in one as 4294967295, and would find no root.
            self.leaf(Primitive::Int32, "ParentID", Repetition::REQUIRED, Style::Delta)?,
            self.count("NestedSetLeft", Primitive::Int32)?,
            self.count("NestedSetRight", Primitive::Int32)?,
        ];
        if self.is_v5() {
            fields.push(self.count("ChildCount", Primitive::Int32)?);
        }
        fields.extend([
            self.text("Name", Style::Dictionary)?,
            self.code("Kind")?,
            self.text("TraceState", Style::Dictionary)?,
            self.leaf(Primitive::UInt64, "StartTimeUnixNano", Repetition::REQUIRED, Style::Plain)?,
            self.nanos("DurationNano")?,
            self.code("StatusCode")?,
            self.text("StatusMessage", Style::Dictionary)?,
            self.attributes(4, |l| &mut l.span)?,
            self.count("DroppedAttributesCount", Primitive::Int32)?,
            self.repeated("Events", |b| &mut b.layout.events, Self::event)?,
            self.count("DroppedEventsCount", Primitive::Int32)?,
            self.repeated("Links", |b| &mut b.layout.links, Self::link)?,
            self.count("DroppedLinksCount", Primitive::Int32)?,
        ]);
        if !self.is_v5() {
            fields.extend(self.static_columns(AttributeScope::Span, |l| &mut l.span)?);
        }
        fields.extend(self.dedicated_group(AttributeScope::Span, DedicatedScope::Span, |l| &mut l.span)?);
        if self.is_v5() {
            for name in ["StartTimeRounded15", "StartTimeRounded60", "StartTimeRounded300", "StartTimeRounded3600"] {
                fields.push(self.count(name, Primitive::UInt32)?);
            }
        }
        Ok(fields)
    }

    fn event(&mut self) -> Result<Vec<TypePtr>> {
        let mut fields = vec![
            self.nanos("TimeSinceStartNano")?,
            self.text("Name", Style::Dictionary)?,
            self.attributes(5, |l| &mut l.event)?,
            self.count("DroppedAttributesCount", Primitive::Int32)?,
        ];
        fields.extend(self.dedicated_group(AttributeScope::Event, DedicatedScope::Event, |l| &mut l.event)?);
        Ok(fields)
    }

    fn link(&mut self) -> Result<Vec<TypePtr>> {
        Ok(vec![
            self.bytes("TraceID")?,
            self.bytes("SpanID")?,
            self.text("TraceState", Style::Dictionary)?,
            self.attributes(5, |l| &mut l.link)?,
            self.count("DroppedAttributesCount", Primitive::Int32)?,
        ])
    }

    fn attributes(&mut self, depth: i16, place: fn(&mut Layout) -> &mut AttributePlace) -> Result<TypePtr> {
        let mut generic = GroupPlace::default();
        let group = self.repeated_into("Attrs", &mut generic, |b| {
            Ok(vec![
                b.text("Key", Style::Dictionary)?,
                b.leaf(Primitive::Bool, "IsArray", Repetition::REQUIRED, Style::Plain)?,
                b.values(Primitive::Text, "Value", Style::Dictionary)?,
                b.values(Primitive::Int64, "ValueInt", Style::Dictionary)?,
                b.values(Primitive::Double, "ValueDouble", Style::Plain)?,
                b.values(Primitive::Bool, "ValueBool", Style::Plain)?,
                b.leaf(Primitive::Text, "ValueUnsupported", Repetition::OPTIONAL, Style::Dictionary)?,
            ])
        })?;
        let place = place(&mut self.layout);
        place.generic = generic;
        place.depth = depth;
        Ok(group)
    }

    /// The columns that vParquet4 has for well-known attributes.
    fn static_columns(&mut self, scope: AttributeScope, place: fn(&mut Layout) -> &mut AttributePlace) -> Result<Vec<TypePtr>> {
        let of_scope = STATIC_COLUMNS.iter().filter(|(s, ..)| *s == scope);
        of_scope
            .map(|(_, key, path, int)| {
                let kind = if *int { DedicatedType::Int } else { DedicatedType::String };
                self.dedicated_leaf(path.rsplit('.').next().unwrap_or(path), kind, Some(key), Style::Dictionary, place)
            })
            .collect()
    }

    /// The group `DedicatedAttributes`, strings first. vParquet5 has exactly the columns in use and no group if there are
    /// none, vParquet4 has all. Further entries of `dedicatedColumns` are without effect, as in Tempo.
    fn dedicated_group(
        &mut self,
        scope: AttributeScope,
        dedicated_scope: DedicatedScope,
        place: fn(&mut Layout) -> &mut AttributePlace,
    ) -> Result<Option<TypePtr>> {
        let mut fields = Vec::new();
        let (strings, ints) = dedicated_limits(self.version, scope);
        for (kind, prefix, max) in [(DedicatedType::String, "String", strings), (DedicatedType::Int, "Int", ints)] {
            let dedicated = self.dedicated;
            let mut in_use = dedicated.iter().filter(|c| c.scope == dedicated_scope && c.kind == kind);
            for i in 1..=max {
                let column = in_use.next();
                if column.is_none() && self.is_v5() {
                    break;
                }
                let blob = self.is_v5() && column.is_some_and(|c| c.options.iter().any(|o| o == "blob"));
                let style = if blob && kind == DedicatedType::String { Style::Blob } else { Style::Dictionary };
                fields.push(self.dedicated_leaf(&format!("{prefix}{i:02}"), kind, column.map(|c| c.name.as_str()), style, place)?);
            }
        }
        if fields.is_empty() { Ok(None) } else { group("DedicatedAttributes", fields).map(Some) }
    }

    /// A column for the attribute `key`, if one is assigned to it. Of two for the same key the first is used.
    fn dedicated_leaf(
        &mut self,
        name: &str,
        kind: DedicatedType,
        key: Option<&str>,
        style: Style,
        place: fn(&mut Layout) -> &mut AttributePlace,
    ) -> Result<TypePtr> {
        let primitive = match kind {
            DedicatedType::String => Primitive::Text,
            DedicatedType::Int => Primitive::Int64,
        };
        let repetition = if self.is_v5() { Repetition::REPEATED } else { Repetition::OPTIONAL };
        let (leaf, shape) = (self.shape_of.len(), self.shapes);
        let field = self.leaf(primitive, name, repetition, style)?;
        let arrays = self.is_v5();
        let place = place(&mut self.layout);
        place.arrays = arrays;
        let column = DedicatedPlace { slot: place.columns.len(), leaf, shape };
        place.columns.push(column);
        if let Some(key) = key {
            place.dedicated.entry(key.to_owned()).or_default()[kind as usize].get_or_insert(column);
        }
        Ok(field)
    }

    fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    fn repeated(
        &mut self,
        name: &str,
        place: fn(&mut Self) -> &mut GroupPlace,
        fields: fn(&mut Self) -> Result<Vec<TypePtr>>,
    ) -> Result<TypePtr> {
        let mut at = GroupPlace::default();
        let built = self.repeated_into(name, &mut at, fields)?;
        *place(self) = at;
        Ok(built)
    }

    fn repeated_into(&mut self, name: &str, at: &mut GroupPlace, fields: fn(&mut Self) -> Result<Vec<TypePtr>>) -> Result<TypePtr> {
        let outer = self.shape;
        self.shape = self.shapes;
        self.shapes += 1;
        (at.leaf, at.shape) = (self.shape_of.len(), self.shape);
        let fields = fields(self)?;
        (at.leaves_end, at.shapes_end) = (self.shape_of.len(), self.shapes);
        self.shape = outer;
        let repeated = |name: &str, fields| -> Result<TypePtr> {
            Ok(Arc::new(Type::group_type_builder(name).with_repetition(Repetition::REPEATED).with_fields(fields).build()?))
        };
        match name {
            _ if self.is_v5() => repeated(name, fields),
            "ServiceStats" => annotated(name, LogicalType::Map, repeated("key_value", fields)?),
            _ => annotated(name, LogicalType::List, repeated("list", vec![group("element", fields)?])?),
        }
    }

    /// A list of values of one type.
    fn values(&mut self, primitive: Primitive, name: &str, style: Style) -> Result<TypePtr> {
        if self.is_v5() {
            return self.leaf(primitive, name, Repetition::REPEATED, style);
        }
        self.note(self.shapes, style);
        self.shapes += 1;
        let element = vec![primitive.field("element", Repetition::REQUIRED)?];
        let list = Type::group_type_builder("list").with_repetition(Repetition::REPEATED).with_fields(element).build()?;
        annotated(name, LogicalType::List, Arc::new(list))
    }

    fn leaf(&mut self, primitive: Primitive, name: &str, repetition: Repetition, style: Style) -> Result<TypePtr> {
        if repetition == Repetition::REQUIRED {
            self.note(self.shape, style);
        } else {
            self.note(self.shapes, style);
            self.shapes += 1;
        }
        primitive.field(name, repetition)
    }

    /// Notes the next leaf.
    fn note(&mut self, shape: ShapeId, style: Style) {
        self.shape_of.push(shape);
        self.styles.push(style);
    }

    fn bytes(&mut self, name: &str) -> Result<TypePtr> {
        self.leaf(Primitive::Bytes, name, Repetition::REQUIRED, Style::Lengths)
    }

    fn text(&mut self, name: &str, style: Style) -> Result<TypePtr> {
        self.leaf(Primitive::Text, name, Repetition::REQUIRED, style)
    }

    /// A time or a duration.
    fn nanos(&mut self, name: &str) -> Result<TypePtr> {
        self.leaf(Primitive::UInt64, name, Repetition::REQUIRED, Style::Delta)
    }

    /// A code of which there are few.
    fn code(&mut self, name: &str) -> Result<TypePtr> {
        self.leaf(Primitive::Int64, name, Repetition::REQUIRED, Style::Dictionary)
    }

    /// A small count, a nested-set number, or the number of a time interval.
    fn count(&mut self, name: &str, primitive: Primitive) -> Result<TypePtr> {
        self.leaf(primitive, name, Repetition::REQUIRED, Style::Dictionary)
    }
}

/// A required group.
fn group(name: &str, fields: Vec<TypePtr>) -> Result<TypePtr> {
    Ok(Arc::new(Type::group_type_builder(name).with_repetition(Repetition::REQUIRED).with_fields(fields).build()?))
}

/// A required group around a repeated one, with the annotation of a list or a map.
fn annotated(name: &str, annotation: LogicalType, repeated: TypePtr) -> Result<TypePtr> {
    let builder = Type::group_type_builder(name).with_repetition(Repetition::REQUIRED).with_logical_type(Some(annotation));
    Ok(Arc::new(builder.with_fields(vec![repeated]).build()?))
}

#[derive(Clone, Copy)]
enum Primitive {
    Bytes,
    Text,
    Bool,
    Double,
    Int32,
    UInt32,
    Int64,
    UInt64,
}

impl Primitive {
    fn field(self, name: &str, repetition: Repetition) -> Result<TypePtr> {
        let (physical, logical, length) = self.types();
        let builder = Type::primitive_type_builder(name, physical).with_repetition(repetition);
        Ok(Arc::new(builder.with_logical_type(logical).with_length(length).build()?))
    }

    /// Physical type, annotation, and the length that Tempo's writer notes even for types of fixed size (else -1).
    fn types(self) -> (PhysicalType, Option<LogicalType>, i32) {
        let integer = |bit_width, is_signed| Some(LogicalType::integer(bit_width, is_signed));
        match self {
            Self::Bytes => (PhysicalType::BYTE_ARRAY, None, -1),
            Self::Text => (PhysicalType::BYTE_ARRAY, Some(LogicalType::String), -1),
            Self::Bool => (PhysicalType::BOOLEAN, None, 1),
            Self::Double => (PhysicalType::DOUBLE, None, 64),
            Self::Int32 => (PhysicalType::INT32, integer(32, true), 32),
            Self::UInt32 => (PhysicalType::INT32, integer(32, false), 32),
            Self::Int64 => (PhysicalType::INT64, integer(64, true), 64),
            Self::UInt64 => (PhysicalType::INT64, integer(64, false), 64),
        }
    }
}
