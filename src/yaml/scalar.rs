//! Resolves scalars like `resolve.go` of go-yaml 2 followed by `encoding/json`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use granit_parser::{ScalarStyle, Tag};
use serde_json::{Number, Value};

/// Resolves a scalar of this style with this tag.
pub(super) fn read(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain { plain(text) } else { Ok(Value::String(text.to_owned())) };
    };
    let misfit = || format!("`{text}` does not match its tag {}", tag.original());
    match tag.core_suffix() {
        Some("int") => {
            let number = integer(&text.replace('_', "")).or_else(|| binary(text));
            number.map(|number| Value::Number(as_sent(number))).ok_or_else(misfit)
        }
        Some("float") => plain(text).ok().filter(Value::is_number).ok_or_else(misfit),
        Some("bool") => plain(text).ok().filter(Value::is_boolean).ok_or_else(misfit),
        Some("null") => plain(text).ok().filter(Value::is_null).ok_or_else(misfit),
        Some("binary") => {
            let bytes = STANDARD.decode(text.replace(['\r', '\n'], "")).map_err(|_| misfit())?;
            Ok(Value::String(String::from_utf8_lossy(&bytes).into_owned()))
        }
        _ => Ok(Value::String(text.to_owned())),
    }
}

/// Resolves a plain scalar without a tag.
fn plain(text: &str) -> Result<Value, String> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Ok(Value::Bool(true));
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Ok(Value::Bool(false));
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => return Err(format!("`{text}` is not a valid JSON number")),
        _ => {}
    }
    let number = match text.as_bytes().first() {
        Some(b'.') => decimal(text),
        Some(b'0'..=b'9' | b'-' | b'+') => {
            let text = text.replace('_', "");
            integer(&text).or_else(|| decimal(&text)).or_else(|| binary(&text))
        }
        _ => None,
    };
    Ok(number.map_or_else(|| Value::String(text.to_owned()), |number| Value::Number(as_sent(number))))
}

/// Parses a JSON number. `serde_json` would round some floats to a neighbouring value.
pub(super) fn json_number(text: &str) -> Option<Value> {
    let number = text.parse::<i64>().map(Number::from).ok().or_else(|| decimal(text))?;
    Some(Value::Number(as_sent(number)))
}

/// Converts a number to the form that a client sends after a round trip through `encoding/json`: `80.0` and `8e1`
/// become 80.
fn as_sent(number: Number) -> Number {
    if number.is_i64() {
        return number;
    }
    let Some(float) = number.as_f64() else { return number };
    // 2⁶³, the first number above the range of i64.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    #[allow(clippy::cast_possible_truncation, reason = "it is a whole number within the range")]
    if float.fract() == 0.0 && (-BEYOND..BEYOND).contains(&float) {
        return Number::from(float as i64);
    }
    Number::from_f64(float).unwrap_or(number)
}

/// Parses an integer like `strconv.ParseInt` and `ParseUint` with base 0: the prefix selects the base.
fn integer(text: &str) -> Option<Number> {
    let (sign, digits) = sign(text);
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', b'b' | b'B', ..] => (2, digits.get(2..)?),
        [b'0', b'o' | b'O', ..] => (8, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if digits.starts_with(['-', '+']) {
        return None;
    }
    let unsigned = u64::from_str_radix(digits, base);
    match sign {
        "-" => i64::from_str_radix(&format!("-{digits}"), base).ok().map(Number::from),
        // ParseUint accepts no sign, so the number has to fit into an i64.
        "+" => unsigned.ok().and_then(|number| i64::try_from(number).ok()).map(Number::from),
        _ => unsigned.ok().map(Number::from),
    }
}

/// Parses `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`. None if the value is not finite.
fn decimal(text: &str) -> Option<Number> {
    let is_allowed = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '-' | '+');
    if !text.chars().all(is_allowed) {
        return None;
    }
    Number::from_f64(text.parse().ok()?)
}

/// Parses a binary number with a sign after `0b`, which go-yaml accepts.
fn binary(text: &str) -> Option<Number> {
    let digits = text.strip_prefix("0b")?;
    i64::from_str_radix(digits, 2).ok().map(Number::from)
}

fn sign(text: &str) -> (&str, &str) {
    let length = usize::from(text.starts_with(['-', '+']));
    text.split_at(length)
}
