//! What deploy/ ships is what runs: the image on a real engine with the grants of the compose file and no others, the alert
//! rules and the dashboard on a real Prometheus, the package in a root of its own.

mod booted;
mod compose;
mod image;
mod manifests;
mod observe;
mod package;
mod reading;
mod shop;
mod swarm;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use dfw_tests::{Engine, agent, process, scratch::Scratch};
use yaml_rust2::{Yaml, YamlLoader};

/// The version of everything in the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A file of deploy/.
fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests lies in the workspace")
        .join("deploy")
        .join(name)
}

fn read(name: &str) -> String {
    let path = deploy(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The one document of a YAML file.
fn yaml(name: &str) -> Yaml {
    let documents = YamlLoader::load_from_str(&read(name));
    let mut documents = documents.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(documents.len(), 1, "{name}");
    documents.remove(0)
}

/// A list of words.
#[track_caller]
fn words(list: &Yaml) -> Vec<&str> {
    let items = list.as_vec().unwrap_or_else(|| panic!("no list: {list:?}"));
    items
        .iter()
        .map(|item| item.as_str().unwrap_or_else(|| panic!("no word: {item:?}")))
        .collect()
}

/// The binary under test, without the debug information that would make image and package ten times as large.
fn stripped(scratch: &Scratch) -> PathBuf {
    let path = scratch.path().join("dfw");
    let mut strip = Command::new("strip");
    strip.args(["--strip-debug", "-o"]).arg(&path);
    process::run(strip.arg(agent::binary()));
    path
}

/// A task of xtask on that binary.
fn xtask(task: &str, binary: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(deploy(".."));
    cargo.args([
        "run",
        "--quiet",
        "--package",
        "xtask",
        "--",
        task,
        "--binary",
    ]);
    cargo.arg(binary);
    cargo
}

/// Builds the image on an engine, from the binary under test.
#[track_caller]
fn build_image(engine: &Engine, scratch: &Scratch) {
    let mut build = xtask("image", &stripped(scratch));
    // Not the user's own context.
    build.env_remove("DOCKER_CONTEXT");
    process::run(build.env("DOCKER_HOST", engine.socket()));
}
