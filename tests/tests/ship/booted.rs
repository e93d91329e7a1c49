//! The package on a machine with systemd and Docker, as docs/deploy.md says.

use std::{fs, time::Duration};

use dfw_tests::{Machine, image, process, scratch::Scratch, wait};

use crate::package::package;

const PATIENCE: Duration = Duration::from_secs(30);

/// A machine with the package at hand, and a server that a friend may reach.
struct Site(Machine);

impl Site {
    fn new() -> Self {
        let machine = Machine::boot();
        let scratch = Scratch::new();
        for (file, place) in [
            (image::tar(scratch.path()), "/root/image.tar"),
            (package(&scratch), "/root/dfw.deb"),
        ] {
            fs::copy(file, machine.inside(place)).expect("room");
        }
        for line in [
            "docker import --change 'ENV PATH=/bin' image.tar dfwt",
            "docker network create --ipv6 --subnet=10.78.1.0/24 --subnet=fd78:1::/64 shop",
            "docker run --detach --name=server --network=shop --ip=10.78.1.9 --ip6=fd78:1::9 \
             --label='dfw.ingress=tcp/80 from container:friend' dfwt dfw-probe listen tcp/80",
            "docker run --detach --name=friend --network=shop dfwt sleep 2147483647",
            "docker run --detach --name=stranger --network=shop dfwt sleep 2147483647",
        ] {
            machine.shell(line);
        }
        Self(machine)
    }

    #[track_caller]
    fn assert_enforced(&self, when: &str, is_enforced: bool) {
        for (who, passes) in [("friend", true), ("stranger", !is_enforced)] {
            for address in ["10.78.1.9", "fd78:1::9"] {
                let line = format!("docker exec {who} dfw-probe tcp {address} 80 1000");
                let mut attempt = self.0.command(&line);
                // Who was closed has given up resolving its neighbour for a moment, and says so without asking again.
                let patience = if passes { PATIENCE } else { Duration::ZERO };
                let came_through = wait::until(patience, || {
                    process::output(&mut attempt).status.success().then_some(())
                });
                assert_eq!(came_through.is_some(), passes, "{when}: {who}, {address}");
            }
        }
    }

    #[track_caller]
    fn expect_ready(&self) {
        let mut status = self
            .0
            .command("systemctl is-active --quiet dfw && dfw status | grep ready");
        let ready = wait::until(PATIENCE, || {
            process::output(&mut status).status.success().then_some(())
        });
        assert!(
            ready.is_some(),
            "{}",
            self.0.shell("journalctl --no-pager --unit dfw")
        );
    }
}

#[test]
#[ignore = "needs a root of its own: cargo xtask soak engines"]
fn systemd_runs_restarts_and_removes_the_package() {
    let site = Site::new();
    let machine = &site.0;
    site.assert_enforced("without an agent", false);
    machine.shell("apt-get install --yes ./dfw.deb");
    site.expect_ready();
    site.assert_enforced("installed", true);
    let journal = machine.shell("journalctl --no-pager --unit dfw");
    assert!(
        journal.contains("ready listen=127.0.0.1:10339"),
        "{journal}"
    );
    println!("{}", machine.shell("systemctl status --no-pager dfw"));

    // Who tries all the time, and ends when it gets through.
    machine.shell(
        "docker run --detach --name=burglar --network=shop dfwt sh -c \
         'until dfw-probe tcp 10.78.1.9 80 300 || dfw-probe tcp fd78:1::9 80 300; do :; done'",
    );
    for line in [
        "systemctl restart dfw",
        "systemctl kill --signal=KILL dfw",
        "apt-get install --yes --reinstall ./dfw.deb",
    ] {
        machine.shell(line);
        site.expect_ready();
        site.assert_enforced(line, true);
    }
    machine.shell("systemctl stop dfw");
    site.assert_enforced("stopped", true);
    machine.shell("systemctl start dfw");
    site.expect_ready();
    machine.shell("systemctl restart docker && docker start server friend stranger burglar");
    site.expect_ready();
    site.assert_enforced("after the engine's restart", true);
    let burglar = machine.shell("docker inspect --format '{{.State.Running}}' burglar");
    assert_eq!(burglar, "true", "it got through");

    machine.shell("apt-get remove --yes dfw");
    site.assert_enforced("removed", false);
    machine.shell("apt-get purge --yes dfw");
    let left = machine.shell("find / -xdev -path /root -prune -o -name '*dfw*' -print");
    let left: Vec<&str> = left
        .lines()
        .filter(|path| *path != "/etc/dfw-packages")
        .collect();
    assert!(left.is_empty(), "{left:?}");
    for place in ["/run/dfw", "/sys/fs/bpf/dfw"] {
        assert!(!machine.inside(place).exists(), "{place}");
    }
    let unit = process::output(&mut machine.command("systemctl cat dfw"));
    assert!(!unit.status.success(), "{unit:?}");
}
