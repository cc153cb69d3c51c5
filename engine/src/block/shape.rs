//! The shape of a row group: which spans are in which scope, resource and trace. Decoded once, from one leaf; all other
//! leaves of the same depth have one value for each thing, in the same order.

use std::{ops::Range, sync::OnceLock};

use arrow::{array::UInt32Array, buffer::ScalarBuffer};
use bytes::Bytes;

use super::{leaf::Levels, leaves::depth, owners::count_where, page_index::RowRanges, values::Dense};
use crate::{
    error::{Error, Result},
    scan::spread,
};

/// Which spans belong together. Traces, resources, scopes and spans are numbered in stored order.
#[derive(Debug, Default)]
pub(super) struct Shape {
    /// Number of traces, resources, scopes and spans.
    counts: [usize; 4],
    lists: OnceLock<Lists>,
    /// Where no list is empty.
    full: Option<SpanCounts>,
    first_of_scope: OnceLock<ScalarBuffer<u32>>,
    first_of_resource: OnceLock<ScalarBuffer<u32>>,
    first_of_trace: OnceLock<ScalarBuffer<u32>>,
    scope_of_trace: OnceLock<Vec<u32>>,
    scope_of_span: OnceLock<UInt32Array>,
    resource_of_span: OnceLock<UInt32Array>,
    trace_of_span: OnceLock<UInt32Array>,
}

/// The shape of a row group without an empty list, as short as it can be said: five bytes a scope.
#[derive(Clone, Debug)]
pub(super) struct SpanCounts {
    counts: [usize; 4],
    /// The repetition level of each scope.
    reps: Bytes,
    /// Each scope's number of spans.
    spans: ScalarBuffer<i32>,
}

impl SpanCounts {
    /// Its size in memory in bytes.
    pub fn size(&self) -> usize {
        self.reps.len() + self.spans.len() * size_of::<i32>()
    }
}

impl From<SpanCounts> for Shape {
    fn from(full: SpanCounts) -> Self {
        Self { counts: full.counts, full: Some(full), ..Self::default() }
    }
}

/// The members of each list.
#[derive(Debug)]
struct Lists {
    /// First resource of each trace, and the number of resources.
    resources: Vec<u32>,
    /// First scope of each resource, and the number of scopes.
    scopes: Vec<u32>,
    /// First span of each scope, and the number of spans.
    spans: Vec<u32>,
}

fn misfit() -> Error {
    Error::data("the spans' levels do not fit together")
}

impl Shape {
    /// The shape from `ss.SpanCount`, which says for each scope how many spans it has (vParquet5).
    pub fn from_span_counts(levels: Levels, counts: &Dense) -> Result<Self> {
        const DEPTH: u8 = depth::SCOPE as u8;
        let Dense::Int32(counts) = counts else { return Err(Error::internal("span counts that are not integers")) };
        let (signs, total) = counts.iter().fold((0, 0u64), |(signs, total), n| (signs | n, total + u64::from(*n as u32)));
        if signs < 0 || total > u64::from(u32::MAX) {
            return Err(Error::data(format!("{total} spans in a row group")));
        }
        // Whole vectors at a time: nothing ends these loops early.
        let other_defs = levels.defs.iter().fold(0, |other, def| other | (def ^ DEPTH));
        let full = other_defs == 0 && levels.reps.iter().copied().fold(0, u8::max) <= DEPTH;
        if full && levels.reps.len() == counts.len() && levels.reps.first().is_none_or(|rep| *rep == 0) {
            let up_to = |rep: u8| count_where(&levels.reps, |r| r <= rep);
            let counts_by_depth = [up_to(0), up_to(1), counts.len(), total as usize];
            return Ok(SpanCounts { counts: counts_by_depth, reps: levels.reps.into(), spans: counts.clone() }.into());
        }
        let [resources, scopes, _] = offsets(&levels, DEPTH)?;
        Self::from_lists(Lists { resources, scopes, spans: sums(counts) })
    }

    /// A shape for what needs no more than the number of spans.
    pub fn of_spans(spans: usize) -> Self {
        SpanCounts { counts: [1, 1, 1, spans], reps: Bytes::from_static(&[0]), spans: vec![spans as i32].into() }.into()
    }

    /// The shape from the levels of any leaf that a span has exactly once.
    pub fn from_span_levels(levels: &Levels) -> Result<Self> {
        let [resources, scopes, spans] = offsets(levels, depth::SPAN as u8)?;
        Self::from_lists(Lists { resources, scopes, spans })
    }

    /// What to remember of it, if that is little.
    pub fn span_counts(&self) -> Option<&SpanCounts> {
        self.full.as_ref()
    }

    fn from_lists(lists: Lists) -> Result<Self> {
        let covers = |offsets: &[u32], count: usize| offsets.first() == Some(&0) && offsets.last() == Some(&(count as u32));
        let Lists { resources, scopes, spans } = &lists;
        if !covers(resources, scopes.len() - 1) || !covers(scopes, spans.len() - 1) || spans[0] != 0 {
            return Err(misfit());
        }
        let count = spans.last().map_or(0, |n| *n as usize);
        Ok(Self { counts: [resources.len() - 1, scopes.len() - 1, spans.len() - 1, count], lists: lists.into(), ..Self::default() })
    }

    fn lists(&self) -> &Lists {
        self.lists.get_or_init(|| {
            let (reps, counts) = self.full.as_ref().map_or((&[][..], &[][..]), |full| (&full.reps[..], &full.spans[..]));
            let mut offsets: [Vec<u32>; 3] = Default::default();
            full_offsets(reps, depth::SCOPE as usize, &mut offsets);
            let [resources, scopes, _] = offsets;
            Lists { resources, scopes, spans: sums(counts) }
        })
    }

    /// First resource of each trace, and the number of resources.
    pub fn resources(&self) -> &[u32] {
        &self.lists().resources
    }

    /// First scope of each resource, and the number of scopes.
    pub fn scopes(&self) -> &[u32] {
        &self.lists().scopes
    }

    /// First span of each scope, and the number of spans.
    pub fn spans(&self) -> &[u32] {
        &self.lists().spans
    }

    /// Number of things at a depth, from trace to span.
    pub fn count(&self, at: u32) -> usize {
        self.counts[at.min(depth::SPAN) as usize]
    }

    /// The first span of each scope, resource or trace, and the number of spans.
    pub fn first_spans(&self, at: u32) -> ScalarBuffer<u32> {
        let known = match at {
            depth::SCOPE => &self.first_of_scope,
            depth::RESOURCE => &self.first_of_resource,
            _ => &self.first_of_trace,
        };
        let made = || -> Vec<u32> {
            if let Some(SpanCounts { reps, spans, .. }) = &self.full {
                return firsts(reps, spans, at, self.count(at));
            }
            let of_resource = |r: &u32| self.spans()[*r as usize];
            match at {
                depth::SCOPE => self.spans().to_vec(),
                depth::RESOURCE => self.scopes().iter().map(of_resource).collect(),
                _ => self.resources().iter().map(|r| of_resource(&self.scopes()[*r as usize])).collect(),
            }
        };
        known.get_or_init(|| made().into()).clone()
    }

    /// The first thing at a depth that is in a trace or behind it; for the number of traces, how many things there are.
    pub fn first_in_trace(&self, at: u32, trace: usize) -> u32 {
        match (at, &self.full) {
            (depth::TRACE, _) => trace as u32,
            (depth::SPAN, _) => self.first_spans(depth::TRACE)[trace],
            (depth::SCOPE, Some(SpanCounts { reps, .. })) => self.scope_of_trace.get_or_init(|| zeros(reps))[trace],
            (_, Some(SpanCounts { reps, .. })) => {
                let before = &reps[..self.first_in_trace(depth::SCOPE, trace) as usize];
                before.iter().filter(|rep| u32::from(**rep) <= at).count() as u32
            }
            (depth::RESOURCE, None) => self.resources()[trace],
            (_, None) => self.scopes()[self.resources()[trace] as usize],
        }
    }

    /// The shape of some of the traces.
    pub fn of_traces(&self, traces: &RowRanges) -> Result<Self> {
        let range = |range: &Range<u32>, at| {
            self.first_in_trace(at, range.start as usize) as usize..self.first_in_trace(at, range.end as usize) as usize
        };
        if let Some(SpanCounts { reps, spans: counts, .. }) = &self.full {
            let (mut some_reps, mut some_counts) = (Vec::new(), Vec::new());
            for scopes in traces.ranges().iter().map(|r| range(r, depth::SCOPE)) {
                some_reps.extend_from_slice(&reps[scopes.clone()]);
                some_counts.extend_from_slice(&counts[scopes]);
            }
            let levels = Levels { defs: vec![depth::SCOPE as u8; some_reps.len()], reps: some_reps };
            return Self::from_span_counts(levels, &Dense::Int32(some_counts.into()));
        }
        let mut some = Lists { resources: vec![0], scopes: vec![0], spans: vec![0] };
        let add = |list: &mut Vec<u32>, whole: &[u32], range: Range<usize>| {
            let (base, shift) = (list.last().copied().unwrap_or_default(), whole[range.start]);
            list.extend(whole[range.start + 1..=range.end].iter().map(|first| base + first - shift));
        };
        for traces in traces.ranges() {
            add(&mut some.resources, self.resources(), traces.start as usize..traces.end as usize);
            add(&mut some.scopes, self.scopes(), range(traces, depth::RESOURCE));
            add(&mut some.spans, self.spans(), range(traces, depth::SCOPE));
        }
        Self::from_lists(some)
    }

    /// The number of the scope, resource or trace of each of these spans, ascending.
    pub fn groups_of(&self, at: u32, spans: &UInt32Array) -> UInt32Array {
        if spans.len() > self.count(depth::SPAN) / 16 {
            let all = self.of_span(at).values();
            return spans.values().iter().map(|span| all[*span as usize]).collect::<Vec<_>>().into();
        }
        let firsts = self.first_spans(at);
        let mut group = 0;
        let of = |span: &u32| {
            group += firsts[group + 1..].partition_point(|first| first <= span);
            group as u32
        };
        spans.values().iter().map(of).collect::<Vec<_>>().into()
    }

    /// The number of the scope, resource or trace of each span.
    pub fn of_span(&self, at: u32) -> &UInt32Array {
        match at {
            depth::SCOPE => self.scope_of_span.get_or_init(|| of_members(&self.first_spans(at))),
            depth::RESOURCE => self.resource_of_span.get_or_init(|| of_members(&self.first_spans(at))),
            _ => self.trace_of_span.get_or_init(|| of_members(&self.first_spans(at))),
        }
    }
}

/// Where the levels are 0, and how many levels there are.
fn zeros(levels: &[u8]) -> Vec<u32> {
    let mut places = Vec::new();
    let (words, rest) = levels.as_chunks::<8>();
    for (at, word) in (0u32..).step_by(8).zip(words) {
        // Levels are below 4: of one that is not 0 one of the two lowest bits is set.
        let word = u64::from_le_bytes(*word);
        let mut zeros = !(word | word >> 1) & 0x0101_0101_0101_0101;
        while zeros != 0 {
            places.push(at + zeros.trailing_zeros() / 8);
            zeros &= zeros - 1;
        }
    }
    let behind = 8 * words.len() as u32;
    places.extend((behind..).zip(rest).filter(|(_, level)| **level == 0).map(|(at, _)| at));
    places.push(levels.len() as u32);
    places
}

/// The sums of the numbers before each, and of all.
fn sums(counts: &[i32]) -> Vec<u32> {
    let mut total = 0u32;
    let before = counts.iter().map(|count| {
        total = total.wrapping_add(*count as u32);
        total.wrapping_sub(*count as u32)
    });
    let mut sums = Vec::with_capacity(counts.len() + 1);
    sums.extend(before);
    sums.push(total);
    sums
}

/// The first span of each of `groups` groups at a depth, and the number of spans. Every place is written, and counted only if a
/// group does start there.
fn firsts(reps: &[u8], counts: &[i32], at: u32, groups: usize) -> Vec<u32> {
    if at == depth::SCOPE {
        return sums(counts);
    }
    let mut firsts = vec![0; groups + 1];
    let (mut group, mut total) = (0, 0u32);
    for (rep, count) in reps.iter().zip(counts) {
        firsts[group] = total;
        group += usize::from(u32::from(*rep) <= at);
        total = total.wrapping_add(*count as u32);
    }
    firsts[groups] = total;
    firsts
}

/// The number of the group of each member.
fn of_members(starts: &[u32]) -> UInt32Array {
    spread(starts, 0..starts.len() as u32).into()
}

/// Offsets of the lists at each depth above a leaf that lies `leaf_depth` deep and is required there.
fn offsets(levels: &Levels, leaf_depth: u8) -> Result<[Vec<u32>; 3]> {
    let mut offsets: [Vec<u32>; 3] = Default::default();
    if levels.defs.iter().all(|def| *def == leaf_depth) && levels.reps.iter().all(|rep| *rep <= leaf_depth) {
        full_offsets(&levels.reps, usize::from(leaf_depth), &mut offsets);
        return Ok(offsets);
    }
    let mut counts = [0u32; 4];
    for (rep, def) in levels.reps.iter().zip(&levels.defs) {
        if rep > def {
            return Err(Error::data("a repetition level is over its definition level"));
        }
        for at in *rep..=*def {
            if at < leaf_depth {
                offsets[usize::from(at)].push(counts[usize::from(at) + 1]);
            }
            counts[usize::from(at)] += 1;
        }
    }
    for at in 0..usize::from(leaf_depth) {
        offsets[at].push(counts[at + 1]);
    }
    Ok(offsets)
}

/// The same where no list is empty: each entry is one thing at the leaf's depth. A list at a depth starts where the
/// repetition level is not above the depth. Every place is written, and counted only if a list does start there.
fn full_offsets(reps: &[u8], leaf_depth: usize, offsets: &mut [Vec<u32>; 3]) {
    let lists = &mut offsets[..leaf_depth];
    lists.iter_mut().for_each(|list| list.resize(reps.len() + 1, 0));
    let mut counts = [0usize; 4];
    for (entry, rep) in reps.iter().enumerate() {
        counts[leaf_depth] = entry;
        for (at, list) in lists.iter_mut().enumerate() {
            list[counts[at]] = counts[at + 1] as u32;
        }
        for (at, count) in counts[..leaf_depth].iter_mut().enumerate() {
            *count += usize::from(usize::from(*rep) <= at);
        }
    }
    counts[leaf_depth] = reps.len();
    for (at, list) in lists.iter_mut().enumerate() {
        list[counts[at]] = counts[at + 1] as u32;
        list.truncate(counts[at] + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_lists_are_read_alike() {
        let reps = vec![0, 3, 2, 1, 3, 3, 0, 0, 1, 2, 3];
        let levels = Levels { defs: vec![3; reps.len()], reps };
        let fast = offsets(&levels, 3).unwrap();
        assert_eq!(fast, [vec![0, 2, 3, 5], vec![0, 2, 3, 4, 5, 7], vec![0, 2, 3, 6, 7, 8, 9, 11]]);
        // An empty trace behind the others sends the same levels the long way.
        let mut longer = levels;
        longer.reps.push(0);
        longer.defs.push(0);
        let [resources, scopes, spans] = offsets(&longer, 3).unwrap();
        assert_eq!((&resources[..4], &scopes, &spans), (&fast[0][..], &fast[1], &fast[2]));
    }

    #[test]
    fn first_spans_are_those_of_the_lists() {
        // Of nine scopes some are without spans.
        let (reps, counts) = (vec![0, 2, 1, 0, 0, 1, 1, 2, 2], vec![2, 0, 3, 1, 0, 1, 0, 4, 1]);
        let lazy = Shape::from_span_counts(Levels { defs: vec![2; 9], reps }, &Dense::Int32(counts.into())).unwrap();
        let lists = Lists { resources: lazy.resources().to_vec(), scopes: lazy.scopes().to_vec(), spans: lazy.spans().to_vec() };
        assert_eq!((&lists.resources[..], &lists.scopes[..]), (&[0, 2, 3, 6][..], &[0, 2, 3, 4, 5, 6, 9][..]));
        let eager = Shape::from_lists(lists).unwrap();
        for at in [depth::TRACE, depth::RESOURCE, depth::SCOPE] {
            assert_eq!(lazy.first_spans(at), eager.first_spans(at));
            assert_eq!((lazy.count(at), lazy.of_span(at)), (eager.count(at), eager.of_span(at)));
        }
        assert_eq!((lazy.count(depth::SPAN), &lazy.first_spans(depth::RESOURCE)[..]), (12, &[0, 2, 5, 6, 6, 7, 12][..]));
        assert!(Shape::from_span_counts(Levels { defs: vec![2], reps: vec![1] }, &Dense::Int32(vec![1].into())).is_err());
        assert!(Shape::from_span_counts(Levels { defs: vec![2], reps: vec![0] }, &Dense::Int32(vec![-1].into())).is_err());
        let flat = Shape::of_spans(3);
        assert_eq!((flat.count(depth::SPAN), &flat.first_spans(depth::TRACE)[..]), (3, &[0, 3][..]));
    }

    #[test]
    fn some_traces_are_as_among_all() {
        let (reps, counts) = (vec![0, 2, 1, 0, 0, 1, 1, 2, 2, 0, 0, 1], vec![2, 0, 3, 1, 0, 1, 0, 4, 1, 2, 0, 5]);
        let lazy = Shape::from_span_counts(Levels { defs: vec![2; 12], reps }, &Dense::Int32(counts.into())).unwrap();
        let lists = Lists { resources: lazy.resources().to_vec(), scopes: lazy.scopes().to_vec(), spans: lazy.spans().to_vec() };
        let eager = Shape::from_lists(lists).unwrap();
        let all: Vec<usize> = (0..=lazy.count(depth::TRACE)).collect();
        for at in [depth::TRACE, depth::RESOURCE, depth::SCOPE, depth::SPAN] {
            let first = |shape: &Shape| all.iter().map(|trace| shape.first_in_trace(at, *trace)).collect::<Vec<_>>();
            assert_eq!(first(&lazy), first(&eager), "{at}");
        }
        for some in [&[(0, 5)][..], &[(1, 2)], &[(0, 1), (2, 4)], &[(2, 3), (4, 5)], &[]] {
            let some: Vec<Range<u32>> = some.iter().map(|(from, to)| *from..*to).collect();
            let mut rows = RowRanges::default();
            some.iter().for_each(|range| rows.push(range.clone()));
            let (a, b) = (lazy.of_traces(&rows).unwrap(), eager.of_traces(&rows).unwrap());
            assert_eq!((a.resources(), a.scopes(), a.spans()), (b.resources(), b.scopes(), b.spans()), "{some:?}");
            let spans: Vec<u32> = some
                .iter()
                .flat_map(|r| r.clone())
                .map(|t| t as usize)
                .flat_map(|t| {
                    let firsts = lazy.first_spans(depth::TRACE);
                    let range = firsts[t]..firsts[t + 1];
                    vec![range.len() as u32]
                })
                .collect();
            let found: Vec<u32> = a.first_spans(depth::TRACE).windows(2).map(|w| w[1] - w[0]).collect();
            assert_eq!(found, spans, "{some:?}");
        }
    }

    #[test]
    fn empty_lists_have_no_members() {
        // trace 0: resource {scope {2 spans}, scope {}}; trace 1: nothing; trace 2: resource {}, resource {scope {1 span}}
        let levels = Levels { reps: vec![0, 3, 2, 0, 0, 1], defs: vec![3, 3, 2, 0, 1, 3] };
        let shape = Shape::from_span_levels(&levels).unwrap();
        assert_eq!((shape.resources(), shape.scopes(), shape.spans()), (&[0, 1, 1, 3][..], &[0, 2, 2, 3][..], &[0, 2, 2, 3][..]));
        assert_eq!(shape.of_span(depth::TRACE).values(), &[0, 0, 2]);
        assert_eq!(shape.of_span(depth::RESOURCE).values(), &[0, 0, 2]);
        assert_eq!(shape.of_span(depth::SCOPE).values(), &[0, 0, 2]);
        let counts = || Levels { reps: vec![0, 2, 0, 0, 1], defs: vec![2, 2, 0, 1, 2] };
        let same = Shape::from_span_counts(counts(), &Dense::Int32(vec![2, 0, 1].into())).unwrap();
        assert_eq!(same.spans(), shape.spans());
        assert!(Shape::from_span_counts(counts(), &Dense::Int32(vec![2, 0].into())).is_err());
        assert!(Shape::from_span_levels(&Levels { reps: vec![1], defs: vec![3] }).is_err());
    }
}
