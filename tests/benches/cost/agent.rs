//! What the agent takes: memory and processor, by number of endpoints, at rest and while containers come and go.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use dfw_tests::{
    Agent, Engine, EngineOptions, Inventory,
    cost::Aim,
    crowd::{Crowd, TRIED},
    process,
};
use serde_json::Value;

use crate::{changes::quantiles, report::Report};

/// Endpoints of the large node.
const MANY: usize = 1_000;
/// How long it is watched at rest.
const REST: Duration = Duration::from_secs(10);
/// Changes of the inventory, one a second.
const CHURN: usize = 10;
/// Containers that are started.
const STARTS: usize = 20;

/// Measures everything.
pub(crate) fn measure(quick: bool, report: &mut Report) {
    crowd(report);
    starts(if quick { 5 } else { STARTS }, report);
}

fn crowd(report: &mut Report) {
    let crowd = Crowd::new();
    let inventory = Inventory::new();
    inventory.overwrite(&crowd.inventory(0..TRIED));
    let arguments = ["--inventory", &inventory.argument()];
    let few = {
        let agent = Agent::start(&crowd.host, &arguments);
        agent.expect_ready("the first ones", TRIED);
        let maps = map_bytes(agent.bpffs()) / f64::from(1 << 20);
        report.figure(
            "maps, at their default sizes",
            maps,
            "MiB",
            Some(Aim::AtMost(64.0)),
        );
        resident(&agent, TRIED, report)
    };
    crowd.plug(TRIED..MANY);
    inventory.overwrite(&crowd.inventory(0..MANY));
    let agent = Agent::start(&crowd.host, &arguments);
    agent.expect_ready("all of them", MANY);
    let many = resident(&agent, MANY, report);
    let each = (many - few) * 1024.0 / (MANY - TRIED) as f64;
    report.figure("memory an endpoint", each, "KiB", Some(Aim::AtMost(8.0)));
    let share = |ticks: u64, time: Duration| ticks as f64 / time.as_secs_f64();
    let before = process::ticks(agent.pid());
    thread::sleep(REST);
    // USER_HZ is 100 on every architecture that dfw runs on, so a tick a second is one hundredth of a processor.
    let rest = share(process::ticks(agent.pid()) - before, REST);
    report.figure(
        &format!("agent at rest, {MANY} endpoints"),
        rest,
        "% CPU",
        None,
    );
    let before = process::ticks(agent.pid());
    for change in 0..CHURN {
        // The last endpoint goes and comes back.
        inventory.overwrite(&crowd.inventory(0..MANY - change % 2));
        thread::sleep(Duration::from_secs(1));
    }
    let churn = share(
        process::ticks(agent.pid()) - before,
        Duration::from_secs(CHURN as u64),
    );
    let what = format!("agent with {MANY} endpoints, the inventory changed once a second");
    report.figure(&what, churn, "% CPU", None);
}

fn resident(agent: &Agent<'_>, endpoints: usize, report: &mut Report) -> f64 {
    let mib = process::resident_kib(agent.pid()) as f64 / 1024.0;
    let what = format!("agent resident, {endpoints} endpoints");
    report.figure(&what, mib, "MiB", Some(Aim::AtMost(40.0)));
    mib
}

/// Bytes that the kernel holds for the maps that are pinned under a directory.
fn map_bytes(directory: &Path) -> f64 {
    let entries = fs::read_dir(directory).expect("bpffs").flatten();
    let sizes = entries.map(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return map_bytes(&path);
        }
        let mut bpftool = Command::new("bpftool");
        let shown = process::output(bpftool.args(["--json", "map", "show", "pinned"]).arg(path));
        // Pinned links are no maps.
        let map: Value = serde_json::from_slice(&shown.stdout).unwrap_or_default();
        map["bytes_memlock"].as_f64().unwrap_or_default()
    });
    sizes.sum()
}

/// Containers of an engine, one after the other.
fn starts(starts: usize, report: &mut Report) {
    let engine = Engine::start(EngineOptions::default());
    engine.network("shop", 1);
    let agent = Agent::start(
        engine.host(),
        &["--docker-host", &engine.socket(), "--log-level=debug"],
    );
    let before = process::ticks(agent.pid());
    for number in 0..starts {
        let options = ["--network=shop", "--label=dfw.ingress=tcp/80 from any"];
        let container = engine.container(&format!("started-{number}"), &options, &[]);
        agent.expect_ready("the container's port", 1);
        container.remove();
        agent.expect_ready("nobody any more", 0);
    }
    let spent = (process::ticks(agent.pid()) - before) as f64 * 10.0 / starts as f64;
    report.figure(
        "agent, for a container that comes and goes",
        spent,
        "ms CPU",
        None,
    );
    for (what, message) in [
        (
            "from the news of a link to both programs",
            "port closed until it is known",
        ),
        ("from the news of a link to its policy", "policy in force"),
    ] {
        quantiles(what, agent.milliseconds(message), None, report);
    }
}
