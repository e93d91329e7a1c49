//! The compose files as they are, by `docker compose` itself, on an engine that takes them.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use dfw_tests::{Engine, EngineOptions, campaign::scale, process, scratch::Scratch};

use crate::{
    build_image, deploy,
    image::assert_granted,
    shop::{self, Shop},
    yaml,
};

/// A host on which somebody works as docs/deploy.md says, with the files of deploy/, the image and the binary.
pub(crate) struct Host {
    pub(crate) engine: Engine,
}

impl Host {
    pub(crate) fn start() -> Self {
        let engine = Engine::start(EngineOptions::default());
        let scratch = Scratch::new();
        build_image(&engine, &scratch);
        let root = engine.root();
        fs::copy(scratch.path().join("dfw"), root.inside("/usr/bin/dfw")).expect("room");
        let files = root.inside("/root/deploy");
        fs::create_dir(&files).expect("nobody has made it");
        for entry in fs::read_dir(deploy("")).expect("a directory") {
            let path = entry.expect("readable").path();
            if path.is_file() {
                fs::copy(&path, files.join(path.file_name().expect("a name"))).expect("room");
            }
        }
        Self { engine }
    }

    /// Runs a line as somebody on that host would, and returns what it printed.
    #[track_caller]
    pub(crate) fn shell(&self, line: &str) -> String {
        let mut shell = self.engine.root().command(self.engine.host(), "sh");
        process::run(shell.args(["-c", line]))
    }

    /// A file of that host.
    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.engine.root().inside(path)
    }

    #[track_caller]
    pub(crate) fn expect_ready(&self) {
        shop::expect_ready(self.engine.host(), || self.shell("docker logs dfw 2>&1"));
    }

    /// Nothing of the agent is in the kernel.
    #[track_caller]
    pub(crate) fn assert_clean(&self) {
        assert!(!self.file("/sys/fs/bpf/dfw").exists());
    }

    /// Builds an image under the name of the socket proxy's: HAProxy, with what it needs of this host.
    fn stand_in_for_the_proxy(&self) {
        fs::copy(
            deploy("../tests/tests/ship/proxy.sh"),
            self.file("/root/proxy.sh"),
        )
        .expect("room");
        self.shell(
            "mkdir proxy && cp --parents --dereference /usr/sbin/haproxy \
             $(ldd /usr/sbin/haproxy | grep --only-matching '/[^ ]*') proxy",
        );
        let file = "FROM dfwt\nCOPY proxy /\nCOPY proxy.sh /\nENTRYPOINT [\"sh\", \"/proxy.sh\"]\n";
        fs::write(self.file("/root/Dockerfile"), file).expect("room");
        let file = yaml("compose.socket-proxy.yaml");
        let name = file["services"]["socket-proxy"]["image"].as_str();
        self.shell(&format!("docker build --tag {} .", name.expect("a name")));
    }

    /// An image of the same name with something else in it, as the next version would be.
    pub(crate) fn next_version(&self) {
        self.shell("printf 'FROM dfw:0.1.0\\nLABEL next=1\\n' | docker build --tag dfw:0.1.0 -");
    }
}

#[test]
#[ignore = "needs an engine of its own: cargo xtask soak engines"]
fn compose_starts_upgrades_and_removes_the_agent() {
    let host = Host::start();
    let shop = Shop::open(&host.engine);
    shop.assert_enforced("without an agent", false);
    // Only what is released is small.
    let most = scale(u64::MAX, 15_000_000);
    let size = host.shell("docker image inspect --format '{{.Size}}' dfw:0.1.0");
    let size: u64 = size.trim().parse().expect("a number");
    assert!(size <= most, "the image has {size} bytes");
    host.shell("docker compose --file deploy/compose.yaml up --detach");
    host.expect_ready();
    assert_granted(&host.engine.find("dfw"));
    shop.assert_enforced("with the agent", true);
    for command in ["dfw status", "dfw doctor || test $? = 3"] {
        println!("{}", host.shell(&format!("docker exec dfw {command}")));
    }
    assert!(host.file("/run/dfw/dfw.sock").exists());

    let canaries = shop.canaries();
    let id = "docker inspect --format '{{.Id}}' dfw";
    let before = host.shell(id);
    host.next_version();
    host.shell("docker compose --file deploy/compose.yaml up --detach");
    host.expect_ready();
    canaries.assert_going_on("after the upgrade");
    println!("upgrade: {}", canaries.assert_unharmed());
    assert_ne!(host.shell(id), before, "compose made it anew");
    shop.assert_enforced("after the upgrade", true);

    host.shell("docker compose --file deploy/compose.yaml stop");
    shop.assert_enforced("stopped", true);
    host.shell("docker compose --file deploy/compose.yaml run --rm dfw uninstall");
    shop.assert_enforced("uninstalled", false);
    host.assert_clean();
    host.shell("docker compose --file deploy/compose.yaml down");
    assert_eq!(host.shell("docker ps --all --quiet --filter name=dfw"), "");
}

#[test]
#[ignore = "needs an engine of its own: cargo xtask soak engines"]
fn a_socket_proxy_passes_what_the_agent_reads_and_nothing_else() {
    let host = Host::start();
    host.stand_in_for_the_proxy();
    let shop = Shop::open(&host.engine);
    let compose =
        "docker compose --file deploy/compose.yaml --file deploy/compose.socket-proxy.yaml";
    host.shell(&format!("{compose} up --detach"));
    host.expect_ready();
    shop.assert_enforced("behind the proxy", true);
    // What is born later is in the events.
    let options = [
        "--network=shop",
        "--label=dfw.ingress=tcp/80 from container:friend",
    ];
    let late = host
        .engine
        .container("late", &options, &["dfw-probe", "listen", "tcp/80"]);
    for to in late.at("shop", 80) {
        shop.friend.netns().assert_reaches("born later", to, true);
        shop.stranger
            .netns()
            .assert_reaches("born later", to, false);
    }
    let volume = host.shell("docker volume inspect --format '{{.Mountpoint}}' dfw_socket-proxy");
    let socket = host.file(volume.trim()).join("docker.sock");
    for (request, expected) in [
        ("GET /v1.44/containers/json", "200"),
        ("GET /containers/friend/json", "200"),
        ("POST /v1.44/containers/create", "403"),
        ("DELETE /v1.44/containers/friend", "403"),
        ("GET /v1.44/containers/friend/archive?path=/", "403"),
        ("GET /v1.44/secrets", "403"),
        ("GET /v1.44/containers/json/../../images/json", "403"),
    ] {
        let answer = ask(&socket, request);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {expected}")),
            "{request}: {answer}"
        );
    }
    host.shell(&format!("{compose} down --volumes"));
    shop.assert_enforced("without an agent", true);
}

/// What a request over a Unix socket is answered.
fn ask(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("the proxy listens");
    let request = format!(
        "{request} HTTP/1.1\r\nHost: engine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}
