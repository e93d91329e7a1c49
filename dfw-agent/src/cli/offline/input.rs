//! Reads what is to be checked, whatever form it has.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    process::Command,
};

use serde_json::Value;

use super::{Offline, compose, inspect, lines};
use crate::{
    exit::{ExitCode, Failure},
    telemetry::text,
};

const PIPE: &str = "pipe it in: `docker compose config --format json | dfw check -`";

/// The text and where it came from.
#[derive(Debug)]
pub(in crate::cli) struct Input {
    /// A path, or `stdin`.
    pub(in crate::cli) name: String,
    pub(in crate::cli) text: String,
}

/// Reads files, `-` for standard input. YAML files go through `docker compose` together, as one project: it knows how to
/// read and merge them.
pub(in crate::cli) fn read(files: &[String]) -> Result<Offline, Failure> {
    let mut inputs = Vec::new();
    let mut yaml = Vec::new();
    for file in files {
        let input = Input::read(file)?;
        match (is_yaml(file, &input.text), file.as_str()) {
            (false, _) => inputs.push(input),
            (true, "-") => {
                return Err(unusable(
                    &input.name,
                    "YAML is read by docker compose only",
                    PIPE,
                ));
            }
            (true, path) => yaml.push(path),
        }
    }
    if !yaml.is_empty() {
        inputs.push(Input {
            text: from_yaml(&yaml)?,
            name: yaml.join(" and "),
        });
    }
    let mut offline = Offline {
        is_whole: true,
        ..Offline::default()
    };
    for input in inputs {
        input.add_to(&mut offline)?;
    }
    Ok(offline)
}

impl Input {
    pub(in crate::cli) fn read(file: &str) -> Result<Self, Failure> {
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
        Ok(Self {
            name: name.to_owned(),
            text,
        })
    }

    /// The containers that it tells of.
    fn add_to(self, offline: &mut Offline) -> Result<(), Failure> {
        let Self { name, text } = self;
        // What `docker compose config` prints of a file that it refuses, to whoever stands behind it in a pipe.
        if text.trim().is_empty() {
            return Err(unusable(
                &name,
                "it is empty",
                "what was to write it may have failed",
            ));
        }
        let is_json = matches!(text.trim_start().as_bytes().first(), Some(b'{' | b'['));
        let read = if is_json {
            serde_json::from_str(&text)
                .map_err(|error| error.to_string())
                .and_then(|document| from_json(document, offline))
        } else {
            lines::container(&name, &text).map(|container| {
                offline.is_whole = false;
                offline.containers.push(container);
            })
        };
        read.map_err(|error| unusable(&name, &error, "`dfw check --help` tells what can be read"))
    }
}

fn from_json(document: Value, offline: &mut Offline) -> Result<(), String> {
    let inspected = match document {
        Value::Object(object) if object.contains_key("services") => {
            return compose::add_to(offline, Value::Object(object));
        }
        Value::Array(documents) => documents,
        other @ (Value::Object(_)
        | Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)) => vec![other],
    };
    offline.is_whole = false;
    offline.containers.extend(inspect::containers(inspected)?);
    Ok(())
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

fn from_yaml(paths: &[&str]) -> Result<String, Failure> {
    let compose = |arguments: &[&str]| {
        Command::new("docker")
            .arg("compose")
            .args(arguments)
            .output()
    };
    let name = paths.join(" and ");
    let absent = || {
        unusable(
            &name,
            "YAML is read by `docker compose`, which is not installed",
            "install Docker's compose plugin, or check what runs: `docker inspect $(docker ps -q) | dfw check -`",
        )
    };
    let files = paths.iter().flat_map(|path| ["--file", path]);
    let arguments: Vec<&str> = files.chain(["config", "--format", "json"]).collect();
    let output = compose(&arguments).map_err(|_| absent())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // It ends alike for a bad file and for want of the plugin.
    if !compose(&["version"]).is_ok_and(|output| output.status.success()) {
        return Err(absent());
    }
    // Warnings come first.
    let said = String::from_utf8_lossy(&output.stderr);
    let error = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(unusable(
        &name,
        error.unwrap_or("docker compose refuses it").trim(),
        "put right what docker compose says of it",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Container;

    fn names(text: &str) -> Result<Vec<String>, Failure> {
        let input = Input {
            name: "stdin".to_owned(),
            text: text.to_owned(),
        };
        let mut offline = Offline::default();
        input.add_to(&mut offline)?;
        let containers = offline.containers.iter();
        Ok(containers.map(Container::display_name).collect())
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
        insta::assert_snapshot!(names("\n").expect_err("nothing"), @r"
        dfw: error: cannot make sense of stdin: it is empty
        hint: what was to write it may have failed
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
