//! DNS names and patterns of names.

use std::fmt;

/// A DNS name or a pattern of names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DomainPattern {
    /// The text as written.
    text: Box<str>,
    tokens: Box<[Token]>,
}

/// Maximum length of a DNS name.
const LONGEST: usize = 255;

/// A token of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Token {
    /// Exactly this character.
    Char(char),
    /// Any number of characters of one label, including none.
    InLabel,
    /// Any number of characters, including dots.
    Anything,
}

impl Token {
    /// Returns true if the token matches this character.
    fn takes(self, other: char) -> bool {
        match self {
            Self::Char(own) => own == other,
            Self::InLabel => other != '.',
            Self::Anything => true,
        }
    }
}

impl DomainPattern {
    /// A pattern that matches only this name. Case and a trailing dot are ignored.
    #[must_use]
    pub fn name(text: &str) -> Self {
        let tokens =
            text.strip_suffix('.').unwrap_or(text).chars().map(|char| Token::Char(char.to_ascii_lowercase())).collect();
        Self { text: text.into(), tokens }
    }

    /// A pattern in which `*` matches any number of characters of one label. A lone `*`, and `**` anywhere, match any
    /// number of characters.
    #[must_use]
    pub(crate) fn glob(text: &str) -> Self {
        let written = text.strip_suffix('.').unwrap_or(text);
        if written == "*" {
            return Self { text: text.into(), tokens: [Token::Anything].into() };
        }
        let mut tokens = Vec::with_capacity(written.len());
        for char in written.chars() {
            match (char, tokens.last_mut()) {
                ('*', Some(last @ (Token::InLabel | Token::Anything))) => *last = Token::Anything,
                ('*', _) => tokens.push(Token::InLabel),
                (char, _) => tokens.push(Token::Char(char.to_ascii_lowercase())),
            }
        }
        Self { text: text.into(), tokens: tokens.into() }
    }

    /// A name, or a name after `*.`, which matches one or more labels (the ClusterNetworkPolicy API).
    #[must_use]
    pub(crate) fn subdomains(text: &str) -> Self {
        match text.strip_prefix('*') {
            Some(rest) => {
                let rest = Self::name(rest).tokens.into_vec();
                Self { text: text.into(), tokens: [Token::Anything].into_iter().chain(rest).collect() }
            }
            None => Self::name(text),
        }
    }

    /// The name in lower case, if the pattern matches a single name.
    #[must_use]
    pub fn exact(&self) -> Option<String> {
        let char = |token: &Token| if let Token::Char(char) = token { Some(*char) } else { None };
        self.tokens.iter().map(char).collect()
    }

    /// The number of steps that `overlaps` takes.
    #[must_use]
    pub fn steps(&self, other: &Self) -> usize {
        self.tokens.len().saturating_mul(other.tokens.len()).saturating_add(1)
    }

    /// Returns true if a name exists that both patterns match. Patterns longer than a DNS name can be (RFC 1035 §2.3.4)
    /// match no name.
    #[must_use]
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        if self.tokens.len() > LONGEST || other.tokens.len() > LONGEST {
            return false;
        }
        // reached[j]: the tokens of `self` so far and the first j tokens of `other` can match the same text.
        let mut reached = vec![false; other.tokens.len() + 1];
        if let Some(start) = reached.first_mut() {
            *start = true;
        }
        skip_stars(&mut reached, &other.tokens);
        for own in &self.tokens {
            let mut next = vec![false; reached.len()];
            let is_star = !matches!(own, Token::Char(_));
            if is_star {
                next.clone_from(&reached);
            }
            for (at, theirs) in other.tokens.iter().enumerate() {
                let before = if is_star { next.get(at) } else { reached.get(at) }.copied().unwrap_or_default();
                if !before {
                    continue;
                }
                let (consumed, stays) = match (own, theirs) {
                    (Token::Char(char), Token::Char(_)) => (theirs.takes(*char), false),
                    (Token::Char(char), _) => (false, theirs.takes(*char)),
                    (_, Token::Char(char)) => (own.takes(*char), false),
                    // Both tokens can match the empty text.
                    (_, _) => (true, false),
                };
                if consumed && let Some(slot) = next.get_mut(at + 1) {
                    *slot = true;
                }
                if stays && let Some(slot) = next.get_mut(at) {
                    *slot = true;
                }
            }
            skip_stars(&mut next, &other.tokens);
            reached = next;
        }
        reached.last().copied().unwrap_or_default()
    }
}

/// Skips tokens that can match the empty text.
fn skip_stars(reached: &mut [bool], tokens: &[Token]) {
    for (at, token) in tokens.iter().enumerate() {
        if reached.get(at) == Some(&true)
            && !matches!(token, Token::Char(_))
            && let Some(slot) = reached.get_mut(at + 1)
        {
            *slot = true;
        }
    }
}

impl fmt::Display for DomainPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn overlap(a: &str, b: &str) -> bool {
        DomainPattern::glob(a).overlaps(&DomainPattern::glob(b))
    }

    #[test]
    fn patterns_overlap_where_a_name_fits_both() {
        for (a, b) in [
            ("*", "www.example.com"),
            ("*.example.com", "www.example.com"),
            ("*.example.com", "www.*.com"),
            ("WWW.example.com.", "www.example.com"),
            ("**.example.com", "a.b.example.com"),
            ("w*w.example.com", "*ww.example.com"),
        ] {
            assert!(overlap(a, b) && overlap(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("*.example.com", "a.b.example.com"),
            ("*.example.com", "example.com"),
            ("a.example.com", "b.example.com"),
            ("a*.example.com", "b*.example.com"),
        ] {
            assert!(!overlap(a, b) && !overlap(b, a), "{a} {b}");
        }
    }

    #[test]
    fn a_star_before_a_name_stands_for_one_label_or_more() {
        let pattern = DomainPattern::subdomains("*.Example.com.");
        assert_eq!(pattern.to_string(), "*.Example.com.");
        for (name, fits) in
            [("www.example.com", true), ("a.b.example.com", true), ("example.com", false), ("notexample.com", false)]
        {
            assert_eq!(pattern.overlaps(&DomainPattern::name(name)), fits, "{name}");
        }
        assert_eq!(DomainPattern::subdomains("example.com"), DomainPattern::name("example.com"));
    }

    proptest! {
        #[test]
        fn a_name_overlaps_a_pattern_as_a_simple_matcher_says(name in "[ab.]{0,6}", pattern in "[ab.*]{0,5}") {
            fn fits(pattern: &[u8], name: &[u8], dots: bool) -> bool {
                match pattern.split_first() {
                    None => name.is_empty(),
                    Some((b'*', rest)) if rest.first() == Some(&b'*') => fits(rest, name, true),
                    Some((b'*', rest)) => (0..=name.len()).any(|taken| {
                        (dots || !name[..taken].contains(&b'.')) && fits(rest, &name[taken..], false)
                    }),
                    Some((char, rest)) => name.first() == Some(char) && fits(rest, &name[1..], false),
                }
            }
            let (name, pattern) = (name.trim_end_matches('.'), pattern.trim_end_matches('.'));
            let expected = pattern == "*" || fits(pattern.as_bytes(), name.as_bytes(), false);
            let (exact, glob) = (DomainPattern::name(name), DomainPattern::glob(pattern));
            prop_assert_eq!(glob.overlaps(&exact), expected);
            prop_assert_eq!(exact.overlaps(&glob), expected);
        }
    }
}
