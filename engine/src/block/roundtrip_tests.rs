//! Any trace at all -> a block of each version -> the same trace, and the same columns in a scan.

use std::{path::Path, sync::Arc};

use proptest::prelude::*;

use super::{
    BlockMeta, BlockVersion, DedicatedColumn, DedicatedScope, DedicatedType, Version,
    read_tests::{block_on, differences},
    v3_tests,
    write_tests::{resource_spans, write},
};
use crate::{
    Engine,
    config::Config,
    derive::{as_answered, as_stored, normalize},
    scan::prepare,
    store::BlockStore,
    tenant::TenantId,
    trace::{AnyValue, ArrayValue, KeyValue, Trace, TraceId, Value},
};

const VERSIONS: [Version; 3] = [Version::V3, Version::V4, Version::V5];

/// The defaults, and columns of all scopes, types and options for the keys that the generated traces use.
fn dedicated() -> Vec<DedicatedColumn> {
    use {
        DedicatedScope::{Event, Resource, Span},
        DedicatedType::{Int, String},
    };
    let mut columns = DedicatedColumn::defaults();
    columns.extend([
        DedicatedColumn { options: vec!["blob".to_owned()], ..DedicatedColumn::new(Span, "b", String) },
        DedicatedColumn::new(Span, "b", Int),
        DedicatedColumn::new(Resource, "a", String),
        DedicatedColumn::new(Resource, "b", Int),
        DedicatedColumn::new(Event, "a", String),
        DedicatedColumn::new(Event, "b", Int),
        DedicatedColumn::new(Event, "b", String),
    ]);
    columns
}

/// What a version keeps of a trace, read off `docs/format.md`: all but this.
///
/// - All versions: schema URLs, entities, flags of spans and links (`as_stored`). Missing resources, scopes, statuses and
///   values come back empty; groups that are equal come back as one.
/// - vParquet5: in a dedicated column an array of one is the same as its element.
/// - vParquet3: attributes and dropped counts of instrumentation scopes, dropped counts of resources, and values that are
///   bytes outside of events and links.
fn kept(trace: &Trace, version: Version, columns: &[DedicatedColumn]) -> Trace {
    let mut trace = as_stored(trace, version, &[]);
    if version == Version::V5 {
        unwrap_dedicated(&mut trace, columns);
    }
    for rs in &mut trace.resource_spans {
        let resource = rs.resource.get_or_insert_default();
        if version == Version::V3 {
            resource.dropped_attributes_count = 0;
            resource.attributes.iter_mut().for_each(lose_bytes);
        }
        for ss in &mut rs.scope_spans {
            let scope = ss.scope.get_or_insert_default();
            if version == Version::V3 {
                scope.dropped_attributes_count = 0;
                scope.attributes.clear();
            }
            for span in &mut ss.spans {
                span.status.get_or_insert_default();
                if version == Version::V3 {
                    span.attributes.iter_mut().for_each(lose_bytes);
                }
            }
        }
    }
    trace
}

fn lose_bytes(attribute: &mut KeyValue) {
    if matches!(attribute.value, Some(AnyValue { value: Some(Value::BytesValue(_)) })) {
        attribute.value = Some(AnyValue::default());
    }
}

/// Makes arrays of one scalars, where the last value of a key goes to a dedicated column of its type.
fn unwrap_dedicated(trace: &mut Trace, columns: &[DedicatedColumn]) {
    let unwrap = |attributes: &mut Vec<KeyValue>, scope| {
        for column in columns.iter().filter(|c| c.scope == scope) {
            let Some(at) = attributes.iter().rposition(|kv| kv.key == column.name) else { continue };
            let Some(AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) }) = &attributes[at].value else { continue };
            match (column.kind, values.as_slice()) {
                (DedicatedType::String, [one @ AnyValue { value: Some(Value::StringValue(_)) }])
                | (DedicatedType::Int, [one @ AnyValue { value: Some(Value::IntValue(_)) }]) => attributes[at].value = Some(one.clone()),
                _ => {}
            }
        }
    };
    for rs in &mut trace.resource_spans {
        rs.resource.iter_mut().for_each(|r| unwrap(&mut r.attributes, DedicatedScope::Resource));
        for span in rs.scope_spans.iter_mut().flat_map(|ss| &mut ss.spans) {
            unwrap(&mut span.attributes, DedicatedScope::Span);
            span.events.iter_mut().for_each(|e| unwrap(&mut e.attributes, DedicatedScope::Event));
        }
    }
}

fn each_attributes(trace: &mut Trace, mut work: impl FnMut(&mut Vec<KeyValue>)) {
    for rs in &mut trace.resource_spans {
        rs.resource.iter_mut().for_each(|r| work(&mut r.attributes));
        for ss in &mut rs.scope_spans {
            ss.scope.iter_mut().for_each(|s| work(&mut s.attributes));
            for span in &mut ss.spans {
                work(&mut span.attributes);
                span.events.iter_mut().for_each(|e| work(&mut e.attributes));
                span.links.iter_mut().for_each(|l| work(&mut l.attributes));
            }
        }
    }
}

/// As text, since not-a-number differs from itself; attributes by key, because those with columns come last. No value and an
/// empty one are the same.
fn show(mut trace: Trace) -> String {
    each_attributes(&mut trace, |attributes| {
        attributes.sort_by(|a, b| a.key.cmp(&b.key));
        attributes.iter_mut().for_each(|kv| _ = kv.value.get_or_insert_default());
    });
    format!("{trace:#?}")
}

/// Writes a block of a version.
pub(super) fn write_version(root: &Path, version: Version, traces: &[Arc<Trace>]) -> BlockMeta {
    let normal: Vec<Trace> = traces.iter().map(|t| normalize(t)).collect();
    let config = |block_version| Config { block_version, row_group_values: 1_000_000, ..Config::default() };
    match version {
        Version::V3 => v3_tests::write(root, dedicated(), &normal.iter().collect::<Vec<_>>()),
        Version::V4 => write(root, &config(BlockVersion::V4), dedicated(), traces.to_vec()).unwrap().1,
        Version::V5 => write(root, &config(BlockVersion::V5), dedicated(), traces.to_vec()).unwrap().1,
    }
}

fn check(version: Version, traces: &[Arc<Trace>]) -> Result<(), TestCaseError> {
    let root = tempfile::tempdir().unwrap();
    let meta = write_version(root.path(), version, traces);
    prop_assert_eq!(meta.version().unwrap(), version);
    let engine = Engine::new(BlockStore::open_local(root.path(), false).unwrap(), Config::default());
    let tenant = TenantId::single();
    block_on(engine.poll()).unwrap();
    for trace in traces {
        let found = block_on(engine.find_trace(&tenant, trace.id, None)).unwrap().trace.unwrap();
        let mut due = kept(trace, version, &meta.dedicated_columns);
        as_answered(&mut due, version, &meta.dedicated_columns);
        let (found, due) = (show(found), show(due));
        if let Some((at, (f, d))) = found.lines().zip(due.lines()).enumerate().find(|(_, (f, d))| f != d) {
            let above: Vec<&str> = found.lines().take(at).skip(at.saturating_sub(40)).collect();
            prop_assert!(false, "{version:?}, below\n{}\n block {f}\ntraces {d}", above.join("\n"));
        }
        prop_assert_eq!(found.len(), due.len());
    }
    // The same in columns.
    let folder = root.path().join(tenant.as_str()).join(meta.block_id.to_string());
    let kept: Vec<_> = traces.iter().map(|t| prepare(&kept(t, version, &meta.dedicated_columns))).collect();
    for (column, id, found, due) in block_on(differences(&folder, &kept)).unwrap() {
        prop_assert!(false, "{version:?} {} {id}:\n block {found:?}\ntraces {due:?}", column.name());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_trace_comes_back(
        groups in prop::collection::btree_map(any::<[u8; 16]>(), prop::collection::vec(resource_spans(), 0..3), 1..4),
    ) {
        let mut traces = Vec::new();
        for (id, mut resource_spans) in groups {
            for span in resource_spans.iter_mut().flat_map(|rs| &mut rs.scope_spans).flat_map(|ss| &mut ss.spans) {
                span.trace_id = id.to_vec();
            }
            traces.push(Arc::new(Trace { id: TraceId(id), resource_spans }));
        }
        for version in VERSIONS {
            check(version, &traces)?;
        }
    }
}
