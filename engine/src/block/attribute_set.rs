//! All attributes of a scope in codes: each distinct key and value of a row group once, and for each thing which of them it has.

use std::collections::HashSet;

use arrow::{
    array::{Array, ArrayRef, StringArray},
    buffer::{BooleanBuffer, ScalarBuffer},
};
use datafusion::common::HashMap;
use futures::FutureExt;

use super::{
    Version,
    attributes::{SERVICE_NAME, SERVICE_NAME_LEAF, VALUE_LEAVES, key_leaf, owner_count, value_leaf},
    leaf::Leaf,
    leaves::{depth, scope_path},
    records::{Attributes, attribute_leaves},
    rows::Rows,
    values::{Dense, Text},
};
use crate::{
    error::{Error, Result},
    scan::{AttributeBuilder, AttributeScope, CodedAttributes, Scalar, coded_records},
};

/// An entry without a code, a key that does not count.
const NONE: u32 = u32::MAX;

/// The leaves that [`coded_attributes`] needs.
pub(super) fn attribute_set_leaves(rows: &Rows, scope: AttributeScope) -> Vec<String> {
    let mut paths = attribute_leaves(rows, scope);
    if rows.block().version() != Version::V3 {
        // What has no typed value is nil, whatever it is.
        paths.retain(|path| !path.ends_with(".IsArray") && !path.ends_with(".ValueUnsupported"));
    }
    paths
}

/// The attributes of spans, resources or instrumentation scopes, made at once.
pub(super) fn coded_attributes(rows: &mut Rows, scope: AttributeScope) -> Result<CodedAttributes> {
    let made = coded_attributes_with(rows, scope, || std::future::ready(())).now_or_never();
    made.unwrap_or_else(|| Err(Error::internal("attributes were waited for")))
}

/// The same, made leaf by leaf with a `pause` behind each.
pub(super) async fn coded_attributes_with<F: Future<Output = ()> + Send>(
    rows: &mut Rows,
    scope: AttributeScope,
    pause: impl Fn() -> F + Send,
) -> Result<CodedAttributes> {
    let at = scope_path(scope).1;
    if scope.is_repeated() {
        return Err(Error::internal("attributes of events and links are not gathered"));
    }
    let shape = rows.shape()?;
    let starts = (at < depth::SPAN).then(|| shape.first_spans(at));
    if rows.block().version() == Version::V3 {
        let attributes = Attributes::read(rows, scope)?;
        let spans_of = |thing: usize| starts.as_ref().map(|s| s[thing + 1] - s[thing]);
        return coded_records((0..shape.count(at)).map(|thing| (attributes.of(thing), spans_of(thing))));
    }
    let mut set = AttributeSet::default();
    let generic = rows.leaf(&key_leaf(scope))?;
    pause().await;
    let keys = Keys::new(&generic)?;
    pause().await;
    let mut taken: HashMap<String, Vec<bool>> = HashMap::new();
    let things = owner_count(rows, scope)?;
    let mut columns: Vec<(String, String)> = Vec::new();
    if scope == AttributeScope::Resource {
        columns.push((SERVICE_NAME.to_owned(), SERVICE_NAME_LEAF.to_owned()));
    }
    columns.extend(rows.block().promoted().iter().filter(|p| p.scope == scope).map(|p| (p.key.clone(), p.path.clone())));
    let mut met: HashSet<&str> = HashSet::new();
    for (key, path) in &columns {
        // Whether another place may have the same key.
        let shared = keys.has(key) || !met.insert(key) || columns.iter().filter(|(k, _)| k == key).count() > 1;
        let taken = shared.then(|| taken.entry(key.clone()).or_insert_with(|| vec![false; things]));
        set.add_column(key, &column(rows, path)?, key == SERVICE_NAME && path == SERVICE_NAME_LEAF, taken)?;
        pause().await;
    }
    let mut generic = Generic::new(&keys, &taken);
    for (leaf, _) in VALUE_LEAVES {
        let values = column(rows, &value_leaf(scope, leaf))?;
        pause().await;
        generic.add(&values, &mut set);
        pause().await;
    }
    generic.finish(&mut set);
    pause().await;
    Ok(CodedAttributes { attributes: set.finish()?, things: set.things, codes: set.codes, starts })
}

/// A leaf that its owners need not have a value of.
enum Column {
    /// At most one each, and who has one; all if nothing is said.
    Single(Dense, Option<BooleanBuffer>),
    /// Some have several.
    Repeated(std::sync::Arc<Leaf>),
}

fn column(rows: &mut Rows, path: &str) -> Result<Column> {
    Ok(match rows.optional(path)? {
        Some((values, present)) => Column::Single(values, present),
        None => Column::Repeated(rows.leaf(path)?),
    })
}

impl Column {
    fn values(&self) -> &Dense {
        match self {
            Self::Single(values, _) => values,
            Self::Repeated(leaf) => &leaf.values,
        }
    }

    /// Calls `see` with each owner and the number of its value; with no number if it has several.
    fn each(&self, mut see: impl FnMut(usize, Option<usize>)) {
        match self {
            Self::Single(values, None) => (0..values.len()).for_each(|at| see(at, Some(at))),
            Self::Single(_, Some(present)) => present.set_indices().enumerate().for_each(|(at, owner)| see(owner, Some(at))),
            Self::Repeated(leaf) => {
                let owners = leaf.owners.as_ref().map_or(&[][..], |o| &o.of_value);
                let mut at = 0;
                for same in owners.chunk_by(|a, b| a == b) {
                    see(same[0] as usize, (same.len() == 1).then_some(at));
                    at += same.len();
                }
            }
        }
    }
}

/// Distinct attributes, and the entries found so far.
#[derive(Default)]
struct AttributeSet {
    builder: AttributeBuilder,
    things: Vec<u32>,
    codes: Vec<u32>,
}

impl AttributeSet {
    /// Adds an attribute that has a column of its own, for things that are not taken yet.
    fn add_column(&mut self, key: &str, column: &Column, is_service: bool, mut taken: Option<&mut Vec<bool>>) -> Result<()> {
        let values = Values::new(column.values());
        let mut coder = Coder::new(&values);
        column.each(|thing, at| {
            if is_service && at.is_some_and(|at| values.get(at) == Scalar::Text("")) {
                return; // an empty service name is none
            }
            if taken.as_mut().is_some_and(|taken| std::mem::replace(&mut taken[thing], true)) {
                return;
            }
            let code = coder.code(0, at, |value| self.builder.push(key, value));
            self.things.push(thing as u32);
            self.codes.push(code);
        });
        Ok(())
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        std::mem::take(&mut self.builder).finish()
    }
}

/// The keys of generic attributes.
struct Keys<'a> {
    names: &'a StringArray,
    /// The number of each attribute's key: a position in `names`, the same for equal names.
    of: Vec<u32>,
    /// What each attribute belongs to.
    owners: &'a [u32],
}

impl<'a> Keys<'a> {
    fn new(leaf: &'a Leaf) -> Result<Self> {
        let (Dense::Text(text), Some(owners)) = (&leaf.values, &leaf.owners) else {
            return Err(Error::internal("keys without owners"));
        };
        let mut first: HashMap<&str, u32> = HashMap::new();
        let names = &text.values;
        let canonical: Vec<u32> = (0..names.len()).map(|at| *first.entry(names.value(at)).or_insert(at as u32)).collect();
        let mut of: Vec<u32> = (0..text.len()).map(|at| canonical[text.code(at)]).collect();
        // Of a repeated key the last counts.
        let mut last_owner = vec![NONE; names.len()];
        for (key, owner) in of.iter_mut().zip(&owners.of_value).rev() {
            if std::mem::replace(&mut last_owner[*key as usize], *owner) == *owner {
                *key = NONE;
            }
        }
        Ok(Self { names, of, owners: &owners.of_value })
    }

    fn has(&self, key: &str) -> bool {
        (0..self.names.len()).any(|at| self.names.value(at) == key)
    }
}

/// The generic attributes, while their codes are found.
struct Generic<'a> {
    keys: &'a Keys<'a>,
    /// For each attribute its code.
    codes: Vec<u32>,
    /// For each key the things that have it in a column of its own.
    taken: Vec<Option<&'a Vec<bool>>>,
    any_taken: bool,
}

impl<'a> Generic<'a> {
    fn new(keys: &'a Keys<'a>, taken: &'a HashMap<String, Vec<bool>>) -> Self {
        let taken: Vec<_> = (0..keys.names.len()).map(|at| taken.get(keys.names.value(at))).collect();
        Self { keys, codes: vec![NONE; keys.of.len()], any_taken: taken.iter().any(Option::is_some), taken }
    }

    /// Adds the values of a type, for attributes that have none yet.
    fn add(&mut self, column: &Column, set: &mut AttributeSet) {
        let values = Values::new(column.values());
        let mut coder = Coder::new(&values);
        let names = self.keys.names;
        column.each(|attribute, at| {
            let key = self.keys.of[attribute];
            if key != NONE && self.codes[attribute] == NONE {
                self.codes[attribute] = coder.code(key, at, |value| set.builder.push(names.value(key as usize), value));
            }
        });
    }

    /// Gives those without a value a code too, and hands the entries over.
    fn finish(self, set: &mut AttributeSet) {
        let mut nil = vec![NONE; self.keys.names.len()];
        set.things.reserve(self.codes.len());
        set.codes.reserve(self.codes.len());
        for ((key, owner), mut code) in self.keys.of.iter().zip(self.keys.owners).zip(self.codes) {
            let is_taken = || self.any_taken && self.taken[*key as usize].is_some_and(|taken| taken[*owner as usize]);
            if *key == NONE || is_taken() {
                continue;
            }
            if code == NONE {
                let nil = &mut nil[*key as usize];
                if *nil == NONE {
                    *nil = set.builder.push(self.keys.names.value(*key as usize), Scalar::Nil);
                }
                code = *nil;
            }
            set.things.push(*owner);
            set.codes.push(code);
        }
    }
}

/// The values of a leaf.
struct Values<'a> {
    values: &'a Dense,
    /// A small number for each value, the same for equal ones, and one more than the largest. Texts and truth values have them.
    small: Option<(ScalarBuffer<u32>, usize)>,
}

impl<'a> Values<'a> {
    fn new(values: &'a Dense) -> Self {
        let small = match values {
            // Positions in a dictionary are not negative.
            Dense::Text(Text { codes: Some(codes), values }) => {
                Some((ScalarBuffer::new(codes.inner().clone(), 0, codes.len()), values.len()))
            }
            Dense::Text(Text { codes: None, values }) => {
                let mut first: HashMap<&str, u32> = HashMap::new();
                Some(((0..values.len()).map(|at| *first.entry(values.value(at)).or_insert(at as u32)).collect(), values.len()))
            }
            Dense::Bool(values) => Some((values.iter().map(|v| u32::from(*v != 0)).collect(), 2)),
            _ => None,
        };
        Self { values, small }
    }

    fn get(&self, at: usize) -> Scalar<'a> {
        match self.values {
            Dense::Text(text) => Scalar::Text(text.get(at)),
            Dense::Int64(v) => Scalar::Int(v[at]),
            Dense::Double(v) => Scalar::Double(v[at]),
            Dense::Bool(v) => Scalar::Bool(v[at] != 0),
            Dense::Int32(_) | Dense::Bytes(_) => Scalar::Nil, // no attribute leaf has these types
        }
    }

    /// Bits that tell a value from others.
    #[inline]
    fn bits(&self, at: usize) -> u64 {
        match (&self.small, self.values) {
            (Some((small, _)), _) => small[at].into(),
            (None, Dense::Int64(v)) => v[at] as u64,
            (None, Dense::Double(v)) => v[at].to_bits(),
            _ => 0,
        }
    }
}

/// Gives pairs of a key and a value of one leaf their codes.
struct Coder<'a> {
    values: &'a Values<'a>,
    /// By small bits: the key that had them last, and its code. Most texts have one key.
    recent: Vec<(u32, u32)>,
    /// By key: the value it had last, and its code.
    last: HashMap<u32, (u64, u32)>,
    known: HashMap<(u32, u64), u32>,
    /// By key: the code of what has several values.
    several: HashMap<u32, u32>,
}

impl<'a> Coder<'a> {
    fn new(values: &'a Values<'a>) -> Self {
        let recent = vec![(NONE, NONE); values.small.as_ref().map_or(0, |(_, count)| *count)];
        Self { values, recent, last: HashMap::new(), known: HashMap::new(), several: HashMap::new() }
    }

    /// The code of value number `at` under a key; of several values, which count as nil, if there is no number.
    #[inline]
    fn code(&mut self, key: u32, at: Option<usize>, new: impl FnOnce(Scalar<'_>) -> u32) -> u32 {
        let Some(at) = at else { return *self.several.entry(key).or_insert_with(|| new(Scalar::Nil)) };
        let bits = self.values.bits(at);
        if let Some(recent) = self.recent.get_mut(bits as usize) {
            if recent.0 != key {
                *recent = (key, *self.known.entry((key, bits)).or_insert_with(|| new(self.values.get(at))));
            }
            return recent.1;
        }
        match self.last.get(&key) {
            Some((last, code)) if *last == bits => *code,
            _ => {
                let code = *self.known.entry((key, bits)).or_insert_with(|| new(self.values.get(at)));
                self.last.insert(key, (bits, code));
                code
            }
        }
    }
}
