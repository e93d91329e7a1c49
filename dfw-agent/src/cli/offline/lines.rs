//! Labels as lines: `KEY=VALUE` or `KEY: VALUE`, bare or as they stand in a compose file.

use std::collections::BTreeMap;

use crate::model::Container;

/// One container with the labels of these lines. Blank lines and those that begin with `#` are skipped; a list dash and
/// quotes around the whole or the value are taken off.
pub(super) fn container(name: &str, text: &str) -> Result<Container, String> {
    let mut labels = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = label(line).ok_or_else(|| {
            format!(
                "line {}: {line:?} is neither KEY=VALUE nor KEY: VALUE",
                number + 1
            )
        })?;
        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(format!("line {}: {key} is there twice", number + 1));
        }
    }
    Ok(Container {
        name: name.to_owned(),
        labels,
        ..Container::default()
    })
}

fn label(line: &str) -> Option<(&str, &str)> {
    let line = unquoted(line.strip_prefix("- ").unwrap_or(line).trim());
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
    let end = line.find(|c| !is_key(c))?;
    let (key, rest) = line.split_at(end);
    let value = rest.trim_start().strip_prefix(['=', ':'])?;
    (!key.is_empty()).then(|| (key, unquoted(value.trim())))
}

fn unquoted(text: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_label() {
        let text = "
            # a comment
            dfw.ingress=tcp/80 from label:k=v
            dfw.ingress.b: tcp/5432 from service:api
              - dfw.egress=any to any
              - \"dfw.egress.b=any to net:x\"
            dfw.mode: \"audit\"
            dfw.group = 'a,b'
            dfw.ingress.none:
        ";
        let container = container("stdin", text).expect("valid");
        assert_eq!(container.name, "stdin");
        let labels: Vec<_> = container
            .labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            labels,
            [
                ("dfw.egress", "any to any"),
                ("dfw.egress.b", "any to net:x"),
                ("dfw.group", "a,b"),
                ("dfw.ingress", "tcp/80 from label:k=v"),
                ("dfw.ingress.b", "tcp/5432 from service:api"),
                ("dfw.ingress.none", ""),
                ("dfw.mode", "audit"),
            ]
        );
    }

    #[test]
    fn mistakes_name_the_line() {
        for (text, message) in [
            (
                "\ntcp/80 from any",
                "line 2: \"tcp/80 from any\" is neither KEY=VALUE nor KEY: VALUE",
            ),
            (
                "dfw.mode",
                "line 1: \"dfw.mode\" is neither KEY=VALUE nor KEY: VALUE",
            ),
            ("=x", "line 1: \"=x\" is neither KEY=VALUE nor KEY: VALUE"),
            ("a=1\na: 2", "line 2: a is there twice"),
        ] {
            assert_eq!(container("stdin", text).expect_err("invalid"), message);
        }
    }
}
