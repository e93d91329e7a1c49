//! A server that one of its two neighbours may reach, by a label: what enforcement is seen by.

use std::{net::SocketAddr, time::Duration};

use dfw_tests::{Container, Engine, NetNs, canary::Canaries, http, wait};

const PATIENCE: Duration = Duration::from_secs(60);
/// Where every way to deploy serves metrics.
const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 10339);
const RULE: &str = "--label=dfw.ingress=tcp/80,udp/7001 from container:friend";

pub(crate) struct Shop<'engine> {
    engine: &'engine Engine,
    pub(crate) server: Container<'engine>,
    pub(crate) friend: Container<'engine>,
    pub(crate) stranger: Container<'engine>,
}

impl<'engine> Shop<'engine> {
    pub(crate) fn open(engine: &'engine Engine) -> Self {
        engine.network("shop", 1);
        let start = |name: &str, options: &[&str], command: &[&str]| {
            let options = [&["--network=shop"], options].concat();
            engine.container(name, &options, command)
        };
        Self {
            engine,
            server: start("server", &[RULE], &["dfw-probe", "listen", "tcp/80"]),
            friend: start("friend", &[], &[]),
            stranger: start("stranger", &[], &[]),
        }
    }

    /// The friend reaches the server; the stranger and the host do only where nothing is enforced.
    #[track_caller]
    pub(crate) fn assert_enforced(&self, when: &str, is_enforced: bool) {
        for to in self.server.at("shop", 80) {
            self.friend.netns().assert_reaches(when, to, true);
            self.stranger.netns().assert_reaches(when, to, !is_enforced);
            self.engine.host().assert_reaches(when, to, !is_enforced);
        }
    }

    /// Traffic that must not notice what is done to the agent.
    #[track_caller]
    pub(crate) fn canaries(&self) -> Canaries {
        let (server, friend) = (self.server.netns(), self.friend.netns());
        let mut canaries = Canaries::default();
        for to in self.server.at("shop", 80) {
            canaries.transfer(&friend, to);
        }
        for to in self.server.at("shop", 7001) {
            canaries.allow(&friend, &server, to);
        }
        for to in self.server.at("shop", 7002) {
            canaries.deny(&self.stranger.netns(), &server, to);
        }
        canaries
    }
}

/// Whether an agent in this namespace says that it is ready.
pub(crate) fn is_ready(host: &NetNs) -> bool {
    let answer = host.enter(|| http::get(LISTEN, "/readyz"));
    answer.is_ok_and(|(status, _)| status == 200)
}

/// Waits for it.
#[track_caller]
pub(crate) fn expect_ready(host: &NetNs, log: impl FnOnce() -> String) {
    let ready = wait::until(PATIENCE, || is_ready(host).then_some(()));
    assert!(ready.is_some(), "not ready\n{}", log());
}
