//! One attribute as a column: its values for every span (resource, scope, event, link), of any type.
//!
//! A key is looked up in the dictionary of keys first; where it is absent nothing else is decoded. Values come from the
//! attribute's own column if it has one, and from the generic key/value leaves where they were of another type.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, BooleanBufferBuilder, DictionaryArray, Int32Array, Int64Array, ListArray, PrimitiveArray,
        StringArray, StructArray, UInt32Array, new_null_array,
    },
    buffer::{BooleanBuffer, NullBuffer, OffsetBuffer},
    compute::{concat, take},
    datatypes::{ArrowPrimitiveType, DataType, Field, Float64Type, Int32Type, Int64Type},
};

use super::{
    dictionary::codes_of,
    keys::Picked,
    leaf::Leaf,
    leaves::scope_path,
    number_codes::NumberCodes,
    rows::{Rows, head},
    values::{Dense, Text},
};
use crate::{
    error::{Error, Result},
    scan::{AttributeScope, Passing, any_value_type},
};

/// Says whether values of a type may pass.
pub(super) type MayPass = fn(&Passing) -> bool;

/// Generic value leaves, in the order in which their types count.
pub(super) const VALUE_LEAVES: [(&str, MayPass); 4] =
    [("Value", |p| p.strings), ("ValueInt", |p| p.ints), ("ValueDouble", |p| p.doubles), ("ValueBool", |p| p.bools)];
/// The most different numbers and arrays of an attribute that are given codes.
const CODED_VALUES_MAX: usize = 16 * 1024;
/// The key whose column every block has.
pub(super) const SERVICE_NAME: &str = "service.name";
pub(super) const SERVICE_NAME_LEAF: &str = "rs.Resource.ServiceName";

/// Leaves that must be loaded to know whether anything has this attribute: its own columns and the keys.
pub(super) fn first_leaves(rows: &Rows, scope: AttributeScope, key: &str) -> Vec<String> {
    let mut paths: Vec<String> =
        rows.block().promoted().iter().filter(|p| p.scope == scope && p.key == key).map(|p| p.path.clone()).collect();
    if scope == AttributeScope::Resource && key == SERVICE_NAME {
        paths.push(SERVICE_NAME_LEAF.to_owned());
    }
    paths.push(key_leaf(scope));
    paths
}

/// Leaves that must be loaded as well if the key is among the generic ones: those that have values that may pass.
pub(super) fn value_leaves(rows: &Rows, scope: AttributeScope, key: &str, passing: Passing) -> Result<Vec<String>> {
    if !has_key(rows, scope, key)? {
        return Ok(Vec::new());
    }
    let mut paths = Vec::new();
    for (leaf, _) in VALUE_LEAVES.iter().filter(|(_, may_pass)| may_pass(&passing)) {
        let path = value_leaf(scope, leaf);
        if !rows.is_empty(&path)? {
            paths.push(path);
        }
    }
    Ok(paths)
}

/// The leaf of generic values of a type.
pub(super) fn value_leaf(scope: AttributeScope, name: &str) -> String {
    format!("{}.Attrs.{name}", scope_path(scope).0)
}

/// The leaf of the keys of generic attributes.
pub(super) fn key_leaf(scope: AttributeScope) -> String {
    format!("{}{}", scope_path(scope).0, head::ATTRIBUTES_SUFFIX)
}

/// Whether a generic attribute may have this key.
pub(super) fn has_key(rows: &Rows, scope: AttributeScope, key: &str) -> Result<bool> {
    Ok(rows.dictionary(&key_leaf(scope))?.is_none_or(|dictionary| !codes_of(&dictionary, key).is_empty()))
}

/// The attribute of every thing in a scope: one entry a span, resource, instrumentation scope, event or link.
pub(super) fn attribute(rows: &mut Rows, scope: AttributeScope, key: &str) -> Result<AnyColumn> {
    collect(rows, scope, key, Passing::ANYTHING)?.finish()
}

/// The same as few values and a code for each thing; `None` if it has too many values for that. Values that are not `passing`
/// may be left out, as if they were not there.
pub(super) fn coded_attribute(
    rows: &mut Rows,
    scope: AttributeScope,
    key: &str,
    passing: Passing,
) -> Result<Option<(AnyColumn, Vec<u32>)>> {
    match single_column(rows, scope, key, None)? {
        Some(coded) => Ok(Some(coded)),
        None => collect(rows, scope, key, passing)?.into_coded(),
    }
}

/// Texts as attribute values: the first entry is NULL, then one for each text.
pub(super) fn any_texts(texts: &StringArray) -> Result<AnyColumn> {
    let mut some = BooleanBufferBuilder::new(texts.len() + 1);
    some.append(false);
    some.append_n(texts.len(), true);
    let keys: Vec<i32> = std::iter::once(0).chain(0..texts.len() as i32).collect();
    let keys = Int32Array::new(keys.into(), Some(NullBuffer::new(some.finish())));
    let strings = DictionaryArray::<Int32Type>::try_new(keys, Arc::new(texts.clone()))?;
    let mut children = [const { None }; 8];
    children[0] = Some(Arc::new(strings) as ArrayRef);
    Ok(AnyColumn { len: texts.len() + 1, children })
}

/// Whole numbers as attribute values.
pub(super) fn any_integers(numbers: Int64Array) -> AnyColumn {
    let mut children = [const { None }; 8];
    let len = numbers.len();
    children[1] = Some(Arc::new(numbers) as ArrayRef);
    AnyColumn { len, children }
}

/// Codes of an attribute whose values all lie in one column of its own, one at most a thing: the usual case, made at once. Of the
/// things `at` these positions (ascending), or of all; `None` if it is another case, or takes more than those.
pub(super) fn single_column(
    rows: &mut Rows,
    scope: AttributeScope,
    key: &str,
    at: Option<&UInt32Array>,
) -> Result<Option<(AnyColumn, Vec<u32>)>> {
    let is_service = scope == AttributeScope::Resource && key == SERVICE_NAME;
    let own: Vec<_> = rows.block().promoted().iter().filter(|p| p.scope == scope && p.key == key).map(|p| p.path.clone()).collect();
    let path = match &own[..] {
        [] if is_service => SERVICE_NAME_LEAF,
        [one] if !is_service => one,
        _ => return Ok(None),
    };
    if has_key(rows, scope, key)? {
        return Ok(None);
    }
    if at.is_none()
        && let Some((NumberCodes { numbers, codes }, present)) = rows.optional_number_codes(path)?
    {
        return Ok(Some((any_numbers(numbers), spread(present.as_ref(), codes.iter().map(|code| code + 1)))));
    }
    let found = match at {
        Some(things) => rows.optional_at(path, things)?,
        None => rows.optional(path)?,
    };
    let Some((values, present)) = found else { return Ok(None) };
    let present = present.as_ref();
    Ok(match values {
        // An empty service name is none.
        Dense::Text(Text { codes: Some(codes), values }) if is_service && values.iter().any(|v| v == Some("")) => {
            let code_of: Vec<u32> = values.iter().zip(1..).map(|(v, i)| if v == Some("") { 0 } else { i }).collect();
            Some((any_texts(&values)?, spread(present, codes.iter().map(|code| code_of[*code as usize]))))
        }
        Dense::Text(Text { codes: Some(codes), values }) => {
            Some((any_texts(&values)?, spread(present, codes.iter().map(|code| *code as u32 + 1))))
        }
        Dense::Int64(numbers) => any_ints(&numbers).map(|(few, code_of, min)| {
            let codes = spread(present, numbers.iter().map(|n| code_of[n.wrapping_sub(min) as usize]));
            (few, codes)
        }),
        _ => None,
    })
}

/// The codes of things of which these have one, or all; 0 for the others.
fn spread(present: Option<&BooleanBuffer>, codes: impl Iterator<Item = u32>) -> Vec<u32> {
    let Some(present) = present else { return codes.collect() };
    let mut all = vec![0; present.len()];
    present.set_indices().zip(codes).for_each(|(owner, code)| all[owner] = code);
    all
}

/// Numbers as attribute values: the first entry is NULL, then one for each number.
fn any_numbers(numbers: Vec<i64>) -> AnyColumn {
    any_integers(std::iter::once(None).chain(numbers.into_iter().map(Some)).collect())
}

/// Close numbers as attribute values, the first NULL: with the code of each number from the least on, and the least.
fn any_ints(numbers: &[i64]) -> Option<(AnyColumn, Vec<u32>, i64)> {
    let (min, max) = (numbers.iter().copied().min().unwrap_or_default(), numbers.iter().copied().max().unwrap_or_default());
    let width = max.checked_sub(min).filter(|width| *width < CODED_VALUES_MAX as i64)? as usize + 1;
    let mut code_of = vec![0u32; width];
    numbers.iter().for_each(|n| code_of[n.wrapping_sub(min) as usize] = 1);
    let mut few = Vec::new();
    for (number, code) in (min..).zip(&mut code_of).filter(|(_, code)| **code > 0) {
        few.push(number);
        *code = few.len() as u32;
    }
    Some((any_numbers(few), code_of, min))
}

/// Gathers the values of an attribute from all the leaves they may lie in.
fn collect(rows: &mut Rows, scope: AttributeScope, key: &str, passing: Passing) -> Result<Collected> {
    let count = owner_count(rows, scope)?;
    let mut collected = Collected::new(count);
    if scope == AttributeScope::Resource && key == SERVICE_NAME {
        collected.add_service_names(&rows.text(SERVICE_NAME_LEAF)?);
    }
    let own: Vec<_> = rows.block().promoted().iter().filter(|p| p.scope == scope && p.key == key).map(|p| p.path.clone()).collect();
    for path in own {
        collected.add_column(&*rows.leaf(&path)?)?;
    }
    let values = value_leaves(rows, scope, key, passing)?;
    if values.is_empty() {
        return Ok(collected);
    }
    if let Some(keys) = rows.keys(&key_leaf(scope))? {
        let hits = keys.hits(key, &collected.taken);
        let mut done = vec![false; hits.owners.len()];
        for path in values {
            collected.add_picked(rows.picked(&path, &keys, &hits)?, &hits.owners, &mut done);
        }
        return Ok(collected);
    }
    let keys = rows.leaf(&key_leaf(scope))?;
    let hits = collected.claim(&keys, key)?;
    if !hits.is_empty() {
        let mut done = vec![false; hits.len()];
        for path in values {
            collected.add_generic(&*rows.leaf(&path)?, &hits, &mut done)?;
        }
    }
    Ok(collected)
}

/// How many things a scope has in these rows.
pub(super) fn owner_count(rows: &mut Rows, scope: AttributeScope) -> Result<usize> {
    Ok(match scope {
        AttributeScope::Event => rows.leaf(head::EVENTS)?.values.len(),
        AttributeScope::Link => rows.leaf(head::LINKS)?.values.len(),
        _ => rows.count(scope_path(scope).1)?,
    })
}

/// A generic attribute with the key looked for.
struct Hit {
    /// Number of the attribute.
    attribute: u32,
    /// What it belongs to.
    owner: u32,
}

/// Arrays of one type: the owner of each, and where its items are.
#[derive(Default)]
struct Arrays<T> {
    of: Vec<(u32, usize, usize)>,
    items: Vec<T>,
}

impl<T: Copy> Arrays<T> {
    fn push(&mut self, owner: u32, items: impl Iterator<Item = T>) {
        let start = self.items.len();
        self.items.extend(items);
        self.of.push((owner, start, self.items.len()));
    }

    /// Gives each array a code, from `next` on.
    fn coded(mut self, codes: &mut [u32], next: &mut u32) -> Self {
        for (owner, _, _) in &mut self.of {
            codes[*owner as usize] = *next;
            *owner = *next;
            *next += 1;
        }
        self
    }

    /// A list for each of `len` owners, made of the items in the owners' order; `None` if there are none.
    fn finish(mut self, len: usize, values: impl FnOnce(Vec<T>) -> Result<ArrayRef>) -> Result<Option<ArrayRef>> {
        if self.of.is_empty() {
            return Ok(None);
        }
        self.of.sort_unstable();
        let mut offsets = vec![0i32];
        let mut valid = vec![false; len];
        let mut sorted = Vec::with_capacity(self.items.len());
        for (owner, start, end) in self.of {
            offsets.resize(owner as usize + 1, sorted.len() as i32);
            sorted.extend_from_slice(&self.items[start..end]);
            offsets.push(sorted.len() as i32);
            valid[owner as usize] = true;
        }
        offsets.resize(len + 1, sorted.len() as i32);
        let values = values(sorted)?;
        let item = Arc::new(Field::new_list_field(values.data_type().clone(), true));
        let list = ListArray::try_new(item, OffsetBuffer::new(offsets.into()), values, Some(valid.into()))?;
        Ok(Some(Arc::new(list)))
    }
}

/// Values found so far, in any order of owners.
#[derive(Default)]
struct Collected {
    /// Owners that have the attribute in a column of its own.
    taken: Vec<bool>,
    /// Dictionaries that codes in `strings` point into, one behind the other.
    dictionaries: Vec<StringArray>,
    strings: Vec<(u32, i32)>,
    ints: Vec<(u32, i64)>,
    doubles: Vec<(u32, f64)>,
    bools: Vec<(u32, bool)>,
    string_arrays: Arrays<u32>,
    int_arrays: Arrays<i64>,
    double_arrays: Arrays<f64>,
    bool_arrays: Arrays<bool>,
}

impl Collected {
    fn new(count: usize) -> Self {
        Self { taken: vec![false; count], ..Self::default() }
    }

    /// Adds a dictionary, and says where its codes start.
    fn dictionary(&mut self, text: &Text) -> i32 {
        let base = self.dictionaries.iter().map(|d| d.len()).sum::<usize>() as i32;
        self.dictionaries.push(text.values.clone());
        base
    }

    /// An empty service name is none.
    fn add_service_names(&mut self, names: &Text) {
        let base = self.dictionary(names);
        for resource in 0..names.len() {
            if !names.get(resource).is_empty() {
                self.strings.push((resource as u32, base + names.code(resource) as i32));
                self.taken[resource] = true;
            }
        }
    }

    /// Adds the values of the attribute's own column.
    fn add_column(&mut self, leaf: &Leaf) -> Result<()> {
        let base = self.base_of(&leaf.values);
        let owners = leaf.owners.as_ref().ok_or_else(|| Error::internal("an attribute's column without owners"))?;
        let mut at = 0;
        while at < owners.of_value.len() {
            let owner = owners.of_value[at];
            let end = at + owners.of_value[at..].iter().take_while(|o| **o == owner).count();
            if !self.taken[owner as usize] {
                self.taken[owner as usize] = true;
                self.add(owner, &leaf.values, base, at, end);
            }
            at = end;
        }
        Ok(())
    }

    fn base_of(&mut self, values: &Dense) -> i32 {
        match values {
            Dense::Text(text) => self.dictionary(text),
            _ => 0,
        }
    }

    /// The generic attributes with this key whose owner has it in no column of its own. Of a repeated key the last counts.
    fn claim(&mut self, keys: &Leaf, key: &str) -> Result<Vec<Hit>> {
        let (Dense::Text(text), Some(owners)) = (&keys.values, &keys.owners) else {
            return Err(Error::internal("keys without owners"));
        };
        let mut wanted = vec![false; text.values.len()];
        codes_of(&text.values, key).into_iter().for_each(|code| wanted[code as usize] = true);
        let mut hits: Vec<Hit> = Vec::new();
        for (at, owner) in owners.of_value.iter().enumerate() {
            if wanted[text.code(at)] && !self.taken[*owner as usize] {
                let hit = Hit { attribute: at as u32, owner: *owner };
                match hits.last_mut() {
                    Some(earlier) if earlier.owner == *owner => *earlier = hit,
                    _ => hits.push(hit),
                }
            }
        }
        Ok(hits)
    }

    /// Adds the values that generic attributes have in one leaf; `done` is set for those that have some.
    fn add_generic(&mut self, leaf: &Leaf, hits: &[Hit], done: &mut [bool]) -> Result<()> {
        let owners = leaf.owners.as_ref().ok_or_else(|| Error::internal("attribute values without owners"))?;
        let attributes = &owners.of_value[..];
        if attributes.is_empty() {
            return Ok(());
        }
        let base = self.base_of(&leaf.values);
        // Few hits are looked up, many are merged.
        let look_up = hits.len() < attributes.len() / 16;
        let mut at = 0;
        for (hit, done) in hits.iter().zip(done) {
            at += match look_up {
                true => attributes[at..].partition_point(|a| *a < hit.attribute),
                false => attributes[at..].iter().take_while(|a| **a < hit.attribute).count(),
            };
            let end = at + attributes[at..].iter().take_while(|a| **a == hit.attribute).count();
            if end > at && !std::mem::replace(done, true) {
                self.add(hit.owner, &leaf.values, base, at, end);
            }
            at = end;
        }
        Ok(())
    }

    /// Adds the values that attributes of these owners have in one leaf; `done` is set for those that have some.
    fn add_picked(&mut self, Picked { values, of }: Picked, owners: &[u32], done: &mut [bool]) {
        let base = self.base_of(&values);
        let mut at = 0;
        while let Some(hit) = of.get(at).map(|hit| *hit as usize) {
            let end = at + 1 + of[at + 1..].iter().take_while(|other| **other as usize == hit).count();
            if !std::mem::replace(&mut done[hit], true) {
                self.add(owners[hit], &values, base, at, end);
            }
            at = end;
        }
    }

    /// Adds values `at..end` of a leaf: a scalar if it is one, an array otherwise.
    fn add(&mut self, owner: u32, values: &Dense, base: i32, at: usize, end: usize) {
        let single = end - at == 1;
        match values {
            Dense::Text(t) if single => self.strings.push((owner, base + t.code(at) as i32)),
            Dense::Text(t) => self.string_arrays.push(owner, (at..end).map(|i| base as u32 + t.code(i) as u32)),
            Dense::Int64(v) if single => self.ints.push((owner, v[at])),
            Dense::Int64(v) => self.int_arrays.push(owner, v[at..end].iter().copied()),
            Dense::Double(v) if single => self.doubles.push((owner, v[at])),
            Dense::Double(v) => self.double_arrays.push(owner, v[at..end].iter().copied()),
            Dense::Bool(v) if single => self.bools.push((owner, v[at] != 0)),
            Dense::Bool(v) => self.bool_arrays.push(owner, v[at..end].iter().map(|b| *b != 0)),
            Dense::Int32(_) | Dense::Bytes(_) => {} // no attribute leaf has these types
        }
    }

    /// Few values, the first of them NULL, and a code for each owner; `None` if there are more than [`CODED_VALUES_MAX`]
    /// values that are not texts.
    fn into_coded(self) -> Result<Option<(AnyColumn, Vec<u32>)>> {
        let mut codes = vec![0u32; self.taken.len()];
        let mut few = Self::new(0);
        let mut next = 1u32;
        let texts = self.dictionaries.iter().map(|d| d.len()).sum();
        let mut of_text = if self.strings.is_empty() { Vec::new() } else { vec![0u32; texts] };
        for (owner, text) in &self.strings {
            let code = &mut of_text[*text as usize];
            if *code == 0 {
                *code = next;
                few.strings.push((next, *text));
                next += 1;
            }
            codes[*owner as usize] = *code;
        }
        few.dictionaries = self.dictionaries;
        few.ints = coded_numbers(&self.ints, |v| v, &mut codes, &mut next);
        few.doubles = coded_numbers(&self.doubles, |v| v.to_bits() as i64, &mut codes, &mut next);
        few.bools = coded_numbers(&self.bools, i64::from, &mut codes, &mut next);
        let arrays = [self.string_arrays.of.len(), self.int_arrays.of.len(), self.double_arrays.of.len(), self.bool_arrays.of.len()];
        if few.ints.len() + few.doubles.len() + arrays.iter().sum::<usize>() > CODED_VALUES_MAX {
            return Ok(None);
        }
        few.string_arrays = self.string_arrays.coded(&mut codes, &mut next);
        few.int_arrays = self.int_arrays.coded(&mut codes, &mut next);
        few.double_arrays = self.double_arrays.coded(&mut codes, &mut next);
        few.bool_arrays = self.bool_arrays.coded(&mut codes, &mut next);
        few.taken = vec![false; next as usize];
        Ok(Some((few.finish()?, codes)))
    }

    fn finish(self) -> Result<AnyColumn> {
        let len = self.taken.len();
        let dictionary = match &self.dictionaries[..] {
            [] => None,
            [one] => Some(one.clone()),
            many => {
                let all = concat(&many.iter().map(|d| d as &dyn Array).collect::<Vec<_>>())?;
                Some(all.as_any().downcast_ref::<StringArray>().cloned().ok_or_else(|| Error::internal("strings became something else"))?)
            }
        };
        let strings = match (&dictionary, self.strings.is_empty()) {
            (Some(dictionary), false) => {
                let keys: Int32Array = scalars::<Int32Type>(len, &self.strings);
                Some(Arc::new(DictionaryArray::try_new(keys, Arc::new(dictionary.clone()))?) as ArrayRef)
            }
            _ => None,
        };
        let string_arrays = self.string_arrays.finish(len, |codes| match &dictionary {
            Some(dictionary) => Ok(take(dictionary, &UInt32Array::from(codes), None)?),
            None => Err(Error::internal("codes without a dictionary")),
        })?;
        let children = [
            strings,
            (!self.ints.is_empty()).then(|| Arc::new(scalars::<Int64Type>(len, &self.ints)) as ArrayRef),
            (!self.doubles.is_empty()).then(|| Arc::new(scalars::<Float64Type>(len, &self.doubles)) as ArrayRef),
            (!self.bools.is_empty()).then(|| Arc::new(booleans(len, &self.bools)) as ArrayRef),
            string_arrays,
            self.int_arrays.finish(len, |v| Ok(Arc::new(PrimitiveArray::<Int64Type>::from_iter_values(v))))?,
            self.double_arrays.finish(len, |v| Ok(Arc::new(PrimitiveArray::<Float64Type>::from_iter_values(v))))?,
            self.bool_arrays.finish(len, |v| Ok(Arc::new(BooleanArray::from(v))))?,
        ];
        Ok(AnyColumn { len, children })
    }
}

/// Gives each different number a code, from `next` on. Stops when there are too many.
fn coded_numbers<T: Copy>(found: &[(u32, T)], same: impl Fn(T) -> i64, codes: &mut [u32], next: &mut u32) -> Vec<(u32, T)> {
    let mut known: HashMap<i64, u32> = HashMap::new();
    let mut few = Vec::new();
    let mut last = None;
    for (owner, value) in found {
        let number = same(*value);
        let code = match last {
            Some((before, code)) if before == number => code,
            _ => *known.entry(number).or_insert_with(|| {
                few.push((*next, *value));
                *next += 1;
                *next - 1
            }),
        };
        last = Some((number, code));
        codes[*owner as usize] = code;
        if few.len() > CODED_VALUES_MAX {
            break;
        }
    }
    few
}

fn scalars<T: ArrowPrimitiveType>(len: usize, found: &[(u32, T::Native)]) -> PrimitiveArray<T> {
    let mut values = vec![T::Native::default(); len];
    let mut valid = vec![false; len];
    for (owner, value) in found {
        values[*owner as usize] = *value;
        valid[*owner as usize] = true;
    }
    PrimitiveArray::new(values.into(), Some(valid.into()))
}

fn booleans(len: usize, found: &[(u32, bool)]) -> BooleanArray {
    let (mut values, mut valid) = (vec![false; len], vec![false; len]);
    for (owner, value) in found {
        values[*owner as usize] = *value;
        valid[*owner as usize] = true;
    }
    BooleanArray::new(values.into(), Some(valid.into()))
}

/// Attribute values, one entry an owner: the children of [`any_value_type`], `None` for those without a value.
pub(super) struct AnyColumn {
    len: usize,
    children: [Option<ArrayRef>; 8],
}

impl AnyColumn {
    /// The entries at these places.
    pub fn take(&self, at: &UInt32Array) -> Result<Self> {
        let mut children = [const { None }; 8];
        for (to, from) in children.iter_mut().zip(&self.children) {
            *to = from.as_ref().map(|child| take(child, at, None)).transpose()?;
        }
        Ok(Self { len: at.len(), children })
    }

    /// The struct array. An entry is NULL if all children are.
    pub fn into_array(self) -> Result<ArrayRef> {
        let DataType::Struct(fields) = any_value_type() else { return Err(Error::internal("attribute values are not a struct")) };
        let mut valid = BooleanBuffer::new_unset(self.len);
        for child in self.children.iter().flatten() {
            valid = match child.logical_nulls() {
                Some(nulls) => &valid | nulls.inner(),
                None => BooleanBuffer::new_set(self.len),
            };
        }
        let children = self.children.into_iter().zip(&fields);
        let children = children.map(|(child, field)| child.unwrap_or_else(|| new_null_array(field.data_type(), self.len))).collect();
        Ok(Arc::new(StructArray::try_new_with_length(fields, children, Some(NullBuffer::new(valid)), self.len)?))
    }
}
