use std::os::unix::fs::symlink;

use super::*;
use crate::policy::NodePolicy;

fn place<'a>(
    directory: &'a Path,
    configuration: Option<&'a str>,
    existing: &'a Settings,
    wanted: &'a Settings,
) -> Place<'a> {
    Place {
        directory,
        configuration,
        existing,
        wanted,
        binary: Path::new("/usr/local/bin/dfw"),
    }
}

/// The lines that differ from what is shipped.
fn changed(text: &str, shipped: &str) -> Vec<String> {
    let shipped: Vec<&str> = shipped.lines().collect();
    let lines = text.lines().filter(|line| !shipped.contains(line));
    lines.map(str::to_owned).collect()
}

#[test]
fn the_usual_place_takes_the_shipped_files_as_they_are() {
    let none = Settings::default();
    let place = place(Path::new("/etc/dfw"), None, &none, &none);
    assert_eq!(place.compose().text, COMPOSE);
    assert_eq!(
        changed(&place.unit().text, UNIT),
        [
            "ExecStart=/usr/local/bin/dfw run",
            "ExecReload=/usr/local/bin/dfw reload"
        ]
    );
    for way in [Way::Unit, Way::Compose, Way::None] {
        let file = place.configuration(way).expect("it has to name the policy");
        assert_eq!(file.path, Path::new("/etc/dfw/dfw.toml"));
        assert_eq!(
            changed(&file.text, CONFIGURATION),
            [r#"policy = "/etc/dfw/policy.toml""#],
            "{way:?}"
        );
        assert_eq!(file.text.lines().count(), CONFIGURATION.lines().count());
    }
}

#[test]
fn another_place_and_engine_are_named_where_each_way_looks() {
    let none = Settings::default();
    let wanted = Settings {
        docker_host: Some("unix:///run/other.sock".to_owned()),
        label_prefix: Some("fw.".to_owned()),
        ..Settings::default()
    };
    let place = place(Path::new("/srv/dfw"), None, &none, &wanted);
    let unit = changed(&place.unit().text, UNIT);
    assert_eq!(
        unit[0],
        "ExecStart=/usr/local/bin/dfw run --config /srv/dfw/dfw.toml"
    );
    let mounts: Vec<String> = changed(&place.compose().text, COMPOSE);
    assert_eq!(
        mounts,
        [
            "      - /srv/dfw:/etc/dfw:ro",
            "      - /run/other.sock:/var/run/docker.sock"
        ]
    );
    let said = |way| {
        let file = place.configuration(way).expect("new");
        changed(&file.text, CONFIGURATION)
    };
    let host = r#"docker-host = "unix:///run/other.sock""#;
    let prefix = r#"label-prefix = "fw.""#;
    assert_eq!(
        said(Way::Unit),
        [r#"policy = "/srv/dfw/policy.toml""#, host, prefix]
    );
    assert_eq!(
        said(Way::Compose),
        [r#"policy = "/etc/dfw/policy.toml""#, prefix]
    );
}

/// Each means something else to systemd or to YAML.
#[test]
fn a_path_that_cannot_stand_in_a_unit_or_compose_file_is_told() {
    let none = Settings::default();
    let unwritable = |directory: &str, wanted: &Settings, way| {
        let place = place(Path::new(directory), None, &none, wanted);
        place.unwritable(way).map(Path::to_path_buf)
    };
    for bad in [
        "/srv/my dfw",
        "/srv/50%i",
        "/srv/$HOME",
        "/srv/a: b",
        "/srv/a:b",
        "/srv/a #b",
        "/srv/\"x",
        "/srv/a\nUser=x",
    ] {
        for way in [Way::Unit, Way::Compose] {
            assert_eq!(unwritable(bad, &none, way), Some(bad.into()), "{way:?}");
        }
        assert_eq!(unwritable(bad, &none, Way::None), None);
    }
    let other = Settings {
        docker_host: Some("unix:///run/$x.sock".to_owned()),
        ..Settings::default()
    };
    assert_eq!(
        unwritable("/etc/dfw", &other, Way::Compose),
        Some("/run/$x.sock".into())
    );
    for way in [Way::Unit, Way::Compose] {
        assert_eq!(unwritable("/srv/dfw-0.1_a+b@c", &none, way), None);
    }
}

#[test]
fn a_configuration_that_is_there_only_gets_the_lines_that_it_lacks() {
    let none = Settings::default();
    let text = "unlabelled = \"audit\"\n# mine";
    let directory = Path::new("/etc/dfw");
    let file = place(directory, Some(text), &none, &none).configuration(Way::Unit);
    let file = file.expect("it names no policy");
    let line = r#"policy = "/etc/dfw/policy.toml""#;
    assert_eq!(file.text, format!("{text}\n{line}\n"));
    assert_eq!(file.added, [line]);
    let existing = Settings {
        policy: Some("/etc/dfw/policy.toml".into()),
        ..Settings::default()
    };
    let place = place(directory, Some(text), &existing, &none);
    assert_eq!(place.configuration(Way::Unit), None);
}

#[test]
fn what_is_there_stays_and_nothing_half_written_is_left() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join("etc").join(name);
    let file = |name: &str, text: &str| File {
        path: at(name),
        text: text.to_owned(),
        added: Vec::new(),
    };
    let names = || -> Vec<String> {
        let entries = fs::read_dir(directory.path().join("etc")).expect("there");
        let mut names: Vec<String> = entries
            .map(|entry| {
                entry
                    .expect("there")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort();
        names
    };
    let files = [file("a", "1"), file("b", "1")];
    assert_eq!(taken(&files), None);
    write(&files, false).expect("written");
    assert_eq!(names(), ["a", "b"]);
    let mode = fs::metadata(at("a")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);

    // What came meanwhile stays.
    let again = [file("c", "2"), file("b", "2")];
    assert_eq!(taken(&again), Some(&again[1]));
    let failure = write(&again, false).expect_err("b is there");
    assert!(failure.message.contains("exists"), "{failure}");
    assert_eq!(fs::read_to_string(at("b")).expect("there"), "1");
    assert_eq!(names(), ["a", "b", "c"]);
    write(&again, true).expect("over it");
    assert_eq!(fs::read_to_string(at("b")).expect("there"), "2");

    // A link is a file that is there, wherever it leads.
    symlink("/nonexistent", at("d")).expect("a link");
    let link = [file("d", "2")];
    assert_eq!(taken(&link), Some(&link[0]));
    assert!(write(&link, false).is_err());

    // Lines are added under the permissions that the file has.
    fs::set_permissions(at("a"), fs::Permissions::from_mode(0o600)).expect("mine");
    let added = File {
        added: vec!["x".to_owned()],
        ..file("a", "1x")
    };
    assert_eq!(taken(std::slice::from_ref(&added)), None);
    write(&[added], false).expect("added");
    let mode = fs::metadata(at("a")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_policy_file_that_it_writes_is_right() {
    let text = super::super::draft::policy(&std::collections::BTreeMap::new(), true);
    let policy = NodePolicy::parse(POLICY, &text).expect("right");
    assert!(policy.is_empty());
    assert!(policy.unlabelled.is_some());
}
