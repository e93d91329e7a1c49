//! How long a port is without its policy: from the news of its link to the programs, and to the policy in force.
//! `DFW_CAMPAIGN=1` makes it a hundred starts.

use dfw_tests::{Agent, Engine, EngineOptions, campaign::scale};

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
    let closed = agent.milliseconds("port closed until it is known");
    let governed = agent.milliseconds("policy in force");
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
