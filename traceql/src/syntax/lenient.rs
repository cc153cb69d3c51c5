//! Unfinished queries (§14): what autocomplete sends while somebody types. The conditions that are complete are kept, the
//! rest is as if it were not there. Nothing here is an error, but for too many alternatives.

use super::{
    ast::{BinaryOp, Field, FieldExpr, Root, SpansetExpr, Stage},
    check::check,
    error::{Error, ErrorKind},
    lexer::{Tok, Token, lex},
    value::Static,
};

/// Most groups of conditions (Tempo: `max_condition_groups_per_tag_query`).
pub const GROUPS_MAX: usize = 100;

/// Deepest nesting of parentheses that is looked into.
const DEPTH_MAX: usize = 50;

/// What an unfinished query asks of spans.
#[derive(Clone, Debug, PartialEq)]
pub struct Lenient {
    /// Groups of conditions: a span must meet all of one group. A group without conditions lets every span through.
    pub groups: Vec<Vec<FieldExpr>>,
}

impl Lenient {
    /// Every span.
    pub fn all() -> Self {
        Self { groups: vec![Vec::new()] }
    }

    /// The groups as one condition; `None` if every span meets it.
    pub fn filter(&self) -> Option<FieldExpr> {
        let joined = |op, parts: Vec<FieldExpr>| {
            parts.into_iter().reduce(|lhs, rhs| FieldExpr::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs) })
        };
        let groups: Option<Vec<FieldExpr>> = self.groups.iter().map(|group| joined(BinaryOp::And, group.clone())).collect();
        joined(BinaryOp::Or, groups?)
    }

    /// Takes out the groups that pin a field to a literal (`field = literal`), and gives these literals: they are the field's
    /// values there, without a look at any span.
    pub fn take_pinned(&mut self, field: &Field) -> Vec<Static> {
        let mut pinned = Vec::new();
        self.groups.retain(|group| {
            let literal = group.iter().find_map(|condition| equal_to(condition, field));
            pinned.extend(literal.cloned());
            literal.is_none()
        });
        pinned
    }
}

fn equal_to<'a>(condition: &'a FieldExpr, field: &Field) -> Option<&'a Static> {
    let FieldExpr::Binary { op: BinaryOp::Eq, lhs, rhs } = condition else { return None };
    match (lhs.as_ref(), rhs.as_ref()) {
        (FieldExpr::Field(f), FieldExpr::Static(literal)) | (FieldExpr::Static(literal), FieldExpr::Field(f)) if f == field => {
            Some(literal)
        }
        _ => None,
    }
}

/// Reads the conditions of a query's first filter, as far as they are complete. If the query is more than one filter, but
/// for stages behind it, or nothing can be made of it, every span meets them. `regex` says whether a text is a valid regular
/// expression.
///
/// # Errors
/// More than [`GROUPS_MAX`] alternatives.
pub fn lenient(text: &str, regex: &dyn Fn(&str) -> Result<(), String>) -> Result<Lenient, Error> {
    if text.len() > super::TEXT_BYTES_MAX {
        return Ok(Lenient::all());
    }
    let tokens = lex(text);
    let Some(inside) = first_filter(&tokens) else { return Ok(Lenient::all()) };
    let reader = Reader { text, tokens: &tokens, regex };
    let groups = reader.groups(inside.start, inside.end, 0)?;
    // A group without conditions lets all through, whatever the others say.
    Ok(if groups.iter().any(Vec::is_empty) { Lenient::all() } else { Lenient { groups } })
}

/// The tokens between the braces of the first filter, if nothing but stages follows.
fn first_filter(tokens: &[Token<'_>]) -> Option<std::ops::Range<usize>> {
    if !is(tokens.first()?, "{") {
        return None;
    }
    let end = (1..tokens.len()).find(|at| is(&tokens[*at], "}") || is(&tokens[*at], "{")).unwrap_or(tokens.len());
    match tokens.get(end) {
        None => Some(1..end),
        Some(token) if is(token, "{") => None,
        Some(_) => match tokens.get(end + 1).map(|t| &t.tok) {
            None | Some(Tok::End | Tok::Symbol("|")) => Some(1..end),
            _ => None,
        },
    }
}

fn is(token: &Token<'_>, symbol: &str) -> bool {
    matches!(&token.tok, Tok::Symbol(found) if *found == symbol)
}

struct Reader<'a> {
    text: &'a str,
    tokens: &'a [Token<'a>],
    regex: &'a dyn Fn(&str) -> Result<(), String>,
}

impl Reader<'_> {
    /// The groups of the tokens from..to: operands of `&&` and `||`, which bind alike and to the left.
    fn groups(&self, from: usize, to: usize, depth: usize) -> Result<Vec<Vec<FieldExpr>>, Error> {
        let mut known: Option<(Vec<Vec<FieldExpr>>, bool)> = None;
        let (mut start, mut open) = (from, 0usize);
        for at in from..=to {
            let operator = match self.tokens.get(at).filter(|_| at < to).map(|t| &t.tok) {
                Some(Tok::Symbol("(")) => {
                    open += 1;
                    continue;
                }
                Some(Tok::Symbol(")")) => {
                    open = open.saturating_sub(1);
                    continue;
                }
                Some(Tok::Symbol("&&")) if open == 0 => Some(true),
                Some(Tok::Symbol("||")) if open == 0 => Some(false),
                Some(_) => continue,
                None => None,
            };
            let operand = self.operand(start, at, depth)?;
            let joined = match known.take() {
                None => operand,
                Some((left, true)) => both(left, operand)?,
                Some((left, false)) => either(left, operand)?,
            };
            start = at + 1;
            known = Some((joined, operator.unwrap_or(true)));
        }
        Ok(known.map_or_else(|| vec![Vec::new()], |(groups, _)| groups))
    }

    fn operand(&self, from: usize, to: usize, depth: usize) -> Result<Vec<Vec<FieldExpr>>, Error> {
        let nothing = || Ok(vec![Vec::new()]);
        if from >= to {
            return nothing();
        }
        if let Some(condition) = self.condition(from, to) {
            return Ok(vec![vec![condition]]);
        }
        // In parentheses, perhaps not closed yet.
        if is(&self.tokens[from], "(") && depth < DEPTH_MAX {
            let closed = self.closing(from, to);
            if closed.is_none_or(|at| at + 1 == to) {
                return self.groups(from + 1, closed.unwrap_or(to), depth + 1);
            }
        }
        nothing()
    }

    /// Where the parenthesis at `from` closes.
    fn closing(&self, from: usize, to: usize) -> Option<usize> {
        let mut open = 0usize;
        (from..to).find(|at| {
            open += usize::from(is(&self.tokens[*at], "("));
            let closes = is(&self.tokens[*at], ")");
            open = open.saturating_sub(usize::from(closes));
            closes && open == 0
        })
    }

    /// The tokens as one condition without `&&` and `||`, if they are a complete one.
    fn condition(&self, from: usize, to: usize) -> Option<FieldExpr> {
        let start = self.tokens.get(from)?.offset;
        let end = self.tokens.get(to).map_or(self.text.len(), |t| t.offset);
        let query = super::parse(&format!("{{{}\n}}", self.text.get(start..end)?)).ok()?;
        check(&query, self.regex).ok()?;
        let Root::Spansets(pipeline) = query.root else { return None };
        match pipeline.stages.into_iter().next()? {
            Stage::Spansets(SpansetExpr::Filter(filter)) => {
                let joined = matches!(&filter, FieldExpr::Binary { op: BinaryOp::And | BinaryOp::Or, .. });
                (!joined && filter != FieldExpr::Static(Static::Bool(true))).then_some(filter)
            }
            _ => None,
        }
    }
}

fn either(mut left: Vec<Vec<FieldExpr>>, right: Vec<Vec<FieldExpr>>) -> Result<Vec<Vec<FieldExpr>>, Error> {
    bounded(left.len() + right.len())?;
    left.extend(right);
    Ok(left)
}

fn both(left: Vec<Vec<FieldExpr>>, right: Vec<Vec<FieldExpr>>) -> Result<Vec<Vec<FieldExpr>>, Error> {
    bounded(left.len() * right.len())?;
    Ok(left.iter().flat_map(|l| right.iter().map(move |r| [l.as_slice(), r.as_slice()].concat())).collect())
}

fn bounded(groups: usize) -> Result<(), Error> {
    if groups > GROUPS_MAX {
        let message = format!("query has more than {GROUPS_MAX} alternatives: leave some out, or use a regular expression");
        return Err(Error::rule(ErrorKind::Type, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Lenient {
        lenient(text, &|pattern| if pattern.contains('[') { Err("open".to_owned()) } else { Ok(()) }).expect("few alternatives")
    }

    fn shown(text: &str) -> String {
        let group = |g: &Vec<FieldExpr>| g.iter().map(ToString::to_string).collect::<Vec<_>>().join(" && ");
        read(text).groups.iter().map(group).collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn what_is_complete_is_kept() {
        for (text, expected) in [
            ("{ span.a = 1 && span.b = }", "span.a = 1"),
            ("{ resource.cluster = }", ""),
            ("{ resource.service.name = \"delta\" && }", "resource.service.name = `delta`"),
            ("{ span.a = 1 && name = \"unfin", "span.a = 1"),
            ("{ span.a = 1 && span.", "span.a = 1"),
            ("{ span.a = 1", "span.a = 1"),
            ("{ span.a = 1 && && duration > 1s }", "span.a = 1 && duration > 1s"),
            ("{ span.a =~ \"[\" && kind = server }", "kind = server"),
            ("{ name = 1 && kind = server }", "kind = server"),
            ("{ (span.a = 1 || span.b = 2) && span.c = 3 }", "span.a = 1 && span.c = 3 | span.b = 2 && span.c = 3"),
            ("{ span.a = 1 || span.b = 2 && span.c = 3 }", "span.a = 1 && span.c = 3 | span.b = 2 && span.c = 3"),
            ("{ span.c = 3 && (span.a = 1 || span.b = 2", "span.c = 3 && span.a = 1 | span.c = 3 && span.b = 2"),
            ("{ !(span.a = 1 && span.b = 2) && kind = server }", "!((span.a = 1) && (span.b = 2)) && kind = server"),
            ("{ span.a = 1 } | count() > 2", "span.a = 1"),
            ("{ span.a = 1 } | rate() by (", "span.a = 1"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_asks_nothing() {
        let texts = ["", "not a query", "{", "{}", "{ }", "{ true }", "{ span.a = 1 || span.b = }", "{ span.a = 1 } >> { span.b = 2 }"];
        for text in texts.into_iter().chain(["{ span.a = 1 } || { span.b = 2 }", "({ span.a = 1 })", "{ a { b", ")))", "{ )( && ( }"]) {
            assert_eq!(read(text), Lenient::all(), "{text}");
            assert_eq!(read(text).filter(), None);
        }
    }

    #[test]
    fn groups_become_one_filter() {
        let filter = read("{ (span.a = 1 || span.b = 2) && span.c = 3 }").filter().expect("a filter");
        assert_eq!(filter.to_string(), "((span.a = 1) && (span.c = 3)) || ((span.b = 2) && (span.c = 3))");
    }

    #[test]
    fn pinned_fields_need_no_look() {
        let field = super::super::parse_attribute("span.a").expect("a field");
        let mut conditions = read("{ span.a = 1 && kind = server || span.b = 2 || span.a = \"x\" }");
        assert_eq!(conditions.take_pinned(&field), [Static::Int(1), Static::String("x".to_owned())]);
        assert_eq!(conditions.groups.len(), 1);
        let mut all = Lenient::all();
        assert!(all.take_pinned(&field).is_empty() && all == Lenient::all());
    }

    #[test]
    fn alternatives_are_bounded() {
        let many = |n: usize| (0..n).map(|i| format!("span.a = {i}")).collect::<Vec<_>>().join(" || ");
        assert_eq!(read(&format!("{{ {} }}", many(100))).groups.len(), 100);
        let read = |text: &str| lenient(text, &|_| Ok(()));
        assert!(read(&format!("{{ {} }}", many(101))).is_err());
        assert!(read(&format!("{{ ({0}) && ({0}) }}", many(11))).is_err());
        let deep = format!("{{ {}span.a = 1", "(".repeat(5000));
        assert!(read(&deep).is_ok());
    }
}
