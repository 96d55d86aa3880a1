//! Times of annotations, held against another parser.

use jiff::Timestamp;
use portcullis::view::parse_rfc3339;

/// Parses a text: what is a time here is the same time for jiff, and what is written of a time is read again.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some(time) = parse_rfc3339(text) else { return };
    assert!(text.is_ascii(), "{text:?}");
    let written = time.to_string();
    // A year of five digits, or a negative one, is not of RFC 3339.
    if written.len() >= 20 && !written.starts_with(['-', '+']) {
        assert_eq!(parse_rfc3339(&written), Some(time), "{text:?}");
    }
    let is_leap = text.get(17..19) == Some("60");
    if let Ok(other) = text.parse::<Timestamp>()
        && !is_leap
    {
        assert_eq!(time, other, "{text:?}");
    }
}
