//! The text.

use std::fmt::Write as _;

use dfw_tests::cost::{Cost, Packet};

use super::{aims::COMPARISONS, marked, plot::Plot, ratios::Of};
use crate::{
    contenders::{DOCKER, PLAIN},
    results::{Description, Results},
    rounds::TRIALS,
    statistics::Estimate,
};

/// What the short table is of.
const SHORT: [&str; 4] = ["rr", "crr", "udp", "bulk"];

/// Lines of a table.
fn row(text: &mut String, cells: &[String]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}

fn head(text: &mut String, cells: &[&str]) {
    let cells: Vec<_> = cells.iter().map(|cell| (*cell).to_owned()).collect();
    row(text, &cells);
    let _ = writeln!(text, "|{}", "---|".repeat(cells.len()));
}

/// Everybody over the plain bridge, with the date.
pub(crate) fn short(results: &Results) -> String {
    let mut text = String::new();
    head(
        &mut text,
        &["over a plain bridge", "RR", "CRR", "small UDP", "bulk TCP"],
    );
    for contender in &results.contenders {
        let cells = SHORT.map(|trial| {
            let ratio = results.ratio(trial, &contender.id, PLAIN, Of::Rate);
            ratio.map(|ratio| format!("{:.2}", ratio.median))
        });
        if contender.id != PLAIN && cells.iter().all(Option::is_some) {
            let cells = cells.into_iter().flatten();
            let cells: Vec<_> = [contender.title.clone()].into_iter().chain(cells).collect();
            row(&mut text, &cells);
        }
    }
    let Settings {
        date,
        kernel,
        pairs,
    } = Settings::of(results);
    let _ = writeln!(
        text,
        "\nMedian ratio of {pairs} pairs, {date} UTC, Linux {kernel}, both ends on one processor."
    );
    text
}

struct Settings<'a> {
    date: &'a str,
    kernel: &'a str,
    pairs: u32,
}

impl<'a> Settings<'a> {
    fn of(results: &'a Results) -> Self {
        let settings = &results.settings;
        Self {
            date: &settings.date,
            kernel: settings.versions.get("kernel").map_or("", String::as_str),
            pairs: settings.pairs,
        }
    }
}

/// All of it.
pub(crate) fn report(results: &Results, cost: &Cost, short: &str, plots: &[Plot]) -> String {
    let mut text = String::from(
        "# Performance\n\n\
         Written by `cargo xtask bench --full`, together with the raw data in target/bench. Do not edit: run it again.\n\n",
    );
    let _ = writeln!(text, "{}\n", marked(short));
    method(&mut text, results);
    contenders(&mut text, &results.contenders);
    comparisons(&mut text, results);
    for trial in TRIALS {
        let Some(base) = results.base(trial.name) else {
            continue;
        };
        let _ = writeln!(text, "## {}\n", capital(trial.title));
        for plot in plots.iter().filter(|plot| plot.about == trial.name) {
            let _ = writeln!(text, "![{}]({})\n", plot.title, plot.file);
        }
        of_trial(&mut text, results, base, trial.name, trial.unit);
    }
    packets(&mut text, cost, plots);
    figures(&mut text, cost);
    text
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

fn method(text: &mut String, results: &Results) {
    let settings = &results.settings;
    let _ = writeln!(text, "## How it was measured\n");
    for (name, version) in &settings.versions {
        let _ = writeln!(text, "- {name}: {version}");
    }
    let _ = writeln!(
        text,
        "- {} UTC, {} rounds, {} ms each measurement\n\n\
         Client and server are processes pinned to processor {}; agents and engines run on the others. Everybody has a host of its own\n\
         (a network namespace with a bridge, or with an uplink), all of them there from the beginning to the end. In each round everybody is measured once in\n\
         each trial, one after the other; each second round goes backwards, and each pair of rounds begins with somebody else. A ratio\n\
         is the median over the rounds, with its 95 % interval by order statistics. The null pair is a plain bridge against another plain\n\
         bridge, and an uplink without a filter against another one: ratios that are nearer to 1 than its interval reaches, or whose own interval has 1 in it, are called equal. The rules\n\
         of everybody who has some must have counted the packets of the round, or the run is void. `bpf_stats_enabled` is off. There are two\n\
         baselines: the plain bridge, and Docker's default, which is what most hosts run. At uplinks there is one: no filter.\n",
        settings.date, settings.pairs, settings.slice_ms, settings.cpu
    );
}

fn contenders(text: &mut String, contenders: &[Description]) {
    head(text, &["who", "what it is"]);
    for contender in contenders {
        row(text, &[contender.title.clone(), contender.made.clone()]);
    }
    text.push('\n');
}

/// Against whom, and whether it is what was aimed at.
fn comparisons(text: &mut String, results: &Results) {
    let _ = writeln!(text, "## Against what was aimed at\n");
    head(
        text,
        &["who", "against", "what", "ratio", "95 %", "aim", ""],
    );
    for comparison in COMPARISONS {
        let &super::aims::Comparison {
            of,
            trial,
            id,
            to,
            aim,
        } = comparison;
        let Some(ratio) = results.ratio(trial, id, to, of) else {
            continue;
        };
        let what = match of {
            Of::Rate => trial.to_owned(),
            Of::Median => format!("{trial}, median latency"),
            Of::P99 => format!("{trial}, p99 latency"),
        };
        let outcome = match aim {
            None => "reported, no aim",
            Some(aim) if aim.is_met(ratio.median) => "met",
            Some(_) if ratio.is_equal(&results.null(trial, of)) => "missed: equal",
            Some(_) => "missed",
        };
        row(
            text,
            &[
                results.title(id).to_owned(),
                results.title(to).to_owned(),
                what,
                format!("{:.2}", ratio.median),
                interval(&ratio),
                aim.map_or(String::new(), |aim| aim.to_string()),
                outcome.to_owned(),
            ],
        );
    }
    text.push('\n');
}

fn interval(estimate: &Estimate) -> String {
    format!("{:.2}–{:.2}", estimate.low, estimate.high)
}

fn of_trial(text: &mut String, results: &Results, base: &str, trial: &str, unit: &str) {
    let has_times = results.absolute(trial, base, Of::P99).is_some();
    let over = format!("over {}", results.title(base));
    let mut columns = vec!["who", unit, over.as_str(), "95 %", ""];
    if has_times {
        columns.extend(["median µs", "p99 µs", "p99 over it"]);
    }
    head(text, &columns);
    let null = results.null(trial, Of::Rate);
    for contender in &results.contenders {
        let id = &contender.id;
        let (Some(rate), Some(ratio)) = (
            results.absolute(trial, id, Of::Rate),
            results.ratio(trial, id, base, Of::Rate),
        ) else {
            continue;
        };
        let mut cells = vec![contender.title.clone(), thousands(rate.median)];
        if id == base {
            cells.extend([String::new(), String::new(), String::new()]);
        } else {
            let word = if ratio.is_equal(&null) { "equal" } else { "" };
            cells.extend([
                format!("{:.3}", ratio.median),
                interval3(&ratio),
                word.to_owned(),
            ]);
        }
        for of in [Of::Median, Of::P99] {
            let time = results.absolute(trial, id, of);
            cells.extend(time.map(|time| format!("{:.1}", time.median / 1000.0)));
        }
        if has_times {
            let ratio = results.ratio(trial, id, base, Of::P99);
            cells.extend(ratio.map(|ratio| format!("{:.2}", ratio.median)));
        }
        row(text, &cells);
    }
    text.push('\n');
}

fn interval3(estimate: &Estimate) -> String {
    format!("{:.3}–{:.3}", estimate.low, estimate.high)
}

/// With blanks between groups of three digits.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn packets(text: &mut String, cost: &Cost, plots: &[Plot]) {
    let _ = writeln!(
        text,
        "## Nanoseconds a packet\n\n\
         By BPF_PROG_TEST_RUN, the median over an empty program; `null` is an empty program over an empty program, `least` the calmest round.\n\
         Where each packet meets another flow, caches are as cold as the system call between two test runs leaves them.\n"
    );
    for plot in plots.iter().filter(|plot| plot.about == "packets") {
        let _ = writeln!(text, "![{}]({})\n", plot.title, plot.file);
    }
    head(
        text,
        &[
            "path",
            "family",
            "rules",
            "endpoints",
            "flows",
            "ns",
            "least",
            "null",
            "aim",
            "",
        ],
    );
    for packet in &cost.packets {
        let Packet {
            what,
            family,
            rules,
            endpoints,
            flows,
            median,
            least,
            null,
            aim,
            ..
        } = packet;
        let verdict = aim.map(|aim| if *median <= aim { "met" } else { "missed" });
        row(
            text,
            &[
                what.clone(),
                family.clone(),
                rules.to_string(),
                endpoints.to_string(),
                flows.to_string(),
                format!("{median:.0}"),
                format!("{least:.0}"),
                format!("{null:.0}"),
                aim.map_or(String::new(), |aim| format!("≤ {aim}")),
                verdict.unwrap_or_default().to_owned(),
            ],
        );
    }
    text.push('\n');
}

fn figures(text: &mut String, cost: &Cost) {
    let _ = writeln!(text, "## Changes, memory, processor\n");
    head(text, &["what", "", "", "aim", ""]);
    for figure in &cost.figures {
        let verdict = figure.aim.map(|aim| {
            if aim.is_met(figure.value) {
                "met"
            } else {
                "missed"
            }
        });
        row(
            text,
            &[
                figure.what.clone(),
                format!("{:.2}", figure.value),
                figure.unit.clone(),
                figure.aim.map_or(String::new(), |aim| aim.to_string()),
                verdict.unwrap_or_default().to_owned(),
            ],
        );
    }
    let _ = writeln!(
        text,
        "\n`{DOCKER}`, `{PLAIN}` and the other short names are those of the raw data."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped() {
        assert_eq!(
            [7.0, 999.4, 1000.0, 1_234_567.0].map(thousands),
            ["7", "999", "1 000", "1 234 567"]
        );
    }
}
