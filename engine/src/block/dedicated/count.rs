//! Counts the attributes of traces about to be written: one look at the key and the type of each, none at the values.
//!
//! Spans of one kind have the same keys in the same order, so each key remembers which one followed it last time. That guess is
//! mostly right and costs a comparison where a map would hash the key.

// Hashes faster than std's.
use datafusion::common::HashMap;

use super::{Usage, Usages, choose::KEY_BYTES_MAX};
use crate::{
    block::DedicatedScope,
    trace::{KeyValue, Trace, Value},
};

/// Keys that are counted, for each scope. The first that occur: of so many, none is on a large part of the spans.
const KEYS_MAX: usize = 10_000;

/// Counts that grow.
#[derive(Debug, Default)]
pub(super) struct Counter {
    scopes: [Keys; 3],
}

/// The keys of one scope.
#[derive(Debug, Default)]
struct Keys {
    elements: u64,
    places: HashMap<Box<str>, usize>,
    counts: Vec<Count>,
    /// The first key of the last element.
    first: usize,
}

#[derive(Debug, Default)]
struct Count {
    key: Box<str>,
    strings: u64,
    string_bytes: u64,
    ints: u64,
    others: u64,
    /// The key that followed last time.
    next: usize,
}

impl Counter {
    /// Adds the attributes of a trace's resources, spans and events.
    pub fn add(&mut self, trace: &Trace) {
        for rs in &trace.resource_spans {
            if let Some(resource) = &rs.resource {
                self.element(DedicatedScope::Resource, &resource.attributes);
            }
            for span in rs.scope_spans.iter().flat_map(|ss| &ss.spans) {
                self.element(DedicatedScope::Span, &span.attributes);
                for event in &span.events {
                    self.element(DedicatedScope::Event, &event.attributes);
                }
            }
        }
    }

    fn element(&mut self, scope: DedicatedScope, attributes: &[KeyValue]) {
        let keys = &mut self.scopes[scope as usize];
        keys.elements += 1;
        let mut last = None;
        for attribute in attributes {
            let guess = last.map_or(keys.first, |last: usize| keys.counts[last].next);
            let Some(at) = keys.place(&attribute.key, guess) else { continue };
            match last {
                Some(last) => keys.counts[last].next = at,
                None => keys.first = at,
            }
            last = Some(at);
            keys.counts[at].add(attribute);
        }
    }

    /// What was counted.
    pub fn finish(self) -> Usages {
        let scopes = [DedicatedScope::Span, DedicatedScope::Resource, DedicatedScope::Event];
        let mut usages = Usages::default();
        for scope in scopes {
            let Keys { elements, counts, .. } = &self.scopes[scope as usize];
            usages.elements[scope as usize] = *elements;
            usages.of.extend(counts.iter().map(|c| Usage {
                scope,
                key: c.key.clone(),
                strings: c.strings,
                string_bytes: c.string_bytes,
                ints: c.ints,
                others: c.others,
            }));
        }
        usages
    }
}

impl Keys {
    /// The place of a key; `None` if it is not counted.
    fn place(&mut self, key: &str, guess: usize) -> Option<usize> {
        if self.counts.get(guess).is_some_and(|count| *count.key == *key) {
            return Some(guess);
        }
        if let Some(at) = self.places.get(key) {
            return Some(*at);
        }
        let at = self.counts.len();
        if at == KEYS_MAX || key.len() > KEY_BYTES_MAX {
            return None;
        }
        self.places.insert(key.into(), at);
        self.counts.push(Count { key: key.into(), ..Count::default() });
        Some(at)
    }
}

impl Count {
    fn add(&mut self, attribute: &KeyValue) {
        match attribute.value.as_ref().and_then(|v| v.value.as_ref()) {
            Some(Value::StringValue(text)) => {
                self.strings += 1;
                self.string_bytes += text.len() as u64;
            }
            Some(Value::IntValue(_)) => self.ints += 1,
            _ => self.others += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{
        Event, Span,
        builder::{array, attributes, int, resource, scope, span, text, trace},
    };

    #[test]
    fn attributes_are_counted_by_scope_key_and_type() {
        let with = |pairs: Vec<(&'static str, Value)>| Span { attributes: attributes(pairs), ..span(1, 0) };
        let events = vec![Event { attributes: attributes([("a", int(1))]), ..Event::default() }; 2];
        let spans = [
            with(vec![("a", text("xyz")), ("b", int(1)), ("c", array([text("x")]))]),
            with(vec![("b", int(2)), ("a", text("x"))]),
            Span { events, ..with(vec![("b", text("y")), ("d", Value::BoolValue(true))]) },
            with(vec![]),
        ];
        let mut counter = Counter::default();
        counter.add(&trace([resource([("r", text("zz"))], [scope("", [("s", int(1))], spans)]), resource([], [])]));
        let usages = counter.finish();
        assert_eq!(usages.elements, [4, 2, 2]);
        let found: Vec<_> = usages.of.iter().map(|u| (u.scope, &*u.key, [u.strings, u.string_bytes, u.ints, u.others])).collect();
        use DedicatedScope::{Event as OnEvent, Resource, Span as OnSpan};
        let due = [
            (OnSpan, "a", [2, 4, 0, 0]),
            (OnSpan, "b", [1, 1, 2, 0]),
            (OnSpan, "c", [0, 0, 0, 1]),
            (OnSpan, "d", [0, 0, 0, 1]),
            (Resource, "r", [1, 2, 0, 0]),
            (OnEvent, "a", [0, 0, 2, 0]),
        ];
        assert_eq!(found, due);
    }

    #[test]
    fn keys_beyond_the_bound_are_not_counted() {
        let names: Vec<String> = (0..=KEYS_MAX).map(|i| format!("k{i}")).collect();
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        let all = std::iter::once(&long).chain(&names).map(|name| (name.as_str(), int(1)));
        let mut counter = Counter::default();
        for _ in 0..2 {
            counter.add(&trace([resource([], [scope("", [], [Span { attributes: attributes(all.clone()), ..span(1, 0) }])])]));
        }
        let usages = counter.finish();
        assert_eq!(usages.of.len(), KEYS_MAX);
        assert!(usages.of.iter().all(|u| u.ints == 2 && u.key.len() < 10));
    }
}
