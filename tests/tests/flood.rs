//! One endpoint opens flows as fast as it can: that is its own trouble and nobody else's, agent or no agent.
//! `DFW_CAMPAIGN=1` makes it a minute each.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use dfw_tests::{
    Agent, Attempt, Container, Engine, EngineOptions, NetNs, Protocol, campaign::scale,
    canary::Canaries,
};

/// A new connection each.
const STEP: Duration = Duration::from_millis(100);
/// A lost SYN is sent again after a second.
const NORMAL: Duration = Duration::from_millis(900);
/// Sockets that the flood is sent from: their ports, times those it is sent to, times two families.
const SOCKETS: usize = 16;

/// Sends a datagram to each port of an address in turn, from each of many ports, until told to stop: every one a flow of its
/// own. Returns how many.
fn flood(from: &NetNs, to: [SocketAddr; 2], is_over: &AtomicBool) -> u64 {
    from.enter(|| {
        let bind = |to: SocketAddr| {
            let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            UdpSocket::bind(any).expect("ports are free")
        };
        let sockets = [0; SOCKETS].map(|_| to.map(bind));
        let mut sent = 0;
        loop {
            for port in 1..=u16::MAX {
                for (number, socket) in sockets.as_flattened().iter().enumerate() {
                    let mut to = to[number % 2];
                    to.set_port(port);
                    sent += u64::from(socket.send_to(b"flood", to).is_ok());
                }
                if is_over.load(Ordering::Relaxed) {
                    return sent;
                }
            }
        }
    })
}

/// How long new allowed connections take to be established by the kernels of both ends, one every [`STEP`]; no SYN is lost.
#[track_caller]
fn openings(from: &NetNs, to: [SocketAddr; 2], time: Duration) -> Vec<Duration> {
    let end = Instant::now() + time;
    let mut took = Vec::new();
    for to in to.into_iter().cycle() {
        let began = Instant::now();
        if began >= end {
            break;
        }
        let attempt = Attempt {
            patience: NORMAL,
            ..Attempt::new(Protocol::Tcp, to)
        };
        let stream = from.enter(|| attempt.connect());
        if let Err(error) = stream {
            panic!("a new connection to {to}: {error}");
        }
        took.push(began.elapsed());
        thread::sleep(STEP.saturating_sub(began.elapsed()));
    }
    took.sort();
    took
}

fn show(when: &str, took: &[Duration]) {
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    let (median, p99, most) = (at(50), at(99), at(100));
    let number = took.len();
    println!(
        "{when}: {number} new connections, median {median:.1?}, p99 {p99:.1?}, most {most:.1?}"
    );
}

/// Who takes part.
struct Cast<'engine> {
    server: Container<'engine>,
    client: Container<'engine>,
    flooder: Container<'engine>,
    sink: Container<'engine>,
}

impl<'engine> Cast<'engine> {
    fn new(engine: &'engine Engine) -> Self {
        let start = |name, label, command: &[&str]| {
            engine.container(name, &["--network=shop", label], command)
        };
        let listen = ["dfw-probe", "listen", "tcp/80", "tcp/81"];
        Self {
            server: start(
                "server",
                "--label=dfw.ingress=tcp/80,udp/7001 from container:client",
                &listen,
            ),
            client: start("client", "--label=dfw.egress=any to any", &[]),
            flooder: start("flooder", "--label=dfw.egress=udp to any", &[]),
            sink: start("sink", "--label=dfw.ingress=udp from any", &[]),
        }
    }

    /// One flood under both canaries and new connections.
    fn flood(&self, when: &str, time: Duration) -> u64 {
        let [server, client, flooder] =
            [&self.server, &self.client, &self.flooder].map(Container::netns);
        let mut canaries = Canaries::default();
        for to in self.server.at("shop", 80) {
            canaries.transfer(&client, to);
        }
        for to in self.server.at("shop", 7001) {
            canaries.allow(&client, &server, to);
        }
        for to in self.server.at("shop", 7002) {
            canaries.deny(&client, &server, to);
        }
        let calm = openings(&client, self.server.at("shop", 80), time / 5);
        show(&format!("{when}, before the flood"), &calm);
        let is_over = AtomicBool::new(false);
        let (began, sink) = (Instant::now(), self.sink.at("shop", 0));
        let (sent, busy) = thread::scope(|scope| {
            let flood = scope.spawn(|| flood(&flooder, sink, &is_over));
            let busy = scope.spawn(|| openings(&client, self.server.at("shop", 80), time));
            let busy = busy.join();
            is_over.store(true, Ordering::Relaxed);
            (flood.join().expect("no panic"), busy.expect("no panic"))
        });
        let rate = sent as f64 / began.elapsed().as_secs_f64();
        show(
            &format!("{when}, under {sent} new flows, {rate:.0} a second"),
            &busy,
        );
        canaries.assert_going_on(when);
        println!("{when}: {}", canaries.assert_unharmed());
        sent
    }
}

#[test]
fn of_flows_harms_nobody_else() {
    // Without br_netfilter, or the kernel's own connection tracking, which all containers share, would be flooded too.
    let engine = Engine::start(EngineOptions {
        br_netfilter: false,
        ..EngineOptions::default()
    });
    engine.network("shop", 1);
    let cast = Cast::new(&engine);
    let mut agent = Agent::start(engine.host(), &["--docker-host", &engine.socket()]);
    agent.expect_ready("all are governed", 4);
    let capacity = agent.metrics().sum("dfw_map_capacity", &["map=\"FLOWS\""]);
    let time = Duration::from_secs(scale(5, 60));

    let sent = cast.flood("agent alive", time);
    assert!(
        sent as f64 > capacity,
        "{sent} flows would all find room in {capacity}"
    );
    let flows = agent.metrics().sum("dfw_flows", &[]);
    println!("{flows} flows in a table of {capacity}");
    // Its own sixteenth, and what the others have.
    assert!(flows < capacity / 8.0, "the flooder holds others' room");

    agent.kill();
    cast.flood("agent killed", time);
}
