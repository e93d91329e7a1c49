//! Words, commas and semicolons of a rule label.

use std::ops::Range;

use super::problem::{Problem, What};

/// Kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything between blanks, commas and semicolons; a quoted part may hold those too.
    Word,
    /// `,`
    Comma,
    /// `;`
    Semicolon,
}

/// A token and its bytes in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) span: Range<usize>,
}

/// Splits a text. Newlines and tabs are blanks; any other control character is an error, also in quotes.
pub(super) fn lex(text: &str) -> Result<Vec<Token>, Problem> {
    let mut tokens = Vec::new();
    let mut word: Option<usize> = None;
    let mut quote: Option<usize> = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        let blank = matches!(c, ' ' | '\t' | '\n' | '\r');
        if c.is_control() && (quote.is_some() || !blank) {
            return Err(What::ControlCharacter(c).at(at..at + c.len_utf8()));
        }
        if quote.is_some() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => quote = None,
                _ => {}
            }
            continue;
        }
        let separator = match c {
            ',' => Some(Kind::Comma),
            ';' => Some(Kind::Semicolon),
            _ => None,
        };
        if blank || separator.is_some() {
            if let Some(start) = word.take() {
                tokens.push(Token {
                    kind: Kind::Word,
                    span: start..at,
                });
            }
            if let Some(kind) = separator {
                tokens.push(Token {
                    kind,
                    span: at..at + 1,
                });
            }
            continue;
        }
        word.get_or_insert(at);
        if c == '"' {
            quote = Some(at);
        }
    }
    if let Some(start) = quote {
        return Err(What::OpenQuote.at(start..text.len()));
    }
    if let Some(start) = word {
        tokens.push(Token {
            kind: Kind::Word,
            span: start..text.len(),
        });
    }
    Ok(tokens)
}
