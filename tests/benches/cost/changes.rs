//! How long a change of rules takes until it holds, for established flows too: the agent's own compiler and tables, on real
//! veths with traffic.

use std::{
    io,
    net::UdpSocket,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dfw_agent::{
    datapath::{self, Datapath, load::Options as LoadOptions, uninstall},
    model::{BoundNetwork, Container, Endpoint, Inventory, Network, Role},
    policy::{Compiler, Held, Options},
    reconcile::Datapath as _,
};
use dfw_common::addr::Mac;
use dfw_tests::{Bridge, Namespace, cost::Aim, process, rules, scratch::Scratch};

use crate::report::Report;

const PORT: u16 = 5201;
/// Entries that are swapped for others.
const SWAPPED: usize = 10_000;
/// Changes of one rule, a round.
const CHANGES: usize = 25;
/// How often `nft` is measured; it takes long.
const NFT: usize = 3;
/// After so long nobody answers any more.
const SILENCE: Duration = Duration::from_millis(4);

/// Changes rules under traffic.
pub(crate) fn measure(rounds: usize, report: &mut Report) {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 1);
    let ends = [bridge.plug("client"), bridge.plug("server")];
    let scratch = Scratch::new();
    let bpffs = scratch.bpffs().join("dfw");
    let traffic = Traffic::start(&ends);
    let written = host.enter(|| {
        let node = Node::of(&host, &ends);
        let mut live = Live::open(&bpffs, scratch.path(), node);
        one_rule(&mut live, &traffic, rounds * CHANGES, report);
        let written = swap(&mut live, &traffic, rounds, report);
        drop(live);
        uninstall(&bpffs, marker(scratch.path())).expect("it is uninstalled");
        written
    });
    drop(traffic);
    by_nft(&host, &scratch, written, report);
}

/// Where the bench says that it has set a switch of the host.
fn marker(directory: &Path) -> PathBuf {
    datapath::marker(&directory.join("dfw.sock"))
}

/// The interfaces.
struct Node {
    bridge: u32,
    veths: [(u32, Mac, [std::net::IpAddr; 2]); 2],
}

impl Node {
    fn of(host: &Namespace, ends: &[dfw_tests::Endpoint; 2]) -> Self {
        let index = |name: &str| -> u32 {
            let line = host.run(&format!("ip -oneline link show {name}"));
            let number = line
                .split(':')
                .next()
                .and_then(|number| number.parse().ok());
            number.expect("a line begins with the number")
        };
        let veth = |end: &dfw_tests::Endpoint| {
            let line = end.netns.run("ip -oneline link show eth0");
            let mac = line
                .split_whitespace()
                .skip_while(|word| *word != "link/ether")
                .nth(1);
            let bytes = mac.into_iter().flat_map(|mac| mac.split(':'));
            let bytes: Vec<_> = bytes
                .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
                .collect();
            let mac = Mac::new(bytes.try_into().expect("six bytes"));
            (index(&end.veth), mac, [end.v4.into(), end.v6.into()])
        };
        Self {
            bridge: index("br0"),
            veths: [veth(&ends[0]), veth(&ends[1])],
        }
    }

    fn inventory(&self, labels: &[(String, String)]) -> Inventory {
        let any = [("dfw.egress".to_owned(), "any to any".to_owned())];
        let endpoint = |at: usize, name: &str, labels: &[(String, String)]| {
            let (ifindex, mac, addresses) = self.veths[at];
            Endpoint {
                ifindex,
                interface: format!("veth-{name}"),
                network: self.bridge,
                container: Arc::new(Container {
                    id: name.to_owned(),
                    name: name.to_owned(),
                    labels: labels.iter().cloned().collect(),
                    running: true,
                    ..Container::default()
                }),
                mac,
                addresses: addresses.to_vec(),
            }
        };
        let network = Network {
            id: "lan".to_owned(),
            name: "lan".to_owned(),
            project: None,
            short_name: None,
            filtered: false,
            bridge: "br0".to_owned(),
            subnets: ["10.77.1.0/24", "fd77:1::/64"]
                .iter()
                .map(|net| net.parse().expect("a net"))
                .collect(),
        };
        Inventory {
            endpoints: vec![endpoint(0, "client", &any), endpoint(1, "server", labels)],
            networks: vec![BoundNetwork {
                ifindex: self.bridge,
                network,
                foreign_ports: Vec::new(),
            }],
            ..Inventory::default()
        }
    }
}

/// What the agent holds.
struct Live {
    node: Node,
    datapath: Datapath,
    compiler: Compiler,
    allowed: (String, String),
}

impl Live {
    fn open(bpffs: &Path, directory: &Path, node: Node) -> Self {
        let options = LoadOptions {
            fast_path: true,
            ..LoadOptions::default()
        };
        let datapath = Datapath::open(bpffs, marker(directory), options);
        let datapath = datapath.expect("it opens");
        let allowed = (
            "dfw.ingress.allowed".to_owned(),
            format!("udp/{PORT} from container:client"),
        );
        let mut live = Self {
            node,
            datapath,
            compiler: Compiler::new(1, Held::default()),
            allowed,
        };
        live.apply(&[live.allowed.clone()]);
        live.datapath.plan(live.node.bridge, Role::Bridge);
        for (ifindex, ..) in live.node.veths {
            live.datapath.plan(ifindex, Role::Endpoint);
        }
        while let Some(attached) = live.datapath.attach_next() {
            attached.progress.expect("it attaches");
        }
        live.datapath.take_over().expect("nobody was here before");
        live.apply(&[live.allowed.clone()]);
        live
    }

    /// From labels to the kernel. Returns how long compiling took, and writing.
    fn apply(&mut self, labels: &[(String, String)]) -> (Duration, Duration) {
        let inventory = self.node.inventory(labels);
        let began = Instant::now();
        let compiled = self.compiler.compile(&inventory, &Options::default());
        let compiling = began.elapsed();
        let redirected = self
            .node
            .veths
            .iter()
            .map(|(ifindex, ..)| *ifindex)
            .collect();
        let applied = self.datapath.apply(&compiled, false, &redirected);
        applied.expect("it fits");
        (compiling, began.elapsed() - compiling)
    }
}

/// One established flow, asking as fast as it is answered.
struct Traffic {
    began: Instant,
    /// Nanoseconds after `began`.
    answered: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<()>>,
}

impl Traffic {
    fn start(ends: &[dfw_tests::Endpoint; 2]) -> Self {
        let [client, server] = ends;
        let bind = |end: &dfw_tests::Endpoint| -> io::Result<UdpSocket> {
            let socket = end.netns.enter(|| UdpSocket::bind((end.v4, PORT)))?;
            socket.set_read_timeout(Some(SILENCE / 2))?;
            Ok(socket)
        };
        let (asks, answers) = (bind(client).expect("free"), bind(server).expect("free"));
        asks.connect((server.v4, PORT)).expect("on the same bridge");
        let mut traffic = Self {
            began: Instant::now(),
            answered: Arc::default(),
            lost: Arc::default(),
            stop: Arc::default(),
            threads: Vec::new(),
        };
        let stop = Arc::clone(&traffic.stop);
        traffic.threads.push(thread::spawn(move || {
            let mut datagram = [0; 16];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((length, client)) = answers.recv_from(&mut datagram) {
                    // What is not answered is counted by who asked.
                    let _ = answers.send_to(&datagram[..length], client);
                }
            }
        }));
        let (began, stop) = (traffic.began, Arc::clone(&traffic.stop));
        let (answered, lost) = (Arc::clone(&traffic.answered), Arc::clone(&traffic.lost));
        traffic.threads.push(thread::spawn(move || {
            let mut datagram = [0; 16];
            while !stop.load(Ordering::Relaxed) {
                if asks
                    .send(&datagram)
                    .and_then(|_| asks.recv(&mut datagram))
                    .is_ok()
                {
                    answered.store(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
                } else {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }));
        traffic
    }

    fn last_answer(&self) -> Duration {
        Duration::from_nanos(self.answered.load(Ordering::Relaxed))
    }

    /// # Panics
    /// When nobody answers.
    fn expect_answers(&self) {
        let since = self.began.elapsed();
        let answered = || (self.last_answer() > since).then_some(());
        dfw_tests::wait::expect("an answer", Duration::from_secs(5), answered);
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// Takes the rule away that lets an established flow pass, and gives it back.
fn one_rule(live: &mut Live, traffic: &Traffic, changes: usize, report: &mut Report) {
    let other = (
        "dfw.ingress.other".to_owned(),
        "tcp/1 from container:client".to_owned(),
    );
    let allowed = live.allowed.clone();
    live.apply(&[other.clone(), allowed.clone()]);
    let (mut changed, mut cut) = (Vec::new(), Vec::new());
    for _ in 0..changes {
        traffic.expect_answers();
        let began = traffic.began.elapsed();
        live.apply(std::slice::from_ref(&other));
        let done = traffic.began.elapsed();
        thread::sleep(SILENCE);
        // The answer may still have been on its way to the one who notes it.
        let last = traffic.last_answer().max(began);
        changed.push(milliseconds(done - began));
        cut.push(milliseconds(last - began));
        live.apply(&[other.clone(), allowed.clone()]);
    }
    quantiles(
        "one rule less, compiled and in the kernel",
        changed,
        Some(2.0),
        report,
    );
    quantiles(
        "one rule less, until the last packet of an established flow",
        cut,
        Some(2.0),
        report,
    );
}

/// Many entries for as many others, with traffic that both allow. Returns the milliseconds that writing them takes.
fn swap(live: &mut Live, traffic: &Traffic, rounds: usize, report: &mut Report) -> f64 {
    let one = [vec![live.allowed.clone()], rules::many(SWAPPED)].concat();
    // The same ports, of other networks.
    let others = rules::many(SWAPPED).into_iter().map(|(key, value)| {
        (
            key,
            value
                .replace("from 20.", "from 21.")
                .replace(", 20.", ", 21.")
                .replace("2600:", "2601:"),
        )
    });
    let other: Vec<_> = [live.allowed.clone()].into_iter().chain(others).collect();
    live.apply(&one);
    traffic.expect_answers();
    let lost = traffic.lost.load(Ordering::Relaxed);
    let (mut compiled, mut written) = (Vec::new(), Vec::new());
    for labels in [&other, &one].into_iter().cycle().take(rounds.max(4)) {
        let (compiling, writing) = live.apply(labels);
        compiled.push(milliseconds(compiling));
        written.push(milliseconds(writing));
    }
    traffic.expect_answers();
    let lost = traffic.lost.load(Ordering::Relaxed) - lost;
    report.figure(
        &format!("{SWAPPED} entries for others: compiling, median"),
        median(compiled),
        "ms",
        None,
    );
    let written = median(written);
    report.figure(
        &format!("{SWAPPED} entries for others: into the kernel, median"),
        written,
        "ms",
        Some(Aim::AtMost(50.0)),
    );
    report.figure(
        "requests lost meanwhile",
        lost as f64,
        "",
        Some(Aim::AtMost(0.0)),
    );
    written
}

/// The same entries as nftables has them: as elements of a set, the way that is quickest to load, and as rules.
fn by_nft(host: &Namespace, scratch: &Scratch, written: f64, report: &mut Report) {
    let nets = |number: usize| (number / 256 % 256, number % 256);
    let elements = (0..SWAPPED).map(|number| {
        let (high, low) = nets(number);
        format!("20.{high}.{low}.0/24 . {}", 443 + number % 20 * 2)
    });
    let set = format!(
        "table ip t\ndelete table ip t\ntable ip t {{\n\
         set s {{ type ipv4_addr . inet_service; flags interval; elements = {{ {} }} }}\n\
         chain forward {{ type filter hook forward priority filter; ip saddr . tcp dport @s accept; }}\n}}\n",
        elements.collect::<Vec<_>>().join(", ")
    );
    let rules = (0..SWAPPED).map(|number| {
        let (high, low) = nets(number);
        format!(
            "ip saddr 20.{high}.{low}.0/24 tcp dport {} accept\n",
            443 + number % 20 * 2
        )
    });
    let rules = format!(
        "table ip t\ndelete table ip t\ntable ip t {{\n\
         chain forward {{ type filter hook forward priority filter;\n{}}}\n}}\n",
        rules.collect::<String>()
    );
    for (what, text) in [("set elements", set), ("rules", rules)] {
        let file = scratch.file("swap.nft", &text);
        let times = (0..NFT).map(|_| {
            let began = Instant::now();
            process::run(host.command("nft").arg("-f").arg(&file));
            milliseconds(began.elapsed())
        });
        let time = median(times.collect());
        report.figure(
            &format!("{SWAPPED} {what} for others by `nft -f`, median"),
            time,
            "ms",
            None,
        );
        let aim = Some(Aim::AtLeast(5.0));
        report.figure(
            &format!("{what} by `nft -f` over entries by dfw"),
            time / written,
            "x",
            aim,
        );
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// The value in the middle.
fn median(values: Vec<f64>) -> f64 {
    at(values, 0.5)
}

fn at(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share).round() as usize]
}

/// Median and p99; the aim is of the latter.
pub(crate) fn quantiles(what: &str, values: Vec<f64>, aim: Option<f64>, report: &mut Report) {
    report.figure(
        &format!("{what}: median"),
        median(values.clone()),
        "ms",
        None,
    );
    report.figure(
        &format!("{what}: p99"),
        at(values, 0.99),
        "ms",
        aim.map(Aim::AtMost),
    );
}
