//! Suggestions as files.

use std::io::{self, Write};

use anstyle::AnsiColor;

use super::{
    Judged,
    date::Date,
    text::{self, compose, key, quoted, shell},
};
use crate::{
    cli::count,
    policy::{Evidence, Line, Suggestion, Suggestions, Times},
    telemetry::text::{escape, one_line},
};

/// What every file begins with.
pub(super) struct Sheet<'a> {
    pub(super) warnings: &'a [String],
    pub(super) mode: Option<Judged>,
    /// Seconds since 1970.
    pub(super) now: u64,
}

impl Sheet<'_> {
    /// The override file of a project.
    pub(super) fn compose(
        &self,
        out: &mut impl Write,
        project: &str,
        answer: &Suggestions,
    ) -> io::Result<()> {
        self.head(out, &format!("what was seen of {}", escape(project)))?;
        writeln!(
            out,
            "# docker compose -f compose.yaml -f THIS_FILE up --detach"
        )?;
        let all = answer.suggestions.iter().filter(|one| one.is_compose);
        let (some, none): (Vec<_>, Vec<_>) = all.partition(|one| !one.lines.is_empty());
        for one in none {
            writeln!(
                out,
                "# {}: all that was seen is allowed already",
                escape(&text::name(&one.subject))
            )?;
        }
        // A mapping without entries would be null, which compose refuses.
        writeln!(out, "services:{}", if some.is_empty() { " {}" } else { "" })?;
        for one in some {
            let crate::policy::Subject::Service { service, .. } = &one.subject else {
                continue;
            };
            writeln!(out, "  {}:\n    labels:", key(service))?;
            for line in &one.lines {
                comments(out, "      ", line)?;
                writeln!(out, "      {}: {}", key(&line.label), compose(&line.value))?;
            }
            if let Some((label, mode)) = self.mode_label(one) {
                writeln!(out, "      {}: {}", key(&label), quoted(mode))?;
            }
            self.mode_that_stays(out, "      ", one)?;
        }
        Ok(())
    }

    /// Options of docker run; nothing is left out.
    pub(super) fn labels(
        &self,
        out: &mut impl Write,
        answer: &Suggestions,
    ) -> io::Result<Vec<String>> {
        self.head(out, "what was seen")?;
        for one in &answer.suggestions {
            heading(out, one)?;
            for line in &one.lines {
                comments(out, "", line)?;
                writeln!(
                    out,
                    "--label {}",
                    shell(&format!("{}={}", line.label, line.value))
                )?;
            }
            if let Some((label, mode)) = self.mode_label(one) {
                writeln!(out, "--label {}", shell(&format!("{label}={mode}")))?;
            }
            self.mode_that_stays(out, "", one)?;
        }
        Ok(Vec::new())
    }

    /// Entries of the policy file, and who is left out.
    pub(super) fn policy(
        &self,
        out: &mut impl Write,
        answer: &Suggestions,
    ) -> io::Result<Vec<String>> {
        self.head(out, "what was seen")?;
        let mut left_out = Vec::new();
        for one in &answer.suggestions {
            heading(out, one)?;
            let Some(selector) = &one.selector else {
                let name = text::name(&one.subject);
                left_out.push(format!("no word of a policy file selects {name}, so it is left out: --format labels has it"));
                continue;
            };
            for lines in entries(&one.lines) {
                writeln!(out, "[[rules]]\nfor = {}", quoted(selector))?;
                if let Some(mode) = self.mode {
                    writeln!(out, "mode = {}", quoted(mode.name()))?;
                }
                for line in lines {
                    comments(out, "", line)?;
                    writeln!(out, "{} = {}", line.direction, quoted(&line.value))?;
                }
            }
        }
        Ok(left_out)
    }

    fn head(&self, out: &mut impl Write, what: &str) -> io::Result<()> {
        writeln!(
            out,
            "# Suggested by dfw {} on {} UTC, from {what}.",
            env!("CARGO_PKG_VERSION"),
            Date(self.now)
        )?;
        let mut warnings = self.warnings.iter();
        warnings.try_for_each(|warning| writeln!(out, "# {}", one_line(warning)))
    }

    /// The label that says the mode, beside the first other one.
    fn mode_label(&self, one: &Suggestion) -> Option<(String, &'static str)> {
        let line = one.lines.first()?;
        // Behind the direction may be a name, in which it cannot be again: the prefix may have it.
        let (prefix, _) = line.label.rsplit_once(line.direction.as_str())?;
        Some((format!("{prefix}mode"), self.mode?.name()))
    }

    fn mode_that_stays(
        &self,
        out: &mut impl Write,
        indent: &str,
        one: &Suggestion,
    ) -> io::Result<()> {
        match (&one.mode_label, self.mode) {
            (Some(mode), None) => writeln!(
                out,
                "{indent}# its mode stays {}, as its label says",
                escape(mode)
            ),
            _ => Ok(()),
        }
    }
}

impl Judged {
    const fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Enforce => "enforce",
        }
    }
}

fn heading(out: &mut impl Write, one: &Suggestion) -> io::Result<()> {
    let name = text::name(&one.subject);
    let rest = if one.lines.is_empty() {
        ": all that was seen is allowed already"
    } else {
        ""
    };
    writeln!(out, "\n# {}{rest}", escape(&name))
}

/// Lines for one entry each: a side can be in it once.
fn entries(lines: &[Line]) -> Vec<Vec<&Line>> {
    let mut entries: Vec<Vec<&Line>> = Vec::new();
    for line in lines {
        let free = entries
            .iter_mut()
            .find(|entry| entry.iter().all(|other| other.direction != line.direction));
        match free {
            Some(entry) => entry.push(line),
            None => entries.push(vec![line]),
        }
    }
    entries
}

/// What the rules of a label are for.
fn comments(out: &mut impl Write, indent: &str, line: &Line) -> io::Result<()> {
    if line.rules.is_empty() {
        writeln!(out, "{indent}# nothing was seen, so nobody may")?;
    }
    for Evidence {
        rule,
        times,
        widened,
    } in &line.rules
    {
        let why = match times {
            Some(Times { flows, first, last }) => {
                let times = count(usize::try_from(*flows).unwrap_or(usize::MAX), "time");
                format!("{times}, {} to {}", Date(*first), Date(*last))
            }
            None => "was there before".to_owned(),
        };
        let widened = match widened {
            0 => String::new(),
            addresses => format!("; `world` stands for {addresses} addresses"),
        };
        writeln!(out, "{indent}# {}: {why}{widened}", one_line(rule))?;
    }
    match &line.present {
        Some(present) if !line.is_same => {
            writeln!(out, "{indent}# instead of: {}", one_line(present))
        }
        _ => Ok(()),
    }
}

/// What applying would take away and add.
pub(super) fn diff(out: &mut impl Write, answer: &Suggestions) -> io::Result<()> {
    let (red, green) = (AnsiColor::Red.on_default(), AnsiColor::Green.on_default());
    let mut is_any = false;
    for one in &answer.suggestions {
        let changed: Vec<&Line> = one.lines.iter().filter(|line| !line.is_same).collect();
        if changed.is_empty() {
            continue;
        }
        is_any = true;
        writeln!(out, "{}", escape(&text::name(&one.subject)))?;
        for Line {
            label,
            value,
            present,
            ..
        } in changed
        {
            if let Some(present) = present {
                writeln!(out, "{red}- {label}: {}{red:#}", quoted(present))?;
            }
            writeln!(out, "{green}+ {label}: {}{green:#}", quoted(value))?;
        }
    }
    if !is_any {
        writeln!(
            out,
            "nothing to change: what was seen is allowed, and nothing else is written"
        )?;
    }
    Ok(())
}
