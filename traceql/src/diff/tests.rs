//! Two traces side by side, and what is told of them.

use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status},
};
use tracehouse_engine::TraceId;

use super::*;

const MS: u64 = 1_000_000;

fn attribute(key: &str, value: Any) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// A span: id, parent's id, name, start and length in milliseconds.
fn span(id: u8, parent: u8, name: &str, start: u64, length: u64) -> Span {
    let parent_span_id = if parent == 0 { Vec::new() } else { vec![parent; 8] };
    let (start_time_unix_nano, end_time_unix_nano) = ((1000 + start) * MS, (1000 + start + length) * MS);
    Span {
        span_id: vec![id; 8],
        parent_span_id,
        name: name.to_owned(),
        kind: 2,
        start_time_unix_nano,
        end_time_unix_nano,
        ..Span::default()
    }
}

fn trace(id: u8, services: Vec<(&str, Vec<Span>)>) -> Trace {
    let resource_spans = services.into_iter().map(|(service, spans)| ResourceSpans {
        resource: Some(Resource {
            attributes: vec![attribute("service.name", Any::StringValue(service.to_owned()))],
            ..Default::default()
        }),
        scope_spans: vec![ScopeSpans { spans, ..Default::default() }],
        ..Default::default()
    });
    Trace { id: TraceId([id; 16]), resource_spans: resource_spans.collect() }
}

fn told(base: &Trace, compare: &Trace, format: Format) -> Value {
    serde_json::from_str(&diff(base, compare, format).unwrap()).unwrap()
}

/// A page that asks a shop, which asks a database twice.
fn page(id: u8) -> Trace {
    let shop = vec![span(id + 1, id, "list", 10, 80), span(id + 2, id + 1, "query", 20, 10), span(id + 3, id + 1, "query", 40, 10)];
    trace(id, vec![("web", vec![span(id, 0, "page", 0, 100)]), ("shop", shop)])
}

fn of_shop(trace: &mut Trace) -> &mut Vec<Span> {
    &mut trace.resource_spans[1].scope_spans[0].spans
}

#[test]
fn equal_traces_do_not_differ_whatever_their_ids_and_order() {
    let mut other = page(20);
    of_shop(&mut other).reverse();
    other.resource_spans.reverse();
    let patch = told(&page(1), &other, Format::Patch);
    assert_eq!(patch["base"], json!({ "traceId": "01".repeat(16), "spanCount": 4 }));
    assert_eq!((&patch["stats"]["matchedSpans"], &patch["stats"]["modifiedSpans"]), (&json!(4), &json!(0)), "{patch}");
    for list in ["modified", "added", "removed", "warnings"] {
        assert_eq!(patch[list], json!([]), "{list}");
    }
    let summary = told(&page(1), &other, Format::Summary);
    assert_eq!(
        summary["signals"],
        json!({ "traceLatency": "unchanged", "sumSpanDuration": "unchanged", "errors": "unchanged", "spanCount": "unchanged", "structure": "unchanged" })
    );
    assert_eq!(summary["trust"], json!({ "matchedSpanRatio": 1.0, "structureOverlap": 1.0 }));
    assert_eq!((&summary["changedServices"], &summary["services"]), (&json!([]), &json!([])));
    assert_eq!(summary["base"]["durationMs"], 100);
    assert_eq!(summary["base"]["sumSpanDurationMs"], 200);
    assert_eq!((&summary["base"]["rootService"], &summary["base"]["rootName"]), (&json!("web"), &json!("page")));
}

#[test]
fn each_kind_of_change_is_told_where_it_is() {
    let (mut before, mut after) = (page(1), page(20));
    // The first query takes longer, the second fails; a third is new and the page has another attribute.
    of_shop(&mut after)[1].end_time_unix_nano += 15 * MS;
    of_shop(&mut after)[2].status = Some(Status { code: 2, message: String::new() });
    of_shop(&mut after).push(span(40, 21, "query", 60, 10));
    let size = |n| attribute("http.response.body.size", Any::IntValue(n));
    let page_of = |t: &mut Trace, attributes| t.resource_spans[0].scope_spans[0].spans[0].attributes = attributes;
    page_of(&mut before, vec![size(1000), attribute("user", Any::StringValue("a".to_owned())), attribute("gone", Any::BoolValue(true))]);
    page_of(&mut after, vec![size(1040), attribute("user", Any::StringValue("b".to_owned())), attribute("new", Any::IntValue(1))]);
    let patch = told(&before, &after, Format::Patch);
    let target = |key: &str| json!({ "type": "attribute", "scope": "span", "key": key });
    assert_eq!(
        patch["modified"],
        json!([
            { "span": { "path": [0], "service": "web", "name": "page", "kind": "server" }, "changes": [
                { "op": "remove", "target": target("gone"), "before": true, "after": null },
                { "op": "add", "target": target("new"), "before": null, "after": 1 },
                { "op": "modify", "target": target("user"), "before": "a", "after": "b" } ] },
            { "span": { "path": [0, 0, 0], "service": "shop", "name": "query", "kind": "server" }, "changes": [
                { "op": "modify", "target": { "type": "field", "name": "duration_nanos" }, "before": 10_000_000, "after": 25_000_000 } ] },
            { "span": { "path": [0, 0, 1], "service": "shop", "name": "query", "kind": "server" }, "changes": [
                { "op": "modify", "target": { "type": "field", "name": "status" }, "before": "unset", "after": "error" } ] },
        ])
    );
    let new =
        json!({ "path": [0, 0, 2], "service": "shop", "name": "query", "kind": "server", "duration_nanos": 10_000_000, "status": "unset" });
    assert_eq!(patch["added"], json!([{ "target": { "type": "span", "parentPath": [0, 0], "index": 2 }, "span": new }]));
    assert_eq!(patch["removed"], json!([]));
    assert_eq!((&patch["stats"]["fieldChanges"], &patch["stats"]["attributeChanges"]), (&json!(2), &json!(3)));
    // The other way round it was removed.
    let back = told(&after, &before, Format::Patch);
    assert_eq!(back["removed"], json!([{ "target": { "type": "span", "path": [0, 0, 2] }, "span": new }]));
    let summary = told(&before, &after, Format::Summary);
    assert_eq!(summary["changedServices"], json!(["shop", "web"]));
    let services = summary["services"].as_array().unwrap();
    assert_eq!(
        services[0],
        json!({ "name": "shop", "sumSpanDurationDeltaMs": 25, "modified": 2, "added": 1, "removed": 0, "newErrors": 1, "resolvedErrors": 0 })
    );
    assert_eq!((&summary["signals"]["structure"], &summary["signals"]["errors"]), (&json!("changed"), &json!("increased")));
    assert_eq!((&summary["trust"]["matchedSpanRatio"], &summary["trust"]["structureOverlap"]), (&json!(0.8), &json!(1.0)));
}

#[test]
fn a_span_keeps_its_partner_when_one_is_put_above_it() {
    let mut after = page(20);
    // "cache" stands between the list and its first query, which is older than the second.
    of_shop(&mut after)[1].parent_span_id = vec![50; 8];
    of_shop(&mut after).push(span(50, 21, "cache", 19, 12));
    let patch = told(&page(1), &after, Format::Patch);
    assert_eq!(patch["modified"], json!([]), "{patch}");
    assert_eq!(patch["added"].as_array().unwrap().len(), 1);
    assert_eq!((&patch["added"][0]["span"]["name"], &patch["added"][0]["target"]["index"]), (&json!("cache"), &json!(0)));
    assert_eq!(told(&page(1), &after, Format::Summary)["signals"]["structure"], "changed");
}

#[test]
fn slower_everywhere_is_seen_in_the_sum() {
    let mut after = page(20);
    for span in of_shop(&mut after) {
        let length = span.end_time_unix_nano - span.start_time_unix_nano;
        span.end_time_unix_nano += length / 10;
    }
    let summary = told(&page(1), &after, Format::Summary);
    assert_eq!(summary["stats"]["modifiedSpans"], 0);
    assert_eq!((&summary["services"][0]["name"], &summary["services"][0]["sumSpanDurationDeltaMs"]), (&json!("shop"), &json!(10)));
}

#[test]
fn strange_trees_end_and_are_warned_of() {
    let circle =
        trace(1, vec![("web", vec![span(1, 2, "a", 0, 5), span(2, 1, "b", 1, 5), span(3, 3, "self", 2, 1), span(4, 9, "orphan", 3, 1)])]);
    let patch = told(&circle, &circle, Format::Patch);
    assert_eq!((&patch["stats"]["matchedSpans"], &patch["stats"]["modifiedSpans"]), (&json!(4), &json!(0)), "{patch}");
    let mut shared = page(1);
    of_shop(&mut shared)[0].span_id = vec![1; 8];
    assert_eq!(told(&shared, &shared, Format::Patch)["stats"]["matchedSpans"], 4);
    let mut broken = page(20);
    of_shop(&mut broken)[1].end_time_unix_nano = 1;
    of_shop(&mut broken)[2].name = "query 4f1c09a2bd".to_owned();
    let patch = told(&page(1), &broken, Format::Patch);
    let codes: Vec<&str> = patch["warnings"].as_array().unwrap().iter().map(|w| w["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["high_cardinality_span_name", "invalid_duration"]);
    let duration = &patch["modified"][0]["changes"][0];
    assert_eq!((&duration["before"], &duration["after"]), (&json!(10_000_000), &Value::Null));
    assert!(
        has_an_id("GET /users/123456") && has_an_id("job 4f1c09a2bd") && !has_an_id("GET /feedback/v12345") && !has_an_id("decade facade")
    );
}

#[test]
fn a_long_patch_is_left_out_and_a_deep_one_refused() {
    let small = told(&page(1), &page(20), Format::Composed);
    assert_eq!((&small["version"], &small["patch"]["version"]), (&json!("trace-summary-v0-composed"), &json!("trace-patch-v0")));
    let ids = |n: u32| n.to_be_bytes().repeat(2);
    let chain = |count: u32| {
        let spans = (1..=count).map(|n| Span {
            span_id: ids(n),
            parent_span_id: if n > 1 { ids(n - 1) } else { Vec::new() },
            ..span(1, 0, &format!("s{n}"), n.into(), 1)
        });
        trace(1, vec![("web", spans.collect())])
    };
    let long = told(&page(1), &chain(600), Format::Composed);
    assert!(long.get("patch").is_none() && long["patchOmitted"]["bytes"].as_u64().unwrap() > 64 * 1024, "{}", long["patchOmitted"]);
    let deep = chain(5000);
    assert_eq!(diff(&page(1), &deep, Format::Patch).unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(told(&page(1), &deep, Format::Composed)["patchOmitted"]["reason"], "over_budget");
    assert_eq!(told(&deep, &deep, Format::Patch)["stats"]["matchedSpans"], 5000);
}
