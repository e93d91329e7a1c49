//! A console block as people read it: commands, and what they are said to print.

use crate::markdown::Block;

/// A command and what the document says that it prints.
#[derive(Debug)]
pub(crate) struct Session {
    /// As typed; over several lines where they end with a backslash.
    pub(crate) command: String,
    /// After `# `, not `$ `.
    pub(crate) is_root: bool,
    /// Lines; none if it shows nothing.
    pub(crate) shown: Vec<String>,
}

/// The commands of a console block.
pub(crate) fn of(block: &Block) -> Result<Vec<Session>, String> {
    let mut sessions: Vec<Session> = Vec::new();
    for line in &block.lines {
        let of_root = line.strip_prefix("# ");
        let command = line.strip_prefix("$ ").or(of_root);
        match (command, sessions.last_mut()) {
            (_, Some(session)) if session.command.ends_with('\\') => {
                session.command += &format!("\n{line}");
            }
            (Some(command), _) => sessions.push(Session {
                command: command.to_owned(),
                is_root: of_root.is_some(),
                shown: Vec::new(),
            }),
            (None, Some(session)) => session.shown.push(line.clone()),
            (None, None) => return Err("output before the first command".to_owned()),
        }
    }
    Ok(sessions)
}

/// Whether a command printed what the document shows. `…` stands for anything within its line, alone on its line for any
/// lines; times of day and ports that the kernel chose are all alike.
pub(crate) fn is_shown(shown: &[String], printed: &str) -> bool {
    let printed: Vec<String> = printed.trim_end().lines().map(alike).collect();
    let shown: Vec<String> = shown.iter().map(|line| alike(line)).collect();
    fit(&shown, &printed)
}

fn fit(shown: &[String], printed: &[String]) -> bool {
    match shown.split_first() {
        None => printed.is_empty(),
        Some((line, rest)) if line == "…" => {
            (0..=printed.len()).any(|skipped| fit(rest, &printed[skipped..]))
        }
        Some((line, rest)) => match printed.split_first() {
            Some((first, more)) => is_line(line, first) && fit(rest, more),
            None => false,
        },
    }
}

fn is_line(shown: &str, printed: &str) -> bool {
    let mut parts = shown.split('…');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The line without trailing blanks, with `0` for a port from 32768 on, and for each digit of a time `12:50:15.556`.
fn alike(line: &str) -> String {
    let is_of_number = |c: char| c.is_ascii_digit() || ":.".contains(c);
    let mut out = String::new();
    let mut rest = line.trim_end();
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !is_of_number(c)).unwrap_or(from.len());
        let (number, after) = from.split_at(end);
        out += before;
        let is_time = number.len() == 12 && number.split([':', '.']).count() == 4;
        let port = number.parse::<u16>().is_ok_and(|port| port >= 32_768);
        match (is_time, port && before.ends_with(':')) {
            (true, _) => out += "00:00:00.000",
            (_, true) => out += "0",
            _ => out += number,
        }
        rest = after;
    }
    out + rest
}

#[test]
fn what_is_shown_is_compared() {
    let fits = |shown: &str, printed: &str| {
        let shown: Vec<String> = shown.lines().map(str::to_owned).collect();
        is_shown(&shown, printed)
    };
    assert!(fits("a b\nc", "a b\nc\n"));
    assert!(!fits("a b", "a b\nc\n"));
    assert!(!fits("a b\nc", "a b\n"));
    assert!(fits("a … c", "a b b c\n"));
    assert!(!fits("a … c", "a b b d\n"));
    assert!(!fits("a…b…c", "a c b\n"));
    assert!(fits("a\n…\nd", "a\nb\nc\nd\n"));
    assert!(fits("…", ""));
    let line = "12:50:15.556  shop/web:43006 -> shop/db:5432/tcp  DENIED";
    assert!(fits(
        line,
        "07:01:00.001  shop/web:60001 -> shop/db:5432/tcp  DENIED"
    ));
    assert!(!fits(
        line,
        "07:01:00.001  shop/web:60001 -> shop/db:5433/tcp  DENIED"
    ));
    assert!(!fits("40000 packets", "40001 packets"));
}
