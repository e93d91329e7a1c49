//! Reads what is to be checked, whatever form it has.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    process::Command,
};

use serde_json::Value;

use super::{compose, inspect, lines};
use crate::{
    exit::{ExitCode, Failure},
    model::Container,
    telemetry::text,
};

const PIPE: &str = "pipe it in: `docker compose config --format json | dfw check -`";

/// The text and where it came from.
#[derive(Debug)]
pub(super) struct Input {
    /// A path, or `stdin`.
    pub(super) name: String,
    pub(super) text: String,
}

impl Input {
    /// Reads a file, or standard input for `-`. A YAML file goes through `docker compose`, which knows how to read it.
    pub(super) fn read(file: &str) -> Result<Self, Failure> {
        let (name, read) = if file == "-" {
            let mut text = String::new();
            ("stdin", io::stdin().read_to_string(&mut text).map(|_| text))
        } else {
            (file, fs::read_to_string(file))
        };
        let text = read.map_err(|error| {
            let message = format!("cannot read {name}: {error}");
            Failure::new(
                ExitCode::Failure,
                message,
                "name a text file, or `-` for standard input",
            )
        })?;
        let text = match (is_yaml(file, &text), file) {
            (false, _) => text,
            (true, "-") => return Err(unusable(name, "YAML is read by docker compose only", PIPE)),
            (true, path) => from_yaml(path)?,
        };
        Ok(Self {
            name: name.to_owned(),
            text,
        })
    }

    /// The containers that it tells of.
    pub(super) fn containers(self) -> Result<Vec<Container>, Failure> {
        let Self { name, text } = self;
        let is_json = matches!(text.trim_start().as_bytes().first(), Some(b'{' | b'['));
        let containers = if is_json {
            serde_json::from_str(&text)
                .map_err(|error| error.to_string())
                .and_then(from_json)
        } else {
            lines::container(&name, &text).map(|container| vec![container])
        };
        containers
            .map_err(|error| unusable(&name, &error, "`dfw check --help` tells what can be read"))
    }
}

fn from_json(document: Value) -> Result<Vec<Container>, String> {
    match document {
        Value::Array(documents) => inspect::containers(documents),
        Value::Object(object) if object.contains_key("services") => {
            compose::containers(Value::Object(object))
        }
        other @ (Value::Object(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)) => inspect::containers(vec![other]),
    }
}

fn unusable(name: &str, why: &str, hint: &str) -> Failure {
    Failure::new(
        ExitCode::Config,
        format!("cannot make sense of {}: {why}", text::escape(name)),
        hint,
    )
}

fn is_yaml(file: &str, text: &str) -> bool {
    let extension = Path::new(file)
        .extension()
        .and_then(|extension| extension.to_str());
    matches!(extension, Some("yml" | "yaml"))
        || text.lines().any(|line| line.trim_end() == "services:")
}

fn from_yaml(path: &str) -> Result<String, Failure> {
    let compose = |arguments: &[&str]| {
        Command::new("docker")
            .arg("compose")
            .args(arguments)
            .output()
    };
    let absent = || {
        unusable(
            path,
            "YAML is read by `docker compose`, which is not installed",
            PIPE,
        )
    };
    let output = compose(&["--file", path, "config", "--format", "json"]).map_err(|_| absent())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // It ends alike for a bad file and for want of the plugin.
    if !compose(&["version"]).is_ok_and(|output| output.status.success()) {
        return Err(absent());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(unusable(
        path,
        said.trim(),
        "put right what docker compose says of it",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<String>, Failure> {
        let input = Input {
            name: "stdin".to_owned(),
            text: text.to_owned(),
        };
        let containers = input.containers()?;
        Ok(containers.iter().map(Container::display_name).collect())
    }

    #[test]
    fn the_form_is_found_out() {
        let inspected = r#"{"Id":"0","Name":"/a","Config":{},"HostConfig":{}}"#;
        for (text, expected) in [
            ("dfw.mode=audit", "stdin"),
            (r#" {"name":"shop","services":{"db":{}}}"#, "shop/db"),
            (inspected, "a"),
            (&format!("\n[{inspected}]"), "a"),
        ] {
            assert_eq!(names(text), Ok(vec![expected.to_owned()]), "{text}");
        }
    }

    #[test]
    fn nonsense_is_one_clear_error() {
        insta::assert_snapshot!(names("{").expect_err("not JSON"), @r"
        dfw: error: cannot make sense of stdin: EOF while parsing an object at line 1 column 1
        hint: `dfw check --help` tells what can be read
        ");
        insta::assert_snapshot!(names("hello\x1b[2J").expect_err("no label"), @r#"
        dfw: error: cannot make sense of stdin: line 1: "hello\u{1b}[2J" is neither KEY=VALUE nor KEY: VALUE
        hint: `dfw check --help` tells what can be read
        "#);
    }

    #[test]
    fn yaml_is_seen() {
        assert!(
            is_yaml("compose.yaml", "")
                && is_yaml("a.yml", "")
                && is_yaml("-", "a: 1\nservices:\n  b:")
        );
        assert!(!is_yaml("-", "dfw.mode: audit") && !is_yaml("a.json", "{\"services\": {}}"));
    }
}
