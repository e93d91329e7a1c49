//! The stack as it is, on a Swarm of one node.

use std::time::Duration;

use dfw_tests::wait;

use crate::{compose::Host, image::assert_granted, shop::Shop};

/// A Swarm starts and removes its tasks when it pleases.
const PATIENCE: Duration = Duration::from_secs(30);

const TASKS: &str = "docker ps --quiet --filter name=dfw_agent";

#[test]
#[ignore = "needs an engine of its own: cargo xtask soak engines"]
fn a_stack_starts_updates_and_removes_the_agent() {
    let host = Host::start();
    let shop = Shop::open(&host.engine);
    host.shell("docker swarm init --advertise-addr 127.0.0.1");
    let deploy = "docker stack deploy --resolve-image never --compose-file deploy/stack.yaml dfw";
    host.shell("install --directory /etc/dfw");
    host.shell(deploy);
    host.expect_ready();
    let task = host.shell(TASKS);
    assert_granted(&host.engine.find(task.trim()));
    shop.assert_enforced("with the agent", true);

    let canaries = shop.canaries();
    // It counts as done only after its first health check.
    host.shell("docker service update --detach --force dfw_agent");
    wait::expect("another task", PATIENCE, || {
        let tasks = host.shell(TASKS);
        (!tasks.is_empty() && tasks != task).then_some(())
    });
    host.expect_ready();
    canaries.assert_going_on("after the update");
    println!("update: {}", canaries.assert_unharmed());
    shop.assert_enforced("after the update", true);

    host.shell("docker stack rm dfw");
    wait::expect("no task is left", PATIENCE, || {
        host.shell(TASKS).is_empty().then_some(())
    });
    shop.assert_enforced("removed", true);
    host.shell("docker compose --file deploy/compose.yaml run --rm dfw uninstall");
    shop.assert_enforced("uninstalled", false);
    host.assert_clean();
}
