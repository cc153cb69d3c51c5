//! Numbers the anonymous parameters: clients write `?`, which Postgres' dialect knows only as the JSON operator "has key".

use std::borrow::Cow;

use datafusion::sql::sqlparser::{
    dialect::PostgreSqlDialect,
    tokenizer::{Token, TokenWithSpan, Tokenizer},
};

/// Words after which a value must follow, so that a `?` there is a parameter. After any other word `?` is the operator.
const BEFORE_VALUE: [&str; 36] = [
    "ALL",
    "AND",
    "ANY",
    "AS",
    "ASC",
    "BETWEEN",
    "BY",
    "CASE",
    "DESC",
    "DISTINCT",
    "ELSE",
    "ESCAPE",
    "EXCEPT",
    "FROM",
    "GLOB",
    "HAVING",
    "ILIKE",
    "IN",
    "INTERSECT",
    "INTERVAL",
    "IS",
    "LIKE",
    "LIMIT",
    "NOT",
    "OFFSET",
    "ON",
    "OR",
    "OVERLAY",
    "RETURNING",
    "SELECT",
    "SIMILAR",
    "THEN",
    "TO",
    "VALUES",
    "WHEN",
    "WHERE",
];

/// The text with each `?` that stands for a value replaced by `$1`, `$2`, ...
///
/// A text that cannot be read is handed back as it is: the parser says what is wrong with it.
pub fn number(sql: &str) -> Cow<'_, str> {
    if !sql.contains('?') {
        return Cow::Borrowed(sql);
    }
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location() else { return Cow::Borrowed(sql) };
    let places = parameters(&tokens);
    if places.is_empty() {
        return Cow::Borrowed(sql);
    }
    let mut out = String::with_capacity(sql.len() + 2 * places.len());
    let mut places = places.into_iter().enumerate().peekable();
    let (mut line, mut column) = (1, 1);
    for c in sql.chars() {
        match places.next_if(|(_, at)| *at == (line, column)) {
            Some((i, _)) => out.push_str(&format!("${}", i + 1)),
            None => out.push(c),
        }
        match c {
            '\n' => (line, column) = (line + 1, 1),
            _ => column += 1,
        }
    }
    Cow::Owned(out)
}

/// Line and column of each `?` that stands for a value.
fn parameters(tokens: &[TokenWithSpan]) -> Vec<(u64, u64)> {
    let mut places = Vec::new();
    let mut after_value = false;
    for token in tokens {
        after_value = match &token.token {
            Token::Whitespace(_) => continue,
            Token::Question if !after_value => {
                places.push((token.span.start.line, token.span.start.column));
                true
            }
            // `>?` and `->>?` are read as one operator.
            Token::CustomBinaryOperator(operator) if operator.ends_with('?') => {
                let before = operator.chars().count() as u64 - 1;
                places.push((token.span.start.line, token.span.start.column + before));
                true
            }
            Token::Word(word) => word.quote_style.is_some() || !BEFORE_VALUE.contains(&word.value.to_ascii_uppercase().as_str()),
            Token::RParen | Token::RBracket | Token::Placeholder(_) | Token::Number(..) | Token::Char(_) => true,
            Token::SingleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::HexStringLiteral(_) => true,
            _ => false,
        };
    }
    places
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn values_are_numbered_and_operators_kept() {
        let cases = [
            ("select 1", "select 1"),
            ("select ?, ?", "select $1, $2"),
            (
                "select * from spans where name = ? and duration_ns > ? limit ?",
                "select * from spans where name = $1 and duration_ns > $2 limit $3",
            ),
            ("where span_attributes ? 'k' and name in (?, ?)", "where span_attributes ? 'k' and name in ($1, $2)"),
            ("where span_attributes ? ?", "where span_attributes ? $1"),
            (
                "where a->>? = ?\n and \"limit\" ? 'é?'\n or b between ? and ?",
                "where a->>$1 = $2\n and \"limit\" ? 'é?'\n or b between $3 and $4",
            ),
            ("select '?' -- ?\n, /* ? */ ?", "select '?' -- ?\n, /* ? */ $1"),
            ("where x=? and y>=? and z<?", "where x=$1 and y>=$2 and z<$3"),
            ("where name like ? or (x) ? 'k'", "where name like $1 or (x) ? 'k'"),
            ("select '?", "select '?"),
        ];
        for (given, expected) in cases {
            assert_eq!(number(given), expected);
        }
    }
}
