use proptest::prelude::*;

use super::*;

fn whole(text: &str) -> Pattern {
    Pattern::new(text, Anchoring::Whole).unwrap()
}

fn part(text: &str) -> Pattern {
    Pattern::new(text, Anchoring::Part).unwrap()
}

/// The same expression without any short way.
fn plain(text: &str, anchoring: Anchoring) -> CapturingPattern {
    CapturingPattern::new(text, anchoring).unwrap()
}

#[test]
fn expressions_match_as_in_go() {
    for (expression, yes, no) in [
        ("", &[""][..], &["a"][..]),
        ("foo", &["foo"], &["", "fo", "food", "Foo"]),
        ("a|b|", &["a", "b", ""], &["c", "ab"]),
        ("(?i)foo", &["foo", "FOO", "fOo"], &["fo"]),
        ("(?i:k)s", &["ks", "Ks", "\u{212a}s"], &["kS"]),
        // Classes are ASCII.
        (r"\d+", &["1", "42"], &["", "٣"]),
        (r"\w", &["a", "_"], &["ä"]),
        (r"\s", &[" ", "\t", "\x0c"], &["\u{a0}", "\x0b"]),
        ("[[:space:]]", &["\x0b"], &["\u{a0}"]),
        (r"[^\d]", &["٣", "\n"], &["3"]),
        (r"a\b.*", &["a", "a b", "aä"], &["ab"]),
        (r"a\Bb", &["ab"], &["a"]),
        // What begins no repetition is a literal.
        ("a{", &["a{"], &["a"]),
        ("a{,2}", &["a{,2}"], &["a"]),
        ("{x}", &["{x}"], &["x"]),
        ("a{01}", &["a{01}"], &["a"]),
        ("a{2}", &["aa"], &["a", "aaa"]),
        ("a{2,}", &["aa", "aaaa"], &["a"]),
        ("a{0}", &[""], &["a"]),
        ("}", &["}"], &[""]),
        ("]", &["]"], &[""]),
        // Within a class most is plain text.
        ("[[]]", &["[]"], &["["]),
        ("[[a]", &["[", "a"], &["]"]),
        ("[a&&b]", &["a", "&", "b"], &["ab"]),
        ("[+--]", &["+", ",", "-"], &["."]),
        ("[a~~b]", &["a", "~"], &[""]),
        ("[]a]", &["]", "a"], &[""]),
        ("[^]a]", &["b"], &["]", "a"]),
        ("[a-]", &["a", "-"], &["b"]),
        ("[-a]", &["a", "-"], &["b"]),
        (r"[\]\-]", &["]", "-"], &["\\"]),
        ("[[:alpha:]_]", &["a", "Z", "_"], &["1", "ä"]),
        ("[[:^alpha:]]", &["1", "ä"], &["a"]),
        ("[#x ]", &["#", "x", " "], &["a"]),
        // Quoting and escapes.
        (r"\Qa.b\E.", &["a.bc"], &["axbc"]),
        (r"\Qa|b", &["a|b"], &["a", "b"]),
        (r"\x41\x{42}\103", &["ABC"], &["abc"]),
        (r"\_\-\/", &["_-/"], &[""]),
        (r"\pN+", &["1٣Ⅷ"], &["a"]),
        (r"\p{Greek}", &["α"], &["a"]),
        (r"\P{Greek}", &["a"], &["α"]),
        (r"\p{^Greek}", &["a"], &["α"]),
        (r"[\p{Lu}\d]", &["Ä", "5"], &["ä"]),
        (r"(?i)\p{Lu}", &["ä"], &["5"]),
        // Anchors and flags.
        (".", &["\n", "ä"], &["", "ab"]),
        ("(?-s).", &["a"], &["\n"]),
        ("^foo$", &["foo"], &["foo\n"]),
        (r"\Afoo\z", &["foo"], &["foo\n"]),
        ("(?m)a$\nb", &["a\nb"], &["a"]),
        ("a$b", &[], &["a", "ab", "a$b"]),
        ("(?U)a+?", &["aa"], &[""]),
        ("(?i)(?-i)a", &["a"], &["A"]),
        ("(?:(?i)a|b)c", &["Ac", "Bc"], &["aC"]),
        ("(?P<n>a)(?<m>b)", &["ab"], &["a"]),
        ("(?)a", &["a"], &[""]),
        ("()*", &[""], &["a"]),
        ("a(?i)*", &["", "aa"], &["A"]),
        (r"[^\x00-\x{10ffff}]", &[], &["", "a"]),
        (r"\x{d800}", &[], &["", "a"]),
    ] {
        let compiled = whole(expression);
        for (texts, expected) in [(yes, true), (no, false)] {
            for text in texts {
                assert_eq!(compiled.is_match(text), expected, "{expression:?} on {text:?}");
            }
        }
    }
}

#[test]
fn bad_expressions_are_named_as_go_names_them() {
    let deep = "(".repeat(300);
    for (expression, message) in [
        ("(", "missing closing ): `(`"),
        ("a(b", "missing closing ): `a(b`"),
        ("a)b", "unexpected ): `a)b`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("a|*?", "missing argument to repetition operator: `*?`"),
        ("(?i)+", "missing argument to repetition operator: `+`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a+?{2}x", "invalid nested repetition operator: `+?{2}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("a{99999999999}", "invalid repeat count: `{99999999999}`"),
        ("(a{100}){11}", "invalid repeat count: `{11}`"),
        ("[a", "missing closing ]: `[a`"),
        ("x[", "missing closing ]: `[`"),
        ("[a--z]", "invalid character class range: `a--`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        (r"\p{Nope}", r"invalid character class range: `\p{Nope}`"),
        (r"\p{Greek", r"invalid character class range: `\p{Greek`"),
        (r"\pé", r"invalid character class range: `\pé`"),
        (r"\p{Alphabetic}", r"invalid character class range: `\p{Alphabetic}`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\y", r"invalid escape sequence: `\y`"),
        (r"\ü", r"invalid escape sequence: `\ü`"),
        (r"\x", r"invalid escape sequence: `\x`"),
        (r"\x1", r"invalid escape sequence: `\x1`"),
        (r"\xg1", r"invalid escape sequence: `\xg1`"),
        (r"\x{}", r"invalid escape sequence: `\x{}`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000`"),
        (r"[\Q]", r"invalid escape sequence: `\Q`"),
        ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?i-)", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?i--s)", "invalid or unsupported Perl syntax: `(?i--`"),
        ("(?i", "invalid or unsupported Perl syntax: `(?i`"),
        ("(?#x)", "invalid or unsupported Perl syntax: `(?#`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("(?P<a-b>x)", "invalid named capture: `(?P<a-b>`"),
        ("(?<>x)", "invalid named capture: `(?<>`"),
        (deep.as_str(), &format!("expression nests too deeply: `{deep}`")),
    ] {
        let error = Pattern::new(expression, Anchoring::Whole).unwrap_err();
        assert_eq!(error.to_string(), format!("error parsing regexp: {message}"), "{expression}");
    }
}

#[test]
fn what_grows_without_bound_is_refused() {
    let many_classes = r"[\pL\pN]".repeat(5_000);
    let large = r"(\pL{100}|\pN{100}){10}";
    for expression in [many_classes.as_str(), large] {
        let error = Pattern::new(expression, Anchoring::Whole).unwrap_err();
        assert_eq!(error.kind, RegexErrorKind::TooLarge);
    }
    let repeated = format!("a{}", "(?i)*".repeat(300));
    assert_eq!(Pattern::new(&repeated, Anchoring::Part).unwrap_err().kind, RegexErrorKind::NestingDepth);
    // As deep as allowed works on a small stack.
    let nested = |n: usize| format!("{}a{}", "(?:x|".repeat(n), ")*".repeat(n));
    let on_small_stack = std::thread::Builder::new().stack_size(1 << 20);
    let matched = on_small_stack.spawn(move || whole(&nested(90)).is_match("xa")).unwrap();
    assert!(matched.join().unwrap());
}

#[test]
fn expressions_that_are_sets_say_so() {
    let texts = |expression: &str| whole(expression).set_matches().map(|t| t.join(","));
    for (expression, expected) in [
        ("foo", Some("foo")),
        ("", Some("")),
        ("c|a|b|a", Some("a,b,c")),
        ("^(?:a|b)$", Some("a,b")),
        ("(a|b)x", Some("ax,bx")),
        ("foo-[0-3]", Some("foo-0,foo-1,foo-2,foo-3")),
        ("[ab][cd]", Some("ac,ad,bc,bd")),
        ("prod|pro", Some("pro,prod")),
        ("colou?r", Some("color,colour")),
        (r"a\.b|c\|d", Some("a.b,c|d")),
        ("(?i)a|b", Some("A,B,a,b")),
        ("a|(b|(c|))", Some(",a,b,c")),
        ("a.*", None),
        ("a+", None),
        (r"\d\d\d", None),
        (r"a\b", None),
        ("a|b.", None),
    ] {
        assert_eq!(texts(expression).as_deref(), expected, "{expression}");
    }
    let many: Vec<String> = (0..5000).map(|i| format!("instance-{i:05}")).collect();
    assert_eq!(whole(&many.join("|")).set_matches(), Some(many.as_slice()));
}

#[test]
fn prefixes_are_known() {
    for (expression, expected) in [
        ("foo.*", "foo"),
        ("foo.+bar", "foo"),
        ("^foo[a-z]+", "foo"),
        ("foo|fob", "fo"),
        ("foo+", "fo"),
        ("(?i)foo.*", ""),
        (".*foo", ""),
        ("foo.*|bar", ""),
        ("ä(b|c)+", "ä"),
    ] {
        assert_eq!(whole(expression).prefix(), expected, "{expression}");
    }
}

#[test]
fn parts_match_anywhere() {
    for (expression, yes, no) in [
        ("foo", &["foo", "a foo b"][..], &["fo o"][..]),
        ("^foo", &["food"], &["a foo"]),
        ("foo$", &["a foo"], &["food"]),
        ("^foo$", &["foo"], &["foo "]),
        ("a|b", &["xax", "b"], &["c"]),
        ("foo.*bar", &["xfoo barx"], &["bar foo"]),
        (".+foo", &["xfoo"], &["foo"]),
        ("", &["", "a"], &[]),
        ("^", &["", "a"], &[]),
        ("^$", &[""], &["a"]),
        // A dot is no line feed where lines are looked at, unless it is said so.
        ("a.*b", &["xa b"], &["a\nb"]),
        ("(?s)a.*b", &["a\nb"], &["b\na"]),
        (".", &["a\n"], &["\n", ""]),
    ] {
        for (texts, expected) in [(yes, true), (no, false)] {
            for text in texts {
                assert_eq!(part(expression).is_match(text), expected, "{expression:?} on {text:?}");
            }
        }
    }
}

#[test]
fn captures_expand_templates_as_in_go() {
    let pattern = plain("(?P<key>[a-z]+)-([0-9]*)(x)?", Anchoring::Whole);
    for (template, expected) in [
        ("$1", "ab"),
        ("${key}:$2", "ab:12"),
        ("$1x", ""),
        ("${1}x", "abx"),
        ("$$1", "$1"),
        ("$key", "ab"),
        ("$3|$9|$none", "||"),
        ("$0", "ab-12"),
        ("$01", ""),
        ("a$", "a$"),
        ("$ ${ ${1 ${a-b}", "$ ${ ${1 ${a-b}"),
        ("", ""),
    ] {
        assert_eq!(pattern.expand("ab-12", template).as_deref(), Some(expected), "{template}");
    }
    assert_eq!(pattern.expand("-12", "$1"), None);
    assert_eq!(pattern.names(), [None, Some("key".to_owned()), None, None]);
    let twice = plain("(?P<a>x)?(?P<a>y)?", Anchoring::Whole);
    assert_eq!(twice.expand("y", "${a}").as_deref(), Some("y"));
}

#[test]
fn matches_are_counted_and_replaced() {
    let words = plain("(?P<first>[a-z])([a-z]*)", Anchoring::Part);
    let text = "ab, c\nä";
    assert_eq!(words.count(text), 2);
    assert_eq!(words.replace_all(text, "$2-${first}", false), "b-a, -c\nä");
    assert_eq!(words.replace_all(text, "$2", true), "$2, $2\nä");
    // An empty match stands between characters, never within one.
    assert_eq!(plain("x*", Anchoring::Part).replace_all("ä", ".", false), ".ä.");
    let mut parts = vec![Some("old")];
    assert!(!words.capture("1", &mut parts) && parts.is_empty());
    let line = |text| plain("a.b", Anchoring::WholeLine).is_match(text);
    assert!(line("a b") && !line("a\nb") && !line("xa b"));
}

#[test]
fn faults_show_the_expression_as_programs_anchor_it() {
    let fault = fault_when_anchored("a(").map(|e| e.to_string());
    assert_eq!(fault.as_deref(), Some("error parsing regexp: missing closing ): `^(?:a()$`"));
    assert_eq!(fault_when_anchored("a"), None);
}

#[test]
fn matchers_match_whole_values() {
    let matcher = |op, value: &str| Matcher::new(op, "job", value).unwrap();
    for (matcher, text, values) in [
        (matcher(MatchOp::Equal, "a"), r#"job="a""#, [("a", true), ("", false)]),
        (matcher(MatchOp::NotEqual, "a"), r#"job!="a""#, [("a", false), ("", true)]),
        (matcher(MatchOp::Regex, "a|b"), r#"job=~"a|b""#, [("b", true), ("ab", false)]),
        (matcher(MatchOp::NotRegex, "a.*"), r#"job!~"a.*""#, [("ab", false), ("b", true)]),
    ] {
        assert_eq!(matcher.to_string(), text);
        for (value, expected) in values {
            assert_eq!(matcher.matches(value), expected, "{text} on {value:?}");
        }
    }
    assert!(matcher(MatchOp::Regex, ".*").matches_empty() && !matcher(MatchOp::Regex, ".+").matches_empty());
    assert_eq!(matcher(MatchOp::Regex, "a"), matcher(MatchOp::Regex, "a"));
    let error = Matcher::new(MatchOp::Regex, "job", "a(").unwrap_err();
    assert_eq!(error.to_string(), "error parsing regexp: missing closing ): `a(`");
}

/// Expressions made of what the short ways look at.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => "[abä]{1,3}",
        2 => prop_oneof![Just(".*"), Just(".+"), Just("."), Just("[ab]"), Just("[^a]"), Just("(?i:ab)"), Just("^"), Just("$"), Just("")]
            .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4).prop_map(|v| v.concat()),
            proptest::collection::vec(inner.clone(), 1..4).prop_map(|v| format!("(?:{})", v.join("|"))),
            (inner, prop_oneof![Just("*"), Just("+"), Just("?"), Just("{2}")])
                .prop_map(|(e, op)| format!("(?:{e}){op}")),
        ]
    })
}

proptest! {
    #[test]
    fn short_ways_agree_with_the_automaton(e in expression(), texts in proptest::collection::vec("[abäAB\n]{0,5}", 1..12)) {
        for anchoring in [Anchoring::Whole, Anchoring::WholeLine, Anchoring::Part] {
            let (short, long) = (Pattern::new(&e, anchoring).unwrap(), plain(&e, anchoring));
            for text in &texts {
                let expected = long.captures(text).is_some();
                prop_assert_eq!(short.is_match(text), expected, "{} {:?} on {:?}", e, anchoring, text);
                prop_assert!(!expected || text.starts_with(short.prefix()), "{} {:?}", e, short.prefix());
            }
            for text in short.set_matches().unwrap_or_default() {
                prop_assert!(long.captures(text).is_some(), "{} does not match {:?}", e, text);
            }
        }
    }

    #[test]
    fn quoted_text_matches_itself_alone(text in "\\PC{0,12}", other in "\\PC{0,12}") {
        prop_assume!(!text.contains("\\E"));
        let pattern = whole(&format!("\\Q{text}\\E"));
        prop_assert!(pattern.is_match(&text));
        prop_assert_eq!(pattern.is_match(&other), text == other);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-c(){}\\[\\]|*+?^$.\\\\:,<>PQExpi0-9-]{0,24}") {
        if let Err(error) = Pattern::new(&text, Anchoring::Whole) {
            prop_assert!(error.to_string().starts_with("error parsing regexp: "));
        }
    }
}
