//! Selectors that Calico accepts and rejects: answers of the original parser (`libcalico-go/lib/selector` at
//! 87c15906f20c).

use proptest::prelude::*;

use super::{is_global, parse, write};
use crate::model::{Fact, Labels, Operator, Selector};

const ACCEPTED: &[&str] = &[
    "",
    "  ",
    "\t",
    "all()",
    "all( )",
    "! all()",
    "global()",
    "global( )",
    "has(a)",
    "has( a )",
    "!has(a)",
    "!!has(a)",
    "! ! !has(a)",
    r#"a == "b""#,
    "a == 'b'",
    r#"a=="b""#,
    r#"a == """#,
    r#"a == 'it"s'"#,
    r#"a != "b""#,
    r#"!a == "b""#,
    r#"a in {"b"}"#,
    r#"a in{"b","c"}"#,
    "a in {}",
    r#"a in {"b",}"#,
    r#"in in {"in"}"#,
    r#"not in {"a"}"#,
    r#"not not in {"a"}"#,
    r#"a not in {"b"}"#,
    r#"a notin {"b"}"#,
    "a not\tin{\"b\"}",
    "a not  in {}",
    r#"a contains "b""#,
    r#"a contains"b""#,
    r#"a starts with "b""#,
    r#"a startswith "b""#,
    r#"a starts  with"b""#,
    r#"a ends with "b""#,
    r#"a endswith "b""#,
    r#"a == "b" && c == "d""#,
    r#"a == "b" || c == "d" && has(e)"#,
    r#"(a == "b" || c == "d") && has(e)"#,
    r#"!(a == "b")"#,
    r#"a == "é""#,
    r#"projectcalico.org/namespace == "x""#,
    r#"-a == "b""#,
    r#"./- == "b""#,
    r#"a/b/c == "d""#,
    r#"1 == "2""#,
    "all() && global()",
    r#"allx == "b""#,
    r#"all == "b""#,
    r#"has == "b""#,
    r#"global == "b""#,
    r#"k8s-app in { "a", "b" } && !has(x) || all()"#,
    r#"a in {"z","a","z"}"#,
    r#"a == "b" || ! ( c != "d" && e not in { 'f' } )"#,
];

const REFUSED: &[&str] = &[
    "\n",
    "all ()",
    "all(",
    "all(x)",
    "ALL()",
    "global(x)",
    "has (a)",
    "has()",
    r#"has("a")"#,
    "has(a b)",
    "has(a",
    "a",
    "a ",
    "a b",
    r#"a = "b""#,
    "a == b",
    r#"a == "b"#,
    r#"a == "b'"#,
    r#"a == "b\"c""#,
    r#"a ! = "b""#,
    r#"a !in {"b"}"#,
    "a in {,}",
    r#"a in {"b" "c"}"#,
    "a in {b}",
    r#"a in "b""#,
    "a in",
    r#"a in {"b""#,
    r#"a inx {"b"}"#,
    r#"a IN {"b"}"#,
    "a not in b",
    r#"a not in "b""#,
    "a notinb",
    "a not has(b)",
    "a contains b",
    "a containsb",
    "a starts with b",
    r#"a starts-with "b""#,
    r#"a ends "b""#,
    r#"a matches "b""#,
    r#"a == "b" & c == "d""#,
    r#"a == "b" && "#,
    r#"&& a == "b""#,
    r#"a == "b" and c == "d""#,
    r#"a == "b" c == "d""#,
    r#"a == "b" has(c)"#,
    r#"(a == "b""#,
    r#"a == "b")"#,
    "()",
    "(",
    "!",
    "!()",
    r#""a" == "b""#,
    r#"a == "b" "c""#,
    "a ==",
    "a !=",
    "a &&",
    "a)",
    "(a)",
    "==",
    "{",
    "a{",
    "%",
    r#"a == "b" && %"#,
    r#"é == "b""#,
    "a == \"b\"\n",
    "a\n== \"b\"",
    "a\u{a0}== \"b\"",
    r#"a:b == "c""#,
    r#"a@b == "c""#,
    r#"a$ == "c""#,
    "has(all())",
    "hasx(a)",
    r#"a == "b" contains "c""#,
    r#"{"a"} in a"#,
    r#"a in {"a"} in {"b"}"#,
    r#"a in ("b")"#,
    r#"a == ("b")"#,
    r#"a not in {"b""#,
    r#"a = = "b""#,
    r#"a === "b""#,
    r#"a !== "b""#,
    r#"a <> "b""#,
    "true",
];

#[test]
fn accepts_and_refuses_what_calico_does() {
    for text in ACCEPTED {
        assert!(parse(text).is_ok(), "{text:?}: {}", parse(text).unwrap_err());
    }
    for text in REFUSED {
        assert!(parse(text).is_err(), "{text:?}");
    }
    let key = |length: usize| "a".repeat(length);
    assert!(parse(&format!("{} == 'b'", key(512))).is_ok() && parse(&format!("has({})", key(512))).is_ok());
    assert!(parse(&format!("{} == 'b'", key(513))).is_err() && parse(&format!("has({})", key(513))).is_err());
}

#[test]
fn selectors_mean_what_calico_says() {
    let meant = |text: &str| parse(text).unwrap().to_string();
    assert_eq!(meant("a == 'b' || c == 'd' && has(e)"), "(a=b or c=d,e)");
    assert_eq!(meant("(a == 'b' || c == 'd') && has(e)"), "(a=b or c=d),e");
    assert_eq!(meant("!a == 'b'"), "a!=b", "`!` is for the whole comparison");
    assert_eq!(meant("!!has(a)"), "a");
    assert_eq!(meant("! ! !has(a)"), "!a");
    assert_eq!(meant("not not in {'a'}"), "not!=a");
    assert_eq!(meant("! (a contains 'x')"), "not (a contains \"x\")");
    assert_eq!(meant("!all()"), "nothing");
    assert_eq!(parse("  ").unwrap(), Selector::everything());
    assert_eq!(parse("a in {}").unwrap(), Selector::label("a", Operator::In(vec![])));
    assert!(
        parse("a not in {}").unwrap().matches(&Labels::default())
            && !parse("a in {}").unwrap().matches(&Labels::default())
    );
}

#[test]
fn errors_name_the_place_and_what_was_meant() {
    let fault = |text: &str| {
        let error = parse(text).unwrap_err();
        (error.place, error.to_string(), error.hint.into_owned())
    };
    for (text, place, message, hint) in [
        ("app = 'web'", 4, "cannot parse selector `app = 'web'` at `= 'web'` (expected `==`)", "write == instead of ="),
        (
            "app == \"web'",
            7,
            "cannot parse selector `app == \"web'` at `\"web'` (expected a string that ends with \")",
            "close the string with the quote that opened it: \"…\"",
        ),
        (
            "a == 'b",
            5,
            "cannot parse selector `a == 'b` at `'b` (expected a string that ends with ')",
            "close the string with '",
        ),
        (
            "app in ['a', 'b']",
            7,
            "cannot parse selector `app in ['a', 'b']` at `['a', 'b']` (expected `{`)",
            "write a set in braces: {'a', 'b'}",
        ),
        (
            "app == 'web' AND env == 'prod'",
            13,
            "cannot parse selector `app == 'web' AND env == 'prod'` at `AND env == 'prod'` (expected `&&`, `||` or the \
             end)",
            "write && instead of the word",
        ),
        (
            "all()\n",
            5,
            "cannot parse selector `all()\\n` at `\\n` (expected `&&`, `||` or the end)",
            "remove the newline at its end; in YAML, write `|-` or `>-` instead of `|` or `>`",
        ),
        (
            "a == b",
            5,
            "cannot parse selector `a == b` at `b` (expected a quoted string)",
            "put the value in quotes: 'b'",
        ),
        (
            "app",
            3,
            "cannot parse selector `app` at its end (expected an operator, such as `==`, `in` or `contains`)",
            "to test that the label exists, write has(app)",
        ),
    ] {
        assert_eq!(fault(text), (place, message.to_owned(), hint.to_owned()));
    }
    for (text, hint) in [
        ("a == 'b' and c == 'd'", "write && instead of the word"),
        ("a == 'b' OR c == 'd'", "write || instead of the word"),
        ("a == 'b' & c == 'd'", "write && instead of &"),
        ("a == 'b' | c == 'd'", "write || instead of |"),
        ("a === 'b'", "write == with two signs"),
        ("a in ('b')", "write a set in braces: {'a', 'b'}"),
        ("a in {b}", "put each value in quotes: 'b'"),
        ("has (a)", "write has( in lower case, without a space before the parenthesis"),
        ("ALL()", "write all( in lower case, without a space before the parenthesis"),
        ("'a' == 'b'", "write the label key without quotes and its value in quotes"),
        ("a: 'b'", "write == between a label and its value"),
        ("a == 'b' &&", "complete it, or remove the operator at its end"),
        ("a == 'b')", "remove it, or add the one that opens it"),
        ("NOT has(a)", "write `!` before the negated term, or `not in` and a set"),
        ("a IN {'b'}", "write the operator in lower case"),
    ] {
        assert_eq!(fault(text).2, hint, "{text}");
    }
}

#[test]
fn long_and_deep_texts_are_refused_and_take_no_stack() {
    let deep = |count: usize| format!("{}all(){}", "(".repeat(count), ")".repeat(count));
    assert!(parse(&deep(200)).is_ok());
    let error = parse(&deep(500_000)).unwrap_err();
    assert_eq!(error.place, 200);
    assert!(error.to_string().len() < 800, "a message does not repeat a long text");
    assert!(parse(&format!("{}all()", "!".repeat(1_000_000))).unwrap().is_empty());
    assert!(parse(&"!(".repeat(500_000)).is_err());
    assert!(parse(&"a == 'b' || ".repeat(100_000)).is_err());
}

#[test]
fn global_stands_alone() {
    for text in ["global()", " global( )\t"] {
        assert!(is_global(text), "{text}");
    }
    for text in ["global() || all()", "!global()", "(global())", "a == 'global()'", "all()"] {
        assert!(!is_global(text), "{text}");
    }
}

fn selector() -> impl Strategy<Value = Selector> {
    let key = prop::sample::select(vec!["a", "not"]);
    let values = prop::collection::vec(prop::sample::select(vec!["x", "in", "it's", ""]), 0..3);
    let label = (key, values, 0..7).prop_map(|(key, values, operator)| {
        let values: Vec<Box<str>> = values.into_iter().map(Box::from).collect();
        let first = values.first().cloned().unwrap_or_default();
        let operator = match operator {
            0 => Operator::In(values),
            1 => Operator::NotIn(values),
            2 => Operator::Exists,
            3 => Operator::Absent,
            4 => Operator::Contains(first),
            5 => Operator::StartsWith(first),
            _ => Operator::EndsWith(first),
        };
        Selector::label(key, operator)
    });
    label.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Selector::All),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Selector::Any),
            inner.prop_map(|part| Selector::Not(Box::new(part))),
        ]
    })
}

/// Every label set over the keys, with more values than the selectors can name.
fn every_label_set() -> Vec<Labels> {
    let values = [None, Some("x"), Some("in"), Some("it's"), Some(""), Some("xin"), Some("z")];
    let labels = |a: Option<&'static str>, b: Option<&'static str>| -> Labels {
        a.map(|value| ("a", value)).into_iter().chain(b.map(|value| ("not", value))).collect()
    };
    values.iter().flat_map(|a| values.iter().map(move |b| labels(*a, *b))).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_same(selector in selector()) {
        let text = write(&selector).unwrap();
        let again = parse(&text).map_err(|error| TestCaseError::fail(error.to_string()))?;
        for labels in every_label_set() {
            let facts = |_, key: &str| Fact::of(&labels, key);
            prop_assert_eq!(selector.decided(&facts), again.decided(&facts), "{} and {}", text, labels);
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,40}", words in prop::collection::vec(prop::sample::select(vec![
        "a", "not", "in", "has(", "all(", "global(", "(", ")", "{", "}", ",", "'", "\"", "x", "==", "!=", "!", "&&", "||", " ",
        "\t", "\n", "=", "&", "|", "contains", "starts", "with", "é", "[",
    ]), 0..12)) {
        for text in [text, words.concat()] {
            if let Err(error) = parse(&text) {
                prop_assert!(error.place <= text.len() && text.is_char_boundary(error.place));
            }
        }
    }
}
