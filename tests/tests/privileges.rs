//! Least privilege: what the agent keeps, what it asks of the engine, and that it needs no more than both. (Every test
//! starts the agent with no other capabilities than the shipped ones: `dfw_tests::agent`.)

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use dfw_agent::datapath::load::{Options, Pins, load};
use dfw_tests::{Agent, Bridge, Engine, EngineOptions, Inventory, Namespace, scratch::Scratch};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF, as the numbers of linux/capability.h.
const SHIPPED: u64 = 1 << 12 | 1 << 38 | 1 << 39;

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value
        .unwrap_or_else(|| panic!("no {name} in\n{status}"))
        .trim()
}

#[test]
fn every_thread_keeps_three_capabilities_and_a_filter() {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 40);
    let server = bridge.plug("server");
    let mut inventory = Inventory::new();
    inventory.set(
        "server",
        &server,
        "lab",
        &[("dfw.ingress", "tcp/80 from any")],
    );
    inventory.write();
    let agent = Agent::start(
        &host,
        &["--inventory", &inventory.path().display().to_string()],
    );
    agent.expect_ready("the server", 1);

    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).expect("the agent runs");
    let mut threads = 0;
    for task in tasks {
        let path = task.expect("a thread").path().join("status");
        let status = fs::read_to_string(path).expect("a thread has a status");
        let capabilities =
            |name| u64::from_str_radix(field(&status, name), 16).expect("a number in hex");
        assert_eq!(capabilities("CapPrm"), SHIPPED, "{status}");
        assert_eq!(capabilities("CapEff"), SHIPPED, "{status}");
        assert_eq!(capabilities("CapInh"), 0, "{status}");
        assert_eq!(capabilities("CapAmb"), 0, "{status}");
        assert_eq!(field(&status, "NoNewPrivs"), "1");
        // A filter, not only the strict mode.
        assert_eq!(field(&status, "Seccomp"), "2");
        threads += 1;
    }
    assert!(threads >= 2, "serving and reconciling: {threads}");
}

/// The kernel itself refuses, whatever dfw's own check says.
#[test]
fn each_of_the_capabilities_is_needed() {
    let shipped = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON;
    assert_eq!(shipped.bits(), SHIPPED);
    let load_with = |kept: CapabilitySet| {
        let scratch = Scratch::new();
        let pins = Pins::new(&scratch.bpffs().join("dfw"));
        let thread = thread::spawn(move || {
            let sets = CapabilitySets {
                effective: kept,
                permitted: kept,
                inheritable: CapabilitySet::empty(),
            };
            // Of this thread alone.
            set_capabilities(None, sets).expect("capabilities can be given up");
            load(&pins, Options::default())
                .map(drop)
                .map_err(|error| error.to_string())
        });
        thread.join().expect("no panic")
    };
    assert_eq!(load_with(shipped), Ok(()));
    for missing in shipped.iter() {
        let refused = load_with(shipped - missing);
        assert!(refused.is_err(), "it loads without {missing:?}");
    }
}

/// Stands before an engine's socket and lets pass only `GET` of the paths that docs/security.md names.
struct Proxy {
    socket: PathBuf,
    refused: Arc<Mutex<BTreeSet<String>>>,
}

impl Proxy {
    fn start(engine: &Path, socket: PathBuf) -> Self {
        let listener = UnixListener::bind(&socket).expect("the socket is free");
        let refused = Arc::default();
        let proxy = Self {
            socket,
            refused: Arc::clone(&refused),
        };
        let engine = engine.to_owned();
        // Ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, refused) = (client.expect("a client"), Arc::clone(&refused));
                let server = UnixStream::connect(&engine).expect("the engine listens");
                // Either side may go at any time.
                thread::spawn(move || drop(forward(client, server, &refused)));
            }
        });
        proxy
    }

    fn host(&self) -> String {
        format!("unix://{}", self.socket.display())
    }
}

/// Requests without a body, one after the other; answers go back as they are.
fn forward(
    mut client: UnixStream,
    mut server: UnixStream,
    refused: &Mutex<BTreeSet<String>>,
) -> io::Result<()> {
    let (mut answers, mut back) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        drop(io::copy(&mut answers, &mut back));
        drop(back.shutdown(std::net::Shutdown::Both));
    });
    let (mut buffer, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let length = client.read(&mut chunk)?;
        if length == 0 {
            return server.shutdown(std::net::Shutdown::Write);
        }
        buffer.extend(&chunk[..length]);
        while let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let request: Vec<u8> = buffer.drain(..end + 4).collect();
            let text = String::from_utf8_lossy(&request);
            let line = text.lines().next().unwrap_or_default();
            if is_documented(line) {
                server.write_all(&request)?;
            } else {
                refused
                    .lock()
                    .expect("nobody panicked")
                    .insert(line.to_owned());
                client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")?;
            }
        }
    }
}

/// Whether a request line asks for one of the paths of docs/security.md, "The agent itself".
fn is_documented(line: &str) -> bool {
    let Some(target) = line
        .strip_prefix("GET /")
        .and_then(|rest| rest.strip_suffix(" HTTP/1.1"))
    else {
        return false;
    };
    let path = target.split('?').next().unwrap_or_default();
    let mut steps: Vec<&str> = path.split('/').collect();
    // The version of the API, once it is negotiated.
    if steps.first().is_some_and(|first| first.starts_with("v1.")) {
        steps.remove(0);
    }
    matches!(
        steps[..],
        ["_ping" | "version" | "events" | "networks"]
            | ["containers", "json"]
            | ["containers" | "images", _, "json"]
            | ["networks", _]
    )
}

#[test]
fn a_socket_proxy_may_forbid_all_but_the_documented_paths() {
    let engine = Engine::start(EngineOptions::default());
    engine.network("shop", 1);
    let scratch = Scratch::new();
    let real = engine.socket();
    let real = Path::new(real.strip_prefix("unix://").expect("a unix socket"));
    let proxy = Proxy::start(real, scratch.path().join("proxy.sock"));
    let label = "--label=dfw.ingress=tcp/80 from any";
    let early = engine.container("early", &["--network=shop", label], &[]);
    let agent = Agent::start(engine.host(), &["--docker-host", &proxy.host()]);
    agent.expect_ready("who was there", 1);
    let late = engine.container("late", &["--network=shop", label], &[]);
    agent.expect_ready("who came", 2);
    early.remove();
    agent.expect_ready("who stays", 1);
    late.remove();
    agent.expect_ready("nobody", 0);
    let refused = proxy.refused.lock().expect("nobody panicked");
    assert!(refused.is_empty(), "asked for more: {refused:#?}");
}
