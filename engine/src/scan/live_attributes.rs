//! Whole sets of attributes of live traces, and of what else comes as records, in codes.

use super::value_counts::{AttributeTable, CodedAttributes, Scalar};
use crate::{error::Result, trace::KeyValue};

/// The attributes of things in codes; of a repeated key the last counts. With each thing comes its number of spans, or nothing if
/// the things are spans.
pub(crate) fn coded_records<A: AsRef<[KeyValue]>>(things: impl Iterator<Item = (A, Option<u32>)>) -> Result<CodedAttributes> {
    let mut table = AttributeTable::default();
    let (mut of, mut codes) = (Vec::new(), Vec::new());
    let (mut starts, mut spans) = (vec![0], 0);
    let mut seen: Vec<u32> = Vec::new();
    for (thing, (attributes, own)) in things.enumerate() {
        seen.clear();
        for attribute in attributes.as_ref().iter().rev() {
            let key = table.key(&attribute.key);
            if !seen.contains(&key) {
                seen.push(key);
                of.push(thing as u32);
                codes.push(table.number(key, Scalar::of(attribute.value.as_ref().and_then(|v| v.value.as_ref()))));
            }
        }
        if let Some(own) = own {
            spans += own;
            starts.push(spans);
        }
    }
    let starts = (starts.len() > 1).then(|| starts.into()); // no thing at all: no span either
    Ok(CodedAttributes { attributes: table.to_array()?, things: of, codes, starts })
}
