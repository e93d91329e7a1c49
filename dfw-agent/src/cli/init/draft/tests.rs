use std::sync::Arc;

use super::*;
use crate::{
    model::{Attachment, LABEL_PROJECT, LABEL_SERVICE, Network},
    policy::NodePolicy,
};

/// A container of an image on one network, with labels and published ports.
fn container(
    survey: &mut Survey,
    name: &str,
    image: &str,
    labels: &[(&str, &str)],
    ports: &[(&str, u16)],
) {
    let labels = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let ports = ports.iter().map(|(host, port)| Published {
        host_ip: host.parse().expect("an address"),
        host_port: 8000 + port,
        container_port: *port,
        protocol: 6,
    });
    survey.images.insert(name.to_owned(), image.to_owned());
    survey.snapshot.containers.push(Arc::new(Container {
        id: name.to_owned(),
        name: name.to_owned(),
        labels: labels.collect(),
        attachments: vec![Attachment {
            network: "n".to_owned(),
            ..Attachment::default()
        }],
        published: ports.collect(),
        ..Container::default()
    }));
}

fn survey() -> Survey {
    let mut survey = Survey::default();
    survey.snapshot.networks.push(Network {
        id: "n".to_owned(),
        name: "shop_default".to_owned(),
        project: None,
        short_name: None,
        filtered: false,
        bridge: String::new(),
        subnets: Vec::new(),
    });
    survey
}

fn of<'a>(project: &'a str, service: &'a str) -> [(&'a str, &'a str); 2] {
    [(LABEL_PROJECT, project), (LABEL_SERVICE, service)]
}

#[test]
fn a_shop() {
    let mut survey = survey();
    let all = ("0.0.0.0", 80);
    container(
        &mut survey,
        "shop-web-1",
        "nginx:1.27",
        &of("shop", "web"),
        &[all, ("::", 80)],
    );
    container(
        &mut survey,
        "shop-db-1",
        "postgres",
        &of("shop", "db"),
        &[("127.0.0.1", 5432)],
    );
    container(&mut survey, "shop-db-2", "postgres", &of("shop", "db"), &[]);
    container(
        &mut survey,
        "shop-api-1",
        "shop-api",
        &of("shop", "api"),
        &[],
    );
    container(&mut survey, "cache", "redis:7", &[], &[]);
    let own = [of("shop", "mail").as_slice(), &[("dfw.ingress", "")]].concat();
    container(&mut survey, "shop-mail-1", "postfix", &own, &[]);
    let proposals = proposals(&survey, "dfw.");
    let text = policy(&proposals, true);
    let draft = text
        .strip_prefix(HEAD)
        .and_then(|text| text.strip_prefix(DRAFT));
    insta::assert_snapshot!(draft.expect("a draft"), @r#"
    # redis:7
    [[rules]]
    for = "container:cache"
    mode = "audit"
    preset = "redis"
    from = "net:shop_default"

    # postgres
    [[rules]]
    for = "service:shop/db"
    mode = "audit"
    preset = "postgresql"
    from = "project:shop"
    ingress = "tcp/5432 from host"

    # nginx:1.27
    [[rules]]
    for = "service:shop/web"
    mode = "audit"
    preset = "http,https"
    from = "project:shop"
    ingress = "tcp/80 from world,host"
    "#);
    let file = NodePolicy::parse("policy.toml", &text).expect("right");
    assert_eq!(file.len(), 5);

    let asleep = policy(&proposals, false);
    let file = NodePolicy::parse("policy.toml", &asleep).expect("right");
    assert!(file.is_empty());
    let woken = asleep.lines().map(|line| {
        let rest = line.strip_prefix('#');
        rest.filter(|rest| !rest.starts_with(' ')).unwrap_or(line)
    });
    assert_eq!(woken.collect::<Vec<_>>(), text.lines().collect::<Vec<_>>());
}

#[test]
fn what_becomes_of_whom() {
    let mut survey = survey();
    for labels in [
        &[][..],
        &[("dfw.group", "a")],
        &[("dfw.egress.x", "")],
        &[("dfw.mode", "audit"), ("dfw.ingress", "")],
        &[("dfw.mode", "nonsense")],
        &[("fw.mode", "enforce")],
    ] {
        container(&mut survey, "c", "i", labels, &[]);
    }
    let stances = survey.snapshot.containers.iter();
    let stances: Vec<Stance> = stances.map(|one| stance(one, "dfw.")).collect();
    let enforce = Stance::Labelled(Mode::Enforce);
    let audit = Stance::Labelled(Mode::Audit);
    assert_eq!(
        stances,
        [
            Stance::Open,
            Stance::Open,
            enforce,
            audit,
            enforce,
            Stance::Open
        ]
    );
    let away = Container::default();
    assert_eq!(stance(&away, "dfw."), Stance::Beyond);
}

/// Whoever starts a container chooses its labels, and an engine may call it anything.
#[test]
fn hostile_names_forge_nothing() {
    let wild = [
        "\"\n[[rules]]\nfor = \"any",
        "a b",
        "any",
        "x,y",
        "\u{202e}",
        "é",
        "",
    ];
    let mut survey = survey();
    for word in wild {
        container(
            &mut survey,
            word,
            &format!("{word}/redis"),
            &of(word, word),
            &[("0.0.0.0", 1)],
        );
        container(&mut survey, word, "redis", &[], &[("0.0.0.0", 1)]);
        survey.snapshot.networks[0].name = word.to_owned();
        let proposals = proposals(&survey, "dfw.");
        let file = NodePolicy::parse("policy.toml", &policy(&proposals, true));
        let file = file.unwrap_or_else(|mistakes| panic!("{word:?}: {mistakes:#?}"));
        assert!(file.len() <= 4 * survey.snapshot.containers.len());
        assert!(!proposals.contains_key("any"));
    }
}
