use std::{
    io::Write,
    process::{Command, Stdio},
};

use dfw_common::reason::{Direction, Reason, Verdict};

use super::*;
use crate::{
    model::{EndpointView, Finding, Level, Unprotected, UnprotectedView},
    telemetry::kernel::{EndpointCounter, KernelFigures, MapFill, ReasonCounter, tests::Fixed},
};

const HOSTILE: &str = "we\"b\\\n} 1\ndfw_forged 1\r\u{1b}[31m\u{2028}";

fn endpoint(ifindex: u32, project: &str, service: &str) -> EndpointView {
    EndpointView {
        container: format!("{project}-{service}-1"),
        id: String::new(),
        project: project.to_owned(),
        service: service.to_owned(),
        network: "shop".to_owned(),
        interface: String::new(),
        ifindex,
        addresses: Vec::new(),
        mac: String::new(),
        mode: "enforce".to_owned(),
        governed: true,
        state: "ready".to_owned(),
        rules: Vec::new(),
        ..EndpointView::default()
    }
}

fn view() -> View {
    let finding = |level, label: &str| Finding {
        level,
        code: "bad-rule".to_owned(),
        subject: "web".to_owned(),
        label: label.to_owned(),
        message: String::new(),
        text: String::new(),
        span: None,
    };
    View {
        version: "1.2.3".to_owned(),
        connected: true,
        resyncs: 3,
        source_events: 40,
        endpoints: vec![
            endpoint(1, "shop", "web"),
            endpoint(2, "shop", HOSTILE),
            endpoint(3, &"p".repeat(10_000), "db"),
            EndpointView {
                mode: "audit".to_owned(),
                ..endpoint(4, "", "other")
            },
        ],
        unprotected: vec![UnprotectedView {
            container: HOSTILE.to_owned(),
            why: Unprotected::HostNetwork,
        }],
        findings: vec![
            finding(Level::Error, "dfw.ingress"),
            finding(Level::Warning, "dfw.ingress"),
            finding(Level::Error, ""),
        ],
        ..View::default()
    }
}

fn denied(ifindex: u32, packets: u64) -> EndpointCounter {
    let (direction, verdict) = (Direction::Ingress, Verdict::Deny);
    EndpointCounter {
        ifindex,
        direction,
        verdict,
        packets,
    }
}

fn figures(packets: u64) -> KernelFigures {
    KernelFigures {
        counters: vec![ReasonCounter {
            direction: Direction::Ingress,
            verdict: Verdict::Deny,
            reason: Reason::NoRule,
            packets,
            bytes: 100 * packets,
        }],
        endpoints: (1..=4).map(|ifindex| denied(ifindex, packets)).collect(),
        flows: 17,
        maps: vec![MapFill {
            name: "FLOWS",
            entries: 17,
            capacity: 131_072,
        }],
        events: 5,
        events_lost: 1,
    }
}

struct Fixture {
    kernel: Arc<Fixed>,
    view: watch::Sender<Arc<View>>,
    metrics: Metrics,
}

fn fixture() -> Fixture {
    let kernel = Arc::new(Fixed::default());
    kernel.set(Some(figures(7)));
    let (sender, receiver) = watch::channel(Arc::new(view()));
    let metrics = Metrics::new(receiver, kernel.clone());
    Fixture {
        kernel,
        view: sender,
        metrics,
    }
}

fn text(metrics: &Metrics) -> String {
    String::from_utf8(metrics.encode().expect("encoded")).expect("UTF-8")
}

/// The value of the one sample that begins with `series` and a blank.
fn sample(text: &str, series: &str) -> Option<f64> {
    let prefix = format!("{series} ");
    let mut values = text
        .split('\n')
        .filter_map(|line| line.strip_prefix(&prefix));
    let value = values.next().map(|value| value.parse().expect("a number"));
    assert_eq!(values.next(), None, "{series} is there twice");
    value
}

#[test]
fn every_metric_is_there() {
    let Fixture { metrics, .. } = fixture();
    metrics.observe_attach(Duration::from_millis(12));
    metrics.observe_reconcile(Duration::from_millis(30));
    metrics.tamper_repair();
    let text = text(&metrics);
    for (series, value) in [
        (r#"dfw_build_info{version="1.2.3"}"#, 1.0),
        (r#"dfw_endpoints{mode="enforce"}"#, 3.0),
        (r#"dfw_endpoints{mode="audit"}"#, 1.0),
        (r#"dfw_endpoints{mode="off"}"#, 0.0),
        (r#"dfw_unprotected_containers{why="host-network"}"#, 1.0),
        (r#"dfw_unprotected_containers{why="macvlan"}"#, 0.0),
        (
            r#"dfw_packets_total{direction="ingress",verdict="deny",reason="no-rule"}"#,
            7.0,
        ),
        (
            r#"dfw_packets_total{direction="egress",verdict="deny",reason="spoofed-mac"}"#,
            0.0,
        ),
        (
            r#"dfw_packets_total{direction="egress",verdict="allow",reason="reply"}"#,
            0.0,
        ),
        (
            r#"dfw_bytes_total{direction="ingress",verdict="deny",reason="no-rule"}"#,
            700.0,
        ),
        (
            r#"dfw_endpoint_packets_total{project="shop",service="web",direction="ingress",verdict="deny"}"#,
            7.0,
        ),
        ("dfw_flows", 17.0),
        (r#"dfw_map_entries{map="FLOWS"}"#, 17.0),
        (r#"dfw_map_capacity{map="FLOWS"}"#, 131_072.0),
        ("dfw_events_total", 5.0),
        ("dfw_events_lost_total", 1.0),
        ("dfw_docker_connected", 1.0),
        ("dfw_docker_events_total", 40.0),
        ("dfw_docker_resyncs_total", 3.0),
        ("dfw_label_errors", 1.0),
        (r#"dfw_attach_seconds_bucket{le="0.01"}"#, 0.0),
        (r#"dfw_attach_seconds_bucket{le="0.02"}"#, 1.0),
        ("dfw_reconcile_seconds_count", 1.0),
        ("dfw_tamper_repairs_total", 1.0),
    ] {
        assert_eq!(sample(&text, series), Some(value), "{series}\n{text}");
    }
    assert!(text.contains("\nprocess_resident_memory_bytes "), "{text}");
}

#[test]
fn a_verdict_that_cannot_be_has_no_series() {
    let text = text(&fixture().metrics);
    assert!(!text.contains(r#"verdict="allow",reason="no-rule""#));
    assert!(!text.contains(r#"verdict="deny",reason="reply""#));
}

#[test]
fn hostile_names_forge_nothing() {
    let text = text(&fixture().metrics);
    assert!(
        text.split('\n').all(|line| !line.starts_with("dfw_forged")),
        "{text}"
    );
    assert!(
        text.contains(r#"service="we\"b\\\n} 1\ndfw_forged 1"#),
        "{text}"
    );
    assert!(
        text.contains(&format!("project=\"{}\"", "p".repeat(128))),
        "{text}"
    );
    assert!(text.split('\n').all(|line| line.len() < 1000), "{text}");
}

#[test]
fn the_last_packets_of_a_removed_endpoint_count() {
    let Fixture {
        kernel,
        view,
        metrics,
    } = fixture();
    let web = r#"dfw_endpoint_packets_total{project="shop",service="web",direction="ingress",verdict="deny"}"#;
    assert_eq!(sample(&text(&metrics), web), Some(7.0));
    kernel.set(Some(figures(9)));
    metrics.retire(&[1]);
    kernel.set(Some(KernelFigures::default()));
    view.send_replace(Arc::new(View::default()));
    assert_eq!(sample(&text(&metrics), web), Some(9.0));
}

#[test]
fn an_unreadable_kernel_leaves_the_rest() {
    let Fixture {
        kernel, metrics, ..
    } = fixture();
    kernel.set(None);
    let text = text(&metrics);
    assert_eq!(sample(&text, "dfw_docker_connected"), Some(1.0));
    assert_eq!(
        sample(&text, "dfw_flows"),
        None,
        "no figure rather than a wrong one"
    );
}

#[test]
fn promtool_is_content() {
    let Fixture { metrics, .. } = fixture();
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(child) => child,
        Err(error) => {
            assert!(
                std::env::var_os("CI").is_none(),
                "promtool is needed here: {error}"
            );
            eprintln!(
                "SKIPPED: promtool cannot be run ({error}); it is in Debian's package prometheus"
            );
            return;
        }
    };
    let mut stdin = promtool.stdin.take().expect("piped");
    stdin
        .write_all(text(&metrics).as_bytes())
        .expect("read to the end");
    drop(stdin);
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
