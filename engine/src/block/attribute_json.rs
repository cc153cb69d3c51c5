//! One attribute as a JSON object of nothing but it: what a JSON function with the key as the first step of its path needs of all
//! attributes. The texts are few and are made once a value.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use arrow::{
    array::{Array, ArrayRef, StringArray},
    buffer::ScalarBuffer,
};

use super::{
    Version, any_value_json,
    attributes::{SERVICE_NAME, SERVICE_NAME_LEAF, first_leaves, has_key, key_leaf},
    keys::Picked,
    leaf::Leaf,
    leaves::scope_path,
    records::{Attributes, attribute_leaves, scalar},
    rows::Rows,
    values::Dense,
};
use crate::{
    error::{Error, Result},
    scan::{AttributeScope, attributes_to_json},
    trace::{AnyValue, ArrayValue, KeyValue, Value},
};

/// Leaves of values of single types, in the order in which they count.
const TYPED: [&str; 4] = ["Value", "ValueInt", "ValueDouble", "ValueBool"];
const IS_ARRAY: &str = "IsArray";
const JSON: &str = "ValueUnsupported";

/// The leaves needed to know whether anything has the attribute.
pub(super) fn first(rows: &Rows, scope: AttributeScope, key: &str) -> Vec<String> {
    if rows.block().version() == Version::V3 { attribute_leaves(rows, scope) } else { first_leaves(rows, scope, key) }
}

/// The leaves needed besides the first ones, which are loaded.
pub(super) fn then(rows: &mut Rows, scope: AttributeScope, key: &str) -> Result<BTreeSet<String>> {
    if rows.block().version() == Version::V3 || !has_key(rows, scope, key)? {
        return Ok(BTreeSet::new());
    }
    let mut paths = BTreeSet::new();
    if rows.keys(&key_leaf(scope))?.is_none() {
        paths.extend(attribute_leaves(rows, scope));
        return Ok(paths);
    }
    for leaf in TYPED.iter().chain(&[IS_ARRAY, JSON]) {
        let path = value_leaf(scope, leaf);
        if !rows.is_empty(&path)? {
            paths.insert(path);
        }
    }
    Ok(paths)
}

fn value_leaf(scope: AttributeScope, name: &str) -> String {
    format!("{}.Attrs.{name}", scope_path(scope).0)
}

/// The texts, and which of them each resource, scope or span has.
pub(super) fn coded(rows: &mut Rows, scope: AttributeScope, key: &str, count: usize) -> Result<(StringArray, ScalarBuffer<u32>)> {
    let mut texts = Texts::new(key);
    let mut codes = vec![0; count];
    if rows.block().version() == Version::V3 {
        of_records(rows, scope, key, &mut texts, &mut codes)?;
    } else {
        if has_key(rows, scope, key)? {
            match rows.keys(&key_leaf(scope))? {
                None => {
                    of_records(rows, scope, key, &mut texts, &mut codes)?;
                    return Ok((texts.finish(), codes.into()));
                }
                Some(keys) => {
                    let hits = keys.hits(key, &[]);
                    let of_hits = generic(rows, scope, &keys, &hits, &mut texts)?;
                    hits.owners.iter().zip(of_hits).for_each(|(owner, code)| codes[*owner as usize] = code);
                }
            }
        }
        own(rows, scope, key, &mut texts, &mut codes)?;
    }
    Ok((texts.finish(), codes.into()))
}

/// From whole records: slow, for what can be stored in any way.
fn of_records(rows: &mut Rows, scope: AttributeScope, key: &str, texts: &mut Texts, codes: &mut [u32]) -> Result<()> {
    let attributes = Attributes::read(rows, scope)?;
    for (owner, code) in codes.iter_mut().enumerate() {
        if let Some(last) = attributes.of(owner).into_iter().rfind(|kv| kv.key == key) {
            *code = texts.code(last.value);
        }
    }
    Ok(())
}

/// From columns of their own, which come last, because the last of a repeated key counts.
fn own(rows: &mut Rows, scope: AttributeScope, key: &str, texts: &mut Texts, codes: &mut [u32]) -> Result<()> {
    if scope == AttributeScope::Resource && key == SERVICE_NAME {
        let names = rows.text(SERVICE_NAME_LEAF)?;
        let mut known = vec![None; names.values.len()];
        for (owner, code) in codes.iter_mut().enumerate().filter(|(owner, _)| !names.get(*owner).is_empty()) {
            *code = *known[names.code(owner)].get_or_insert_with(|| texts.code(Some(one(Value::StringValue(names.get(owner).to_owned())))));
        }
    }
    let own: Vec<_> = rows.block().promoted().iter().filter(|p| p.scope == scope && p.key == key).map(|p| p.path.clone()).collect();
    for path in own {
        let leaf = rows.leaf(&path)?;
        let Leaf { values, owners: Some(owners) } = &*leaf else {
            return Err(Error::internal("an attribute's column without owners"));
        };
        let mut known = Known::new(values);
        let mut at = 0;
        for of_owner in owners.of_value.chunk_by(|a, b| a == b) {
            codes[of_owner[0] as usize] = known.code(values, at, of_owner.len(), false, texts);
            at += of_owner.len();
        }
    }
    Ok(())
}

/// The code of each of these generic attributes.
fn generic(rows: &Rows, scope: AttributeScope, keys: &super::keys::Keys, hits: &super::keys::Hits, texts: &mut Texts) -> Result<Vec<u32>> {
    let picked = |leaf: &str| -> Result<Option<Picked>> {
        let path = value_leaf(scope, leaf);
        if rows.is_empty(&path)? { Ok(None) } else { rows.picked(&path, keys, hits).map(Some) }
    };
    let mut is_array = vec![false; hits.owners.len()];
    if let Some(Picked { values: Dense::Bool(values), of }) = picked(IS_ARRAY)? {
        of.iter().zip(values.iter()).for_each(|(hit, array)| is_array[*hit as usize] = *array != 0);
    }
    let mut codes = vec![0; is_array.len()];
    for leaf in TYPED {
        let Some(Picked { values, of }) = picked(leaf)? else { continue };
        let mut known = Known::new(&values);
        let mut at = 0;
        for of_hit in of.chunk_by(|a, b| a == b) {
            let hit = of_hit[0] as usize;
            if codes[hit] == 0 {
                codes[hit] = known.code(&values, at, of_hit.len(), is_array[hit], texts);
            }
            at += of_hit.len();
        }
    }
    if codes.contains(&0)
        && let Some(Picked { values: Dense::Text(text), of }) = picked(JSON)?
    {
        for (at, hit) in of.iter().enumerate() {
            if codes[*hit as usize] == 0 {
                codes[*hit as usize] = texts.code(Some(any_value_json::parse(text.get(at))));
            }
        }
    }
    for (code, array) in codes.iter_mut().zip(is_array).filter(|(code, _)| **code == 0) {
        *code = texts.code(array.then(|| one(Value::ArrayValue(ArrayValue::default()))));
    }
    Ok(codes)
}

fn one(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

/// Codes of single values of a leaf that were met, by their place in its dictionary or by their bits.
enum Known {
    Places(Vec<u32>),
    Bits(HashMap<u64, u32>),
}

impl Known {
    fn new(values: &Dense) -> Self {
        match values {
            Dense::Text(text) => Self::Places(vec![0; text.values.len()]),
            _ => Self::Bits(HashMap::new()),
        }
    }

    /// The code of the value that `count` entries from `at` on are.
    fn code(&mut self, values: &Dense, at: usize, count: usize, array: bool, texts: &mut Texts) -> u32 {
        if array || count > 1 {
            let values = (at..at + count).map(|at| AnyValue { value: scalar(values, at) }).collect();
            return texts.code(Some(one(Value::ArrayValue(ArrayValue { values }))));
        }
        let known = match (self, values) {
            (Self::Places(known), Dense::Text(text)) => &mut known[text.code(at)],
            (Self::Bits(known), Dense::Int64(v)) => known.entry(v[at] as u64).or_default(),
            (Self::Bits(known), Dense::Double(v)) => known.entry(v[at].to_bits()).or_default(),
            (Self::Bits(known), Dense::Bool(v)) => known.entry(u64::from(v[at])).or_default(),
            _ => return 0, // no attribute leaf has another type
        };
        if *known == 0 {
            *known = texts.code(Some(AnyValue { value: scalar(values, at) }));
        }
        *known
    }
}

/// The text of an object without the attribute.
pub(super) fn none() -> ArrayRef {
    Arc::new(StringArray::from_iter_values([attributes_to_json(&[])]))
}

/// Texts and their codes; the first is that of an object without the attribute.
struct Texts<'a> {
    key: &'a str,
    all: Vec<String>,
    known: HashMap<String, u32>,
}

impl<'a> Texts<'a> {
    fn new(key: &'a str) -> Self {
        Self { key, all: vec![attributes_to_json(&[])], known: HashMap::new() }
    }

    /// The code of a value's text.
    fn code(&mut self, value: Option<AnyValue>) -> u32 {
        let text = attributes_to_json(&[KeyValue { key: self.key.to_owned(), value, ..KeyValue::default() }]);
        let next = self.all.len() as u32;
        *self.known.entry(text).or_insert_with_key(|text| {
            self.all.push(text.clone());
            next
        })
    }

    fn finish(self) -> StringArray {
        StringArray::from_iter_values(self.all)
    }
}
