//! Findings, printed with the place in the text.

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use unicode_width::UnicodeWidthStr;

use super::count;
use crate::{
    model::{Finding, Level},
    telemetry::text,
};

/// Most characters shown before, in and after the place.
const CONTEXT: usize = 60;

/// Writes one finding: what is wrong, whose label, and the place in it.
pub(super) fn print(out: &mut impl Write, finding: &Finding) -> io::Result<()> {
    let (word, colour) = match finding.level {
        Level::Error => ("error", AnsiColor::Red),
        Level::Warning => ("warning", AnsiColor::Yellow),
    };
    let style = colour.on_default().bold();
    let bold = Style::new().bold();
    let message = text::escape(&finding.message);
    writeln!(
        out,
        "{style}{word}[{}]{style:#}{bold}: {message}{bold:#}",
        text::escape(&finding.code)
    )?;
    let place: Vec<_> = [&finding.subject, &finding.label]
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| text::escape(part))
        .collect();
    if !place.is_empty() {
        writeln!(out, "  --> {}", place.join("  "))?;
    }
    if finding.text.is_empty() {
        return Ok(());
    }
    let Excerpt {
        before,
        marked,
        after,
    } = excerpt(&finding.text, finding.span);
    writeln!(out, "   |\n   | {before}{marked}{after}")?;
    if finding.span.is_some() {
        let indent = " ".repeat(before.width());
        let underline = "^".repeat(marked.width().max(1));
        writeln!(out, "   | {indent}{style}{underline}{style:#}")?;
    }
    Ok(())
}

/// One finding in one line: whose it is and what is wrong.
pub(super) fn line(finding: &Finding) -> String {
    let place = [&finding.subject, &finding.label];
    let place: Vec<&str> = place
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(String::as_str)
        .collect();
    let code = &finding.code;
    let message = &finding.message;
    if place.is_empty() {
        format!("[{code}] {message}")
    } else {
        format!("[{code}] {}: {message}", place.join(" "))
    }
}

/// `1 error, 2 warnings`, or `none`.
pub(super) fn summary(findings: &[Finding]) -> String {
    let of = |level| {
        findings
            .iter()
            .filter(|finding| finding.level == level)
            .count()
    };
    match (of(Level::Error), of(Level::Warning)) {
        (0, 0) => "none".to_owned(),
        (errors, 0) => count(errors, "error"),
        (0, warnings) => count(warnings, "warning"),
        (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    }
}

struct Excerpt {
    before: String,
    marked: String,
    after: String,
}

/// The text around `span`, on one line and not longer than a few words on each side. A span that does not fit the text
/// is moved to where it does.
fn excerpt(whole: &str, span: Option<(usize, usize)>) -> Excerpt {
    let (start, end) = span.unwrap_or((0, 0));
    let start = boundary(whole, start);
    let end = boundary(whole, end).max(start);
    let (before, rest) = whole.split_at(start);
    let (marked, after) = rest.split_at(end - start);
    let hidden = before.chars().count().saturating_sub(CONTEXT);
    let shown = before
        .char_indices()
        .nth(hidden)
        .map_or("", |(from, _)| &before[from..]);
    Excerpt {
        before: format!(
            "{}{}",
            if hidden > 0 { "…" } else { "" },
            text::escape(shown)
        ),
        marked: clipped(marked),
        after: clipped(after),
    }
}

fn clipped(part: &str) -> String {
    let shown = text::clip(part, CONTEXT);
    format!(
        "{}{}",
        text::escape(shown),
        if shown.len() < part.len() { "…" } else { "" }
    )
}

/// The nearest character boundary at or before `index`.
fn boundary(text: &str, index: usize) -> usize {
    (0..=index.min(text.len()))
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests {
    use anstream::StripStream;

    use super::*;

    /// What a printer writes, without colours.
    pub(in crate::cli) fn plain(
        print: impl FnOnce(&mut StripStream<Vec<u8>>) -> io::Result<()>,
    ) -> String {
        let mut out = StripStream::new(Vec::new());
        print(&mut out).expect("memory takes everything");
        String::from_utf8(out.into_inner()).expect("UTF-8")
    }

    pub(in crate::cli) fn finding() -> Finding {
        Finding {
            level: Level::Error,
            code: "bad-rule".to_owned(),
            subject: "shop/db".to_owned(),
            label: "dfw.ingress".to_owned(),
            message: "a port is 1 to 65535".to_owned(),
            text: "tcp/0 from any".to_owned(),
            span: Some((4, 5)),
        }
    }

    fn shown(text: &str, span: Option<(usize, usize)>) -> String {
        plain(|out| {
            print(
                out,
                &Finding {
                    text: text.to_owned(),
                    span,
                    ..finding()
                },
            )
        })
    }

    #[test]
    fn the_place_is_underlined() {
        insta::assert_snapshot!(plain(|out| print(out, &finding())), @r"
        error[bad-rule]: a port is 1 to 65535
          --> shop/db  dfw.ingress
           |
           | tcp/0 from any
           |     ^
        ");
    }

    #[test]
    fn wide_and_unprintable_characters_do_not_shift_it() {
        insta::assert_snapshot!(shown("数据\n\x1b[2Jtcp/0", Some((15, 16))), @r"
        error[bad-rule]: a port is 1 to 65535
          --> shop/db  dfw.ingress
           |
           | 数据\n\u{1b}[2Jtcp/0
           |                    ^
        ");
    }

    #[test]
    fn a_long_text_is_cut_around_it() {
        let text = format!("{}HERE{}", "a, ".repeat(1000), " b,".repeat(1000));
        insta::assert_snapshot!(shown(&text, Some((3000, 3004))), @r"
        error[bad-rule]: a port is 1 to 65535
          --> shop/db  dfw.ingress
           |
           | …a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, HERE b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b,…
           |                                                              ^^^^
        ");
    }

    #[test]
    fn a_span_that_does_not_fit_does_no_harm() {
        for span in [
            (0, 0),
            (14, 14),
            (14, 99),
            (99, 100),
            (5, 4),
            (usize::MAX, usize::MAX),
        ] {
            assert!(
                shown("tcp/0 from any", Some(span)).contains('^'),
                "{span:?}"
            );
        }
        for span in [(1, 2), (2, 3)] {
            assert!(shown("ßß", Some(span)).contains("ßß"), "{span:?}");
        }
        assert!(!shown("tcp/0 from any", None).contains('^'));
    }

    #[test]
    fn of_the_node_without_text() {
        let finding = Finding {
            level: Level::Warning,
            code: "overlay".to_owned(),
            subject: String::new(),
            label: String::new(),
            message: "overlay networks are left alone".to_owned(),
            text: String::new(),
            span: None,
        };
        insta::assert_snapshot!(plain(|out| print(out, &finding)), @"warning[overlay]: overlay networks are left alone");
        insta::assert_snapshot!(summary(&[finding.clone(), finding.clone(), super::tests::finding()]), @"1 error, 2 warnings");
        insta::assert_snapshot!(summary(&[]), @"none");
    }
}
