//! Text to tokens (§2). The rules for numbers, strings and comments are those of Go.
//!
//! The whole text is read at once. A lexical error becomes a last token
//! [`Tok::Bad`], so that an earlier syntax error is reported first.

use super::ast::{Attribute, Scope};
use super::duration;

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tok<'a> {
    /// End of the text.
    End,
    /// What follows cannot be read: the message.
    Bad(String),
    /// An operator or bracket.
    Symbol(&'static str),
    /// A keyword, an identifier, or a character that means nothing.
    Word(&'a str),
    /// `trace:`, `span:` and so on: the scope of an intrinsic.
    IntrinsicScope(&'static str),
    /// An attribute with scope and name.
    Attribute(Attribute),
    /// Number literals.
    Int(i64),
    Float(f64),
    /// In nanoseconds.
    Duration(i64),
    String(String),
}

/// A token and the byte offset of its first character.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token<'a> {
    pub tok: Tok<'a>,
    pub offset: usize,
}

/// Longest first, so that the first match is the longest.
const SYMBOLS: [&str; 35] = [
    "!>>", "!<<", "&>>", "&<<", "&&", "||", ">>", "<<", "!>", "!<", "!~", "!=", "=~", "<=", ">=", "&>", "&<", "&~", "|", ">", "<", "~",
    "=", "!", "+", "-", "*", "/", "%", "^", "(", ")", "{", "}", ",",
];

const ATTRIBUTE_SCOPES: [(&str, Scope); 6] = [
    ("span.", Scope::Span),
    ("resource.", Scope::Resource),
    ("event.", Scope::Event),
    ("link.", Scope::Link),
    ("instrumentation.", Scope::Instrumentation),
    (".", Scope::None),
];

const PARENT: &str = "parent.";

const INTRINSIC_SCOPES: [&str; 5] = ["trace:", "span:", "event:", "link:", "instrumentation:"];

/// Words with a meaning of their own; others are called IDENTIFIER in messages.
const KEYWORDS: [&str; 57] = [
    "true",
    "false",
    "nil",
    "ok",
    "error",
    "unset",
    "unspecified",
    "internal",
    "server",
    "client",
    "producer",
    "consumer",
    "traceDuration",
    "rootName",
    "rootServiceName",
    "rootService",
    "duration",
    "name",
    "kind",
    "status",
    "statusMessage",
    "childCount",
    "nestedSetLeft",
    "nestedSetRight",
    "nestedSetParent",
    "parent",
    "parentID",
    "id",
    "timeSinceStart",
    "traceID",
    "spanID",
    "version",
    "count",
    "avg",
    "max",
    "min",
    "sum",
    "by",
    "coalesce",
    "select",
    "rate",
    "count_over_time",
    "min_over_time",
    "max_over_time",
    "sum_over_time",
    "avg_over_time",
    "histogram_over_time",
    "quantile_over_time",
    "compare",
    "topk",
    "bottomk",
    "with",
    "span",
    "resource",
    "event",
    "link",
    "instrumentation",
];

impl Tok<'_> {
    /// How error messages call it.
    pub fn describe(&self) -> String {
        match self {
            Self::End => "$end".to_owned(),
            Self::Bad(message) => message.clone(),
            Self::Symbol(symbol) | Self::IntrinsicScope(symbol) => (*symbol).to_owned(),
            Self::Word(word) if KEYWORDS.contains(word) => (*word).to_owned(),
            Self::Word(_) => "IDENTIFIER".to_owned(),
            Self::Attribute(attribute) if attribute.parent => PARENT.to_owned(),
            Self::Attribute(attribute) => {
                ATTRIBUTE_SCOPES.iter().find(|(_, scope)| *scope == attribute.scope).map_or(".", |(prefix, _)| prefix).to_owned()
            }
            Self::Int(_) => "INTEGER".to_owned(),
            Self::Float(_) => "FLOAT".to_owned(),
            Self::Duration(_) => "DURATION".to_owned(),
            Self::String(_) => "STRING".to_owned(),
        }
    }
}

/// Whether a keyword, such that an identifier in its place would be an error.
pub(super) fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word)
}

/// Whether the character ends an unquoted attribute name.
pub(super) fn ends_attribute(c: char) -> bool {
    c.is_whitespace() || "{}()=~!<>&|^,".contains(c)
}

/// All tokens of the text. The last is [`Tok::End`] or [`Tok::Bad`], and only the last.
pub(super) fn lex(text: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { text, at: 0 };
    let mut tokens = Vec::new();
    loop {
        let (offset, tok) = match lexer.skip_blanks() {
            Ok(()) => (lexer.at, lexer.token().unwrap_or_else(Tok::Bad)),
            Err((offset, message)) => (offset, Tok::Bad(message)),
        };
        let last = matches!(tok, Tok::End | Tok::Bad(_));
        tokens.push(Token { tok, offset });
        if last {
            return tokens;
        }
    }
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes the longest prefix whose characters satisfy `keep`.
    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|c| !keep(c)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    fn eat(&mut self, prefix: &str) -> bool {
        let found = self.rest().starts_with(prefix);
        if found {
            self.at += prefix.len();
        }
        found
    }

    /// Skips white space and comments.
    fn skip_blanks(&mut self) -> Result<(), (usize, String)> {
        loop {
            self.take_while(char::is_whitespace);
            if self.eat("//") {
                self.take_while(|c| c != '\n');
            } else if self.rest().starts_with("/*") {
                match self.rest()[2..].find("*/") {
                    Some(length) => self.at += length + 4,
                    None => return Err((self.at, "comment not terminated".to_owned())),
                }
            } else {
                return Ok(());
            }
        }
    }

    fn token(&mut self) -> Result<Tok<'a>, String> {
        let Some(first) = self.peek() else {
            return Ok(Tok::End);
        };
        let second_is_digit = self.rest()[first.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
        match first {
            '0'..='9' => return self.number(),
            '.' if second_is_digit => return self.number(),
            '"' => return self.quoted_string().map(Tok::String),
            '`' => return self.raw_string().map(Tok::String),
            _ => {}
        }
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| self.rest().starts_with(**symbol)) {
            self.at += symbol.len();
            return Ok(Tok::Symbol(symbol));
        }
        if let Some(attribute) = self.attribute()? {
            return Ok(Tok::Attribute(attribute));
        }
        if let Some(scope) = INTRINSIC_SCOPES.iter().find(|scope| self.rest().starts_with(**scope)) {
            self.at += scope.len();
            return Ok(Tok::IntrinsicScope(scope));
        }
        self.word(first)
    }

    fn word(&mut self, first: char) -> Result<Tok<'a>, String> {
        if first == '\'' {
            // A character literal of Go: one word, so that the message shows all of it.
            let length = self.rest()[1..].find('\'').ok_or("literal not terminated")?;
            let word = &self.rest()[..length + 2];
            self.at += word.len();
            return Ok(Tok::Word(word));
        }
        let start = self.at;
        self.at += first.len_utf8();
        if first == '_' || first.is_alphabetic() {
            self.take_while(|c| c == '_' || c.is_alphanumeric());
        }
        Ok(Tok::Word(&self.text[start..self.at]))
    }

    /// An attribute, if one starts here.
    fn attribute(&mut self) -> Result<Option<Attribute>, String> {
        let parent = self.eat(PARENT);
        // After `parent.` only these two are scopes; other words are part of the name.
        let allowed = |scope| !parent || matches!(scope, Scope::Span | Scope::Resource);
        let found = ATTRIBUTE_SCOPES.iter().find(|(prefix, scope)| allowed(*scope) && self.rest().starts_with(prefix));
        let scope = match found {
            Some((prefix, scope)) => {
                self.at += prefix.len();
                *scope
            }
            None if parent => Scope::None,
            None => return Ok(None),
        };
        let name = self.attribute_name()?;
        if name.is_empty() {
            return Err("syntax error: unexpected END_ATTRIBUTE, expecting IDENTIFIER".to_owned());
        }
        Ok(Some(Attribute { parent, scope, name }))
    }

    /// A name: plain and quoted pieces up to the next character that ends it.
    fn attribute_name(&mut self) -> Result<String, String> {
        let mut name = String::new();
        loop {
            name.push_str(self.take_while(|c| c != '"' && !ends_attribute(c)));
            if !self.eat("\"") {
                return Ok(name);
            }
            loop {
                let Some(c) = self.peek() else {
                    return Err("unexpected EOF, expecting \"".to_owned());
                };
                self.at += c.len_utf8();
                match c {
                    '"' => break,
                    '\\' => match self.peek() {
                        Some(c @ ('"' | '\\')) => {
                            self.at += 1;
                            name.push(c);
                        }
                        _ => return Err("invalid escape sequence".to_owned()),
                    },
                    c => name.push(c),
                }
            }
        }
    }

    fn number(&mut self) -> Result<Tok<'a>, String> {
        let start = self.at;
        let number = self.number_token()?;
        let after_number = self.at;
        let is_duration_char = |c: char| c.is_ascii_digit() || ".nsumhdwy\u{b5}\u{3bc}".contains(c);
        if !self.take_while(is_duration_char).is_empty() {
            if let Some(ns) = duration::parse(&self.text[start..self.at]) {
                return Ok(Tok::Duration(ns));
            }
            self.at = after_number;
        }
        let text = &self.text[start..self.at];
        match number {
            Number::Int => match text.parse() {
                Ok(value) => Ok(Tok::Int(value)),
                Err(_) => Err(int_error(text)),
            },
            Number::Float => match text.parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(Tok::Float(value)),
                Ok(_) => Err(format!("parsing \"{text}\": value out of range")),
                Err(_) => Err(format!("parsing \"{text}\": invalid syntax")),
            },
        }
    }

    /// Moves past a number without a unit.
    fn number_token(&mut self) -> Result<Number, String> {
        let start = self.at;
        for prefix in ["0x", "0X", "0b", "0B", "0o", "0O"] {
            if self.eat(prefix) {
                self.take_while(|c| c == '_' || c.is_ascii_hexdigit());
                return Err(int_error(&self.text[start..self.at]));
            }
        }
        let is_digit = |c: char| c == '_' || c.is_ascii_digit();
        let whole = self.take_while(is_digit);
        let mut number = Number::Int;
        if self.eat(".") {
            number = Number::Float;
            self.take_while(is_digit);
        }
        if self.eat("e") || self.eat("E") {
            number = Number::Float;
            let _ = self.eat("+") || self.eat("-");
            if self.take_while(is_digit).is_empty() {
                return Err("exponent has no digits".to_owned());
            }
        }
        if matches!(number, Number::Int)
            && whole.starts_with('0')
            && let Some(digit) = whole.chars().find(|c| matches!(c, '8' | '9'))
        {
            return Err(format!("invalid digit '{digit}' in octal literal"));
        }
        Ok(number)
    }

    /// `` `...` ``: everything but carriage returns, as it stands.
    fn raw_string(&mut self) -> Result<String, String> {
        let inner = &self.rest()[1..];
        let length = inner.find('`').ok_or("literal not terminated")?;
        self.at += length + 2;
        Ok(inner[..length].replace('\r', ""))
    }

    /// `"..."` with the escapes of Go. Bytes that are not UTF-8 (`"\xff"`) are replaced.
    fn quoted_string(&mut self) -> Result<String, String> {
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let plain = self.take_while(|c| !matches!(c, '"' | '\\' | '\n'));
            bytes.extend_from_slice(plain.as_bytes());
            match self.peek() {
                Some('"') => {
                    self.at += 1;
                    return Ok(String::from_utf8_lossy(&bytes).into_owned());
                }
                Some('\\') => {
                    self.at += 1;
                    self.escape(&mut bytes)?;
                }
                _ => return Err("literal not terminated".to_owned()),
            }
        }
    }

    /// One escape, after its backslash.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), String> {
        let invalid = || "invalid char escape".to_owned();
        let kind = self.peek().ok_or_else(|| "literal not terminated".to_owned())?;
        let simple = match kind {
            'a' => 0x07,
            'b' => 0x08,
            'f' => 0x0c,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 0x0b,
            '\\' | '"' => kind as u8,
            _ => 0,
        };
        if simple != 0 {
            self.at += 1;
            bytes.push(simple);
            return Ok(());
        }
        let (skip, digits, radix) = match kind {
            '0'..='7' => (0, 3, 8),
            'x' => (1, 2, 16),
            'u' => (1, 4, 16),
            'U' => (1, 8, 16),
            _ => return Err(invalid()),
        };
        self.at += skip;
        let text = self.rest().get(..digits).ok_or_else(invalid)?;
        if !text.chars().all(|c| c.is_digit(radix)) {
            return Err(invalid());
        }
        let code = u32::from_str_radix(text, radix).map_err(|_| invalid())?;
        self.at += digits;
        if matches!(kind, 'u' | 'U') {
            let c = char::from_u32(code).ok_or_else(invalid)?;
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            bytes.push(u8::try_from(code).map_err(|_| invalid())?);
        }
        Ok(())
    }
}

enum Number {
    Int,
    Float,
}

/// The message of Go's conversion, which clients of Tempo see.
fn int_error(text: &str) -> String {
    let digits_only = text.bytes().all(|b| b.is_ascii_digit());
    let reason = if digits_only { "value out of range" } else { "invalid syntax" };
    format!("strconv.Atoi: parsing \"{text}\": {reason}")
}
