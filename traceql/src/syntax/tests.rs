//! Tables of texts: what is accepted, what is refused and how, and what tree comes out.

use super::*;

/// The canonical text of a query, or the error; regexes are valid unless they begin with `*`.
fn run(text: &str) -> Result<String, Error> {
    let query = parse(text)?;
    let regex = |pattern: &str| match pattern.starts_with('*') {
        true => Err("nothing to repeat".to_owned()),
        false => Ok(()),
    };
    let printed = print(&query);
    assert_eq!(parse(&printed).as_ref(), Ok(&query), "{text} printed as {printed}");
    check(&query, &regex).map(|()| printed)
}

/// Each case: text, canonical text.
fn accepts(cases: &[(&str, &str)]) {
    for (text, printed) in cases {
        assert_eq!(run(text).as_deref(), Ok(*printed), "{text}");
    }
}

/// Each case: text, start of the message.
fn refuses(kind: ErrorKind, cases: &[(&str, &str)]) {
    for (text, message) in cases {
        let error = run(text).expect_err(text);
        assert_eq!(error.kind, kind, "{text}: {error}");
        assert!(error.to_string().starts_with(message), "{text}: {error}");
    }
}

#[test]
fn precedence_of_field_operators() {
    accepts(&[
        ("{ .a || .b && .c }", "{ (.a || .b) && .c }"),
        ("{ .a && .b || .c }", "{ (.a && .b) || .c }"),
        ("{ .a + .b * .c = 1 }", "{ (.a + (.b * .c)) = 1 }"),
        ("{ .a - .b - .c = 1 }", "{ ((.a - .b) - .c) = 1 }"),
        ("{ .a ^ .b ^ .c = 1 }", "{ (.a ^ (.b ^ .c)) = 1 }"),
        ("{ -.a + .b = 1 }", "{ ((-.a) + .b) = 1 }"),
        ("{ -.a * .b = 1 }", "{ (-(.a * .b)) = 1 }"),
        ("{ -.a ^ .b = 1 }", "{ (-(.a ^ .b)) = 1 }"),
        ("{ .a * -.b + .c = 1 }", "{ ((.a * (-.b)) + .c) = 1 }"),
        ("{ (-1) * .a = 1 }", "{ ((-1) * .a) = 1 }"),
        ("{ !.a = .b }", "{ (!.a) = .b }"),
        ("{ !.a && .b }", "{ (!.a) && .b }"),
        ("{ !(.a && .b) }", "{ !(.a && .b) }"),
        ("{ .a = .b = .c }", "{ (.a = .b) = .c }"),
        ("{ .a = nil && .b != nil }", "{ (.a = nil) && (.b != nil) }"),
        ("{ nil = .a || nil != .b + 1 }", "{ (.a = nil) || ((.b + 1) != nil) }"),
        ("{ nil = nil }", "{ false }"),
        ("{.a=1&&.b=-1}", "{ (.a = 1) && (.b = -1) }"),
    ]);
}

#[test]
fn precedence_outside_braces() {
    accepts(&[
        ("{} || {.a} && {.b}", "({ true } || { .a }) && { .b }"),
        ("{} && {.a} > {.b}", "{ true } && ({ .a } > { .b })"),
        ("{.a} > {.b} >> {.c}", "({ .a } > { .b }) >> { .c }"),
        ("{.a} !>> {.b}", "{ .a } !>> { .b }"),
        ("{.a} !<< {.b} &<< {.c} &~ {.d} !~ {}", "((({ .a } !<< { .b }) &<< { .c }) &~ { .d }) !~ { true }"),
        ("({.a}) | {.b}", "{ .a } | { .b }"),
        ("({.a} | count() > 1) >> ({.b})", "({ .a } | count() > 1) >> ({ .b })"),
        ("({.a} | count() > 1)", "({ .a } | count() > 1)"),
        ("count() > 2 * 3 + 1", "count() > 7"),
        ("{} | max(duration) > -(1s)", "{ true } | max(duration) > -1s"),
        ("by(.a) | select(span.b, name) | coalesce()", "by(.a) | select(span.b, name) | coalesce()"),
        ("{} with(a=1, b=\"x\") with(c=2.5)", "{ true } with(c=2.5)"),
    ]);
}

#[test]
fn metrics() {
    accepts(&[
        ("{} | rate() by (span:name, .a)", "{ true } | rate() by(name, .a)"),
        ("{} | quantile_over_time(duration, .5, 1)", "{ true } | quantile_over_time(duration, 0.5, 1.0)"),
        ("{} | rate() | topk(2) > 1 < 5s | bottomk(1)", "{ true } | rate() | topk(2) > 1 < 5s | bottomk(1)"),
        ("{} | compare({.a}, 5, 1, 2)", "{ true } | compare({ .a }, 5, 1, 2)"),
        ("{} | compare({.a})", "{ true } | compare({ .a }, 10)"),
        ("({} | rate()) > 1", "{ true } | rate() > 1"),
        ("({} | rate() > 1) / 2 * 3", "(({ true } | rate() > 1) / 2) * 3"),
        ("2 * 3 * ({} | rate())", "6 * ({ true } | rate())"),
        ("({} | rate()) + 2 * 3", "({ true } | rate()) + 6"),
        ("({} | rate()) + -(1 / 2)", "({ true } | rate()) + 0"),
        ("({} | rate()) + ({} | rate() | topk(1)) * 2 > 1", "({ true } | rate()) + (({ true } | rate() | topk(1)) * 2) > 1"),
    ]);
}

#[test]
fn constants_are_folded() {
    accepts(&[
        ("{ 2 + 3 * 4 = 14 }", "{ true }"),
        ("{ 2 ^ 3 = 8 }", "{ true }"),
        ("{ 7 / 2 = 3 && -7 % 2 = -1 }", "{ true }"),
        ("{ 1 = 1.0 && 1s = 1000000000 }", "{ true }"),
        ("{ .a = 1h + 30m }", "{ .a = 5400000000000.0 }"),
        ("{ 5 / 0 = 1 }", "{ (5 / 0) = 1 }"),
        ("{ .a = 5 / 0.0 }", "{ .a = (5 / 0.0) }"),
        ("{ .a = minInt || .a = maxInt }", "{ (.a = minInt) || (.a = 9223372036854775807) }"),
        ("{ !true || 1 != nil }", "{ true }"),
    ]);
}

#[test]
fn literals_and_names() {
    accepts(&[
        ("{ .a = \"x\\ty\\u00e9\\x41\\101\\\"\" }", "{ .a = `x\tyéAA\"` }"),
        ("{ .a = `b\\n` }", "{ .a = `b\\n` }"),
        ("{ .a = \"`\\\\\" }", "{ .a = \"`\\\\\" }"),
        ("{ .a = 1d12h || .a = 1.5h30s || .a = 2w }", "{ ((.a = 36h0m0s) || (.a = 1h30m30s)) || (.a = 336h0m0s) }"),
        ("{ .a = 1500us || .a = 10ns || .a = 0s }", "{ ((.a = 1.5ms) || (.a = 10ns)) || (.a = 0s) }"),
        ("{ .a = 1e3 || .a = 1.e-2 || .a = .5 }", "{ ((.a = 1000.0) || (.a = 0.01)) || (.a = 0.5) }"),
        ("{ .a-1 = 1 || .a+b/c*[d] }", "{ (.a-1 = 1) || .a+b/c*[d] }"),
        ("{ span.\"a b\".c = 1 || .\"1\" || .d.\"e\".f }", "{ ((span.\"a b.c\" = 1) || .\"1\") || .d.e.f }"),
        ("{ span.status || .span.name || resource.x\"\\\"\\\\\" }", "{ (span.status || .span.name) || resource.\"x\\\"\\\\\" }"),
        ("{ trace:duration > 1s && span:id = `a` }", "{ (traceDuration > 1s) && (span:id = `a`) }"),
        ("{ /* } */ kind = server } // }", "{ kind = server }"),
        ("{ status != unset || kind = unspecified }", "{ (status != unset) || (kind = unspecified) }"),
    ]);
    for text in ["resource.service.name", ".foo", "span.\"a b\"", "name", "event:name", "parent.span.a"] {
        assert_eq!(parse_attribute(text).map(|field| field.to_string()).as_deref(), Ok(text));
    }
    for text in ["foo", "span.", ".a .b", "", "span:foo", "childCount", ".a = 1"] {
        assert!(parse_attribute(text).is_err(), "{text}");
    }
}

#[test]
fn parse_errors() {
    refuses(
        ErrorKind::Parse,
        &[
            ("{ span.foo = }", "parse error at line 1, col 14: syntax error: unexpected }"),
            ("{ .a == 4 }", "parse error at line 1, col 7: syntax error: unexpected ="),
            ("{ foo = 4 }", "parse error at line 1, col 3: unknown identifier: foo"),
            ("{\n . }", "parse error at line 2, col 2: syntax error: unexpected END_ATTRIBUTE, expecting IDENTIFIER"),
            ("{ .a > nil }", "parse error at line 1, col 12: syntax error: unexpected }, expecting = or !="),
            ("{ .a = 0x10 }", "parse error at line 1, col 8: strconv.Atoi: parsing \"0x10\": invalid syntax"),
            ("{ .a = 99999999999999999999 }", "parse error at line 1, col 8: strconv.Atoi"),
            ("{ .a = \"b }", "parse error at line 1, col 8: literal not terminated"),
            ("{ .a = \"\\q\" }", "parse error at line 1, col 8: invalid char escape"),
            ("{ .\"a", "parse error at line 1, col 3: unexpected EOF, expecting \""),
            ("{ trace:status = ok }", "parse error at line 1, col 9: syntax error: unexpected status, expecting duration or"),
            ("{} >", "parse error at line 1, col 5: syntax error: unexpected $end, expecting { or ("),
            ("{} {}", "parse error at line 1, col 4: syntax error: unexpected {, expecting with"),
            ("coalesce() | {}", "parse error at line 1, col 1: syntax error: unexpected coalesce"),
            ("{} | count()", "parse error at line 1, col 13: syntax error: unexpected $end"),
            ("{} | max(name) = \"foo\"", "parse error at line 1, col 18: syntax error: unexpected STRING"),
            ("{} | ({} | count() > 1)", "parse error"),
            ("({} | count() > 1) | {}", "parse error"),
            ("{} && ({} | count() > 1)", "parse error"),
            ("{} | rate() + 5", "parse error at line 1, col 13: syntax error: unexpected +, expecting with"),
            ("({} | rate()) % 10", "parse error"),
            ("({} | rate()) * 10s", "parse error"),
            ("2 * 3", "parse error at line 1, col 6: syntax error: unexpected $end"),
            ("2 > 1", "parse error"),
            ("count() > 1 / 0", "parse error at line 1, col 15: division by zero"),
            ("{} | rate() | topk(-1)", "parse error at line 1, col 20: syntax error: unexpected -, expecting INTEGER"),
            ("{} | rate() by()", "parse error at line 1, col 16: syntax error: unexpected )"),
            ("{} | compare({}) by(.a)", "parse error"),
            ("{} with(a)", "parse error at line 1, col 10: syntax error: unexpected ), expecting ="),
            ("{} with(a=-1)", "parse error at line 1, col 11: syntax error: unexpected -"),
            ("{} /* a", "parse error at line 1, col 4: comment not terminated"),
            ("", "parse error at line 1, col 1: syntax error: unexpected $end"),
        ],
    );
}

#[test]
fn type_errors() {
    refuses(
        ErrorKind::Type,
        &[
            ("{ status }", "span filter field expressions must resolve to a boolean: { status }"),
            ("{ 1 + 1 }", "span filter field expressions must resolve to a boolean: { 2 }"),
            ("{ 1 = \"foo\" }", "binary operations must operate on the same type: 1 = `foo`"),
            ("{ kind = 1 }", "binary operations must operate on the same type: kind = 1"),
            ("{ (.a + 1) = `x` }", "binary operations must operate on the same type"),
            ("{ status > ok }", "illegal operation for the given types: status > ok"),
            ("{ -true }", "illegal operation for the given type: -true"),
            ("{ !1 = 1 }", "illegal operation for the given type: !1"),
            ("{ duration = nil }", "duration=nil is not valid because intrinsics cannot be nil"),
            ("{ nil = resource.service.name }", "resource.service.name=nil is not valid because"),
            ("{ .a =~ `*x` }", "invalid regex: `*x`"),
            ("{ .a =~ .b }", "invalid type for =~ or !~: .b"),
            ("{} | min(1 = 3) = 1", "aggregate field expressions must resolve to a number type: min(false)"),
            ("{} | sum(3) = 2", "aggregate field expressions must reference the span: sum(3)"),
            ("{} | by(1)", "grouping field expressions must reference the span: by(1)"),
            ("{} | quantile_over_time(duration, 2)", "quantile must be between 0 and 1: 2"),
            ("{} | rate() | topk(0)", "limit must be greater than 0"),
            ("{} | compare({}, 0)", "compare() top number"),
            ("{} | compare({}, 1001)", "compare() top number"),
            ("{} | compare({}, 1, 5, 5)", "compare() end"),
            ("{} | compare({}) | topk(1)", "`compare()` cannot be used with second stage functions"),
            ("({} | compare({})) / 2", "`compare()` cannot be used in metrics math"),
        ],
    );
    refuses(
        ErrorKind::Unsupported,
        &[
            ("{ parent.a = 1 }", "parent not yet supported"),
            ("{ parent = 1 }", "intrinsic (parent) not yet supported"),
            ("{} | 8 < count()", "scalar filter"),
            ("{} | min(.a) < max(duration)", "scalar filter"),
            ("({} | count()) > ({.a} | count()) + 1", "scalar filter"),
            ("{} | rate() by(.a, .b, .c, .d, .e, .f)", "metrics group by 6 values not yet supported"),
            ("{} | avg_over_time(.x) by(.a, .b, .c, .d, .e)", "metrics group by 5 values not yet supported"),
        ],
    );
}

#[test]
fn bounds_hold_on_a_small_stack() {
    let deep = |open: &str, close: &str, n: usize| format!("{}{}", open.repeat(n), close.repeat(n));
    let texts = [
        format!("{{ {}true{} }}", "(".repeat(98), ")".repeat(98)),
        format!("{{ {}.a{} }}", "(.a || .b = .c + .d * .e ^ ".repeat(16), ")".repeat(16)),
        format!("{{ {}.a }}", "!".repeat(98)),
        format!("{{ .a{} }}", " || .a".repeat(490)),
        format!("{{}}{}", " && {}".repeat(490)),
        format!("{}{{}}{}", "(".repeat(48), ")".repeat(48)),
        format!("{}{{}}{}", "({} | count() > 1) && (".repeat(24), ")".repeat(24)),
        format!("{{}} | count() > {}1", "-".repeat(95)),
    ];
    let refused = [
        deep("(", ")", 5_000),
        format!("{{ {} }}", deep("(", ")", 5_000)),
        format!("{{ {}", "!".repeat(100_000)),
        format!("{{ .a{} }}", " || .a".repeat(20_000)),
        format!("{{ .a{} }}", "^.a".repeat(20_000)),
        format!("{{}}{}", "&&{}".repeat(20_000)),
        format!("({{}}|rate()){}", "+({}|rate())".repeat(5_000)),
        format!("count(){} > 1", "+count()".repeat(5_000)),
        "x".repeat(TEXT_BYTES_MAX + 1),
    ];
    let all = move || {
        for text in texts {
            // What is refused by its types has been parsed and printed.
            let refused = run(&text).is_err_and(|error| error.kind == ErrorKind::Parse);
            assert!(!refused, "{text}");
        }
        for text in refused {
            assert_eq!(run(&text).map_err(|error| error.kind), Err(ErrorKind::Parse));
        }
    };
    let thread = std::thread::Builder::new().stack_size(1024 * 1024).spawn(all);
    thread.expect("a thread").join().expect("no overflow");
}

#[test]
fn caret_points_at_the_token() {
    let text = "{ .a = 1 } |\n  { .b == 2 }";
    let shown = parse(text).map_err(|error| error.caret(text));
    assert_eq!(shown, Err("  { .b == 2 }\n        ^".to_owned()));
    let text = "{ .b = 2 ";
    let shown = parse(text).map_err(|error| error.caret(text));
    assert_eq!(shown, Err("{ .b = 2 \n         ^ expected }".to_owned()));
}

#[test]
fn fields_in_order() {
    let query = parse("{ .a = span.b } | by(name) | max_over_time(event.c) by(.a)").expect("a query");
    let mut names = Vec::new();
    visit_fields(&query, &mut |field| names.push(field.to_string()));
    assert_eq!(names, [".a", "span.b", "name", "event.c", ".a"]);
    let Ok(Query { root: Root::Spansets(pipeline), .. }) = parse("{ .a || .b || (.c || .d) && .e }") else {
        panic!("a search");
    };
    let Stage::Spansets(SpansetExpr::Filter(expr)) = &pipeline.stages[0] else { panic!("a filter") };
    let FieldExpr::Binary { lhs, .. } = expr else { panic!("an operator") };
    assert_eq!(lhs.operands(BinaryOp::Or).len(), 4);
}

#[test]
fn values() {
    use BinaryOp as B;
    use Static as S;
    let text = |s: &str| S::String(s.to_owned());
    let cases = [
        (B::Add, S::Int(i64::MAX), S::Int(1), S::Int(i64::MIN)),
        (B::Div, S::Int(7), S::Float(2.0), S::Float(3.5)),
        (B::Div, S::Duration(30), S::Int(2), S::Float(15.0)),
        (B::Gt, S::Duration(5), S::Int(4), S::Bool(true)),
        (B::Lt, text("Z"), text("a"), S::Bool(true)),
        (B::Ne, text("1"), S::Int(1), S::Bool(false)),
        (B::Ne, S::Nil, S::Int(1), S::Bool(false)),
        (B::Add, text("a"), S::Int(1), S::Bool(false)),
        (B::Ne, S::Status(Status::Ok), S::Status(Status::Error), S::Bool(true)),
        (B::Eq, S::Ints(vec![1, 2]), S::Int(2), S::Bool(true)),
        (B::Lt, S::Float(1.5), S::Ints(vec![1, 2]), S::Bool(true)),
        (B::Ne, S::Ints(vec![1, 2]), S::Int(2), S::Bool(ARRAY_NEGATION_ANY)),
        (B::Ne, S::Strings(vec![String::new()]), S::Int(2), S::Bool(false)),
        (B::Ne, S::Float(f64::NAN), S::Float(f64::NAN), S::Bool(true)),
        (B::Add, S::Strings(vec!["a".into(), "b".into()]), S::Int(1), S::Bool(false)),
        (B::Mul, S::Int(2), S::Bools(vec![true, false]), S::Bool(false)),
    ];
    for (op, lhs, rhs, result) in cases {
        assert_eq!(value::binary(op, &lhs, &rhs), Ok(result), "{lhs} {op} {rhs}");
    }
    assert_eq!(value::binary(B::Div, &S::Int(1), &S::Int(0)), Err(EvalError::DivisionByZero));
    assert_eq!(value::binary(B::Mod, &S::Int(1), &S::Int(0)), Err(EvalError::ModuloByZero));
    assert_eq!(value::binary(B::Add, &S::Ints(vec![1]), &S::Int(0)), Err(EvalError::ArrayArithmetic));
    assert_eq!(value::unary(UnaryOp::Not, &S::Int(1)), Err(EvalError::NotBoolean(Type::Int))); // nil stays nil
    assert_eq!(value::unary(UnaryOp::Not, &S::Nil), Ok(S::Nil));
    assert!(!value::regex(true, &S::Nil, &|_| false));
    assert!(value::regex(true, &text("a"), &|_| false));
    assert!(value::regex(false, &S::Strings(vec!["a".into(), "b".into()]), &|s| s == "b"));
}

const ARRAY_NEGATION_ANY: bool = matches!(value::ARRAY_NEGATION, value::ArrayNegation::Any);
