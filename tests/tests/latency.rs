//! How long a port is without its policy: from the news of its link to the programs, and to the policy in force.
//! `DFW_CAMPAIGN=1` makes it a hundred starts.

use dfw_tests::{Agent, Engine, EngineOptions, campaign::scale};

/// Figures of one kind of line of the agent's log, in milliseconds, sorted.
fn milliseconds(log: &str, message: &str) -> Vec<f64> {
    let mut figures: Vec<f64> = log
        .lines()
        .filter(|line| line.contains(message))
        .filter_map(|line| {
            line.split("milliseconds=")
                .nth(1)?
                .split(' ')
                .next()?
                .parse()
                .ok()
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    figures
}

fn show(what: &str, figures: &[f64]) {
    let at = |share: f64| figures[((figures.len() - 1) as f64 * share).round() as usize];
    println!(
        "{what}: {} starts, median {:.1} ms, p99 {:.1} ms",
        figures.len(),
        at(0.5),
        at(0.99)
    );
}

#[test]
fn from_link_to_policy() {
    let starts = scale(5, 100);
    let engine = Engine::start(EngineOptions::default());
    engine.network("shop", 1);
    let agent = Agent::start(
        engine.host(),
        &["--docker-host", &engine.socket(), "--log-level=debug"],
    );
    for number in 0..starts {
        let name = format!("started-{number}");
        let options = ["--network=shop", "--label=dfw.ingress=tcp/80 from any"];
        let container = engine.container(&name, &options, &["dfw-probe", "listen", "tcp/80"]);
        agent.expect_ready("the container's port", 1);
        container.remove();
        agent.expect_ready("nobody any more", 0);
    }
    let log = agent.log();
    let closed = milliseconds(&log, "port closed until it is known");
    let governed = milliseconds(&log, "policy in force");
    show("from the news of the link to both programs", &closed);
    show(
        "from the news of the link to the policy in force",
        &governed,
    );
    assert!(
        closed.len() >= starts,
        "{} of {starts} ports were closed",
        closed.len()
    );
    assert!(
        governed.len() >= starts,
        "{} of {starts} ports got a policy",
        governed.len()
    );
}
