//! Names and values as YAML, TOML and a shell take them, whatever is in them.

use crate::policy::Subject;

/// Words that YAML 1.1 or 1.2 takes for something else than text.
const RESERVED: [&str; 10] = [
    "true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan",
];

/// As people are shown it.
pub(super) fn name(subject: &Subject) -> String {
    match subject {
        Subject::Service { project, service } if project.is_empty() => service.clone(),
        Subject::Service { project, service } => format!("{project}/{service}"),
        Subject::Container(name) => name.clone(),
    }
}

pub(super) fn project(subject: &Subject) -> Option<&str> {
    match subject {
        Subject::Service { project, .. } => Some(project),
        Subject::Container(_) => None,
    }
}

/// In double quotes, with the escapes that YAML's and TOML's double quotes have in common.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match (c, u32::from(c)) {
            ('"' | '\\', _) => out.extend(['\\', c]),
            (' '..='~', _) => out.push(c),
            (_, code @ ..=0xffff) => out += &format!("\\u{code:04x}"),
            (_, code) => out += &format!("\\U{code:08x}"),
        }
    }
    out.push('"');
    out
}

/// A value of a compose file, in which compose would replace variables.
pub(super) fn compose(text: &str) -> String {
    quoted(&text.replace('$', "$$"))
}

/// A key of YAML, without quotes where it needs none.
pub(super) fn key(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str());
    if is_plain {
        text.to_owned()
    } else {
        quoted(text)
    }
}

/// One word of a POSIX shell.
pub(super) fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_in_it() {
        for (text, in_quotes) in [
            ("tcp/80 from world", r#""tcp/80 from world""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            (
                "a\nb\u{85}\u{2028}\u{7f}",
                r#""a\u000ab\u0085\u2028\u007f""#,
            ),
            ("größe \u{1f600}", r#""gr\u00f6\u00dfe \U0001f600""#),
        ] {
            assert_eq!(quoted(text), in_quotes);
            let toml: toml::Table = format!("k = {in_quotes}").parse().expect("TOML");
            assert_eq!(toml["k"].as_str(), Some(text));
        }
        assert_eq!(compose("label:a=$HOME"), r#""label:a=$$HOME""#);
        assert_eq!(shell("it's $HOME"), r"'it'\''s $HOME'");
        for (text, as_key) in [
            ("web", "web"),
            ("dfw.ingress", "dfw.ingress"),
            ("No", "\"No\""),
            ("1e3", "\"1e3\""),
            ("-", "\"-\""),
            ("a: b", "\"a: b\""),
            ("", "\"\""),
        ] {
            assert_eq!(key(text), as_key);
        }
    }
}
