//! The programs do not grow unnoticed: what the verifier walks through and what the processor runs, against a baseline.
//!
//! Nanoseconds are measured by `cargo xtask bench` and gate nothing; these two numbers are the same on every run. They depend
//! on kernel and processor, so each of those has a baseline of its own; where there is none the test says so and ends.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path};

use aya::programs::{ProgramError, ProgramInfo};
use dfw_agent::datapath::load::{self, Options, Pins, classifier, program, xdp};
use dfw_tests::scratch::Scratch;

/// How much a program may grow, in hundredths of the baseline.
const GROWTH: u32 = 10;
const BASELINE: &str = "sizes.txt";
const REMEDY: &str = "if it is worth it, change the baseline by `cargo xtask bench --baseline` and say in the commit why";

/// Verified instructions, bytes of machine code.
type Sizes = BTreeMap<String, [u32; 2]>;

fn measured() -> Sizes {
    let scratch = Scratch::new();
    let pins = Pins::new(&scratch.bpffs());
    // As the agent loads it by default.
    let options = Options {
        fast_path: true,
        ..Options::default()
    };
    let mut object = load::load(&pins, options).expect("the object loads");
    let mut sizes = Sizes::new();
    for name in program::CLASSIFIERS {
        let program = classifier(&mut object, name).expect("it is there");
        sizes.insert(name.to_owned(), size(program.info()));
    }
    let uplink = xdp(&mut object).expect("it is there");
    sizes.insert(program::UPLINK.to_owned(), size(uplink.info()));
    sizes
}

fn size(info: Result<ProgramInfo, ProgramError>) -> [u32; 2] {
    let info = info.expect("it is loaded");
    let verified = info.verified_instruction_count();
    [
        verified.expect("kernels with TCX tell it"),
        info.size_jitted(),
    ]
}

/// Whose baseline it is: `x86_64 6.18`.
fn machine() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("proc(5)");
    let version: Vec<&str> = release.trim().splitn(3, '.').take(2).collect();
    format!("{} {}", env::consts::ARCH, version.join("."))
}

/// Sections of `[machine]`, and lines `program verified machine-code` in them.
fn parse(text: &str) -> BTreeMap<String, Sizes> {
    let mut sections: BTreeMap<String, Sizes> = BTreeMap::new();
    let mut section = String::new();
    for line in text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, verified, machine_code] = words[..] else {
            panic!("{BASELINE}: `{line}` is not three words");
        };
        let sizes = [verified, machine_code].map(|word| word.parse().expect("a number"));
        let own = sections.entry(section.clone()).or_default();
        own.insert(name.to_owned(), sizes);
    }
    sections
}

fn write(sections: &BTreeMap<String, Sizes>) -> String {
    let mut text = String::from(
        "# Program, verified instructions, bytes of machine code: see sizes.rs. Written by `cargo xtask bench --baseline`.\n",
    );
    for (machine, sizes) in sections {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n[{machine}]");
        for (name, [verified, machine_code]) in sizes {
            let _ = writeln!(text, "{name} {verified} {machine_code}");
        }
    }
    text
}

/// What has grown too much, and programs that one has and the other has not.
fn differences(baseline: &Sizes, now: &Sizes) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, sizes) in now {
        let Some(before) = baseline.get(name) else {
            wrong.push(format!("{name} is not in the baseline"));
            continue;
        };
        for ((what, now), before) in ["verified instructions", "bytes of machine code"]
            .iter()
            .zip(sizes)
            .zip(before)
        {
            if u64::from(*now) * 100 > u64::from(*before) * u64::from(100 + GROWTH) {
                wrong.push(format!(
                    "{name}: {now} {what}, {before} in the baseline: more than {GROWTH} % over it"
                ));
            }
        }
    }
    let gone = baseline.keys().filter(|name| !now.contains_key(*name));
    wrong.extend(gone.map(|name| format!("{name} is in the baseline and no more in the object")));
    wrong
}

#[test]
fn programs_do_not_grow_unnoticed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(BASELINE);
    let text = fs::read_to_string(&path).unwrap_or_default();
    let mut sections = parse(&text);
    let (machine, now) = (machine(), measured());
    if env::var_os("DFW_BASELINE").is_some() {
        sections.insert(machine, now);
        fs::write(&path, write(&sections)).expect("the sources can be written");
        return;
    }
    let Some(baseline) = sections.get(&machine) else {
        println!(
            "no baseline for {machine}: nothing is compared; `cargo xtask bench --baseline` writes one"
        );
        return;
    };
    let wrong = differences(baseline, &now);
    assert!(wrong.is_empty(), "{}\n{REMEDY}", wrong.join("\n"));
}

#[test]
fn growth_is_told() {
    let sizes = |verified, machine_code| Sizes::from([("p".to_owned(), [verified, machine_code])]);
    let baseline = sizes(1000, 500);
    for fine in [sizes(1100, 550), sizes(10, 10)] {
        assert_eq!(differences(&baseline, &fine), Vec::<String>::new());
    }
    assert_eq!(
        differences(&baseline, &sizes(1101, 500)),
        ["p: 1101 verified instructions, 1000 in the baseline: more than 10 % over it"]
    );
    assert_eq!(differences(&baseline, &sizes(1000, 551)).len(), 1);
    assert_eq!(
        differences(&baseline, &Sizes::new()),
        ["p is in the baseline and no more in the object"]
    );
    assert_eq!(
        differences(&Sizes::new(), &baseline),
        ["p is not in the baseline"]
    );
}

#[test]
fn a_baseline_is_read_as_it_was_written() {
    let sections = BTreeMap::from([
        (
            "x86_64 6.18".to_owned(),
            Sizes::from([("p".to_owned(), [1, 2]), ("q".to_owned(), [3, 4])]),
        ),
        (
            "aarch64 6.6".to_owned(),
            Sizes::from([("p".to_owned(), [5, 6])]),
        ),
    ]);
    assert_eq!(parse(&write(&sections)), sections);
}
