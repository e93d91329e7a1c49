//! Many endpoints on one node: how soon all of them are enforced, what that takes, and that all of it is given back.
//! `DFW_CAMPAIGN=1` makes them a thousand.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use aya::programs::{SchedClassifier, TcAttachType};
use dfw_tests::{
    Agent, Inventory, Listener,
    campaign::scale,
    crowd::{Crowd, TRIED, addresses},
    process, wait,
};
use serde_json::Value;

/// Expedites RCU grace periods on the whole host.
const SWITCH: &str = "/sys/kernel/rcu_expedited";
/// Much more than the aim, which is printed beside the figure: other tests may be running.
const COLD_START: Duration = Duration::from_secs(60);
const RESIDENT_KIB: u64 = 64 * 1024;

/// Descriptors of the agent by kind, and pins by directory.
fn handles(agent: &Agent<'_>) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    let fds = fs::read_dir(format!("/proc/{}/fd", agent.pid())).expect("the agent runs");
    for fd in fds {
        // Gone again since the listing: not one that stays.
        let Ok(target) = fs::read_link(fd.expect("it can be read").path()) else {
            continue;
        };
        let target = target.display().to_string();
        let kind = target
            .split_once(":[")
            .map_or(target.as_str(), |(kind, _)| kind);
        *count.entry(kind.to_owned()).or_default() += 1;
    }
    count_pins(agent.bpffs(), &mut count);
    count
}

fn count_pins(directory: &Path, count: &mut BTreeMap<String, usize>) {
    for entry in fs::read_dir(directory).expect("bpffs") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            count_pins(&path, count);
        } else {
            *count.entry(directory.display().to_string()).or_default() += 1;
        }
    }
}

/// Whose programs come first in both hooks of every interface.
fn assert_hooked(node: &Crowd, endpoints: usize) {
    node.host.enter(|| {
        for number in 0..endpoints {
            for (hook, program) in [
                (TcAttachType::Ingress, "dfw_from_ep"),
                (TcAttachType::Egress, "dfw_to_ep"),
            ] {
                let (_, programs) = SchedClassifier::query_tcx(&format!("v{number}"), hook)
                    .unwrap_or_else(|error| panic!("v{number} {hook:?}: {error}"));
                let first = programs.first().and_then(|info| info.name_as_str());
                assert_eq!(first, Some(program), "v{number} {hook:?}");
            }
        }
    });
}

/// The second endpoint offers two ports to the first, of which one is denied.
fn assert_enforced(node: &Crowd) {
    let [client, server] = &node.tried;
    let _listener = server
        .enter(|| Listener::start(&[80, 81], &[]))
        .expect("the ports are free");
    let (v4, v6) = addresses(1);
    for address in [v4, v6] {
        for (port, is_allowed) in [(80, true), (81, false)] {
            let to = SocketAddr::new(address.parse().expect("an address"), port);
            client.assert_reaches("cold start", to, is_allowed);
        }
    }
}

fn assert_listed(agent: &Agent<'_>, endpoints: usize) {
    let output = agent.command(&["ls", "-o", "json"]);
    assert!(output.status.success(), "{}", agent.log());
    let listed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let listed = listed.as_array().expect("a list of endpoints");
    assert_eq!(listed.len(), endpoints);
    for endpoint in listed {
        assert_eq!(
            (&endpoint["state"], &endpoint["mode"]),
            (&Value::from("ready"), &Value::from("enforce")),
            "{endpoint}"
        );
    }
}

#[test]
fn many_endpoints_come_and_go() {
    let endpoints = scale(100, 1000);
    let mut node = Crowd::new();
    let inventory = Inventory::new();
    let (few, all) = (node.inventory(0..TRIED), node.inventory(0..endpoints));
    inventory.overwrite(&few);
    let mut agent = Agent::start(&node.host, &["--inventory", &inventory.argument()]);
    agent.expect_ready("the first ones", TRIED);
    // The second copy of the programs is loaded in the background.
    let mut before = handles(&agent);
    wait::expect("the agent is at rest", Duration::from_secs(20), || {
        std::thread::sleep(Duration::from_secs(1));
        let now = handles(&agent);
        (now == std::mem::replace(&mut before, now.clone())).then_some(())
    });
    let with_few = process::resident_kib(agent.pid());
    assert!(agent.uninstall().status.success());
    agent.expect_ended();

    let began = Instant::now();
    node.plug(TRIED..endpoints);
    println!(
        "{endpoints} endpoints plugged in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    inventory.overwrite(&all);
    // An agent was killed in the middle of a bulk: its switch is on, its marker there.
    let marker = agent.socket().with_extension("rcu-expedited");
    fs::write(&marker, "").expect("it can be written");
    fs::write(SWITCH, "1").expect("root may set it");
    let began = Instant::now();
    agent.start_again();
    let cold_start = began.elapsed();
    agent.expect_ready("all of them", endpoints);
    let resident = process::resident_kib(agent.pid());
    println!(
        "{endpoints} endpoints: cold start to all enforced {:.2} s (aim: 2 s for 1 000), resident {:.1} MiB (aim: 64)",
        cold_start.as_secs_f64(),
        resident as f64 / 1024.0
    );
    assert_hooked(&node, endpoints);
    assert_listed(&agent, endpoints);
    assert_enforced(&node);
    assert!(cold_start < COLD_START, "{cold_start:?}");
    assert!(resident <= RESIDENT_KIB, "{resident} KiB");
    assert!(!marker.exists(), "the switch was put back");
    // Agents of other tests use it too.
    wait::expect("the switch is off", Duration::from_secs(60), || {
        let switch = fs::read_to_string(SWITCH).expect("a kernel with RCU");
        (switch.trim() == "0").then_some(())
    });

    let idle = Duration::from_secs(5);
    let spent = process::ticks(agent.pid());
    std::thread::sleep(idle);
    let spent = process::ticks(agent.pid()) - spent;
    let grown = process::resident_kib(agent.pid()).saturating_sub(with_few);
    let each = grown / (endpoints - TRIED) as u64;
    println!("an endpoint takes {each} KiB (aim: 8)");
    // Pages of code that only one of the two agents has touched are counted too, and weigh more among few.
    assert!(each <= scale(48, 24), "{each} KiB");
    // USER_HZ is 100 on every architecture that dfw runs on.
    println!(
        "at rest the agent takes {:.1} % of a CPU",
        spent as f64 / idle.as_secs_f64()
    );

    inventory.overwrite(&few);
    node.shared.clear();
    // The kernel takes its time to remove namespaces, the more so when other tests do the same.
    wait::expect("their links are gone", Duration::from_secs(120), || {
        let links = node.host.run("ip -oneline link show type veth");
        (links.lines().count() == TRIED).then_some(())
    });
    agent.expect_ready("the first ones again", TRIED);
    let after = wait::until(Duration::from_secs(20), || {
        Some(handles(&agent)).filter(|after| *after == before)
    });
    assert!(after.is_some(), "{before:#?}\n{:#?}", handles(&agent));
    println!("afterwards: {before:?}");
}
