//! What is wrong with a query text, where, and what would have fitted.

use std::fmt;

/// Where in the text: all three point at the first character of the offending token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset from the start of the text, in bytes.
    pub offset: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
}

impl Place {
    /// The place of a byte offset; an offset beyond the end means the end.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Self { offset: before.len(), line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }
}

/// What sort of rule the query breaks. All of them are the client's fault (HTTP 400).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is not in the grammar, or exceeds a bound of the parser.
    Parse,
    /// The text parses, but breaks a static rule: types, nil, regex, grouping, limits.
    Type,
    /// Legal TraceQL that neither Tempo nor Tracehouse executes.
    Unsupported,
}

/// Why a query is refused. `Display` gives one line, in the shape Tempo's clients know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The sort of rule broken.
    pub kind: ErrorKind,
    /// The message without the place.
    pub message: String,
    /// Where; only parse errors know it.
    pub place: Option<Place>,
    /// The token found, if one did not fit.
    pub found: Option<String>,
    /// Tokens that would have fitted; may be incomplete.
    pub expected: Vec<&'static str>,
}

/// Longer lists of expected tokens are left out of the message: they do not help.
const EXPECTED_SHOWN_MAX: usize = 4;

/// Characters of the source line shown on either side of the caret.
const CARET_CONTEXT: usize = 60;

impl Error {
    /// A parse error with a message of its own.
    pub(super) fn at(text: &str, offset: usize, message: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Parse, message: message.into(), place: Some(Place::of(text, offset)), found: None, expected: Vec::new() }
    }

    /// A parse error about a token that does not fit.
    pub(super) fn unexpected(text: &str, offset: usize, found: &str, expected: &[&'static str]) -> Self {
        let mut message = format!("syntax error: unexpected {found}");
        if (1..=EXPECTED_SHOWN_MAX).contains(&expected.len()) {
            message.push_str(", expecting ");
            message.push_str(&expected.join(" or "));
        }
        Self { found: Some(found.to_owned()), expected: expected.to_vec(), ..Self::at(text, offset, message) }
    }

    /// A broken static rule.
    pub(super) fn rule(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), place: None, found: None, expected: Vec::new() }
    }

    /// The line of `source` with the error, and below it a caret under the place, with what would have fitted. Empty without
    /// a place. Long lines are cut around the place.
    #[must_use]
    pub fn caret(&self, source: &str) -> String {
        let Some(place) = self.place else { return String::new() };
        let line = source.lines().nth(place.line - 1).unwrap_or("");
        let from = place.column.saturating_sub(1 + CARET_CONTEXT);
        let shown: String = line.chars().skip(from).take(2 * CARET_CONTEXT).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let indent = " ".repeat(place.column - 1 - from);
        let expected = if self.expected.is_empty() { String::new() } else { format!(" expected {}", self.expected.join(" or ")) };
        format!("{shown}\n{indent}^{expected}")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { line, column, .. }) = self.place {
            write!(f, "parse error at line {line}, col {column}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
