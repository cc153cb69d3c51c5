//! Which spans completion looks at, by the query that is being typed (§14).
//!
//! What counts of a query are its comparisons of a field with a literal, in groups: within a group all must hold, and a
//! span is looked at if one group holds. A query of which that cannot be told restricts nothing. Rules as recorded of
//! Tempo 3.0.3; those that look odd are marked.

use tracehouse_engine::{Error, Result};

use crate::{
    eval::turned,
    search::check_query,
    syntax::{
        BinaryOp, Field, FieldExpr, Intrinsic, Metrics, MetricsExpr, Pipeline, Root, Scope, SpansetExpr, Stage, Static, UnaryOp, parse,
        parse_lenient,
    },
};

/// Most groups of a query (Tempo's `max_condition_groups_per_tag_query`).
const GROUPS_MAX: usize = 100;

/// Conditions that must hold together.
pub type Group = Vec<Condition>;

/// What a query says of one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The field.
    pub field: Field,
    /// What must hold of it.
    pub test: Restriction,
}

/// What must hold of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Restriction {
    /// A comparison with a literal on its right.
    Compare(BinaryOp, Static),
    /// `= nil`
    Absent,
    /// `!= nil`: says that the query is no empty one, but leaves no span out, as in Tempo; only of what events and links have by
    /// nature it does.
    Present,
}

/// The groups of a query; none if it restricts nothing. More groups than [`GROUPS_MAX`] are an error.
pub fn groups(query: &str) -> Result<Vec<Group>> {
    let query = query.trim();
    let unfinished = parse(query).is_err();
    let Some(query) = parse_lenient(query).filter(|q| check_query(q).is_ok()) else { return Ok(Vec::new()) };
    let Some(filter) = filter_of(&query.root) else { return Ok(Vec::new()) };
    let says = |alternative: &Alternative| unfinished || alternative.open || !alternative.group.is_empty();
    let all = alternatives(filter)?;
    // Of alternatives those of nothing but literals (`|| true`, `|| 1 = 2`) do not count, as in Tempo, if there are others.
    let some = all.iter().any(says);
    let groups: Vec<Group> = all.into_iter().filter(|a| !some || says(a)).map(|a| a.group).collect();
    // An unscoped attribute may be on the span or the resource: Tempo gives up on it. An empty group matches all spans.
    let unscoped = |c: &Condition| matches!(&c.field, Field::Attribute(a) if a.scope == Scope::None);
    let useless = groups.iter().any(|g| g.is_empty() || g.iter().any(unscoped));
    Ok(if useless { Vec::new() } else { groups })
}

/// The filter a query begins with; `None` if it begins with an operator between spansets.
fn filter_of(root: &Root) -> Option<&FieldExpr> {
    fn first(pipeline: &Pipeline) -> Option<&FieldExpr> {
        match pipeline.stages.first()? {
            Stage::Spansets(SpansetExpr::Filter(filter)) => Some(filter),
            Stage::Spansets(SpansetExpr::Pipeline(inner)) => first(inner),
            _ => None,
        }
    }
    match root {
        Root::Spansets(pipeline) => first(pipeline),
        Root::Metrics(Metrics { expr: MetricsExpr::Series(series), .. }) => first(&series.pipeline),
        Root::Metrics(_) => None,
    }
}

/// One side of an `||`.
#[derive(Clone, PartialEq)]
struct Alternative {
    group: Group,
    /// Whether it also says something of fields that is no condition.
    open: bool,
}

/// The expression as a disjunction of groups.
fn alternatives(expr: &FieldExpr) -> Result<Vec<Alternative>> {
    let bounded = |groups: Vec<Alternative>| match groups.len() {
        0..=GROUPS_MAX => Ok(groups),
        _ => Err(Error::invalid(format!("maximum condition groups reached (limit: {GROUPS_MAX}): use fewer OR conditions in the query"))),
    };
    match expr {
        FieldExpr::Binary { op: BinaryOp::Or, .. } => {
            let mut all: Vec<Alternative> = Vec::new();
            for operand in expr.operands(BinaryOp::Or) {
                for group in alternatives(operand)? {
                    if !all.contains(&group) {
                        all.push(group);
                    }
                }
                all = bounded(all)?;
            }
            Ok(all)
        }
        FieldExpr::Binary { op: BinaryOp::And, .. } => {
            let mut all = vec![Alternative { group: Vec::new(), open: false }];
            let both = |a: &Alternative, b: &Alternative| Alternative {
                group: a.group.iter().chain(&b.group).cloned().collect(),
                open: a.open || b.open,
            };
            for operand in expr.operands(BinaryOp::And) {
                let more = alternatives(operand)?;
                all = all.iter().flat_map(|a| more.iter().map(move |b| both(a, b))).collect();
                all = bounded(all)?;
            }
            Ok(all)
        }
        leaf => {
            let condition = condition(leaf);
            let open = condition.is_none() && !leaf.fields().is_empty();
            Ok(vec![Alternative { group: condition.into_iter().collect(), open }])
        }
    }
}

/// What a leaf says; nothing if it is not about one field and one literal.
fn condition(leaf: &FieldExpr) -> Option<Condition> {
    let (field, test) = match leaf {
        FieldExpr::Unary { op: UnaryOp::Exists, expr } => (field_of(expr)?, Restriction::Present),
        FieldExpr::Unary { op: UnaryOp::NotExists, expr } => (field_of(expr)?, Restriction::Absent),
        FieldExpr::Binary { op, lhs, rhs } if op.is_comparison() || op.is_regex() => match (&**lhs, &**rhs) {
            (FieldExpr::Field(field), FieldExpr::Static(value)) => (field, Restriction::Compare(*op, value.clone())),
            (FieldExpr::Static(value), FieldExpr::Field(field)) if op.is_comparison() => {
                (field, Restriction::Compare(turned(*op), value.clone()))
            }
            _ => return None,
        },
        _ => return None,
    };
    Some(Condition { field: field.clone(), test })
}

fn field_of(expr: &FieldExpr) -> Option<&Field> {
    match expr {
        FieldExpr::Field(field) => Some(field),
        _ => None,
    }
}

/// The filter that a group is; `None` if it leaves no span out.
pub fn filter_of_group(group: &[Condition]) -> Option<FieldExpr> {
    group.iter().filter_map(Condition::expr).reduce(|lhs, rhs| binary(BinaryOp::And, lhs, rhs))
}

/// A span passes if one group does; `None` if all spans do.
pub fn filter_of_groups(groups: &[Group]) -> Option<FieldExpr> {
    let filters: Option<Vec<FieldExpr>> = groups.iter().map(|g| filter_of_group(g)).collect();
    filters?.into_iter().reduce(|lhs, rhs| binary(BinaryOp::Or, lhs, rhs))
}

fn binary(op: BinaryOp, lhs: FieldExpr, rhs: FieldExpr) -> FieldExpr {
    FieldExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs) }
}

impl Condition {
    fn expr(&self) -> Option<FieldExpr> {
        let field = Box::new(FieldExpr::Field(self.field.clone()));
        match &self.test {
            Restriction::Present => {
                use Intrinsic as I;
                let repeated = matches!(self.field, Field::Intrinsic(I::EventName | I::LinkTraceId | I::LinkSpanId));
                repeated.then_some(FieldExpr::Unary { op: UnaryOp::Exists, expr: field })
            }
            Restriction::Absent => Some(FieldExpr::Unary { op: UnaryOp::NotExists, expr: field }),
            // No attribute has such a value; Tempo leaves the condition out.
            Restriction::Compare(_, Static::Duration(_) | Static::Status(_) | Static::Kind(_))
                if matches!(self.field, Field::Attribute(_)) =>
            {
                None
            }
            Restriction::Compare(op, value) => Some(binary(*op, *field, FieldExpr::Static(value.clone()))),
        }
    }

    /// The value, if this pins `field` to one.
    pub fn pins(&self, field: &Field) -> Option<&Static> {
        match &self.test {
            Restriction::Compare(BinaryOp::Eq, value) if self.field == *field => Some(value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: &[&str]) {
        let found: Vec<String> =
            groups(query).unwrap().iter().map(|g| filter_of_group(g).map_or("all".to_owned(), |f| format!("{{ {f} }}"))).collect();
        let canonical = |text: &&str| parse(&format!("{{ {text} }}")).map_or_else(|_| (*text).to_owned(), |q| q.to_string());
        assert_eq!(found, expected.iter().map(canonical).collect::<Vec<_>>(), "{query}");
    }

    #[test]
    fn conditions_come_in_groups() {
        check("{ span.a = 1 && status = error }", &["span.a = 1 && status = error"]);
        check("{ span.a = 1 || span.b = 2 }", &["span.a = 1", "span.b = 2"]);
        check("{ (span.a = 1 || span.b = 2) && span.c = 3 }", &["span.a = 1 && span.c = 3", "span.b = 2 && span.c = 3"]);
        check("{ 3 < span.a }", &["span.a > 3"]);
        check("{ span.a != nil }", &["all"]);
        check("{ span.a = nil && span.b = 1s }", &["span.a = nil"]);
        check("{ span.a = 1 } | rate()", &["span.a = 1"]);
        check("({ span.a = 1 } | count() > 2)", &["span.a = 1"]);
    }

    #[test]
    fn what_cannot_be_told_restricts_nothing() {
        for query in
            ["", "{}", "{ true }", "{ .a = 1 }", "{ span.a = 1 || span.b = }", "{ span.a = 1 } && { span.b = 1 }", "nonsense", "{ span.a }"]
        {
            check(query, &[]);
        }
        check("{ span.a = 1 && span.b = span.c }", &["span.a = 1"]);
        check("{ span.a = 1 && span.b = }", &["span.a = 1"]);
    }

    #[test]
    fn alternatives_of_literals_do_not_count() {
        for query in
            ["{ span.a = 1 || true }", "{ false || span.a = 1 }", "{ span.a = 1 || 1 = 2 && true }", "{ span.a = 1 || \"a\" = \"a\" }"]
        {
            check(query, &["span.a = 1"]);
        }
        check("{ (span.a = 1 || true) && status = error }", &["span.a = 1 && status = error", "status = error"]);
        check("{ span.a = 1 || span.b > span.c }", &[]);
        check("{ true || false }", &[]);
    }

    #[test]
    fn groups_are_bounded() {
        let either = |i| format!("(span.a{i} = 1 || span.b{i} = 1)");
        let query = format!("{{ {} }}", (0..7).map(either).collect::<Vec<_>>().join(" && "));
        assert!(groups(&query).unwrap_err().to_string().contains("limit: 100"));
    }
}
