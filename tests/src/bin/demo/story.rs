//! What happens, in order.

use std::{process::Output, thread, time::Duration};

use dfw_tests::{Agent, agent, http::Metrics, wait};

use crate::{
    scan::{self, Scan},
    screen::Screen,
    stage::{API, ATTACKER, CAST, DB, LEGACY, Stage, WEB},
};

/// How long servers may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// The last packets of a connection are counted when this is over.
const SETTLE: Duration = Duration::from_millis(100);

const DENIED: &[&str] = &[r#"verdict="deny""#, NO_RULE];
const DENIED_BY_DB: &[&str] = &[
    r#"service="db""#,
    r#"direction="ingress""#,
    r#"verdict="deny""#,
];
const AUDITED_AT_LEGACY: &[&str] = &[
    r#"service="legacy""#,
    r#"direction="ingress""#,
    r#"verdict="audit""#,
];
const NO_RULE: &str = r#"reason="no-rule""#;
const NODE: &str = "dfw_packets_total";
const SERVICE: &str = "dfw_endpoint_packets_total";

/// Plays everything, and returns the agent that runs at the end.
pub(crate) fn tell<'stage>(stage: &'stage Stage, screen: &mut Screen) -> Agent<'stage> {
    screen.step("Without dfw, the attacker scans the shop");
    // The servers may not listen yet.
    let first = || Scan::run(stage, &ATTACKER);
    let found = wait::until(PATIENCE, || Some(first()).filter(Scan::finds_the_shop));
    let before = found.unwrap_or_else(first);
    screen.show(&before.table());
    screen.check(
        before.finds_the_shop(),
        "web, api and db are open to it, over IPv4 and IPv6",
    );

    screen.step("dfw starts");
    for role in [&WEB, &API, &DB] {
        for (key, value) in role.rules {
            screen.show(&format!("{:<4} {key}: \"{value}\"", role.service));
        }
    }
    let [source, place] = stage.source();
    screen.show(&format!("# dfw run --unlabelled audit {source} {place}"));
    let agent = Agent::start(stage.host(), &["--unlabelled", "audit", &source, &place]);
    agent.expect_ready("everybody on stage is governed", CAST.len());
    screen.check(true, "every container has its programs and its policy");

    screen.step("The attacker scans again");
    let after = Scan::run(stage, &ATTACKER);
    screen.show(&after.table());
    let claim = format!(
        "not one of {} tries got any answer, over IPv4 or IPv6",
        after.tries()
    );
    screen.check(after.finds_nothing(), &claim);

    screen.step("The shop still works");
    for (from, to) in [(&WEB, &API), (&API, &DB)] {
        let claim = format!("{} -> {} over IPv4 and IPv6", from.service, to.service);
        screen.check(scan::reaches(stage, from, to), &claim);
    }
    screen.check(
        scan::stays_out(stage, &WEB, &DB),
        "web -> db is denied: no rule of the shop says so",
    );

    denied_is_counted(stage, &agent, screen);
    unlabelled_is_audited(stage, &agent, screen);
    screen.step("What dfw itself says");
    for command in ["status", "ls"] {
        screen.show(&format!("# dfw {command}"));
        let output = agent.command(&[command]);
        let text = printed(&output);
        screen.show(&text);
        let shows = output.status.success()
            && (command != "ls" || CAST.iter().all(|role| text.contains(role.service)));
        screen.check(shows, &format!("dfw {command} answers"));
    }
    agent
}

fn denied_is_counted(stage: &Stage, agent: &Agent<'_>, screen: &mut Screen) {
    screen.step("A denied try is counted");
    let before = agent.get("/metrics").1;
    screen.check(
        scan::stays_out(stage, &ATTACKER, &DB),
        "attacker -> db:5432 gets no answer, over IPv4 and IPv6",
    );
    thread::sleep(SETTLE);
    let after = agent.get("/metrics").1;
    show_raised(screen, [&before, &after], "verdict=\"deny\"", DB.service);
    let node = raised(&before, &after, NODE, DENIED);
    let db = raised(&before, &after, SERVICE, DENIED_BY_DB);
    screen.check(node >= 2.0, &format!("{NODE} counts them as denied"));
    screen.check(db >= 2.0, &format!("{SERVICE} names the db"));
}

fn unlabelled_is_audited(stage: &Stage, agent: &Agent<'_>, screen: &mut Screen) {
    screen.step(
        "Containers without rules, --unlabelled audit: nothing is dropped, everything is counted",
    );
    let before = agent.get("/metrics").1;
    screen.check(
        scan::reaches(stage, &ATTACKER, &LEGACY),
        "attacker -> legacy:9100 passes over IPv4 and IPv6, neither has rules",
    );
    thread::sleep(SETTLE);
    let after = agent.get("/metrics").1;
    show_raised(
        screen,
        [&before, &after],
        "verdict=\"audit\"",
        LEGACY.service,
    );
    let audited = raised(&before, &after, SERVICE, AUDITED_AT_LEGACY);
    screen.check(
        audited >= 2.0,
        "what enforce would deny is counted as audit",
    );
}

fn raised(before: &str, after: &str, name: &str, labels: &[&str]) -> f64 {
    Metrics::parse(after).sum(name, labels) - Metrics::parse(before).sum(name, labels)
}

/// Lines of packet counters that changed: of the node where no rule allowed, and of one service. The others have ARP and ND
/// beside, which is denied or audited too.
fn show_raised(screen: &Screen, [before, after]: [&str; 2], verdict: &str, service: &str) {
    let service = format!("service=\"{service}\"");
    let is_shown = |line: &&str| {
        let of_node = line.starts_with(NODE) && line.contains(NO_RULE);
        let of_service = line.starts_with(SERVICE) && line.contains(&service);
        (of_node || of_service) && line.contains(verdict)
    };
    let changed = after
        .lines()
        .filter(is_shown)
        .filter(|line| !before.lines().any(|old| old == *line));
    for line in changed {
        let (series, _) = line.rsplit_once(' ').unwrap_or((line, ""));
        let old = before
            .lines()
            .find_map(|old| old.strip_prefix(series)?.strip_prefix(' '));
        screen.show(&format!("{line}   (was {})", old.unwrap_or("0")));
    }
}

fn printed(output: &Output) -> String {
    [&output.stdout, &output.stderr]
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .concat()
}

/// Commands to try on what is left running.
pub(crate) fn print_next(stage: &Stage, agent: &Agent<'_>, screen: &Screen) {
    let dfw = agent::binary();
    let socket = agent.socket();
    let socket = socket.display();
    let host = stage.host().path().display();
    let address = |role| stage.member(role).addresses[0];
    screen.say("\nEverything is left running. Try as root:");
    if let Some(engine) = stage.engine() {
        screen.show(&format!("docker -H {engine} ps"));
    }
    let try_db = format!("tcp {} 5432", address(&DB));
    screen.show(&format!("{} {try_db}   # silent", stage.probe(&ATTACKER)));
    screen.show(&format!("{} {try_db}   # answered", stage.probe(&API)));
    screen.show(&format!("{dfw} status --socket {socket}"));
    screen.show(&format!("{dfw} ls --socket {socket}"));
    screen.show(&format!(
        "nsenter --net={host} curl -s http://127.0.0.1:10339/metrics"
    ));
    if let Some(engine) = stage.engine() {
        screen.show(&format!(
            "docker -H {engine} run --detach --network shop --label dfw.ingress='tcp/80 from service:shop/web' dfwt dfw-probe listen tcp/80"
        ));
    } else {
        let [_, inventory] = stage.source();
        screen.show(&format!(
            "editor {inventory}   # change a label: it is taken over at once"
        ));
    }
    screen.say("Remove everything:");
    screen.show("cargo xtask demo --clean");
}
