//! The harness that compares dfw with others works: its figures are `cargo xtask bench`'s.

use std::{collections::BTreeSet, fs, process::Command};

use dfw_tests::{cost::Cost, process, scratch::Scratch};
use serde_json::Value;

#[test]
fn a_short_run_measures_everybody_and_reports() {
    let scratch = Scratch::new();
    let (traffic, cost) = (
        scratch.path().join("traffic.json"),
        scratch.path().join("cost.json"),
    );
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["traffic", "--pairs", "1", "--slice", "20", "--few", "--out"]);
    process::run(
        bench
            .arg(&traffic)
            .env("DFW_BIN", dfw_tests::agent::binary()),
    );

    let text = fs::read_to_string(&traffic).expect("it was written");
    let results: Value = serde_json::from_str(&text).expect("JSON");
    let slices = results["slices"].as_array().expect("a list");
    let names = |key: &str| -> BTreeSet<&str> {
        slices
            .iter()
            .filter_map(|slice| slice[key].as_str())
            .collect()
    };
    for id in [
        "plain",
        "null",
        "docker",
        "whalewall-containers",
        "iptables-10k",
        "dfw",
        "drop-dfw",
        "uplink-null",
        "uplink-nft",
        "uplink-dfw-native",
        "uplink-dfw-generic",
    ] {
        assert!(names("id").contains(id), "{id}: {:?}", names("id"));
    }
    assert_eq!(names("trial").len(), 12, "{:?}", names("trial"));
    for slice in slices {
        assert!(
            slice["rate"].as_f64().is_some_and(|rate| rate > 0.0),
            "{slice}"
        );
    }

    fs::write(
        &cost,
        serde_json::to_string(&Cost::default()).expect("plain values"),
    )
    .expect("ours");
    let out = scratch.path().join("docs");
    let readme = scratch.file("README.md", "<!-- figures -->\n<!-- end of figures -->\n");
    let mut report = Command::new(env!("CARGO_BIN_EXE_bench"));
    report
        .arg("report")
        .arg("--traffic")
        .arg(&traffic)
        .arg("--cost")
        .arg(&cost);
    process::run(report.arg("--out").arg(&out).arg("--readme").arg(&readme));
    let text = fs::read_to_string(out.join("performance.md")).expect("it was written");
    for said in [
        "emulation",
        "null pair",
        "br_netfilter",
        "Linux ",
        "reported, no aim",
    ] {
        assert!(text.contains(said), "{said}: not in\n{text}");
    }
    let plots = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    for plot in plots.filter(|target| target.ends_with(".svg")) {
        let svg = fs::read_to_string(out.join(plot)).expect(plot);
        assert!(svg.starts_with("<svg") && svg.contains("dfw"), "{plot}");
    }
    assert!(
        fs::read_to_string(readme)
            .expect("ours")
            .contains("| dfw |")
    );
}
