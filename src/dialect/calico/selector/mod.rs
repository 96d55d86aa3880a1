//! The selector language: `app == 'web' && env in {'prod', 'test'} && !has(legacy)`.
//!
//! The parser accepts and rejects the same texts as `libcalico-go/lib/selector` (tokenizer and parser of v3.32), with
//! one exception: it rejects selectors nested deeper than [`DEEPEST`], which protects the stack from hostile input. The
//! CRDs allow 1024 characters, and no practical selector nests that deep.
//!
//! ```text
//! or         := and { "||" and }
//! and        := operation { "&&" operation }
//! operation  := { "!" } ( has(key) | all() | global() | "(" or ")" | key comparison )
//! comparison := ( "==" | "!=" | contains | starts with | ends with ) text | ( in | not in ) "{" [ text { "," text } [","] ] "}"
//! ```

mod error;
mod tokens;
#[cfg(test)]
mod vectors;
mod write;

pub(super) use error::SelectorError;
pub(super) use write::write;

use tokens::{Token, Tokens};

use crate::model::{Operator, Selector};

/// Maximum nesting of parentheses.
const DEEPEST: usize = 200;

/// Parses a selector. Its keys stay as written. An empty selector matches everything. So does `global()`, which is
/// valid only on its own (see [`is_global`]).
pub(super) fn parse(text: &str) -> Result<Selector, SelectorError> {
    let mut parser = Parser::of(text)?;
    if parser.token == Token::End {
        return Ok(Selector::everything());
    }
    let selector = parser.or()?;
    if parser.token == Token::End { Ok(selector) } else { Err(parser.expected("`&&`, `||` or the end")) }
}

/// Returns true if a valid selector is `global()` and nothing else.
pub(super) fn is_global(text: &str) -> bool {
    let call = text.trim_matches([' ', '\t']).strip_prefix("global(").and_then(|rest| rest.strip_suffix(')'));
    call.is_some_and(|inner| inner.trim_matches([' ', '\t']).is_empty())
}

struct Parser<'a> {
    tokens: Tokens<'a>,
    /// The next token.
    token: Token<'a>,
    /// The offset of the next token, in bytes.
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn of(text: &'a str) -> Result<Self, SelectorError> {
        let mut tokens = Tokens::of(text);
        let (at, token) = tokens.next()?;
        Ok(Self { tokens, token, at, depth: 0 })
    }

    /// Returns the next token and moves past it.
    fn take(&mut self) -> Result<Token<'a>, SelectorError> {
        let (at, token) = self.tokens.next()?;
        self.at = at;
        Ok(std::mem::replace(&mut self.token, token))
    }

    fn expected(&self, what: &'static str) -> SelectorError {
        SelectorError::at(self.tokens.text(), self.at, what)
    }

    fn or(&mut self) -> Result<Selector, SelectorError> {
        let mut parts = vec![self.and()?];
        while self.token == Token::Or {
            self.take()?;
            parts.push(self.and()?);
        }
        Ok(match <[Selector; 1]>::try_from(parts) {
            Ok([only]) => only,
            Err(parts) => Selector::Any(parts),
        })
    }

    fn and(&mut self) -> Result<Selector, SelectorError> {
        let mut parts = vec![self.operation()?];
        while self.token == Token::And {
            self.take()?;
            parts.push(self.operation()?);
        }
        Ok(Selector::all(parts))
    }

    fn operation(&mut self) -> Result<Selector, SelectorError> {
        let mut negated = false;
        while self.token == Token::Not {
            self.take()?;
            negated = !negated;
        }
        let selector = match self.token {
            Token::Has(key) => {
                self.take()?;
                Selector::label(key, Operator::Exists)
            }
            Token::All | Token::Global => {
                self.take()?;
                Selector::everything()
            }
            Token::Label(key) => {
                self.take()?;
                Selector::label(key, self.comparison()?)
            }
            Token::OpenParenthesis => self.nested()?,
            _ => return Err(self.expected("a label, `has(…)`, `all()`, `!` or `(`")),
        };
        Ok(if negated { not(selector) } else { selector })
    }

    fn nested(&mut self) -> Result<Selector, SelectorError> {
        if self.depth == DEEPEST {
            return Err(self.expected("at most 200 nested parentheses"));
        }
        self.depth += 1;
        self.take()?;
        let selector = self.or()?;
        if self.token != Token::CloseParenthesis {
            return Err(self.expected("`&&`, `||` or `)`"));
        }
        self.take()?;
        self.depth -= 1;
        Ok(selector)
    }

    fn comparison(&mut self) -> Result<Operator, SelectorError> {
        let operator = match self.token {
            Token::Equal
            | Token::NotEqual
            | Token::Contains
            | Token::StartsWith
            | Token::EndsWith
            | Token::In
            | Token::NotIn => self.take()?,
            _ => return Err(self.expected("an operator, such as `==`, `in` or `contains`")),
        };
        Ok(match operator {
            Token::In => Operator::In(self.set()?),
            Token::NotIn => Operator::NotIn(self.set()?),
            Token::NotEqual => Operator::NotIn(vec![self.text()?]),
            Token::Contains => Operator::Contains(self.text()?),
            Token::StartsWith => Operator::StartsWith(self.text()?),
            Token::EndsWith => Operator::EndsWith(self.text()?),
            _ => Operator::In(vec![self.text()?]),
        })
    }

    fn text(&mut self) -> Result<Box<str>, SelectorError> {
        let Token::Text(text) = self.token else { return Err(self.expected("a quoted string")) };
        self.take()?;
        Ok(text.into())
    }

    /// Parses a set, such as `{'a', 'b'}`. It may be empty or have a trailing comma.
    fn set(&mut self) -> Result<Vec<Box<str>>, SelectorError> {
        if self.token != Token::OpenBrace {
            return Err(self.expected("`{`"));
        }
        self.take()?;
        let mut values = Vec::new();
        while let Token::Text(text) = self.token {
            self.take()?;
            values.push(Box::from(text));
            if self.token != Token::Comma {
                break;
            }
            self.take()?;
        }
        if self.token != Token::CloseBrace {
            return Err(self.expected("a quoted string, `,` or `}`"));
        }
        self.take()?;
        Ok(values)
    }
}

/// Negates a selector. An absent label is not in any set, so `in` and `not in` negate each other, as do `has` and
/// `!has`.
pub(super) fn not(selector: Selector) -> Selector {
    match selector {
        Selector::All(parts) if parts.is_empty() => Selector::Any(parts),
        Selector::Any(parts) if parts.is_empty() => Selector::All(parts),
        Selector::Not(inner) => *inner,
        Selector::Label(mut label) => {
            label.operator = match label.operator {
                Operator::In(values) => Operator::NotIn(values),
                Operator::NotIn(values) => Operator::In(values),
                Operator::Exists => Operator::Absent,
                Operator::Absent => Operator::Exists,
                other => {
                    label.operator = other;
                    return Selector::Not(Box::new(Selector::Label(label)));
                }
            };
            Selector::Label(label)
        }
        other => Selector::Not(Box::new(other)),
    }
}
