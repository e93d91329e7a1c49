//! What is seen in audit is learned by names, and outlives containers, the agent and the host's start.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::unix::fs::PermissionsExt as _,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use Direction::{Egress, Ingress};
use dfw_agent::policy::{Learned, SIGHTINGS_EACH, Seen, SeenPeer, Sighting, Subject, Times};
use dfw_common::{key::proto, maps::SEEN_EACH, reason::Direction};
use dfw_tests::{
    Agent, Attempt, Bridge, Endpoint, Inventory, Listener, Namespace, Protocol, http, wait,
};

/// What is known already is counted every 10 s.
const PATIENCE: Duration = Duration::from_secs(20);

const PROJECT: (&str, &str) = ("com.docker.compose.project", "shop");
const SERVICE: &str = "com.docker.compose.service";

fn service(name: &str) -> Subject {
    Subject::of(Some("shop"), Some(name), "")
}

fn peer(name: &str) -> SeenPeer {
    SeenPeer::Subject(service(name))
}

fn sighting(direction: Direction, peer: SeenPeer, (protocol, port): (u8, u16)) -> Sighting {
    Sighting {
        direction,
        peer,
        protocol,
        port,
    }
}

fn seen<'a>(learned: &'a Learned, of: &Subject) -> Option<&'a Seen> {
    let record = learned.records.iter().find(|record| record.subject == *of);
    record.map(|record| &record.seen)
}

/// What the agent has learned.
#[track_caller]
fn learned_by(agent: &Agent<'_>) -> Learned {
    let answer = http::ask_socket(&agent.socket(), "GET /v1/seen", "");
    let (status, body) = answer.unwrap_or_else(|error| panic!("{error}\n{}", agent.log()));
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("what was learned")
}

/// Waits until that is as wanted, and returns it.
#[track_caller]
fn expect(agent: &Agent<'_>, what: &str, wanted: impl Fn(&Learned) -> bool) -> Learned {
    let seen = wait::until(PATIENCE, || Some(learned_by(agent)).filter(&wanted));
    seen.unwrap_or_else(|| panic!("{what}: not in\n{:#?}", learned_by(agent)))
}

/// How often a service was seen to do something.
fn flows(learned: &Learned, of: &str, sighting: &Sighting) -> u64 {
    let times = seen(learned, &service(of)).and_then(|seen| seen.sightings.get(sighting));
    times.map_or(0, |times| times.flows)
}

/// One for each family, whether it is answered or not.
fn try_both(from: &Endpoint, protocol: Protocol, to: [SocketAddr; 2]) {
    for to in to {
        let attempt = Attempt::new(protocol, to);
        let outcome = from.netns.enter(|| attempt.run());
        outcome.expect("the attempt is possible");
    }
}

/// Two services and a container without one, all in audit.
struct Shop<'host> {
    bridge: Bridge<'host>,
    web: Endpoint,
    db: Endpoint,
    inventory: Inventory,
    _listener: Listener,
}

impl<'host> Shop<'host> {
    fn open(host: &'host Namespace, subnet: u8) -> Self {
        let mut bridge = Bridge::new(host, "br0", subnet);
        let (web, db) = (bridge.plug("web"), bridge.plug("db"));
        let listener = db.netns.enter(|| Listener::start(&[5432], &[53]));
        let mut shop = Self {
            bridge,
            web,
            db,
            inventory: Inventory::new(),
            _listener: listener.expect("the ports are free"),
        };
        let labels = [PROJECT, (SERVICE, "web")];
        shop.inventory.set("shop-web-1", &shop.web, "shop", &labels);
        let labels = [PROJECT, (SERVICE, "db")];
        shop.inventory.set("shop-db-1", &shop.db, "shop", &labels);
        shop.inventory.write();
        shop
    }

    fn agent(&self, host: &'host Namespace) -> Agent<'host> {
        let agent = Agent::start(host, &["--inventory", &self.inventory.argument()]);
        agent.expect_ready("both", 2);
        agent
    }

    fn connect(&self) {
        try_both(&self.web, Protocol::Tcp, self.db.at(5432));
    }
}

fn to_db() -> Sighting {
    sighting(Egress, peer("db"), (proto::TCP, 5432))
}

fn from_web() -> Sighting {
    sighting(Ingress, peer("web"), (proto::TCP, 5432))
}

#[test]
fn by_names_and_across_whatever_ends() {
    let host = Namespace::new();
    let mut shop = Shop::open(&host, 60);
    let mut agent = shop.agent(&host);
    shop.connect();
    try_both(&shop.web, Protocol::Udp, shop.db.at(53));
    let (v4, v6) = shop.bridge.gateway();
    let gateway = [IpAddr::V4(v4), IpAddr::V6(v6)];
    try_both(
        &shop.web,
        Protocol::Icmp,
        gateway.map(|gateway| (gateway, 0).into()),
    );
    let learned = expect(&agent, "both ends", |learned| {
        flows(learned, "web", &to_db()) == 2 && flows(learned, "db", &from_web()) == 2
    });
    for (of, what, count) in [
        ("web", sighting(Egress, peer("db"), (proto::UDP, 53)), 2),
        ("db", sighting(Ingress, peer("web"), (proto::UDP, 53)), 2),
        ("web", sighting(Egress, SeenPeer::Host, (proto::ICMP, 8)), 1),
        (
            "web",
            sighting(Egress, SeenPeer::Host, (proto::ICMP6, 128)),
            1,
        ),
    ] {
        assert_eq!(
            flows(&learned, of, &what),
            count,
            "{what:?} of {learned:#?}"
        );
    }
    assert_eq!(learned.figures().missing, 0, "{learned:#?}");
    let Some(Times { first, last, .. }) =
        seen(&learned, &service("web")).and_then(|seen| seen.sightings.get(&to_db()).copied())
    else {
        panic!("{learned:#?}");
    };
    assert!(learned.since <= first + 1 && first <= last, "{learned:#?}");
    assert_eq!(agent.status()["learned"]["missing"], 0);

    // Killed as soon as it was seen; what happens meanwhile is the kernel's to remember.
    shop.connect();
    agent.kill();
    shop.connect();
    agent.start_again();
    expect(
        &agent,
        "what was seen before, around and without",
        |learned| flows(learned, "web", &to_db()) == 6 && flows(learned, "db", &from_web()) == 6,
    );

    // The container is made anew: it is the same service. The last thing that the former one did is not lost.
    shop.connect();
    try_both(&shop.web, Protocol::Udp, shop.db.at(1));
    shop.inventory.remove("shop-web-1");
    agent.expect_taken(&shop.inventory);
    shop.web = shop.bridge.plug("web2");
    let labels = [PROJECT, (SERVICE, "web")];
    shop.inventory.set("shop-web-2", &shop.web, "shop", &labels);
    agent.expect_taken(&shop.inventory);
    agent.expect_ready("the new one", 2);
    shop.connect();
    let last_thing = sighting(Egress, peer("db"), (proto::UDP, 1));
    let learned = expect(&agent, "one service", |learned| {
        flows(learned, "web", &to_db()) == 10 && flows(learned, "web", &last_thing) == 2
    });
    assert_eq!(learned.figures().missing, 0, "{learned:#?}");

    // A start of the host leaves nothing in the kernel.
    assert!(agent.terminate().success());
    fs::remove_dir_all(agent.bpffs()).expect("it is there");
    agent.start_again();
    agent.expect_ready("anew", 2);
    assert_eq!(flows(&learned_by(&agent), "web", &to_db()), 10);
    let mode = |path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    let file = agent.state().join("seen.json");
    assert_eq!((mode(agent.state()), mode(file)), (0o700, 0o600));

    // Forgotten for one, and then for all.
    let forget = |json: &str| {
        let answer = http::ask_socket(&agent.socket(), "POST /v1/forget", json);
        answer.expect("it answers")
    };
    let (status, told) = forget(r#"{"selector":"service:shop/wob"}"#);
    assert!(status == 422 && told.contains("service:shop/web"), "{told}");
    let (status, told) = forget(r#"{"selector":"service:shop/web"}"#);
    assert!(status == 200 && told.contains("shop/web"), "{told}");
    let learned = learned_by(&agent);
    assert_eq!(flows(&learned, "web", &to_db()), 0);
    assert_eq!(
        flows(&learned, "db", &from_web()),
        10,
        "its own record stays"
    );
    assert_eq!(forget("{}").0, 200);
    assert_eq!(learned_by(&agent).records, []);
    shop.connect();
    expect(&agent, "anew", |learned| {
        flows(learned, "web", &to_db()) == 2
    });
}

#[test]
fn nothing_is_learned_of_who_enforces() {
    let host = Namespace::new();
    let mut shop = Shop::open(&host, 61);
    let labels = [
        PROJECT,
        (SERVICE, "db"),
        ("dfw.ingress", "tcp/5432 from service:web"),
    ];
    shop.inventory.set("shop-db-1", &shop.db, "shop", &labels);
    shop.inventory.write();
    let agent = shop.agent(&host);
    shop.connect();
    try_both(&shop.web, Protocol::Udp, shop.db.at(53));
    let learned = expect(&agent, "who audits", |learned| {
        flows(learned, "web", &to_db()) == 2
    });
    assert_eq!(seen(&learned, &service("db")), None);
    let denied = sighting(Egress, peer("db"), (proto::UDP, 53));
    assert_eq!(
        flows(&learned, "web", &denied),
        0,
        "what is dropped is not seen"
    );
}

#[test]
fn a_scanner_fills_its_own_record_only() {
    let host = Namespace::new();
    let mut shop = Shop::open(&host, 62);
    let bad = shop.bridge.plug("bad");
    shop.inventory.set("bad", &bad, "shop", &[]);
    shop.inventory.write();
    let agent = Agent::start(&host, &["--inventory", &shop.inventory.argument()]);
    agent.expect_ready("all", 3);
    let ports = 3 * SEEN_EACH as u16;
    bad.netns.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        for port in 1..=ports {
            // That nobody listens is told by the answer to an earlier one.
            let _ = socket.send_to(b"?", (shop.db.v4, port));
        }
    });
    shop.connect();
    let scanner = Subject::Container("bad".to_owned());
    let learned = expect(&agent, "everybody", |learned| {
        let missing = seen(learned, &scanner).map_or(0, |seen| seen.missing);
        missing > 0 && flows(learned, "web", &to_db()) == 2
    });
    let by_port: BTreeMap<u16, u64> = seen(&learned, &scanner)
        .expect("it has a record")
        .sightings
        .iter()
        .map(|(sighting, times)| (sighting.port, times.flows))
        .collect();
    assert!(by_port.len() >= SEEN_EACH as usize / 2, "{by_port:?}");
    assert_eq!(
        flows(&learned, "db", &from_web()),
        2,
        "others' records are whole"
    );
    for of in ["web", "db"] {
        let seen = seen(&learned, &service(of)).expect("it has a record");
        assert_eq!(seen.missing, 0, "{of} is told to lack nothing");
    }
    let of_map = agent.expect_metrics("taken out of the kernel", |metrics| {
        metrics.sum("dfw_map_entries", &["map=\"SEEN\""]) < 1.0
    });
    assert!(of_map.sum("dfw_map_capacity", &["map=\"SEEN\""]) > 1.0);
}

/// What is written down is what is new, and of a scanner nothing is once its record is full.
#[test]
fn a_scanner_does_not_keep_the_disk_busy() {
    let host = Namespace::new();
    let mut shop = Shop::open(&host, 64);
    let bad = shop.bridge.plug("bad");
    shop.inventory.set("bad", &bad, "shop", &[]);
    shop.inventory.write();
    let agent = Agent::start(&host, &["--inventory", &shop.inventory.argument()]);
    agent.expect_ready("all", 3);
    let (db, is_over) = (shop.db.v4, AtomicBool::new(false));
    let written = thread::scope(|scope| {
        scope.spawn(|| {
            bad.netns.enter(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                for port in (1..=u16::MAX).take_while(|_| !is_over.load(Relaxed)) {
                    let _ = socket.send_to(b"?", (db, port));
                    thread::sleep(Duration::from_millis(2));
                }
            });
        });
        let written = catch_unwind(AssertUnwindSafe(|| {
            expect(&agent, "a full record", |learned| {
                let sightings = learned.records.iter().map(|one| one.seen.sightings.len());
                sightings.sum::<usize>() >= SIGHTINGS_EACH
            });
            let file = agent.state().join("seen.json");
            let mut written = BTreeSet::new();
            for _ in 0..80 {
                let now = fs::metadata(&file).and_then(|file| file.modified());
                written.insert(now.expect("it is kept"));
                thread::sleep(Duration::from_millis(100));
            }
            written
        }));
        is_over.store(true, Relaxed);
        written.unwrap_or_else(|panic| resume_unwind(panic))
    });
    assert!(written.len() <= 2, "in 8 s: {written:?}");
}

#[test]
fn a_state_that_cannot_be_kept_or_read_stops_nobody() {
    let host = Namespace::new();
    let shop = Shop::open(&host, 63);
    let mut agent = shop.agent(&host);
    assert!(agent.terminate().success());
    let file = agent.state().join("seen.json");
    fs::write(&file, "{\"version\":1").expect("it is writable");
    agent.start_again();
    assert!(
        agent.log().contains("learning begins anew"),
        "{}",
        agent.log()
    );
    assert!(
        file.with_extension("json-broken").exists(),
        "it is put aside"
    );
    agent.kill();

    fs::remove_dir_all(agent.state()).expect("it is ours");
    fs::write(agent.state(), "no directory").expect("it is writable");
    agent.start_again();
    agent.expect_ready("all the same", 2);
    shop.connect();
    let learned = expect(&agent, "until it ends", |learned| {
        flows(learned, "web", &to_db()) == 2
    });
    assert!(learned.unkept.is_some());
    let status = agent.command(&["status"]);
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        said.contains("not-kept") && said.contains("--state"),
        "{said}"
    );
    let doctor = agent.command(&["doctor"]);
    let said = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(said.contains("not-kept"), "{said}");
    assert!(agent.log().contains("cannot be kept"), "{}", agent.log());
    fs::remove_file(agent.state()).expect("it is there");
    expect(&agent, "kept again", |learned| learned.unkept.is_none());
}
