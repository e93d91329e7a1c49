//! The engine dies, hangs, refuses, talks nonsense: what is in force stays in force, and what happened meanwhile is right
//! soon after. `DFW_CAMPAIGN=1` makes the faults longer and repeats them.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use dfw_tests::{
    Agent, Container, Engine, EngineOptions,
    campaign::scale,
    canary::Canaries,
    process::Signal,
    proxy::{Fault, Proxy},
    scratch::Scratch,
    wait,
};
use rustix::process::{Pid, kill_process};

/// How long the agent may take to be right after a fault.
const CONVERGENCE: Duration = Duration::from_secs(5);

const LISTEN: [&str; 3] = ["dfw-probe", "listen", "tcp/80"];

/// An engine under dfw, with both canaries running.
struct Site<'a> {
    engine: &'a Engine,
    agent: &'a Agent<'a>,
    client: Container<'a>,
    stranger: Container<'a>,
    server: Container<'a>,
}

impl<'a> Site<'a> {
    fn new(engine: &'a Engine, agent: &'a Agent<'a>) -> (Self, Canaries) {
        let start = |name, label| engine.container(name, &["--network=shop", label], &LISTEN);
        let rule = "--label=dfw.ingress=tcp/80,udp/7001 from container:client";
        let site = Self {
            engine,
            agent,
            client: start("client", "--label=dfw.egress=any to any"),
            stranger: start("stranger", "--label=dfw.egress=any to any"),
            server: start("server", rule),
        };
        agent.expect_ready("all are governed", 3);
        let (client, server) = (site.client.netns(), site.server.netns());
        let mut canaries = Canaries::default();
        for to in site.server.at("shop", 80) {
            canaries.transfer(&client, to);
        }
        for to in site.server.at("shop", 7001) {
            canaries.allow(&client, &server, to);
        }
        for to in site.server.at("shop", 7002) {
            canaries.deny(&client, &server, to);
        }
        (site, canaries)
    }

    /// One that only the client may reach.
    fn start(&self, name: &str) -> Container<'a> {
        let rule = "--label=dfw.ingress=tcp/80 from container:client";
        self.engine
            .container(name, &["--network=shop", rule], &LISTEN)
    }

    /// Waits until the agent knows these beside the permanent ones, and asserts that this and their rules came in time.
    #[track_caller]
    fn assert_right(&self, fault: &str, since: Instant, here: &[&Container<'_>]) {
        let permanent = [&self.client, &self.stranger, &self.server];
        let wanted = here.iter().copied().chain(permanent);
        let wanted: BTreeSet<&str> = wanted.map(Container::id).collect();
        wait::expect(fault, CONVERGENCE * 4, || {
            let status = self.agent.status();
            let endpoints = status["endpoints"].as_array()?;
            let ready = endpoints.iter().filter(|known| known["state"] == "ready");
            let ready: BTreeSet<&str> = ready.filter_map(|known| known["id"].as_str()).collect();
            let is_connected = status["connected"] == true;
            (is_connected && endpoints.len() == wanted.len() && ready == wanted).then_some(())
        });
        let took = since.elapsed();
        println!("{fault}: right after {took:.1?}");
        assert!(took <= CONVERGENCE, "{fault}: it took {took:?}");
        let (client, stranger) = (self.client.netns(), self.stranger.netns());
        for to in here.iter().flat_map(|container| container.at("shop", 80)) {
            client.assert_reaches(fault, to, true);
            stranger.assert_reaches(fault, to, false);
        }
    }
}

/// Between the agent and the engine, which itself goes on: containers come and go behind the agent's back.
#[test]
fn of_the_socket() {
    let engine = Engine::start(EngineOptions::default());
    engine.network("shop", 1);
    let scratch = Scratch::new();
    let path = scratch.path().join("proxy.sock");
    let proxy = Proxy::new(&path, &engine.socket(), Fault::None);
    let options = ["--docker-host", &proxy.socket(), "--unlabelled=enforce"];
    let agent = Agent::start(engine.host(), &options);
    let (site, canaries) = Site::new(&engine, &agent);
    let (rounds, time) = scale((1, 1), (3, 15));
    for round in 1..=rounds {
        for fault in Fault::ALL {
            let what = format!("{fault:?}, round {round}");
            let leaving = site.start("leaving");
            site.assert_right("calm", Instant::now(), &[&leaving]);
            proxy.set(fault);
            let born = site.start("born");
            leaving.remove();
            let stranger = site.stranger.netns();
            for to in born.at("shop", 80) {
                stranger.assert_reaches(&what, to, false);
            }
            thread::sleep(Duration::from_secs(time));
            canaries.assert_going_on(&what);
            proxy.set(Fault::None);
            site.assert_right(&what, Instant::now(), &[&born]);
            born.remove();
        }
    }
    // No event stream ever lives long.
    let containers: Vec<_> = (0..scale(3, 20))
        .map(|number| {
            let names = ["coming", "going"].map(|kind| format!("{kind}-{number}"));
            let [coming, going] = names.map(|name| site.start(&name));
            for _ in 0..3 {
                thread::sleep(Duration::from_millis(100));
                proxy.set(Fault::None);
            }
            going.remove();
            proxy.set(Fault::None);
            coming
        })
        .collect();
    let containers: Vec<&Container<'_>> = containers.iter().collect();
    site.assert_right("stream cut", Instant::now(), &containers);
    println!("{}", canaries.assert_unharmed());
}

#[test]
fn of_the_engine_itself() {
    let engine = Engine::start(EngineOptions {
        live_restore: true,
        ..EngineOptions::default()
    });
    engine.network("shop", 1);
    let options = ["--docker-host", &engine.socket(), "--unlabelled=enforce"];
    let agent = Agent::start(engine.host(), &options);
    let (site, canaries) = Site::new(&engine, &agent);
    let (rounds, time) = scale((1, 1), (3, 15));
    for round in 1..=rounds {
        let dying = site.start("dying");
        site.assert_right("calm", Instant::now(), &[&dying]);
        let process = dying.inspect("{{.State.Pid}}").parse().ok();
        engine.kill();
        let process = process.and_then(Pid::from_raw).expect("a process id");
        kill_process(process, Signal::KILL).expect("it runs");
        thread::sleep(Duration::from_secs(time));
        canaries.assert_going_on("killed");
        engine.start_again();
        site.assert_right(&format!("killed, round {round}"), Instant::now(), &[]);
        dying.remove();

        let leaving = site.start("leaving");
        site.assert_right("calm", Instant::now(), &[&leaving]);
        engine.signal(Signal::STOP);
        let (born, since) = thread::scope(|scope| {
            let born = scope.spawn(|| site.start("born"));
            let removal = scope.spawn(|| leaving.remove());
            // Longer than the agent waits for an answer.
            thread::sleep(Duration::from_secs(time + 5));
            canaries.assert_going_on("hung");
            engine.signal(Signal::CONT);
            let since = Instant::now();
            removal.join().expect("no panic");
            (born.join().expect("no panic"), since)
        });
        site.assert_right(&format!("hung, round {round}"), since, &[&born]);
        born.remove();
    }
    println!("{}", canaries.assert_unharmed());
}
