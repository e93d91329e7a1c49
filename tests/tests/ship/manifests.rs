//! All the ways to deploy grant the same: what compose.yaml does, which is what is tested on an engine.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use dfw_tests::{process, scratch::Scratch};

use yaml_rust2::Yaml;

use crate::{VERSION, deploy, read, words, yaml};

/// What a way to deploy gives the agent.
#[derive(Debug, PartialEq, Eq)]
struct Grants {
    image: String,
    capabilities: BTreeSet<String>,
    environment: BTreeSet<String>,
    /// Places in the container.
    mounts: BTreeSet<String>,
    is_read_only: bool,
    is_host_network: bool,
}

impl Grants {
    /// Of a service of a compose file, that of a Swarm included.
    fn of_service(service: &Yaml) -> Self {
        let text = |value: &Yaml| value.as_str().expect("a word").to_owned();
        assert_eq!(words(&service["cap_drop"]), ["ALL"]);
        assert!(service["pid"].is_badvalue() && service["privileged"].is_badvalue());
        let environment = service["environment"].as_hash().expect("a map");
        let mounts = words(&service["volumes"]).into_iter();
        Self {
            image: text(&service["image"]),
            capabilities: owned(words(&service["cap_add"])),
            environment: environment
                .iter()
                .map(|(name, value)| format!("{}={}", text(name), text(value)))
                .collect(),
            mounts: mounts
                .map(|volume| volume.split_once(':').expect("source:target").1)
                .map(|target| target.trim_end_matches(":ro").to_owned())
                .collect(),
            is_read_only: service["read_only"] == Yaml::Boolean(true),
            is_host_network: service["network_mode"].as_str() == Some("host")
                || service["networks"]
                    .as_vec()
                    .is_some_and(|_| words(&service["networks"]) == ["host"]),
        }
    }

    /// Of the pods of a DaemonSet.
    fn of_pod(pod: &Yaml) -> Self {
        let container = &pod["containers"][0];
        let security = &container["securityContext"];
        let text = |value: &Yaml| value.as_str().expect("a word").to_owned();
        let each = |list: &Yaml, of: &dyn Fn(&Yaml) -> String| -> BTreeSet<String> {
            list.as_vec().expect("a list").iter().map(of).collect()
        };
        assert_eq!(words(&security["capabilities"]["drop"]), ["ALL"]);
        assert_eq!(security["allowPrivilegeEscalation"], Yaml::Boolean(false));
        assert!(pod["hostPID"].is_badvalue() && security["privileged"].is_badvalue());
        let names = |list: &Yaml| each(list, &|item| text(&item["name"]));
        assert_eq!(names(&container["volumeMounts"]), names(&pod["volumes"]));
        Self {
            image: text(&container["image"]),
            capabilities: owned(words(&security["capabilities"]["add"])),
            environment: each(&container["env"], &|item| {
                format!("{}={}", text(&item["name"]), text(&item["value"]))
            }),
            mounts: each(&container["volumeMounts"], &|item| text(&item["mountPath"])),
            is_read_only: security["readOnlyRootFilesystem"] == Yaml::Boolean(true),
            is_host_network: pod["hostNetwork"] == Yaml::Boolean(true),
        }
    }
}

fn owned(words: Vec<&str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

#[test]
fn every_way_grants_the_same() {
    let compose = Grants::of_service(&yaml("compose.yaml")["services"]["dfw"]);
    assert_eq!(compose.image, format!("dfw:{VERSION}"));
    assert!(
        compose.is_read_only && compose.is_host_network,
        "{compose:#?}"
    );
    assert_eq!(
        Grants::of_service(&yaml("stack.yaml")["services"]["agent"]),
        compose
    );
    let pod = &yaml("daemonset.yaml")["spec"]["template"]["spec"];
    assert_eq!(Grants::of_pod(pod), compose);
    // The unit names capabilities as the kernel does.
    let unit = read("dfw.service");
    let bounding = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let bounding = bounding.expect("a bounding set").split(' ');
    let bounding: BTreeSet<String> = bounding
        .map(|name| name.trim_start_matches("CAP_").to_owned())
        .collect();
    assert_eq!(bounding, compose.capabilities);
}

/// By the schemas of an old Kubernetes and a new one, which a package for Python has.
#[test]
#[ignore = "needs packages for Python: cargo xtask soak engines"]
fn kubernetes_knows_every_field_of_the_daemonset() {
    let scratch = Scratch::new();
    let environment = scratch.path().join("environment");
    let bin = |name: &str| Command::new(environment.join("bin").join(name));
    process::run(
        Command::new("python3")
            .args(["-m", "venv"])
            .arg(&environment),
    );
    process::run(bin("pip").args(["install", "--quiet", "kubernetes-validate==1.37.0"]));
    let wrong = read("daemonset.yaml").replace("readOnlyRootFilesystem", "readOnly");
    let wrong = scratch.file("wrong.yaml", &wrong);
    for version in ["1.28", "1.37"] {
        let validates = |file: &Path| {
            let mut validate = bin("kubernetes-validate");
            validate.args(["--strict", "-k", version]).arg(file);
            process::output(&mut validate)
        };
        let right = validates(&deploy("daemonset.yaml"));
        assert!(right.status.success(), "{version}: {right:?}");
        assert!(!validates(&wrong).status.success(), "{version}");
    }
}

/// An agent on every node, whatever becomes of it.
#[test]
fn a_swarm_has_an_agent_on_every_node() {
    let file = yaml("stack.yaml");
    let deploy = &file["services"]["agent"]["deploy"];
    assert_eq!(deploy["mode"].as_str(), Some("global"));
    assert_eq!(deploy["restart_policy"]["condition"].as_str(), Some("any"));
    // The predefined network of each node.
    assert_eq!(file["networks"]["host"]["external"], Yaml::Boolean(true));
    assert_eq!(file["networks"]["host"]["name"].as_str(), Some("host"));
}

#[test]
fn the_proxy_takes_the_place_of_the_socket() {
    let file = yaml("compose.socket-proxy.yaml");
    let (agent, proxy) = (&file["services"]["dfw"], &file["services"]["socket-proxy"]);
    let host = agent["environment"]["DOCKER_HOST"].as_str();
    let socket = host
        .and_then(|host| host.strip_prefix("unix://"))
        .expect("a socket");
    let endpoint = format!("-proxysocketendpoint={socket}");
    assert!(words(&proxy["command"]).contains(&endpoint.as_str()));
    // Compose replaces a volume by one with the same place.
    let engine = "/var/run/docker.sock";
    let base = &yaml("compose.yaml")["services"]["dfw"];
    assert!(words(&base["volumes"]).contains(&format!("{engine}:{engine}").as_str()));
    assert!(words(&agent["volumes"]).contains(&format!("/dev/null:{engine}").as_str()));
    assert_eq!(words(&proxy["cap_drop"]), ["ALL"]);
}

/// The pattern is held against the paths of docs/security.md, which tests/tests/privileges.rs holds against the agent.
#[test]
fn the_proxy_lets_pass_what_the_agent_reads_and_nothing_else() {
    let file = yaml("compose.socket-proxy.yaml");
    let command = words(&file["services"]["socket-proxy"]["command"]);
    let allowed: Vec<&str> = command
        .iter()
        .filter_map(|word| word.strip_prefix("-allow"))
        .collect();
    let [get] = allowed[..] else {
        panic!("one method: {allowed:?}")
    };
    let pattern = get.strip_prefix("GET=").expect("GET");
    let security = fs::read_to_string(deploy("../docs/security.md")).expect("docs/security.md");
    let (_, paths) = security
        .split_once("may forbid everything but ")
        .expect("the paths");
    let (paths, _) = paths.split_once(", with or without").expect("their end");
    let documented: Vec<String> = paths
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|path| path.replace("ID", "sha256:0a"))
        .collect();
    assert_eq!(documented.len(), 8, "{documented:?}");
    for path in &documented {
        assert!(passes(pattern, path), "{path}");
        assert!(passes(pattern, &format!("/v1.41{path}")), "{path}");
    }
    for path in [
        "/containers/0a/archive",
        "/containers/0a/json/../exec",
        "/v1.41/containers/create",
        "/exec/0a/json",
        "/images/a/../0a/json",
        "/v1.41/../secrets",
        "/info",
    ] {
        assert!(!passes(pattern, path), "{path}");
    }
}

/// Whether the proxy would pass a path: it matches the whole of it. What this pattern uses means the same to grep.
fn passes(pattern: &str, path: &str) -> bool {
    let mut grep = Command::new("grep");
    grep.args(["--extended-regexp", "--line-regexp", "--quiet", pattern]);
    let mut grep = grep.stdin(Stdio::piped()).spawn().expect("grep");
    let mut stdin = grep.stdin.take().expect("piped");
    writeln!(stdin, "{path}").expect("it reads");
    drop(stdin);
    grep.wait().expect("it ends").success()
}
