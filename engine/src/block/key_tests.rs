//! Attributes found by comparing codes, and their values picked out of pages, against all levels decoded: in all encodings and
//! page versions, of random attributes, and of damaged pages.

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::{
    Version,
    keys::{Keys, pick},
    leaf::Leaf,
    leaf_tests::{Chunk, chunks, files, show},
    rewrite_tests::{rewrite, ways},
    roundtrip_tests::write_version,
    values::Dense,
    write_tests::resource_spans,
};
use crate::{
    tenant::TenantId,
    trace::{Trace, TraceId},
};

const SCOPES: [&str; 4] = ["rs.Resource", "rs.ss.Scope", "rs.ss.Spans", "rs.ss.Spans.Events"];
const VALUES: [&str; 4] = ["Value", "ValueInt", "ValueDouble", "ValueBool"];

/// The leaves of a scope's attributes: keys, and values of each type.
fn attribute_chunks(file: &[u8], version: Version, scope: &str) -> (Chunk, Vec<Chunk>) {
    let paths: Vec<String> = ["Key"].iter().chain(&VALUES).map(|leaf| format!("{scope}.Attrs.{leaf}")).collect();
    let mut chunks = chunks(file, version, &paths.iter().map(String::as_str).collect::<Vec<_>>());
    let values = chunks.split_off(1);
    (chunks.remove(0), values)
}

fn whole(chunk: &Chunk, depth: u32) -> (Vec<String>, Vec<u32>, usize) {
    let Leaf { values, owners } = chunk.pages().decode(Some(depth)).unwrap();
    let owners = owners.unwrap();
    (show(&values), owners.of_value, owners.count)
}

/// Checks each key of a scope. Gives the number of keys that were searched as codes, and of arrays found.
fn check(file: &[u8], version: Version, scope: &str) -> (usize, usize) {
    let (keys, values) = attribute_chunks(file, version, scope);
    let (texts, owners, count) = whole(&keys, keys.column.depth - 1);
    let Some(found) = Keys::decode(&keys.pages(), count).unwrap() else { return (0, 0) };
    let whole: Vec<_> = values.iter().map(|leaf| whole(leaf, leaf.column.depth)).collect();
    let mut last: BTreeMap<&str, BTreeMap<u32, u32>> = BTreeMap::new();
    for (attribute, (key, owner)) in texts.iter().zip(&owners).enumerate() {
        last.entry(key).or_default().insert(*owner, attribute as u32);
    }
    let (mut arrays, mut taken) = (0, vec![false; count]);
    for (number, (key, attributes)) in last.iter().enumerate() {
        // Of every second key some owners are not asked for.
        taken.iter_mut().enumerate().for_each(|(owner, taken)| *taken = number % 2 == 1 && owner % 3 == 0);
        let due: Vec<(u32, u32)> = attributes.iter().map(|(o, a)| (*o, *a)).filter(|(o, _)| !taken[*o as usize]).collect();
        let hits = found.hits(key, &taken);
        assert_eq!(hits.owners, due.iter().map(|(owner, _)| *owner).collect::<Vec<_>>(), "{key}");
        for (leaf, (shown, of_value, _)) in values.iter().zip(&whole) {
            let picked = pick(&leaf.pages(), found.entries(), &hits.entries).unwrap();
            let mut of_hit = vec![Vec::new(); due.len()];
            picked.of.iter().zip(show(&picked.values)).for_each(|(hit, value)| of_hit[*hit as usize].push(value));
            for (found, (_, attribute)) in of_hit.iter().zip(&due) {
                let (from, to) = (of_value.partition_point(|a| a < attribute), of_value.partition_point(|a| a <= attribute));
                assert_eq!(found, &shown[from..to], "{key}");
                arrays += usize::from(found.len() > 1);
            }
        }
    }
    assert_eq!(found.hits("no such key", &taken).entries.len(), 0);
    (last.len(), arrays)
}

#[test]
fn values_by_key_are_those_of_the_whole_leaves() {
    let (mut keys, mut arrays) = (0, 0);
    for (what, version, file) in files() {
        for scope in SCOPES {
            let found = std::panic::catch_unwind(|| check(&file, version, scope)).unwrap_or_else(|_| panic!("{what}, {scope}"));
            (keys, arrays) = (keys + found.0, arrays + found.1);
        }
    }
    assert!(keys > 1000 && arrays > 100, "{keys} keys, {arrays} arrays");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_attributes_are_found(
        groups in prop::collection::btree_map(any::<[u8; 16]>(), prop::collection::vec(resource_spans(), 0..3), 1..6),
        way in any::<prop::sample::Index>(),
    ) {
        let traces: Vec<_> = groups.into_iter().map(|(id, resource_spans)| Arc::new(Trace { id: TraceId(id), resource_spans })).collect();
        for version in [Version::V4, Version::V5] {
            let root = tempfile::tempdir().unwrap();
            let meta = write_version(root.path(), version, &traces);
            let folder = root.path().join(TenantId::single().as_str()).join(meta.block_id.to_string());
            let data = std::fs::read(folder.join("data.parquet")).unwrap();
            let ways = ways(&data);
            let other = rewrite(&data, ways[way.index(ways.len())].1.clone());
            for (file, scope) in [&data, &other].into_iter().flat_map(|file| SCOPES.map(|scope| (file, scope))) {
                check(file, version, scope);
            }
        }
    }
}

/// Damage is an error or gives as many values as it says, of attributes that were asked for.
#[test]
fn damaged_pages_never_panic() {
    for (i, (_, version, file)) in files().into_iter().enumerate().step_by(3) {
        let (mut keys, values) = attribute_chunks(&file, version, SCOPES[i % 3]);
        let (_, _, count) = whole(&keys, keys.column.depth - 1);
        let sound = keys.segments[0].to_vec();
        let entries = keys.entries;
        for at in (i % 31..sound.len()).step_by(37) {
            let mut bytes = sound.clone();
            bytes[at] = bytes[at].wrapping_add(1 + (at % 255) as u8);
            keys.segments = vec![bytes.into()];
            if let Ok(Some(keys)) = Keys::decode(&keys.pages(), count) {
                let hits = keys.hits("a", &vec![false; count]);
                assert!(hits.owners.is_sorted() && hits.owners.iter().all(|o| (*o as usize) < count));
                assert!(hits.entries.is_sorted() && hits.entries.iter().all(|e| (*e as usize) < entries));
            }
        }
        let wanted: Vec<u32> = (0..entries as u32).step_by(3).collect();
        for mut leaf in values {
            let sound = leaf.segments[0].to_vec();
            for at in (i % 29..sound.len()).step_by(61) {
                let mut bytes = sound.clone();
                bytes[at] = bytes[at].wrapping_add(1 + (at % 255) as u8);
                leaf.segments = vec![bytes.into()];
                if let Ok(picked) = pick(&leaf.pages(), entries, &wanted) {
                    assert!(picked.of.is_sorted() && picked.of.iter().all(|hit| (*hit as usize) < wanted.len()));
                    assert_eq!(picked.values.len(), picked.of.len());
                    assert!(!matches!(picked.values, Dense::Bytes(_)));
                }
            }
        }
    }
}
