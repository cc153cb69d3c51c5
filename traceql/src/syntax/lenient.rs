//! Queries that are being typed (§14): what cannot be read yet is left out, the rest keeps its meaning.
//!
//! A matcher without its value (`name =`) becomes `true`, connectors and parentheses with nothing on one side go, and what is
//! open is closed. Stages behind the first `|` stay as they are.

use super::{
    Query,
    lexer::{Tok, Token, lex},
    parse, parse_attribute,
};

/// Reads a query, or what it would be without its unfinished parts. `None` if that cannot be read either.
pub fn parse_lenient(text: &str) -> Option<Query> {
    match parse(text) {
        Ok(query) => Some(query),
        Err(_) if text.len() > super::TEXT_BYTES_MAX => None,
        Err(_) => parse(&finished(text)).ok(),
    }
}

/// What a piece of text is to the repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Field,
    Comparison,
    Connector,
    Open,
    Close,
    Pipe,
    Other,
}

#[derive(Clone, Debug)]
struct Piece<'a> {
    kind: Kind,
    text: &'a str,
}

/// The text without its unfinished parts.
fn finished(text: &str) -> String {
    let mut pieces = pieces(text);
    let pipeline = pieces.iter().position(|p| p.kind == Kind::Pipe).map_or_else(Vec::new, |at| pieces.split_off(at));
    let pieces = without_dangling(without_open_matchers(pieces));
    let mut open = Vec::new();
    for piece in &pieces {
        match piece.kind {
            Kind::Open => open.push(if piece.text == "{" { "}" } else { ")" }),
            Kind::Close => drop(open.pop()),
            _ => {}
        }
    }
    // Lines, for a piece may end with a comment.
    let texts = pieces.iter().map(|p| p.text).chain(open.into_iter().rev()).chain(pipeline.iter().map(|p| p.text));
    texts.collect::<Vec<_>>().join("\n")
}

fn pieces(text: &str) -> Vec<Piece<'_>> {
    let tokens = lex(text);
    let mut pieces = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while let Some(Token { tok, offset }) = tokens.get(at) {
        // The name behind `span:` belongs to it.
        let names = usize::from(matches!((tok, tokens.get(at + 1)), (Tok::IntrinsicScope(_), Some(Token { tok: Tok::Word(_), .. }))));
        let end = tokens.get(at + 1 + names).map_or(text.len(), |t| t.offset);
        let slice = text.get(*offset..end).unwrap_or_default().trim();
        at += 1 + names;
        let kind = match tok {
            Tok::End | Tok::Bad(_) => break,
            Tok::Symbol("{" | "(") => Kind::Open,
            Tok::Symbol("}" | ")") => Kind::Close,
            Tok::Symbol("&&" | "||") => Kind::Connector,
            Tok::Symbol("=" | "!=" | "<" | "<=" | ">" | ">=" | "=~" | "!~") => Kind::Comparison,
            Tok::Symbol("|") => Kind::Pipe,
            Tok::Attribute(_) | Tok::IntrinsicScope(_) => Kind::Field,
            Tok::Word(_) if parse_attribute(slice).is_ok() => Kind::Field,
            _ => Kind::Other,
        };
        pieces.push(Piece { kind, text: slice });
    }
    pieces
}

/// `name =` with nothing behind it, as `true`.
fn without_open_matchers(pieces: Vec<Piece<'_>>) -> Vec<Piece<'_>> {
    let mut out = Vec::with_capacity(pieces.len());
    let mut at = 0;
    while let Some(piece) = pieces.get(at) {
        let is = |ahead: usize, kinds: &[Kind]| pieces.get(at + ahead).is_none_or(|p| kinds.contains(&p.kind));
        let comparison = |p: &Piece<'_>| p.kind == Kind::Comparison;
        // A field behind a comparison is that one's value.
        let begins = piece.kind == Kind::Field && !out.last().is_some_and(comparison);
        let matcher = begins && pieces.get(at + 1).is_some_and(comparison);
        if matcher && is(2, &[Kind::Close, Kind::Connector]) {
            out.push(Piece { kind: Kind::Other, text: "true" });
            at += 2;
        } else {
            out.push(piece.clone());
            at += 1;
        }
    }
    out
}

/// Without connectors that join nothing, and without empty parentheses.
fn without_dangling(pieces: Vec<Piece<'_>>) -> Vec<Piece<'_>> {
    let mut out: Vec<Piece<'_>> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match piece.kind {
            Kind::Connector if out.last().is_none_or(|p| matches!(p.kind, Kind::Open | Kind::Connector)) => {}
            Kind::Close => {
                drop_connectors(&mut out);
                match out.last() {
                    Some(Piece { text: "(", .. }) if piece.text == ")" => drop(out.pop()),
                    _ => out.push(piece),
                }
            }
            _ => out.push(piece),
        }
    }
    drop_connectors(&mut out);
    out
}

/// Takes connectors off the end.
fn drop_connectors(pieces: &mut Vec<Piece<'_>>) {
    while pieces.pop_if(|p| p.kind == Kind::Connector).is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_queries_keep_what_can_be_read() {
        for (text, meaning) in [
            ("{ span.a = 1 && span.b = }", Some("{ span.a = 1 && true }")),
            ("{ span.b = }", Some("{ true }")),
            ("{ name = && span.a = 1 }", Some("{ true && span.a = 1 }")),
            ("{ span.a = 1 || span:name =~ }", Some("{ span.a = 1 || true }")),
            ("{ span.a = 1 && }", Some("{ span.a = 1 }")),
            ("{ span.a = 1 && ( ) }", Some("{ span.a = 1 }")),
            ("{ span.a = 1 && (span.b = 2 || ", Some("{ span.a = 1 && span.b = 2 }")),
            ("{ span.\"a b\" = \"x y\" && status =", Some("{ span.\"a b\" = \"x y\" && true }")),
            ("{ span.a = 1 && span.b = \"unfini", Some("{ span.a = 1 && true }")),
            ("{ span.a = 1 // why\n && span.b = } | count() > 2", Some("{ span.a = 1 && true } | count() > 2")),
            ("{ span.a = } >> { span.b = 2 }", Some("{ true } >> { span.b = 2 }")),
            ("{ span.a = span.b = }", None),
            ("{", Some("{ true }")),
            ("", None),
            ("not a query", None),
        ] {
            let read = parse_lenient(text).map(|q| q.to_string());
            let expected = meaning.map(|m| parse(m).unwrap_or_else(|e| panic!("{m}: {e}")).to_string());
            assert_eq!(read, expected, "{text}");
        }
    }
}
