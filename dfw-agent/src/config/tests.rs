use super::*;

fn parse(text: &str) -> Result<Settings, ConfigError> {
    Settings::parse(text, Path::new("dfw.toml"))
}

#[test]
fn defaults() {
    let config = Settings::default()
        .resolve()
        .expect("the defaults are valid");
    insta::assert_debug_snapshot!(config, @r#"
    Config {
        origin: Docker {
            host: "unix:///var/run/docker.sock",
        },
        unlabelled: None,
        policy: None,
        label_prefix: "dfw.",
        listen: 127.0.0.1:10339,
        socket: "/run/dfw/dfw.sock",
        bpffs: "/sys/fs/bpf/dfw",
        fast_path: On,
        log_format: Text,
        log_level: Info,
    }
    "#);
}

#[test]
fn every_key_of_the_file() {
    let file = parse(
        r#"
        docker-host = "tcp://127.0.0.1:2375"
        inventory = "/etc/dfw/inventory.toml"
        unlabelled = "enforce"
        policy = "/etc/dfw/policy.toml"
        label-prefix = "com.example.fw."
        listen = "[::1]:1"
        socket = "/run/a.sock"
        bpffs = "/sys/fs/bpf/a"
        fast-path = "off"
        log-format = "json"
        log-level = "debug"
        "#,
    )
    .expect("valid");
    insta::assert_debug_snapshot!(file.resolve().expect("valid"), @r#"
    Config {
        origin: Inventory {
            file: "/etc/dfw/inventory.toml",
        },
        unlabelled: Some(
            Enforce,
        ),
        policy: Some(
            "/etc/dfw/policy.toml",
        ),
        label_prefix: "com.example.fw.",
        listen: [::1]:1,
        socket: "/run/a.sock",
        bpffs: "/sys/fs/bpf/a",
        fast_path: Off,
        log_format: Json,
        log_level: Debug,
    }
    "#);
}

#[test]
fn the_upper_layer_wins_key_by_key() {
    let above = parse("unlabelled = \"off\"\nsocket = \"/above\"").expect("valid");
    let below = parse("unlabelled = \"enforce\"\nbpffs = \"/below\"").expect("valid");
    let merged = above.over(below);
    assert_eq!(merged.unlabelled, Some(Unlabelled::Off));
    assert_eq!(merged.socket, Some("/above".into()));
    assert_eq!(merged.bpffs, Some("/below".into()));
    assert_eq!(merged.listen, None);
}

#[test]
fn mistakes_name_their_place() {
    let message = |text: &str| parse(text).expect_err("invalid").to_string();
    insta::assert_snapshot!(message("unlabelled = \"audit\"\nunlabeled = \"off\""), @"dfw.toml:2:1: unknown field `unlabeled`, expected one of `docker-host`, `inventory`, `unlabelled`, `policy`, `label-prefix`, `listen`, `socket`, `bpffs`, `fast-path`, `log-format`, `log-level`");
    insta::assert_snapshot!(message("unlabelled = \"maybe\""), @"dfw.toml:1:14: unknown variant `maybe`, expected one of `audit`, `enforce`, `off`");
    insta::assert_snapshot!(message("listen = \"10339\""), @"dfw.toml:1:10: invalid socket address syntax");
    insta::assert_snapshot!(message("= 1"), @"dfw.toml:1:1: unquoted keys cannot be empty, expected letters, numbers, `-`, `_`");
}

#[test]
fn what_may_not_be() {
    let listen = |address: &str| {
        let listen = Some(address.parse().expect("address"));
        Settings {
            listen,
            ..Settings::default()
        }
        .resolve()
        .map(|config| config.listen)
    };
    for good in [
        "127.0.0.1:0",
        "127.8.9.1:1",
        "[::1]:1",
        "[::ffff:127.0.0.1]:1",
    ] {
        assert!(listen(good).is_ok(), "{good}");
    }
    for bad in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
        assert!(
            matches!(listen(bad), Err(ConfigError::NotLoopback(_))),
            "{bad}"
        );
    }
    for good in ["dfw.", "com.example.dfw.", "a-b_c."] {
        assert!(label_prefix(Some(good.to_owned())).is_ok(), "{good}");
    }
    for bad in ["", ".", "dfw", "..", "a..b.", "a b.", "dfw=."] {
        assert!(label_prefix(Some(bad.to_owned())).is_err(), "{bad}");
    }
}

#[test]
fn an_empty_docker_host_is_none() {
    let settings = Settings {
        docker_host: Some(String::new()),
        ..Settings::default()
    };
    let origin = settings.resolve().expect("valid").origin;
    assert_eq!(
        origin,
        Origin::Docker {
            host: DEFAULT_DOCKER_HOST.to_owned()
        }
    );
}
