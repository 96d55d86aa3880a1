//! Times in annotations, as RFC 3339 defines them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// Parses an RFC 3339 `date-time`. Other ISO 8601 formats and time zone annotations are rejected.
///
/// A valid time outside the range of a timestamp is clamped to the nearest one: `9999-12-31T23:59:59Z` is valid.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_at_checked(10)?;
    let (year, month, day) = (number(date.get(..4)?)?, number(date.get(5..7)?)?, number(date.get(8..)?)?);
    let (time, rest) = rest.strip_prefix(['T', 't'])?.split_at_checked(8)?;
    let (hour, minute, second) = (number(time.get(..2)?)?, number(time.get(3..5)?)?, number(time.get(6..)?)?);
    let separators = [date.get(4..5)?, date.get(7..8)?, time.get(2..3)?, time.get(5..6)?];
    if separators != ["-", "-", ":", ":"] {
        return None;
    }
    let (nanosecond, offset) = match rest.strip_prefix('.') {
        Some(rest) => {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            let (digits, offset) = rest.split_at_checked(end)?;
            // Digits beyond nanoseconds are valid and ignored.
            let nanosecond = format!("{digits:0<9}");
            (number(nanosecond.get(..9).filter(|_| !digits.is_empty())?)?, offset)
        }
        None => (0, rest),
    };
    let offset = seconds(offset)?;
    let is_leap = second == 60;
    let short = |number: i32| i8::try_from(number).ok();
    let second = short(if is_leap { 59 } else { second })?;
    let date_time = DateTime::new(
        i16::try_from(year).ok()?,
        short(month)?,
        short(day)?,
        short(hour)?,
        short(minute)?,
        second,
        nanosecond,
    );
    let nearest = if year > 5000 { Timestamp::MAX } else { Timestamp::MIN };
    let timestamp = Offset::from_seconds(offset).ok()?.to_timestamp(date_time.ok()?).unwrap_or(nearest);
    // A leap second is the last second of a UTC day.
    (!is_leap || timestamp.as_second().rem_euclid(86_400) == 86_399).then_some(timestamp)
}

/// Parses the offset in seconds: `Z`, or hours and minutes with a sign.
fn seconds(offset: &str) -> Option<i32> {
    if offset.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, offset) = match offset.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = offset.split_once(':').filter(|(hours, minutes)| hours.len() == 2 && minutes.len() == 2)?;
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
}

/// Parses a number of ASCII digits only.
fn number(digits: &str) -> Option<i32> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_rfc_3339_are_read() {
        for (text, expected) in [
            ("2026-11-28T18:43:31Z", "2026-11-28T18:43:31Z"),
            ("2026-11-28t18:43:31z", "2026-11-28T18:43:31Z"),
            ("2026-11-28T18:43:31.5+01:30", "2026-11-28T17:13:31.5Z"),
            ("2026-11-28T18:43:31.1234567891-00:00", "2026-11-28T18:43:31.123456789Z"),
            ("2026-11-28T00:00:00+23:59", "2026-11-27T00:01:00Z"),
            ("1990-12-31T15:59:60-08:00", "1990-12-31T23:59:59Z"),
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
        ] {
            assert_eq!(parse_rfc3339(text), Some(expected.parse().unwrap()), "{text}");
        }
        assert_eq!(parse_rfc3339("9999-12-31T23:59:59Z"), Some(Timestamp::MAX));
        assert_eq!(parse_rfc3339("0000-01-01T00:00:00+23:00").map(|time| time < Timestamp::UNIX_EPOCH), Some(true));
    }

    #[test]
    fn other_times_are_not() {
        for text in [
            "",
            "20261128T184331Z",
            "2026-11-28T18:43:31",
            "2026-11-28 18:43:31Z",
            "2026-11-28T18:43Z",
            "2026-11-28T18:43:31+25:00",
            "2026-11-28T18:43:31+0100",
            "2026-11-28T18:43:31+01",
            "2026-11-28T18:43:31+01:60",
            "2026-11-28T18:43:31Z[America/New_York]",
            "2026-11-28T18:43:31+01:00[Europe/Berlin]",
            "2026-11-28T18:43:31,5Z",
            "2026-11-28T18:43:31.Z",
            "2026-11-28T18:43:31.5",
            "2026-11-28T12:59:60Z",
            "2026-11-28T24:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "+002026-11-28T18:43:31Z",
            "2026-11-28T18:43:3１Z",
            "2026-W48-6T18:43:31Z",
            "tomorrow",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
