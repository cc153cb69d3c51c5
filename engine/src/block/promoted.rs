//! Which attributes have a column of their own in a block: those of `meta.dedicated_columns`, and vParquet4's fixed ones.

use super::{
    BlockMeta, DedicatedColumn, DedicatedScope, DedicatedType, Version,
    leaves::{Leaves, STATIC_COLUMNS, dedicated_limits, scope_path},
};
use crate::{
    error::{Error, Result},
    scan::AttributeScope,
};

/// An attribute with a column of its own. A value of another type is among the generic attributes all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Promoted {
    pub scope: AttributeScope,
    pub key: String,
    /// Logical path of the column.
    pub path: String,
    /// Integers; text otherwise.
    pub int: bool,
}

/// All attributes with a column of their own. Fails if the file lacks a column that `meta.json` says it has.
pub(super) fn promoted(meta: &BlockMeta, version: Version, leaves: &Leaves) -> Result<Vec<Promoted>> {
    let mut all = Vec::new();
    let scopes = [
        (AttributeScope::Resource, DedicatedScope::Resource),
        (AttributeScope::Span, DedicatedScope::Span),
        (AttributeScope::Event, DedicatedScope::Event),
    ];
    for (scope, dedicated) in scopes {
        let (strings, ints) = dedicated_limits(version, scope);
        for (kind, name, limit) in [(DedicatedType::String, "String", strings), (DedicatedType::Int, "Int", ints)] {
            let of_kind = |c: &&DedicatedColumn| c.scope == dedicated && c.kind == kind;
            // Entries over the limit have no column; their values are among the generic attributes.
            for (i, column) in meta.dedicated_columns.iter().filter(of_kind).take(limit).enumerate() {
                let path = format!("{}.DedicatedAttributes.{name}{:02}", scope_path(scope).0, i + 1);
                if leaves.get(&path).is_none() {
                    return Err(Error::data(format!("column {path} of attribute {:?} is missing", column.name)));
                }
                all.push(Promoted { scope, key: column.name.clone(), path, int: kind == DedicatedType::Int });
            }
        }
    }
    if version < Version::V5 {
        all.extend(STATIC_COLUMNS.map(|(scope, key, path, int)| Promoted { scope, key: key.to_owned(), path: path.to_owned(), int }));
    }
    Ok(all)
}
