//! The tokenizer of the selector language, after `libcalico-go/lib/selector/tokenizer`.

use super::SelectorError;

/// Maximum length of a label key, in bytes (`MaxLabelLength` of the tokenizer).
const LONGEST_KEY: usize = 512;

/// A token of a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// The label key of a comparison.
    Label(&'a str),
    /// A quoted string, without the quotes.
    Text(&'a str),
    OpenBrace,
    CloseBrace,
    OpenParenthesis,
    CloseParenthesis,
    Comma,
    Equal,
    NotEqual,
    In,
    NotIn,
    Contains,
    StartsWith,
    EndsWith,
    Not,
    And,
    Or,
    /// `all()`.
    All,
    /// `global()`.
    Global,
    /// `has(key)`.
    Has(&'a str),
    End,
}

/// The tokens of a selector, in order.
pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    /// The previous token. A word is an operator only after a label key.
    last: Option<Token<'a>>,
}

impl<'a> Tokens<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { text, at: 0, last: None }
    }

    /// The whole selector.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// Returns the next token and its offset. At the end of the text it keeps returning [`Token::End`].
    pub(super) fn next(&mut self) -> Result<(usize, Token<'a>), SelectorError> {
        self.skip_blanks();
        let start = self.at;
        let token = self.word()?;
        self.last = Some(token);
        Ok((start, token))
    }

    fn word(&mut self) -> Result<Token<'a>, SelectorError> {
        let Some(first) = self.rest().bytes().next() else { return Ok(Token::End) };
        let single = match first {
            b'(' => Token::OpenParenthesis,
            b')' => Token::CloseParenthesis,
            b'{' => Token::OpenBrace,
            b'}' => Token::CloseBrace,
            b',' => Token::Comma,
            b'"' | b'\'' => return self.text_in_quotes(char::from(first)),
            b'=' => return self.double("==", Token::Equal),
            b'&' => return self.double("&&", Token::And),
            b'|' => return self.double("||", Token::Or),
            b'!' if self.takes("!=") => return Ok(Token::NotEqual),
            b'!' => Token::Not,
            _ if matches!(self.last, Some(Token::Label(_))) => return self.operator(),
            _ => return self.label(),
        };
        self.at += 1;
        Ok(single)
    }

    /// Reads a quoted string. It ends at the next quote of the same kind; escapes are not supported.
    fn text_in_quotes(&mut self, quote: char) -> Result<Token<'a>, SelectorError> {
        let inner = self.rest().get(1..).unwrap_or_default();
        match inner.split_once(quote) {
            Some((text, _)) => {
                self.at += text.len() + 2;
                Ok(Token::Text(text))
            }
            None => Err(SelectorError::unclosed(self.text, self.at, quote)),
        }
    }

    fn double(&mut self, operator: &'static str, token: Token<'a>) -> Result<Token<'a>, SelectorError> {
        if self.takes(operator) {
            Ok(token)
        } else {
            Err(SelectorError::at(self.text, self.at, format!("`{operator}`")))
        }
    }

    /// Reads the operator after a label key. The two words of an operator may be joined, as in `notin`.
    fn operator(&mut self) -> Result<Token<'a>, SelectorError> {
        let words: [(&[&str], Token<'a>); 5] = [
            (&["contains"], Token::Contains),
            (&["starts", "with"], Token::StartsWith),
            (&["ends", "with"], Token::EndsWith),
            (&["not", "in"], Token::NotIn),
            (&["in"], Token::In),
        ];
        for (words, token) in words {
            if let Some(rest) = after_words(self.rest(), words) {
                self.at = self.text.len() - rest.len();
                return Ok(token);
            }
        }
        Err(SelectorError::at(self.text, self.at, "an operator, such as `==`, `in` or `contains`"))
    }

    fn label(&mut self) -> Result<Token<'a>, SelectorError> {
        if self.takes("has(") {
            self.skip_blanks();
            self.last = None;
            let key = self.key()?;
            return self.close("has(", Token::Has(key));
        }
        if self.takes("all(") {
            return self.close("all(", Token::All);
        }
        if self.takes("global(") {
            return self.close("global(", Token::Global);
        }
        self.key().map(Token::Label)
    }

    fn key(&mut self) -> Result<&'a str, SelectorError> {
        let rest = self.rest();
        let length = rest.bytes().position(|byte| !is_key_byte(byte)).unwrap_or(rest.len());
        let key = rest.get(..length).unwrap_or_default();
        match length {
            0 => Err(SelectorError::at(self.text, self.at, self.wanted())),
            1..=LONGEST_KEY => {
                self.at += length;
                Ok(key)
            }
            _ => Err(SelectorError::at(self.text, self.at, "a label key of at most 512 bytes")),
        }
    }

    /// Describes the syntax that may follow the previous token.
    fn wanted(&self) -> &'static str {
        match self.last {
            Some(Token::In | Token::NotIn) => "`{`",
            Some(Token::Equal | Token::NotEqual | Token::Contains | Token::StartsWith | Token::EndsWith) => {
                "a quoted string"
            }
            Some(Token::Text(_) | Token::CloseBrace | Token::CloseParenthesis)
            | Some(Token::All | Token::Global | Token::Has(_)) => "`&&`, `||` or the end",
            _ => "a label key",
        }
    }

    fn close(&mut self, call: &'static str, token: Token<'a>) -> Result<Token<'a>, SelectorError> {
        self.skip_blanks();
        if self.takes(")") {
            Ok(token)
        } else {
            Err(SelectorError::at(self.text, self.at, format!("the `)` of `{call}`")))
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Skips this text if it comes next.
    fn takes(&mut self, what: &str) -> bool {
        let found = self.rest().starts_with(what);
        if found {
            self.at += what.len();
        }
        found
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - without_blanks(self.rest()).len();
    }
}

/// Strips leading blanks. Only spaces and tabs are blanks; a newline is an error.
fn without_blanks(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

/// Returns the text after an operator of these words. None if the text does not start with it, or if it runs into
/// another word. In operators of two words, blanks are skipped before that check. So `in` is found in `a in b`, but
/// `not in` is not found in `a not in b`.
fn after_words<'a>(text: &'a str, words: &[&str]) -> Option<&'a str> {
    let mut rest = text;
    for word in words {
        rest = rest.strip_prefix(word)?;
        if words.len() > 1 {
            rest = without_blanks(rest);
        }
    }
    rest.bytes().next().is_none_or(|next| !is_key_byte(next)).then_some(rest)
}

pub(super) fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-')
}
