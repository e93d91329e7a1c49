//! Names come from whoever starts a container. Here they are made fit for a terminal, a log line and a metric.

use std::{borrow::Cow, error::Error, fmt::Write};

/// Whether a character may be shown as it is: not a control character, and none that reorders or hides its neighbours.
fn is_plain(c: char) -> bool {
    // `escape_debug` knows what is printable; it escapes these two for Rust's sake alone.
    matches!(c, '"' | '\'') || c.escape_debug().len() == 1
}

/// `name` with everything unprintable, and the backslash, escaped as in Rust: two different names stay different.
pub fn escape(name: &str) -> Cow<'_, str> {
    replace(name, |c| c == '\\' || !is_plain(c))
}

/// A whole message on one line: what is unprintable is escaped, backslashes stay (what it quotes is escaped already).
pub fn one_line(message: &str) -> Cow<'_, str> {
    replace(message, |c| c != '\\' && !is_plain(c))
}

fn replace(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_bad(c) {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The first `max` characters.
pub fn clip(text: &str, max: usize) -> &str {
    text.char_indices()
        .nth(max)
        .map_or(text, |(end, _)| &text[..end])
}

/// An error and its causes, joined by colons.
pub fn chain(error: &dyn Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String cannot fail.
        let _ = write!(out, ": {error}");
        cause = error.source();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_deceive_is_escaped() {
        for (name, shown) in [
            ("shop/db", "shop/db"),
            ("it's \"quoted\"", "it's \"quoted\""),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\x1b[31mred\x07", "\\u{1b}[31mred\\u{7}"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}evil", "\\u{202e}evil"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
            ("a\u{2028}b", "a\\u{2028}b"),
            ("back\\slash", "back\\\\slash"),
            ("größe-数据库", "größe-数据库"),
        ] {
            assert_eq!(escape(name), shown);
        }
        assert_eq!(one_line("a\nb\\n"), "a\\nb\\n");
    }

    #[test]
    fn clips_at_a_character() {
        assert_eq!(clip("größe", 3), "grö");
        assert_eq!(clip("ab", 3), "ab");
        assert_eq!(clip("", 3), "");
    }
}
