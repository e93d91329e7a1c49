//! The rules of the house that the compiler does not know: who may name whom, where `unsafe` may be, how long a file is.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use proc_macro2::TokenStream;

use super::paths;
use crate::workspace;

/// Files are rarely over 400 lines; over this many a warning asks for a split.
const MANY_LINES: usize = 500;

const AGENT: &str = "dfw-agent/src/";

/// Where code may lie, and what it may not name. A pattern is the beginning of a path.
struct Rule {
    name: &'static str,
    /// The rule is for files whose path begins so …
    inside: &'static [&'static str],
    /// … but not so.
    except: &'static [&'static str],
    forbidden: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule {
        name: "policy and model are pure: no runtime, engine, kernel, file, socket or clock",
        inside: &["dfw-agent/src/policy", "dfw-agent/src/model"],
        // Tests may measure time.
        except: &["dfw-agent/src/policy/tests", "dfw-agent/src/model/tests"],
        forbidden: &[
            "aya",
            "bollard",
            "rtnetlink",
            "std::env",
            "std::fs",
            "std::net::TcpListener",
            "std::net::TcpStream",
            "std::net::UdpSocket",
            "std::os",
            "std::process",
            "std::thread",
            "std::time::Instant",
            "std::time::SystemTime",
            "tokio",
        ],
    },
    Rule {
        name: "policy and model know no other room",
        inside: &["dfw-agent/src/policy", "dfw-agent/src/model"],
        except: &[],
        forbidden: &[
            "crate::config",
            "crate::datapath",
            "crate::reconcile",
            "crate::source",
            "crate::telemetry",
        ],
    },
    Rule {
        name: "only source/docker speaks to the engine",
        inside: &[AGENT],
        except: &["dfw-agent/src/source/docker"],
        forbidden: &["bollard"],
    },
    Rule {
        name: "only datapath speaks to the kernel's BPF",
        inside: &[AGENT, "dfw-common/src/"],
        except: &["dfw-agent/src/datapath", "dfw-common/src/pod.rs"],
        forbidden: &["aya", "aya_obj", "aya_log"],
    },
    Rule {
        name: "reconcile knows traits only",
        inside: &["dfw-agent/src/reconcile"],
        except: &[],
        forbidden: &["crate::datapath", "crate::telemetry", "rtnetlink"],
    },
    Rule {
        name: "the oracle shares no code with what it judges",
        inside: &["tests/tests/verdicts/oracle"],
        except: &[],
        forbidden: &["dfw_common", "dfw_agent"],
    },
    Rule {
        name: "nothing imports cli",
        inside: &[AGENT],
        except: &["dfw-agent/src/cli", "dfw-agent/src/main.rs"],
        forbidden: &["crate::cli", "dfw_agent::cli"],
    },
    Rule {
        name: "unsafe lies in the BPF programs, in datapath, in pod.rs and in mutant.rs",
        inside: &["dfw-agent/", "dfw-common/", "tests/", "xtask/"],
        except: &[
            "dfw-agent/src/datapath",
            "dfw-common/src/pod.rs",
            "dfw-common/src/mutant.rs",
        ],
        forbidden: &["unsafe"],
    },
];

/// Checks every source file of the workspace.
pub(super) fn run() -> Result<()> {
    let mut violations = Vec::new();
    for path in sources(workspace::root())? {
        let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let name = path
            .strip_prefix(workspace::root())
            .unwrap_or(&path)
            .to_string_lossy();
        violations.extend(check(&name, &source)?);
        let lines = source.lines().count();
        if lines > MANY_LINES {
            eprintln!("warning: {name}: {lines} lines; more than {MANY_LINES} want a split");
        }
    }
    for violation in &violations {
        eprintln!("error: {violation}");
    }
    if !violations.is_empty() {
        bail!(
            "{} breaches of the rules in xtask/src/lint/tidy.rs",
            violations.len()
        );
    }
    Ok(())
}

/// The breaches in one file; `name` is its path from the root of the workspace.
fn check(name: &str, source: &str) -> Result<Vec<String>> {
    let tokens: TokenStream = source
        .parse()
        .map_err(|error| anyhow::anyhow!("{name} is not Rust: {error}"))?;
    let mut violations = Vec::new();
    for named in paths::named(tokens) {
        let path = absolute(&named.segments);
        for rule in RULES.iter().filter(|rule| rule.is_for(name)) {
            if rule
                .forbidden
                .iter()
                .any(|forbidden| begins_with(&path, forbidden))
            {
                let line = named.line;
                violations.push(format!(
                    "{name}:{line}: `{}`: {}",
                    path.join("::"),
                    rule.name
                ));
            }
        }
    }
    Ok(violations)
}

impl Rule {
    fn is_for(&self, name: &str) -> bool {
        let begins = |beginning: &&str| name.starts_with(*beginning);
        self.inside.iter().any(begins) && !self.except.iter().any(begins)
    }
}

/// `core` as `std`. Rooms lie directly under the crate, so `super::super::room` is `crate::room`.
fn absolute(segments: &[String]) -> Vec<&str> {
    let mut path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let supers = path
        .iter()
        .take_while(|segment| **segment == "super")
        .count();
    if supers > 0 {
        path.splice(..supers, ["crate"]);
    } else if path.first() == Some(&"core") {
        path[0] = "std";
    }
    path
}

fn begins_with(path: &[&str], forbidden: &str) -> bool {
    let mut path = path.iter();
    forbidden
        .split("::")
        .all(|segment| path.next() == Some(&segment))
}

/// Every Rust file of the workspace.
fn sources(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    for entry in entries {
        let path = entry
            .with_context(|| directory.display().to_string())?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                found.extend(sources(&path)?);
            }
        } else if name.ends_with(".rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaks(file: &str, source: &str, rule: &str) -> bool {
        let violations = check(file, source).expect("test source is Rust");
        violations.iter().any(|violation| violation.contains(rule))
    }

    #[test]
    fn the_workspace_keeps_the_rules() {
        run().expect("no breach");
    }

    #[test]
    fn pure_rooms_touch_nothing() {
        let pure = "are pure";
        for source in [
            "use tokio::time::sleep;",
            "use bollard::Docker;",
            "use aya::Ebpf;",
            "fn f() { std::fs::read(\"x\"); }",
            "use std::{time::{Duration, Instant}};",
            "use std::time::SystemTime;",
            "use std::net::{IpAddr, TcpStream};",
            "use core::{time, net}; use std::process;",
        ] {
            assert!(
                breaks("dfw-agent/src/policy/rule.rs", source, pure),
                "{source}"
            );
            assert!(
                breaks("dfw-agent/src/model/mod.rs", source, pure),
                "{source}"
            );
            assert!(!breaks("dfw-agent/src/config.rs", source, pure), "{source}");
        }
        let harmless = "use std::{net::IpAddr, time::Duration, collections::BTreeMap};";
        assert!(!breaks("dfw-agent/src/policy/rule.rs", harmless, pure));
    }

    #[test]
    fn no_arrow_runs_out_of_the_pure_rooms() {
        let rule = "know no other room";
        assert!(breaks(
            "dfw-agent/src/policy/mod.rs",
            "use crate::datapath::Maps;",
            rule
        ));
        assert!(breaks(
            "dfw-agent/src/policy/a.rs",
            "use super::super::source::X;",
            rule
        ));
        assert!(!breaks(
            "dfw-agent/src/policy/mod.rs",
            "use crate::model::Mode;",
            rule
        ));
    }

    #[test]
    fn bollard_stays_in_source_docker() {
        let rule = "speaks to the engine";
        let source = "use bollard::Docker;";
        assert!(breaks("dfw-agent/src/source/netlink.rs", source, rule));
        assert!(breaks("dfw-agent/src/reconcile.rs", source, rule));
        assert!(!breaks("dfw-agent/src/source/docker.rs", source, rule));
        assert!(!breaks(
            "dfw-agent/src/source/docker/events.rs",
            source,
            rule
        ));
    }

    #[test]
    fn aya_stays_in_datapath() {
        let rule = "speaks to the kernel's BPF";
        assert!(breaks(
            "dfw-agent/src/telemetry/mod.rs",
            "use aya::maps::MapData;",
            rule
        ));
        assert!(breaks("dfw-agent/src/reconcile.rs", "use aya::Ebpf;", rule));
        assert!(breaks(
            "dfw-common/src/value.rs",
            "impl aya::Pod for X {}",
            rule
        ));
        assert!(!breaks(
            "dfw-agent/src/datapath/load.rs",
            "use aya::Ebpf;",
            rule
        ));
        assert!(!breaks(
            "dfw-common/src/pod.rs",
            "impl aya::Pod for X {}",
            rule
        ));
    }

    #[test]
    fn reconcile_knows_no_datapath() {
        let rule = "traits only";
        assert!(breaks(
            "dfw-agent/src/reconcile.rs",
            "use crate::{datapath, model};",
            rule
        ));
        assert!(!breaks(
            "dfw-agent/src/reconcile.rs",
            "use crate::model::Inventory;",
            rule
        ));
    }

    #[test]
    fn only_main_imports_cli() {
        let rule = "nothing imports cli";
        assert!(breaks(
            "dfw-agent/src/telemetry/mod.rs",
            "use crate::cli::Format;",
            rule
        ));
        assert!(breaks(
            "dfw-agent/src/reconcile.rs",
            "use super::cli;",
            rule
        ));
        assert!(!breaks(
            "dfw-agent/src/main.rs",
            "use dfw_agent::cli;",
            rule
        ));
        assert!(!breaks(
            "dfw-agent/src/cli/ls.rs",
            "use crate::cli::Format;",
            rule
        ));
        assert!(!breaks("dfw-agent/src/lib.rs", "pub mod cli;", rule));
    }

    #[test]
    fn unsafe_stays_where_it_is() {
        let rule = "unsafe lies in";
        let source = "fn f() { unsafe { g() } }";
        assert!(breaks("dfw-agent/src/source/netlink.rs", source, rule));
        assert!(breaks("dfw-common/src/parse.rs", source, rule));
        assert!(!breaks("dfw-agent/src/datapath/sys.rs", source, rule));
        assert!(!breaks("dfw-ebpf/src/ctx.rs", source, rule));
        assert!(!breaks(
            "dfw-common/src/parse.rs",
            "// unsafe\nconst S: &str = \"unsafe\";",
            rule
        ));
    }
}
