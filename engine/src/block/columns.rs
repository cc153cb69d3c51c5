//! Buffers of a few thousand spans as leaves: values, and the levels that say where they belong.

use bytes::Bytes;
use parquet::{
    basic::Type as PhysicalType,
    column::writer::ColumnWriter,
    data_type::ByteArray,
    errors::{ParquetError, Result},
};

use crate::block::schema::{BlockSchema, ShapeId};

/// Definition and repetition levels, shared by the required leaves of one repeated group.
#[derive(Debug, Default)]
struct Levels {
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

/// The values of one leaf, without NULLs.
#[derive(Debug)]
enum Values {
    Interned(Interned),
    Bytes(Joined),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Double(Vec<f64>),
    Bool(Vec<bool>),
}

impl Values {
    fn new(physical: PhysicalType, dictionary: bool) -> Self {
        match physical {
            PhysicalType::INT32 => Self::Int32(Vec::new()),
            PhysicalType::INT64 => Self::Int64(Vec::new()),
            PhysicalType::DOUBLE => Self::Double(Vec::new()),
            PhysicalType::BOOLEAN => Self::Bool(Vec::new()),
            _ if dictionary => Self::Interned(Interned::default()),
            _ => Self::Bytes(Joined::default()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Interned(v) => v.values.len(),
            Self::Bytes(v) => v.ends.len(),
            Self::Int32(v) => v.len(),
            Self::Int64(v) => v.len(),
            Self::Double(v) => v.len(),
            Self::Bool(v) => v.len(),
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Interned(v) => v.values.clear(),
            Self::Bytes(v) => v.ends.clear(),
            Self::Int32(v) => v.clear(),
            Self::Int64(v) => v.clear(),
            Self::Double(v) => v.clear(),
            Self::Bool(v) => v.clear(),
        }
    }
}

/// Byte strings that mostly repeat. The dictionary keeps one of each for as long as the row group is open, so they must
/// not share a buffer; those met lately are shared instead of copied.
#[derive(Debug, Default)]
struct Interned {
    values: Vec<ByteArray>,
    recent: Vec<ByteArray>,
}

impl Interned {
    /// Slots of strings met lately; a power of two.
    const RECENT: usize = 256;

    fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return self.values.push(ByteArray::from(Vec::new()));
        }
        if self.recent.is_empty() {
            self.recent.resize(Self::RECENT, ByteArray::from(Vec::new()));
        }
        // Length and both ends tell most names apart; a wrong guess costs a copy.
        let end = bytes.len() - 1;
        let mix = [bytes[0], bytes[end / 2], bytes[end]].iter().fold(bytes.len(), |h, b| h.wrapping_mul(31) + usize::from(*b));
        let slot = &mut self.recent[mix & (Self::RECENT - 1)];
        if slot.data() != bytes {
            *slot = ByteArray::from(bytes);
        }
        self.values.push(slot.clone());
    }
}

/// Byte strings that mostly differ: one buffer for all.
#[derive(Debug, Default)]
struct Joined {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Joined {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    fn take(&mut self) -> Vec<ByteArray> {
        let all = Bytes::from(std::mem::take(&mut self.bytes));
        let mut start = 0;
        self.ends.iter().map(|&end| ByteArray::from(all.slice(std::mem::replace(&mut start, end)..end))).collect()
    }
}

/// All leaves of a block's schema.
#[derive(Debug)]
pub(super) struct Columns {
    values: Vec<Values>,
    levels: Vec<Levels>,
    shape_of: Vec<ShapeId>,
    weight: u64,
}

impl Columns {
    /// Empty buffers.
    pub fn new(schema: &BlockSchema) -> Self {
        Self {
            values: schema
                .descriptor
                .columns()
                .iter()
                .enumerate()
                .map(|(i, c)| Values::new(c.physical_type(), schema.has_dictionary(i)))
                .collect(),
            levels: (0..schema.shapes).map(|_| Levels::default()).collect(),
            shape_of: schema.shape_of.clone(),
            weight: 0,
        }
    }

    /// Writes values into consecutive leaves, from `first` on.
    pub fn row(&mut self, first: usize) -> Row<'_> {
        Row { columns: self, leaf: first }
    }

    /// Adds an entry to the levels of a shape.
    pub fn level(&mut self, shape: ShapeId, definition: i16, repetition: i16) {
        let levels = &mut self.levels[shape];
        levels.definition.push(definition);
        levels.repetition.push(repetition);
    }

    /// Adds "nothing here" to a range of shapes.
    pub fn absent(&mut self, shapes: std::ops::Range<ShapeId>, definition: i16, repetition: i16) {
        for shape in shapes {
            self.level(shape, definition, repetition);
        }
    }

    /// What was pushed since the last call: one for each value, the length for a byte string that is no text.
    pub fn take_weight(&mut self) -> u64 {
        std::mem::take(&mut self.weight)
    }

    /// How many entries, values and nulls, there are of a leaf; none if all are nulls.
    pub fn entries(&self, leaf: usize) -> usize {
        match (self.values[leaf].len(), self.shape_of[leaf]) {
            (0, _) => 0,
            // The levels of the trace's own leaves are not kept.
            (values, 0) => values,
            (_, shape) => self.levels[shape].definition.len(),
        }
    }

    /// Hands everything to the writers, one a leaf, and empties the buffers.
    pub fn drain_into(&mut self, writers: &mut [ColumnWriter<'_>]) -> Result<()> {
        for ((values, writer), &shape) in self.values.iter_mut().zip(writers).zip(&self.shape_of) {
            // The levels of the trace's own leaves are all 0 and not stored.
            let levels = (shape != 0).then(|| &self.levels[shape]);
            let (definition, repetition) = (levels.map(|l| &*l.definition), levels.map(|l| &*l.repetition));
            match (&mut *values, writer) {
                (Values::Interned(v), ColumnWriter::ByteArrayColumnWriter(w)) => w.write_batch(&v.values, definition, repetition),
                (Values::Bytes(v), ColumnWriter::ByteArrayColumnWriter(w)) => w.write_batch(&v.take(), definition, repetition),
                (Values::Int32(v), ColumnWriter::Int32ColumnWriter(w)) => w.write_batch(v, definition, repetition),
                (Values::Int64(v), ColumnWriter::Int64ColumnWriter(w)) => w.write_batch(v, definition, repetition),
                (Values::Double(v), ColumnWriter::DoubleColumnWriter(w)) => w.write_batch(v, definition, repetition),
                (Values::Bool(v), ColumnWriter::BoolColumnWriter(w)) => w.write_batch(v, definition, repetition),
                _ => Err(ParquetError::General("a leaf's buffer and writer are of different types".to_owned())),
            }?;
            values.clear();
        }
        for levels in &mut self.levels {
            levels.definition.clear();
            levels.repetition.clear();
        }
        Ok(())
    }
}

/// A cursor over consecutive leaves: the order of the calls is the order of the schema.
pub(super) struct Row<'a> {
    columns: &'a mut Columns,
    leaf: usize,
}

impl Row<'_> {
    /// Leaves out leaves that belong to a group inside this one.
    pub fn skip(mut self, leaves: usize) -> Self {
        self.leaf += leaves;
        self
    }

    /// A text.
    pub fn text(self, text: &str) -> Self {
        self.push_bytes(text.as_bytes(), 1)
    }

    /// An id.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.push_bytes(bytes, bytes.len() as u64)
    }

    /// A 32-bit integer; parquet stores unsigned ones as their bits.
    pub fn i32(mut self, value: i32) -> Self {
        if let Values::Int32(values) = self.next(1) {
            values.push(value);
        }
        self
    }

    /// An unsigned 32-bit integer.
    pub fn u32(self, value: u32) -> Self {
        self.i32(value.cast_signed())
    }

    /// A 64-bit integer.
    pub fn i64(mut self, value: i64) -> Self {
        if let Values::Int64(values) = self.next(1) {
            values.push(value);
        }
        self
    }

    /// An unsigned 64-bit integer.
    pub fn u64(self, value: u64) -> Self {
        self.i64(value.cast_signed())
    }

    /// A float.
    pub fn double(mut self, value: f64) -> Self {
        if let Values::Double(values) = self.next(1) {
            values.push(value);
        }
        self
    }

    /// A boolean.
    pub fn bool(mut self, value: bool) -> Self {
        if let Values::Bool(values) = self.next(1) {
            values.push(value);
        }
        self
    }

    fn push_bytes(mut self, bytes: &[u8], weight: u64) -> Self {
        match self.next(weight) {
            Values::Interned(values) => values.push(bytes),
            Values::Bytes(values) => values.push(bytes),
            _ => debug_assert!(false, "a leaf of numbers got bytes"),
        }
        self
    }

    fn next(&mut self, weight: u64) -> &mut Values {
        self.columns.weight += weight;
        let leaf = self.leaf;
        self.leaf += 1;
        debug_assert!(leaf < self.columns.values.len(), "leaf {leaf} is past the schema");
        &mut self.columns.values[leaf]
    }
}
