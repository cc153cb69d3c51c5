//! Relations between spans of one trace, told by nested-set numbers: each in one pass over the spans, sorted where needed.

use std::collections::{HashMap, HashSet};

use crate::syntax::{Form, Relation};

/// So many pairs of spans are compared one by one; sets and sorted lists are for more.
const FEW_PAIRS: usize = 512;

/// A span's place in the tree of its trace. Zeros where it is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Nested-set number on entry.
    pub left: i32,
    /// Nested-set number on exit.
    pub right: i32,
    /// The parent's `left`; -1 for a root.
    pub parent: i32,
}

/// What a structural operator gives for spans of the left and of the right side (numbers of rows in `positions`).
pub fn apply(relation: Relation, form: Form, left: &[u32], right: &[u32], positions: &[Position]) -> Vec<u32> {
    let related = related(relation, left, right, positions);
    match form {
        Form::Plain => related,
        Form::Negated => without(right, &related),
        Form::Union => union(&related, &self::related(inverse(relation), right, left, positions)),
    }
}

/// The spans of either list, each once, in order of first appearance.
pub fn union(a: &[u32], b: &[u32]) -> Vec<u32> {
    if a.len() * b.len() <= FEW_PAIRS {
        let mut all = Vec::with_capacity(a.len() + b.len());
        all.extend(a);
        all.extend(b.iter().filter(|row| !a.contains(row)));
        return all;
    }
    let mut seen = HashSet::with_capacity(a.len() + b.len());
    a.iter().chain(b).copied().filter(|row| seen.insert(*row)).collect()
}

fn without(all: &[u32], some: &[u32]) -> Vec<u32> {
    if all.len() * some.len() <= FEW_PAIRS {
        return all.iter().copied().filter(|row| !some.contains(row)).collect();
    }
    let some: HashSet<u32> = some.iter().copied().collect();
    all.iter().copied().filter(|row| !some.contains(row)).collect()
}

/// What the left span is to the right one.
fn inverse(relation: Relation) -> Relation {
    match relation {
        Relation::Child => Relation::Parent,
        Relation::Parent => Relation::Child,
        Relation::Descendant => Relation::Ancestor,
        Relation::Ancestor => Relation::Descendant,
        Relation::Sibling => Relation::Sibling,
    }
}

/// The `candidates` that are the child (parent, ...) of one of `sources`.
fn related(relation: Relation, sources: &[u32], candidates: &[u32], positions: &[Position]) -> Vec<u32> {
    if sources.len() * candidates.len() <= FEW_PAIRS {
        let at = |row: &u32| (*row, positions[*row as usize]);
        return keep(candidates, |c| sources.iter().any(|s| is_related(relation, at(s), at(c))));
    }
    related_of_many(relation, sources, candidates, positions)
}

fn related_of_many(relation: Relation, sources: &[u32], candidates: &[u32], positions: &[Position]) -> Vec<u32> {
    let at = |row: &u32| positions[*row as usize];
    match relation {
        Relation::Child => {
            let lefts: HashSet<i32> = sources.iter().map(|s| at(s).left).filter(|l| *l != 0).collect();
            keep(candidates, |c| lefts.contains(&at(c).parent))
        }
        Relation::Parent => {
            let parents: HashSet<i32> = sources.iter().map(|s| at(s).parent).filter(|p| *p != 0).collect();
            keep(candidates, |c| parents.contains(&at(c).left))
        }
        Relation::Sibling => siblings(sources, candidates, positions),
        Relation::Descendant => {
            // Of all sources that begin before a candidate, the one that ends last: intervals nest, so that one decides.
            let ends = Running::new(intervals(sources, positions), i32::max);
            keep(candidates, |c| is_known(at(c)) && ends.before(at(c).left).is_some_and(|right| right > at(c).right))
        }
        Relation::Ancestor => {
            // Of all sources that begin after a candidate, the one that ends first; in mirrored numbers "after" is "before".
            let mirrored = intervals(sources, positions).into_iter().map(|(left, right)| (-left, right)).collect();
            let ends = Running::new(mirrored, i32::min);
            keep(candidates, |c| is_known(at(c)) && ends.before(-at(c).left).is_some_and(|right| right < at(c).right))
        }
    }
}

/// Whether the second span is the child (parent, ...) of the first.
fn is_related(relation: Relation, (source, s): (u32, Position), (candidate, c): (u32, Position)) -> bool {
    match relation {
        Relation::Child => s.left != 0 && s.left == c.parent,
        Relation::Parent => s.parent != 0 && s.parent == c.left,
        Relation::Sibling => source != candidate && s.parent != 0 && s.parent == c.parent,
        Relation::Descendant => is_known(s) && is_known(c) && s.left < c.left && c.right < s.right,
        Relation::Ancestor => is_known(s) && is_known(c) && c.left < s.left && s.right < c.right,
    }
}

fn keep(candidates: &[u32], test: impl Fn(&u32) -> bool) -> Vec<u32> {
    candidates.iter().copied().filter(|c| test(c)).collect()
}

fn is_known(position: Position) -> bool {
    position.left != 0 && position.right != 0
}

fn intervals(spans: &[u32], positions: &[Position]) -> Vec<(i32, i32)> {
    spans.iter().map(|s| positions[*s as usize]).filter(|p| is_known(*p)).map(|p| (p.left, p.right)).collect()
}

/// Spans with the same parent as a source that is not the span itself. Roots count as siblings of each other, as in Tempo.
fn siblings(sources: &[u32], candidates: &[u32], positions: &[Position]) -> Vec<u32> {
    let parent = |row: u32| Some(positions[row as usize].parent).filter(|p| *p != 0);
    let mut below: HashMap<i32, usize> = HashMap::new();
    let mut own = HashSet::new();
    for &source in sources {
        if let Some(parent) = parent(source)
            && own.insert(source)
        {
            *below.entry(parent).or_default() += 1;
        }
    }
    keep(candidates, |&c| {
        let others = parent(c).and_then(|p| below.get(&p)).map_or(0, |n| n - usize::from(own.contains(&c)));
        others > 0
    })
}

/// Pairs sorted by their first number, with the best second number of each prefix.
struct Running {
    keys: Vec<i32>,
    best: Vec<i32>,
}

impl Running {
    fn new(mut pairs: Vec<(i32, i32)>, better: fn(i32, i32) -> i32) -> Self {
        pairs.sort_unstable();
        let mut best: Vec<i32> = Vec::with_capacity(pairs.len());
        for (_, value) in &pairs {
            let so_far = best.last().map_or(*value, |b| better(*b, *value));
            best.push(so_far);
        }
        Self { keys: pairs.into_iter().map(|(key, _)| key).collect(), best }
    }

    /// The best second number of the pairs whose first number is less than `key`.
    fn before(&self, key: i32) -> Option<i32> {
        let count = self.keys.partition_point(|k| *k < key);
        count.checked_sub(1).map(|last| self.best[last])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 root(1,10) with 1 a(2,7) with 2 b(3,4), 3 c(5,6); 4 d(8,9); 5 another root (11,12); 6 and 7 without a place.
    fn tree() -> Vec<Position> {
        [(1, 10, -1), (2, 7, 1), (3, 4, 2), (5, 6, 2), (8, 9, 1), (11, 12, -1), (0, 0, 0), (0, 0, 0)]
            .map(|(left, right, parent)| Position { left, right, parent })
            .into()
    }

    const ALL: [u32; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

    fn ask(relation: Relation, form: Form, left: &[u32], right: &[u32]) -> Vec<u32> {
        let mut rows = apply(relation, form, left, right, &tree());
        rows.sort_unstable();
        rows
    }

    #[test]
    fn plain_relations() {
        use Form::Plain;
        assert_eq!(ask(Relation::Child, Plain, &[0], &ALL), [1, 4]);
        assert_eq!(ask(Relation::Child, Plain, &[6, 7], &ALL), [] as [u32; 0]);
        assert_eq!(ask(Relation::Parent, Plain, &[2, 4], &ALL), [0, 1]);
        assert_eq!(ask(Relation::Parent, Plain, &[0, 6], &ALL), [] as [u32; 0]);
        assert_eq!(ask(Relation::Descendant, Plain, &[1], &ALL), [2, 3]);
        assert_eq!(ask(Relation::Descendant, Plain, &ALL, &ALL), [1, 2, 3, 4]);
        assert_eq!(ask(Relation::Ancestor, Plain, &[3], &ALL), [0, 1]);
        assert_eq!(ask(Relation::Ancestor, Plain, &ALL, &ALL), [0, 1]);
        assert_eq!(ask(Relation::Sibling, Plain, &[2], &ALL), [3]);
        assert_eq!(ask(Relation::Sibling, Plain, &[2, 3], &[2, 3]), [2, 3]);
        assert_eq!(ask(Relation::Sibling, Plain, &[0], &ALL), [5]);
    }

    #[test]
    fn negated_relations_keep_what_is_unknown() {
        use Form::Negated;
        assert_eq!(ask(Relation::Child, Negated, &[0], &ALL), [0, 2, 3, 5, 6, 7]);
        assert_eq!(ask(Relation::Descendant, Negated, &[], &[2, 6]), [2, 6]);
        assert_eq!(ask(Relation::Sibling, Negated, &[2, 2], &[2, 3]), [2]);
    }

    #[test]
    fn unions_hold_both_sides() {
        use Form::Union;
        assert_eq!(ask(Relation::Child, Union, &[0, 5], &[1, 2]), [0, 1]);
        assert_eq!(ask(Relation::Ancestor, Union, &[2, 4], &[1]), [1, 2]);
        assert_eq!(ask(Relation::Sibling, Union, &[2, 5], &[3]), [2, 3]);
    }

    /// Sweeps and sets say what the definition says, on random-looking trees.
    #[test]
    fn sweeps_equal_the_definition() {
        use Relation::{Ancestor, Child, Descendant, Parent, Sibling};
        for seed in 1..40u32 {
            let mut positions = forest(seed, 60);
            positions.extend([Position::default(); 2]);
            let pick = |n: u32| (0..positions.len() as u32).filter(|i| (i * 7 + seed) % n != 0).collect::<Vec<_>>();
            let (left, right) = (pick(2), pick(3));
            assert!(left.len() * right.len() > FEW_PAIRS);
            for relation in [Child, Parent, Sibling, Descendant, Ancestor] {
                let holds = |l: &u32, r: &u32| is_related(relation, (*l, positions[*l as usize]), (*r, positions[*r as usize]));
                let expected: Vec<u32> = right.iter().copied().filter(|r| left.iter().any(|l| holds(l, r))).collect();
                assert_eq!(apply(relation, Form::Plain, &left, &right, &positions), expected, "seed {seed} {relation:?}");
            }
        }
    }

    /// A forest whose shape follows from the seed.
    fn forest(seed: u32, spans: u32) -> Vec<Position> {
        let mut open: Vec<usize> = Vec::new();
        let (mut positions, mut counter) = (Vec::<Position>::new(), 0);
        for i in 0..spans {
            for _ in 0..(i.wrapping_mul(seed).wrapping_mul(2_654_435_761) >> 29) % 3 {
                counter += 1;
                match open.pop() {
                    Some(done) => positions[done].right = counter,
                    None => counter -= 1,
                }
            }
            counter += 1;
            let parent = open.last().map_or(-1, |p| positions[*p].left);
            open.push(positions.len());
            positions.push(Position { left: counter, right: 0, parent });
        }
        while let Some(done) = open.pop() {
            counter += 1;
            positions[done].right = counter;
        }
        positions
    }
}
