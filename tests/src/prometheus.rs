//! Debian's Prometheus, which reads the agent of its network namespace every second.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use serde_json::Value;

use crate::{NetNs, http, process::Daemon, scratch::Scratch};

/// Its start, and some scrapes.
const PATIENCE: Duration = Duration::from_secs(30);

const CONFIG: &str = "
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: dfw
    static_configs:
      - targets: ['127.0.0.1:10339']
";

/// It has the network namespace to itself, with the agent.
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// A running Prometheus. Dropped, it ends, and its data is removed.
#[derive(Debug)]
pub struct Prometheus<'host> {
    // In the order in which they must end.
    daemon: Daemon,
    host: &'host NetNs,
    _scratch: Scratch,
}

impl<'host> Prometheus<'host> {
    /// Starts one and waits until it has read the agent.
    ///
    /// # Panics
    /// When it does not; shows the end of its log.
    #[track_caller]
    pub fn start(host: &'host NetNs) -> Self {
        let scratch = Scratch::new();
        let config = scratch.file("prometheus.yml", CONFIG);
        let mut command = host.command("prometheus");
        command.arg("--config.file").arg(config);
        command
            .arg("--storage.tsdb.path")
            .arg(scratch.path().join("data"));
        command.arg(format!("--web.listen-address={SERVER}"));
        let daemon = Daemon::start(&mut command, &scratch.path().join("prometheus.log"));
        let mut prometheus = Self {
            daemon,
            host,
            _scratch: scratch,
        };
        prometheus.expect("Prometheus reads the agent", |prometheus| {
            prometheus.value(r#"up{job="dfw"}"#).filter(|up| *up > 0.0)
        });
        prometheus
    }

    /// Looks until there is something to see.
    ///
    /// # Panics
    /// When there never is; shows the end of its log.
    #[track_caller]
    pub fn expect<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let seen = crate::wait::until(PATIENCE, || look(self));
        seen.unwrap_or_else(|| {
            panic!(
                "{what}: not within {PATIENCE:?}\n{}",
                self.daemon.log_tail()
            )
        })
    }

    /// The series of an instant query; none while there are none, or nobody answers.
    ///
    /// # Panics
    /// When the query is wrong.
    #[track_caller]
    pub fn query(&self, query: &str) -> Vec<Value> {
        let path = format!("/api/v1/query?query={}", percent_encoded(query));
        let Ok((status, body)) = self.host.enter(|| http::get(SERVER, &path)) else {
            return Vec::new();
        };
        assert_ne!(status, 400, "{query}: {body}");
        let answer: Value = serde_json::from_str(&body).unwrap_or_default();
        let result = answer["data"]["result"].as_array();
        result.cloned().unwrap_or_default()
    }

    /// The value of the first series of an instant query.
    #[track_caller]
    pub fn value(&self, query: &str) -> Option<f64> {
        self.query(query).first()?["value"][1]
            .as_str()?
            .parse()
            .ok()
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
