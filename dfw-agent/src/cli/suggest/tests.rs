use super::*;
use crate::{
    cli::findings::tests::plain,
    policy::{Evidence, Line, Subject, Suggestion, Times},
};

fn line(direction: &str, rules: &[(&str, u64)], present: Option<&str>) -> Line {
    let evidence = |(rule, flows): &(&str, u64)| Evidence {
        rule: (*rule).to_owned(),
        times: Some(Times {
            flows: *flows,
            first: 1_764_106_812,
            last: 1_764_193_212,
        }),
        widened: if rule.ends_with("world") { 12 } else { 0 },
    };
    let texts: Vec<&str> = rules.iter().map(|(rule, _)| *rule).collect();
    let value = texts.join("; ");
    Line {
        direction: direction.to_owned(),
        label: format!("dfw.{direction}"),
        is_same: present == Some(&value),
        value,
        present: present.map(str::to_owned),
        rules: rules.iter().map(evidence).collect(),
    }
}

fn one(subject: Subject, lines: Vec<Line>) -> Suggestion {
    let selector = match &subject {
        Subject::Service { project, service } => format!("service:{project}/{service}"),
        Subject::Container(name) => format!("container:{name}"),
    };
    Suggestion {
        is_compose: matches!(&subject, Subject::Service { project, .. } if !project.is_empty()),
        subject,
        selector: Some(selector),
        containers: Vec::new(),
        mode: "audit".to_owned(),
        mode_label: None,
        since: 1_764_100_000,
        missing: 0,
        lines,
        notes: Vec::new(),
    }
}

fn service(project: &str, service: &str) -> Subject {
    Subject::of(Some(project), Some(service), "")
}

/// Hostile names, what is there already, nothing seen, too little room.
fn answer() -> Suggestions {
    let mut web = one(
        service("shop", "web"),
        vec![
            line(
                "ingress",
                &[("tcp/80 from world", 40)],
                Some("tcp/80 from any"),
            ),
            line(
                "egress",
                &[("tcp/8000 to service:api", 1), ("udp/53 to 9.9.9.9/32", 7)],
                None,
            ),
        ],
    );
    web.mode_label = Some("audit\x1b[31m".to_owned());
    web.missing = 3;
    let no = one(service("shop", "no"), vec![line("ingress", &[], None)]);
    let done = one(service("shop", "done"), Vec::new());
    let mut evil = one(
        Subject::Container("it's\n\"$(id)\"".to_owned()),
        vec![line("ingress", &[("tcp/1 from label:a=\"$x'\"", 1)], None)],
    );
    evil.selector = None;
    evil.notes.push("a\nb".to_owned());
    let same = one(
        Subject::Container("same".to_owned()),
        vec![line(
            "ingress",
            &[("tcp/1 from host", 1)],
            Some("tcp/1 from host"),
        )],
    );
    Suggestions {
        suggestions: vec![web, no, done, evil, same],
        ..Suggestions::default()
    }
}

const NOW: u64 = 1_764_200_000;

fn sheet<'a>(warnings: &'a [String], mode: Option<Judged>) -> Sheet<'a> {
    Sheet {
        warnings,
        mode,
        now: NOW,
    }
}

#[test]
fn an_override_file() {
    let warnings = warnings(&answer(), Duration::from_secs(NOW + 1_000_000));
    insta::assert_snapshot!(plain(|out| sheet(&warnings, None).compose(out, "shop", &answer())), @r#"
    # Suggested by dfw 0.1.0 on 2025-11-26 23:33:20 UTC, from what was seen of shop.
    # INCOMPLETE: 3 flows of shop/web had no room or no name, and may be denied
    # it's\n"$(id)": a\nb
    # docker compose -f compose.yaml -f THIS_FILE up --detach
    # shop/done: all that was seen is allowed already
    services:
      web:
        labels:
          # tcp/80 from world: 40 times, 2025-11-25 21:40:12 to 2025-11-26 21:40:12; `world` stands for 12 addresses
          # instead of: tcp/80 from any
          dfw.ingress: "tcp/80 from world"
          # tcp/8000 to service:api: 1 time, 2025-11-25 21:40:12 to 2025-11-26 21:40:12
          # udp/53 to 9.9.9.9/32: 7 times, 2025-11-25 21:40:12 to 2025-11-26 21:40:12
          dfw.egress: "tcp/8000 to service:api; udp/53 to 9.9.9.9/32"
          # its mode stays audit\u{1b}[31m, as its label says
      "no":
        labels:
          # nothing was seen, so nobody may
          dfw.ingress: ""
    "#);
    let empty = Suggestions {
        suggestions: vec![one(service("shop", "done"), Vec::new())],
        ..Suggestions::default()
    };
    insta::assert_snapshot!(plain(|out| sheet(&[], Some(Judged::Audit)).compose(out, "shop", &empty)), @r"
    # Suggested by dfw 0.1.0 on 2025-11-26 23:33:20 UTC, from what was seen of shop.
    # docker compose -f compose.yaml -f THIS_FILE up --detach
    # shop/done: all that was seen is allowed already
    services: {}
    ");
}

#[test]
fn options_of_docker_run() {
    insta::assert_snapshot!(plain(|out| sheet(&[], Some(Judged::Audit)).labels(out, &answer()).map(drop)), @r#"
    # Suggested by dfw 0.1.0 on 2025-11-26 23:33:20 UTC, from what was seen.

    # shop/web
    # tcp/80 from world: 40 times, 2025-11-25 21:40:12 to 2025-11-26 21:40:12; `world` stands for 12 addresses
    # instead of: tcp/80 from any
    --label 'dfw.ingress=tcp/80 from world'
    # tcp/8000 to service:api: 1 time, 2025-11-25 21:40:12 to 2025-11-26 21:40:12
    # udp/53 to 9.9.9.9/32: 7 times, 2025-11-25 21:40:12 to 2025-11-26 21:40:12
    --label 'dfw.egress=tcp/8000 to service:api; udp/53 to 9.9.9.9/32'
    --label 'dfw.mode=audit'

    # shop/no
    # nothing was seen, so nobody may
    --label 'dfw.ingress='
    --label 'dfw.mode=audit'

    # shop/done: all that was seen is allowed already

    # it's\n"$(id)"
    # tcp/1 from label:a="$x'": 1 time, 2025-11-25 21:40:12 to 2025-11-26 21:40:12
    --label 'dfw.ingress=tcp/1 from label:a="$x'\''"'
    --label 'dfw.mode=audit'

    # same
    # tcp/1 from host: 1 time, 2025-11-25 21:40:12 to 2025-11-26 21:40:12
    --label 'dfw.ingress=tcp/1 from host'
    --label 'dfw.mode=audit'
    "#);
}

/// Whatever is in the prefix of labels.
#[test]
fn the_label_of_the_mode_has_the_prefix_of_the_others() {
    let mut web = line("ingress", &[], None);
    web.label = "my.ingress.rules.ingress.2".to_owned();
    let answer = Suggestions {
        suggestions: vec![one(service("shop", "web"), vec![web])],
        ..Suggestions::default()
    };
    let printed = plain(|out| {
        sheet(&[], Some(Judged::Audit))
            .labels(out, &answer)
            .map(drop)
    });
    assert!(
        printed.contains("--label 'my.ingress.rules.mode=audit'"),
        "{printed}"
    );
}

#[test]
fn entries_of_a_policy_file() {
    let mut answer = answer();
    let again = answer.suggestions[0].lines[0].clone();
    answer.suggestions[0].lines.push(again);
    let mut left_out = Vec::new();
    let printed = plain(|out| {
        left_out = sheet(&[], Some(Judged::Enforce)).policy(out, &answer)?;
        Ok(())
    });
    insta::assert_snapshot!(printed, @r#"
    # Suggested by dfw 0.1.0 on 2025-11-26 23:33:20 UTC, from what was seen.

    # shop/web
    [[rules]]
    for = "service:shop/web"
    mode = "enforce"
    # tcp/80 from world: 40 times, 2025-11-25 21:40:12 to 2025-11-26 21:40:12; `world` stands for 12 addresses
    # instead of: tcp/80 from any
    ingress = "tcp/80 from world"
    # tcp/8000 to service:api: 1 time, 2025-11-25 21:40:12 to 2025-11-26 21:40:12
    # udp/53 to 9.9.9.9/32: 7 times, 2025-11-25 21:40:12 to 2025-11-26 21:40:12
    egress = "tcp/8000 to service:api; udp/53 to 9.9.9.9/32"
    [[rules]]
    for = "service:shop/web"
    mode = "enforce"
    # tcp/80 from world: 40 times, 2025-11-25 21:40:12 to 2025-11-26 21:40:12; `world` stands for 12 addresses
    # instead of: tcp/80 from any
    ingress = "tcp/80 from world"

    # shop/no
    [[rules]]
    for = "service:shop/no"
    mode = "enforce"
    # nothing was seen, so nobody may
    ingress = ""

    # shop/done: all that was seen is allowed already

    # it's\n"$(id)"

    # same
    [[rules]]
    for = "container:same"
    mode = "enforce"
    # tcp/1 from host: 1 time, 2025-11-25 21:40:12 to 2025-11-26 21:40:12
    ingress = "tcp/1 from host"
    "#);
    insta::assert_snapshot!(left_out.join("\n"), @r#"
    no word of a policy file selects it's
    "$(id)", so it is left out: --format labels has it
    "#);
    let services = printed.replace("service:api", "service:shop/api");
    crate::policy::NodePolicy::parse("p.toml", &services).expect("a policy file");
}

#[test]
fn what_differs() {
    insta::assert_snapshot!(plain(|out| print::diff(out, &answer())), @r#"
    shop/web
    - dfw.ingress: "tcp/80 from any"
    + dfw.ingress: "tcp/80 from world"
    + dfw.egress: "tcp/8000 to service:api; udp/53 to 9.9.9.9/32"
    shop/no
    + dfw.ingress: ""
    it's\n"$(id)"
    + dfw.ingress: "tcp/1 from label:a=\"$x'\""
    "#);
    let mut same = answer();
    same.suggestions
        .retain(|one| one.lines.iter().all(|line| line.is_same));
    insta::assert_snapshot!(plain(|out| print::diff(out, &same)), @"nothing to change: what was seen is allowed, and nothing else is written");
}

#[test]
fn warnings_are_loud() {
    let mut answer = answer();
    answer.missing = 1;
    answer
        .notes
        .push("what was seen does not outlive the agent: no space left".to_owned());
    insta::assert_snapshot!(warnings(&answer, Duration::from_secs(1_764_100_000 + 240)).join("\n"), @r#"
    what was seen does not outlive the agent: no space left
    INCOMPLETE: 1 flow of containers that nobody knows any more had no room or no name, and may be denied
    INCOMPLETE: 3 flows of shop/web had no room or no name, and may be denied
    looked at for 4m only: what happens more seldom is not in it, and would be denied
    it's
    "$(id)": a
    b
    "#);
    answer
        .suggestions
        .retain(|one| one.missing == 0 && one.notes.is_empty());
    answer.missing = 0;
    answer.notes.clear();
    assert_eq!(
        warnings(&answer, Duration::from_secs(NOW)),
        Vec::<String>::new()
    );
}

#[test]
fn an_override_file_is_of_one_project() {
    let of = |subjects: Vec<Subject>| {
        let suggestions = subjects
            .into_iter()
            .map(|subject| one(subject, Vec::new()))
            .collect();
        let answer = Suggestions {
            suggestions,
            ..Suggestions::default()
        };
        match one_project(&answer) {
            Ok((project, warnings)) => format!("{project} {warnings:?}"),
            Err(failure) => format!("{failure}{}", failure.code as u8),
        }
    };
    let cache = || Subject::Container("cache".to_owned());
    insta::assert_snapshot!(of(vec![service("a", "x"), service("a", "y")]), @"a []");
    insta::assert_snapshot!(of(vec![service("a", "x"), cache()]), @r#"a ["no compose file has cache, so they are left out: --format labels or policy has them"]"#);
    insta::assert_snapshot!(of(vec![service("a", "x"), service("b", "x")]), @r"
    dfw: error: a, b are several projects, and a compose file is of one
    hint: select one, as in `dfw suggest project:a`, or ask for --format policy
    2
    ");
    insta::assert_snapshot!(of(vec![cache()]), @r"
    dfw: error: cache is of no compose project
    hint: ask for --format labels, or for --format policy
    2
    ");
}
