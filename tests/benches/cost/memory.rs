//! Resident memory of the agent.

use std::fs;

use dfw_tests::{Agent, Bridge, Inventory, Namespace};

use crate::report::Report;

/// Starts an agent with this many endpoints, each with a rule, and reads its memory once it is ready.
pub(crate) fn measure(endpoints: u8, report: &mut Report) {
    let host = Namespace::new();
    let mut bridge = Bridge::new(&host, "br0", 1);
    let mut inventory = Inventory::new();
    let endpoints: Vec<_> = (0..endpoints)
        .map(|number| {
            let name = format!("e{number}");
            let endpoint = bridge.plug(&name);
            let labels = [
                ("dfw.ingress", "tcp/80 from any"),
                ("dfw.egress", "udp/53 to any"),
            ];
            inventory.set(&name, &endpoint, "lan", &labels);
            endpoint
        })
        .collect();
    inventory.write();
    let agent = Agent::start(&host, &["--inventory", &inventory.argument()]);
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid()));
    let status = status.expect("the agent runs");
    for (key, what) in [("VmRSS:", "resident"), ("VmHWM:", "at its highest")] {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
        let mib = kib.expect("a line of proc_pid_status(5)") / 1024.0;
        report.memory(what, endpoints.len(), mib);
    }
}
