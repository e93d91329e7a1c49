//! `dfw observe`: what it shows of real connections, and what it costs when there are very many. `DFW_CAMPAIGN=1` makes the
//! flood longer, and holds the agent to its share of a processor, which needs the release build.

use std::{
    fs::File,
    io::Read as _,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use dfw_tests::{
    Agent, Attempt, Bridge, Endpoint, Inventory, Listener, Namespace, NetNs, Protocol, agent,
    campaign::scale,
    process::{self, Daemon, Signal},
    scratch::Scratch,
    wait,
};
use serde_json::Value;

const PROJECT: (&str, &str) = ("com.docker.compose.project", "shop");
const SERVICE: &str = "com.docker.compose.service";

/// For what is denied.
const SHORT: Duration = Duration::from_millis(300);
/// For what shall come: on a busy machine it may come late.
const COMES: Duration = Duration::from_secs(20);

/// web may ask db by port 80, and nothing else.
struct Shop<'host> {
    host: &'host Namespace,
    web: Endpoint,
    db: Endpoint,
    agent: Agent<'host>,
    _inventory: Inventory,
    _listener: Listener,
}

impl<'host> Shop<'host> {
    fn open(host: &'host Namespace, ingress: &str) -> Self {
        let mut bridge = Bridge::new(host, "br0", 40);
        let (web, db) = (bridge.plug("web"), bridge.plug("db"));
        let listener = db.netns.enter(|| Listener::start(&[80, 81, 82], &[]));
        let mut inventory = Inventory::new();
        let of_web = [PROJECT, (SERVICE, "web"), ("dfw.egress", "any to any")];
        let of_db = [PROJECT, (SERVICE, "db"), ("dfw.ingress", ingress)];
        inventory.set("shop-web-1", &web, "shop", &of_web);
        inventory.set("shop-db-1", &db, "shop", &of_db);
        inventory.write();
        let agent = Agent::start(host, &["--inventory", &inventory.argument()]);
        agent.expect_ready("both are governed", 2);
        Self {
            host,
            web,
            db,
            agent,
            _inventory: inventory,
            _listener: listener.expect("the ports are free"),
        }
    }

    /// web dials db at a port, over each family.
    fn dial(&self, port: u16, is_allowed: bool) {
        for to in self.db.at(port) {
            let attempt = Attempt {
                patience: if is_allowed { COMES } else { SHORT },
                ..Attempt::new(Protocol::Tcp, to)
            };
            let outcome = self.web.netns.enter(|| attempt.run());
            let outcome = outcome.expect("the attempt is possible");
            assert_eq!(outcome.is_answered(), is_allowed, "{to}: {outcome}");
        }
    }

    fn observe(&self, arguments: &[&str]) -> Observer {
        Observer::start(self.host, &self.agent, arguments)
    }
}

/// Bytes of an observer's output that are looked at in one go.
const PIECE: u64 = 4 << 20;

/// A `dfw observe -o json` in the background.
struct Observer {
    daemon: Daemon,
    output: File,
    /// The beginning of a line whose end is not there yet.
    rest: Vec<u8>,
    seen: Vec<Value>,
    /// Events that it was sent, and those of which it was told that they are missing.
    told: (u64, u64),
    _scratch: Scratch,
}

impl Observer {
    /// Starts one; the past is asked for, so that its first line says that it observes.
    fn start(host: &NetNs, agent: &Agent<'_>, arguments: &[&str]) -> Self {
        let scratch = Scratch::new();
        let log = scratch.path().join("observe.log");
        let mut command = host.command(&agent::binary());
        command.args(["observe", "--since", "1d", "-o", "json", "--socket"]);
        command.arg(agent.socket()).args(arguments);
        let daemon = Daemon::start(&mut command, &log);
        let mut observer = Self {
            daemon,
            output: File::open(log).expect("it was just made"),
            rest: Vec::new(),
            seen: Vec::new(),
            told: (0, 0),
            _scratch: scratch,
        };
        observer.expect("the history's begin", |entry| entry["by"] == "history");
        observer
    }

    /// What it showed so far, a piece more with each call.
    fn read(&mut self) -> &[Value] {
        let mut bytes = std::mem::take(&mut self.rest);
        let mut some = self.output.by_ref().take(PIECE);
        some.read_to_end(&mut bytes).expect("a file");
        let end = bytes.iter().rposition(|byte| *byte == b'\n');
        self.rest = bytes.split_off(end.map_or(0, |end| end + 1));
        let lines = bytes.split(|byte| *byte == b'\n').filter(|l| !l.is_empty());
        self.seen.extend(lines.map(|line| {
            serde_json::from_slice::<Value>(line)
                .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(line)))
        }));
        &self.seen
    }

    /// Waits for an entry.
    #[track_caller]
    fn expect(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let seen = wait::until(COMES, || self.read().iter().find(|e| wanted(e)).cloned());
        seen.unwrap_or_else(|| panic!("{what}: not in {:#?}", self.seen))
    }

    /// Counts what it showed, and forgets it.
    fn events(&mut self) -> (u64, u64) {
        self.read();
        for entry in self.seen.drain(..) {
            match entry["lost"].as_u64() {
                None => self.told.0 += 1,
                Some(lost) => self.told.1 += lost,
            }
        }
        self.told
    }
}

/// One side of a connection from web to db.
fn is(entry: &Value, to: &SocketAddr, side: [&str; 3]) -> bool {
    let text = |pointer| entry.pointer(pointer).and_then(Value::as_str);
    let address = to.ip().to_string();
    [text("/direction"), text("/verdict"), text("/reason")] == side.map(Some)
        && text("/source/name") == Some("shop/web")
        && text("/destination/name") == Some("shop/db")
        && text("/destination/address") == Some(address.as_str())
        && entry["destination"]["port"] == to.port()
        && entry["protocol"] == "tcp"
        && entry["network"] == "shop"
}

/// The entries that the connections of the test make.
#[track_caller]
fn expect_all(shop: &Shop<'_>, observer: &mut Observer, when: &str) {
    let (egress, ingress) = ("dfw.egress", "dfw.ingress");
    for (port, side, rule) in [
        (
            80,
            ["egress", "allow", "allowed"],
            Some([egress, "any to any"]),
        ),
        (81, ["ingress", "deny", "no-rule"], None),
        (
            82,
            ["ingress", "deny", "deny-rule"],
            Some([ingress, "deny tcp/82 from any"]),
        ),
    ] {
        for to in shop.db.at(port) {
            let what = format!("{when}: {to} {side:?}");
            let entry = observer.expect(&what, |entry| is(entry, &to, side));
            let decided = ["label", "text"].map(|key| entry["rule"][key].as_str());
            let rule = rule.map_or([None; 2], |rule| rule.map(Some));
            assert_eq!(decided, rule, "{what}: {entry:#}");
        }
    }
}

#[test]
fn connections_are_seen_with_names_reason_and_rule() {
    let host = Namespace::new();
    let shop = Shop::open(&host, "tcp/80 from service:web; deny tcp/82 from any");
    let mut live = shop.observe(&[]);
    let mut denied = shop.observe(&["--denied", "--port", "81-82", "--to", "db", "--from", "web"]);
    let mut of_host = shop.observe(&["--from", "host", "--to", "shop/db"]);
    shop.dial(80, true);
    shop.dial(81, false);
    shop.dial(82, false);
    expect_all(&shop, &mut live, "live");

    let mut past = shop.observe(&[]);
    expect_all(&shop, &mut past, "by --since");

    for to in shop.db.at(80) {
        let attempt = Attempt {
            patience: SHORT,
            ..Attempt::new(Protocol::Tcp, to)
        };
        let outcome = host.enter(|| attempt.run()).expect("it is possible");
        assert!(!outcome.is_answered(), "{to}: {outcome}");
        let address = to.ip().to_string();
        let entry = of_host.expect("the host asks", |entry| {
            entry["destination"]["address"].as_str() == Some(&address)
        });
        assert_eq!(entry["source"]["class"], "host", "{entry:#}");
        assert_eq!(entry["reason"], "no-rule", "{entry:#}");
    }
    // Everything before has been read by now, so what a filter shows is all that it shows.
    for to in [81, 82].iter().flat_map(|port| shop.db.at(*port)) {
        denied.expect("denied", |entry| entry["destination"]["port"] == to.port());
    }
    for entry in denied.read().iter().filter(|entry| entry["lost"].is_null()) {
        assert_eq!(entry["verdict"], "deny", "{entry:#}");
        assert_eq!(entry["destination"]["name"], "shop/db", "{entry:#}");
    }
    for entry in of_host
        .read()
        .iter()
        .filter(|entry| entry["lost"].is_null())
    {
        assert_eq!(entry["source"]["class"], "host", "{entry:#}");
    }

    let output = shop
        .agent
        .command(&["observe", "--last", "1", "--port", "tcp/82"]);
    let line = String::from_utf8(output.stdout).expect("UTF-8");
    let (time, rest) = line.split_once("  ").expect("a time");
    assert_eq!(time.len(), "12:50:15.556".len(), "{line}");
    let [before, after] = [
        "shop/web:",
        " -> shop/db:82/tcp  DENIED  ingress  deny-rule  dfw.ingress: \"deny tcp/82 from any\"\n",
    ];
    assert!(rest.starts_with(before) && rest.ends_with(after), "{line}");

    let output = shop.agent.command(&["observe", "--to", "shop/bd"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(said.contains("did you mean `shop/db`?"), "{said}");
}

/// New flows a second.
const RATE: u32 = 5_000;
/// Sockets that the flood is sent from: each flow has another pair of ports.
const SOCKETS: usize = 8;
/// For one that was stopped.
const CATCHES_UP: Duration = Duration::from_secs(120);
/// Of one processor, in hundredths.
const SHARE: u64 = 20;
/// Much more than it needs; the history is full by then in a campaign.
const RESIDENT_KIB: u64 = 128 * 1024;

/// Sends datagrams, each of which is a flow of its own, so many a second. Returns how many.
fn flood(from: &NetNs, to: [SocketAddr; 2], first_port: u16, time: Duration) -> u64 {
    const STEP: Duration = Duration::from_millis(10);
    from.enter(|| {
        let bind = |to: SocketAddr| {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            UdpSocket::bind(any).expect("ports are free")
        };
        let sockets = [0; SOCKETS].map(|_| to.map(bind));
        let pairs = (first_port..u16::MAX).flat_map(|port| {
            let numbered = sockets.as_flattened().iter().enumerate();
            numbered.map(move |(number, socket)| (socket, port, number % 2))
        });
        let (began, mut sent) = (Instant::now(), 0);
        for (socket, port, family) in pairs {
            let mut to = to[family];
            to.set_port(port);
            sent += u64::from(socket.send_to(b"flood", to).is_ok());
            let due = Duration::from_secs(sent) / RATE;
            if due >= time {
                break;
            }
            if let Some(early) = due
                .checked_sub(began.elapsed())
                .filter(|early| *early > STEP)
            {
                thread::sleep(early);
            }
        }
        sent
    })
}

/// What the kernel counted: events sent, events lost.
fn counted(agent: &Agent<'_>) -> (u64, u64) {
    let metrics = agent.metrics();
    ["dfw_events_total", "dfw_events_lost_total"]
        .map(|name| metrics.sum(name, &[]) as u64)
        .into()
}

#[test]
fn a_flood_is_seen_or_counted() {
    let host = Namespace::new();
    let shop = Shop::open(&host, "udp from any");
    let time = Duration::from_secs(scale(3, 60));
    let pid = shop.agent.pid();
    let calm = process::resident_kib(pid);
    let mut port = 1000;
    let mut flooded = |who: &str| {
        let (ticks, before, began) = (process::ticks(pid), counted(&shop.agent), Instant::now());
        let sent = flood(&shop.web.netns, shop.db.at(0), port, time);
        port += (sent / (2 * SOCKETS as u64)) as u16 + 1;
        let took = began.elapsed();
        let ticks = process::ticks(pid) - ticks;
        let after = counted(&shop.agent);
        let (events, lost) = (after.0 - before.0, after.1 - before.1);
        let share = ticks * 100 / (took.as_millis() as u64 / 10).max(1);
        let resident = process::resident_kib(pid);
        println!(
            "{who}: {sent} new flows in {took:.1?}, {events} events and {lost} lost: {ticks} ticks, {share} % of a processor, {resident} KiB resident (before {calm})"
        );
        assert!(
            sent > u64::from(RATE) * time.as_secs() / 2,
            "the flood is slow"
        );
        assert!(resident < RESIDENT_KIB, "{resident} KiB");
        share
    };
    let alone = flooded("nobody observes");
    let mut denials = shop.observe(&["--denied", "--follow"]);
    let filtered = flooded("denials are observed");
    let mut all = shop.observe(&[]);
    let mut slow = shop.observe(&[]);
    slow.daemon.signal(Signal::STOP);
    flooded("everything is observed, by one that is stopped too");
    slow.daemon.signal(Signal::CONT);

    // Whoever was there from the begin has been told of each event, one way or the other.
    for (who, observer) in [("it", &mut all), ("the slow one", &mut slow)] {
        let told = wait::until(CATCHES_UP, || {
            let ((flows, missing), (sent, lost)) = (observer.events(), counted(&shop.agent));
            (flows + missing == sent + lost).then_some((flows, missing))
        });
        let told = told.unwrap_or_else(|| {
            let (seen, counted) = (observer.events(), counted(&shop.agent));
            panic!("{who} was told of {seen:?}, the kernel counted {counted:?}")
        });
        println!("{who} was told of {} events and {} missing", told.0, told.1);
    }
    let (_, lost) = counted(&shop.agent);
    wait::expect(
        "those who wait for something else are told of losses",
        COMES,
        || (denials.events().1 >= lost).then_some(()),
    );
    let bound = scale(u64::MAX, SHARE);
    assert!(
        alone <= bound && filtered <= bound,
        "{alone} %, {filtered} %"
    );
}
