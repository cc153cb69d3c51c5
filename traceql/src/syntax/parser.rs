//! Tokens to tree: what all parts of the grammar share, and the root (§3).
//!
//! The parser is a recursive descent with precedence climbing, in three parts: expressions
//! over one span ([`field`]), expressions over spansets, scalars and series ([`operand`]),
//! and the metrics stages ([`metrics`]). Every function that recurses counts its depth, and
//! every node built counts its height (the `usize` beside it), so that neither this parser
//! nor whoever walks the tree runs out of stack.

mod field;
mod metrics;
mod operand;

use super::ast::{BinaryOp, Field, Hint, Metrics, MetricsExpr, Pipeline, Query, Root, SpansetOp, Stage};
use super::ast::{Form, Relation};
use super::error::Error;
use super::lexer::{Tok, Token, is_keyword, lex};
use super::value::Static;
use super::{RECURSION_MAX, TEXT_BYTES_MAX, TREE_HEIGHT_MAX};
use operand::Operand;

type Parsed<T> = Result<T, Error>;

/// Precedence, from loose to tight. `&&` and `||` share one level, unary minus has that of `+`.
pub(super) mod level {
    pub const LOGIC: u8 = 2;
    pub const COMPARE: u8 = 3;
    pub const SUM: u8 = 4;
    pub const NOT: u8 = 5;
    pub const PRODUCT: u8 = 6;
    pub const POWER: u8 = 7;
}

impl BinaryOp {
    /// How tight it binds.
    pub(super) fn level(self) -> u8 {
        match self {
            Self::And | Self::Or => level::LOGIC,
            Self::Add | Self::Sub => level::SUM,
            Self::Mul | Self::Div | Self::Mod => level::PRODUCT,
            Self::Pow => level::POWER,
            _ => level::COMPARE,
        }
    }
}

impl SpansetOp {
    /// How tight it binds.
    pub(super) fn level(self) -> u8 {
        match self {
            Self::And | Self::Or => level::LOGIC,
            Self::Structural(..) => level::COMPARE,
        }
    }
}

/// See [`super::parse`].
pub(super) fn parse_query(text: &str) -> Parsed<Query> {
    let mut parser = Parser::new(text)?;
    let root = parser.root()?;
    let mut hints = Vec::new();
    while parser.eat_word("with") {
        hints = parser.hints()?;
    }
    if parser.peek() != &Tok::End {
        return Err(parser.unexpected(&["with"]));
    }
    Ok(Query { root, hints })
}

/// See [`super::parse_attribute`].
pub(super) fn parse_attribute(text: &str) -> Parsed<Field> {
    let mut parser = Parser::new(text)?;
    let field = parser.field_name()?;
    if parser.peek() != &Tok::End {
        return Err(parser.unexpected(&["$end"]));
    }
    Ok(field)
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    /// Index of the next token; stays on the last.
    at: usize,
    /// Recursion so far.
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parsed<Self> {
        if text.len() > TEXT_BYTES_MAX {
            let message = format!("query of {} bytes is longer than {TEXT_BYTES_MAX} bytes", text.len());
            return Err(Error::at(text, 0, message));
        }
        Ok(Self { text, tokens: lex(text), at: 0, depth: 0 })
    }

    /// The token `ahead` places on.
    fn look(&self, ahead: usize) -> &Tok<'a> {
        let last = self.tokens.len() - 1;
        &self.tokens[last.min(self.at + ahead)].tok
    }

    fn peek(&self) -> &Tok<'a> {
        self.look(0)
    }

    fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn at_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek(), Tok::Symbol(found) if *found == symbol)
    }

    fn eat_symbol(&mut self, symbol: &str) -> bool {
        let found = self.at_symbol(symbol);
        if found {
            self.advance();
        }
        found
    }

    fn expect_symbol(&mut self, symbol: &'static str) -> Parsed<()> {
        if self.eat_symbol(symbol) { Ok(()) } else { Err(self.unexpected(&[symbol])) }
    }

    /// The next token as a word, if it is one.
    fn word(&self) -> Option<&'a str> {
        match self.peek() {
            Tok::Word(word) => Some(word),
            _ => None,
        }
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let found = self.word() == Some(word);
        if found {
            self.advance();
        }
        found
    }

    /// The next token does not fit.
    fn unexpected(&self, expected: &[&'static str]) -> Error {
        self.unexpected_at(self.at, expected)
    }

    fn unexpected_at(&self, index: usize, expected: &[&'static str]) -> Error {
        let token = &self.tokens[index.min(self.tokens.len() - 1)];
        match &token.tok {
            Tok::Bad(message) => Error::at(self.text, token.offset, message.as_str()),
            tok => Error::unexpected(self.text, token.offset, &tok.describe(), expected),
        }
    }

    /// An error at the next token, in other words.
    fn error(&self, message: impl Into<String>) -> Error {
        Error::at(self.text, self.tokens[self.at].offset, message)
    }

    /// Runs one level of recursion.
    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == RECURSION_MAX {
            return Err(self.error(format!("query is nested deeper than {RECURSION_MAX} levels")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// The height of a node over children of these heights.
    fn height(&self, children: &[usize]) -> Parsed<usize> {
        let height = 1 + children.iter().max().unwrap_or(&0);
        if height > TREE_HEIGHT_MAX {
            let message = format!("query has more than {TREE_HEIGHT_MAX} operators in a chain");
            return Err(self.error(message));
        }
        Ok(height)
    }

    fn root(&mut self) -> Parsed<Root> {
        let (operand, _) = self.body(false)?;
        Ok(match operand {
            Operand::Spansets(expr) | Operand::ParenSpansets(expr) | Operand::Pipelines(expr) => {
                Root::Spansets(Pipeline { stages: vec![Stage::Spansets(expr)] })
            }
            Operand::Stages(pipeline) => Root::Spansets(pipeline),
            Operand::Metrics(mut expr) => {
                let mut second = self.second_stages()?;
                if let MetricsExpr::Series(series) = &mut expr {
                    series.second.append(&mut second);
                }
                Root::Metrics(Metrics { expr, second })
            }
            Operand::Number(_) | Operand::Scalar(_) | Operand::Filter(_) => {
                return Err(self.unexpected(&[]));
            }
        })
    }

    /// `(name = value, ...)`
    fn hints(&mut self) -> Parsed<Vec<Hint>> {
        self.expect_symbol("(")?;
        let mut hints = Vec::new();
        loop {
            let name = match self.word() {
                Some(word) if !is_keyword(word) => word.to_owned(),
                _ => return Err(self.unexpected(&["IDENTIFIER"])),
            };
            self.advance();
            self.expect_symbol("=")?;
            // No sign: Tempo has no negative hints.
            let value = self.static_token().ok_or_else(|| self.unexpected(&[]))?;
            self.advance();
            hints.push(Hint { name, value });
            if !self.eat_symbol(",") {
                break;
            }
        }
        self.expect_symbol(")")?;
        Ok(hints)
    }

    /// A literal, possibly a negative number; not nil.
    fn literal(&mut self) -> Parsed<Static> {
        let negative = self.eat_symbol("-");
        let value = match self.static_token() {
            Some(value) if !negative || value.value_type().is_numeric() => value,
            _ => return Err(self.unexpected(&[])),
        };
        self.advance();
        Ok(if negative { field::negate(value) } else { value })
    }

    /// The next token as a value.
    fn static_token(&self) -> Option<Static> {
        use super::value::{Kind, Status};
        Some(match self.peek() {
            Tok::Int(value) => Static::Int(*value),
            Tok::Float(value) => Static::Float(*value),
            Tok::Duration(ns) => Static::Duration(*ns),
            Tok::String(text) => Static::String(text.clone()),
            Tok::Word("true") => Static::Bool(true),
            Tok::Word("false") => Static::Bool(false),
            Tok::Word("minInt") => Static::Int(i64::MIN),
            Tok::Word("maxInt") => Static::Int(i64::MAX),
            Tok::Word(word) => Status::from_keyword(word).map(Static::Status).or_else(|| Kind::from_keyword(word).map(Static::Kind))?,
            _ => return None,
        })
    }

    /// Whole numbers, as arguments.
    fn integer(&mut self) -> Parsed<i64> {
        let Tok::Int(value) = *self.peek() else {
            return Err(self.unexpected(&["INTEGER"]));
        };
        self.advance();
        Ok(value)
    }

    /// The next token as an operator between values, with its level.
    fn value_op(&self) -> Option<(BinaryOp, u8)> {
        use BinaryOp as B;
        let Tok::Symbol(symbol) = self.peek() else {
            return None;
        };
        let op = match *symbol {
            "&&" => B::And,
            "||" => B::Or,
            "=" => B::Eq,
            "!=" => B::Ne,
            "<" => B::Lt,
            "<=" => B::Le,
            ">" => B::Gt,
            ">=" => B::Ge,
            "=~" => B::Regex,
            "!~" => B::NotRegex,
            "+" => B::Add,
            "-" => B::Sub,
            "*" => B::Mul,
            "/" => B::Div,
            "%" => B::Mod,
            "^" => B::Pow,
            _ => return None,
        };
        Some((op, op.level()))
    }

    /// The next token as an operator between spansets, with its level.
    fn spanset_op(&self) -> Option<(SpansetOp, u8)> {
        let Tok::Symbol(symbol) = *self.peek() else {
            return None;
        };
        match symbol {
            "&&" => return Some((SpansetOp::And, SpansetOp::And.level())),
            "||" => return Some((SpansetOp::Or, SpansetOp::Or.level())),
            _ => {}
        }
        let (form, relation) = match symbol.split_at(1) {
            ("!", relation) => (Form::Negated, relation),
            ("&", relation) => (Form::Union, relation),
            _ => (Form::Plain, symbol),
        };
        let relation = match relation {
            ">" => Relation::Child,
            "<" => Relation::Parent,
            ">>" => Relation::Descendant,
            "<<" => Relation::Ancestor,
            "~" => Relation::Sibling,
            _ => return None,
        };
        let op = SpansetOp::Structural(relation, form);
        Some((op, op.level()))
    }
}
