//! `dfw ls`.

use std::{
    borrow::Cow,
    io::{self, Write},
    net::IpAddr,
};

use super::{AgentArgs, Error, Format, OutputArgs, table, write_json};
use crate::{
    exit::ExitCode,
    model::{EndpointView, View},
};

/// List every container port that is managed, and what is not protected
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  dfw ls                        endpoints, and what is not protected
  dfw ls -o json | jq '.[] | select(.mode == \"audit\") | .container'")]
pub(super) struct Args {
    #[command(flatten)]
    agent: AgentArgs,

    #[command(flatten)]
    output: OutputArgs,
}

impl Args {
    pub(super) fn perform(self, out: &mut impl Write) -> Result<ExitCode, Error> {
        let (client, _) = self.agent.load()?;
        let view = client.view()?;
        match self.output.output {
            Format::Table => print(out, &view)?,
            Format::Json => write_json(out, &view.endpoints)?,
        }
        Ok(ExitCode::Success)
    }
}

fn print(out: &mut impl Write, view: &View) -> io::Result<()> {
    if view.endpoints.is_empty() {
        writeln!(out, "no endpoints")?;
    } else {
        let header = [
            "ENDPOINT",
            "CONTAINER",
            "NETWORK",
            "INTERFACE",
            "ADDRESSES",
            "MODE",
            "STATE",
            "RULES",
        ];
        table::write(out, header, view.endpoints.iter().map(row))?;
    }
    if view.unprotected.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nNot protected, or less than others:")?;
    let rows = view.unprotected.iter().map(|unprotected| {
        [
            Cow::from(&unprotected.container),
            Cow::from(unprotected.why.name()),
        ]
    });
    table::write(out, ["CONTAINER", "WHY"], rows)
}

fn row(endpoint: &EndpointView) -> [Cow<'_, str>; 8] {
    let addresses: Vec<String> = endpoint
        .addresses
        .iter()
        .filter(|ip| !is_link_local(ip))
        .map(IpAddr::to_string)
        .collect();
    let mode = if endpoint.overridden {
        Cow::from(format!("{} (dfw mode)", endpoint.mode))
    } else if endpoint.governed {
        Cow::from(&endpoint.mode)
    } else {
        Cow::from(format!("{} (unlabelled)", endpoint.mode))
    };
    [
        endpoint.display_name().into(),
        Cow::from(&endpoint.container),
        Cow::from(&endpoint.network),
        Cow::from(&endpoint.interface),
        addresses.join(" ").into(),
        mode,
        Cow::from(&endpoint.state),
        endpoint.rules.len().to_string().into(),
    ]
}

/// Every interface has one, so it tells nobody anything.
fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        cli::findings::tests::{finding, plain},
        model::{Detour, NetworkView, Unprotected, UnprotectedView},
    };

    fn endpoint(service: &str, ifindex: u32) -> EndpointView {
        EndpointView {
            container: format!("shop-{service}-1"),
            id: "0123".to_owned(),
            project: "shop".to_owned(),
            service: service.to_owned(),
            network: "shop_default".to_owned(),
            interface: format!("veth{ifindex:04x}"),
            ifindex,
            addresses: ["172.18.0.2", "fd00::2", "fe80::42:acff:fe12:2"]
                .map(|address| address.parse().expect("address"))
                .to_vec(),
            mac: "02:42:ac:12:00:02".to_owned(),
            mode: "enforce".to_owned(),
            governed: true,
            state: "ready".to_owned(),
            rules: vec!["tcp/5432 from service:api".to_owned()],
            ..EndpointView::default()
        }
    }

    pub(in crate::cli) fn view() -> View {
        View {
            version: "1.2.3".to_owned(),
            source: "docker".to_owned(),
            connected: true,
            synced: true,
            attached: true,
            unlabelled: "audit".to_owned(),
            fast_path: None,
            epoch: 4,
            resyncs: 1,
            source_events: 40,
            error: None,
            endpoints: vec![
                endpoint("db", 7),
                EndpointView {
                    project: String::new(),
                    service: "other".to_owned(),
                    container: "evil\"\n\x1b[31m$(id)".to_owned(),
                    mode: "audit".to_owned(),
                    detour: Some(Detour::Mode),
                    governed: false,
                    rules: Vec::new(),
                    ..endpoint("x", 8)
                },
            ],
            networks: vec![NetworkView {
                name: "shop_default".to_owned(),
                bridge: "br-0123".to_owned(),
                ifindex: 5,
                subnets: vec!["172.18.0.0/16".to_owned()],
                foreign_ports: Vec::new(),
            }],
            host_addresses: Vec::new(),
            unprotected: vec![UnprotectedView {
                container: "node-exporter\r".to_owned(),
                why: Unprotected::HostNetwork,
            }],
            findings: vec![finding()],
            overrides: Vec::new(),
        }
    }

    #[test]
    fn endpoints_and_what_is_not_protected() {
        insta::assert_snapshot!(plain(|out| print(out, &view())), @r#"
        ENDPOINT                CONTAINER               NETWORK       INTERFACE  ADDRESSES           MODE                STATE  RULES
        shop/db                 shop-db-1               shop_default  veth0007   172.18.0.2 fd00::2  enforce             ready  1
        evil"\n\u{1b}[31m$(id)  evil"\n\u{1b}[31m$(id)  shop_default  veth0008   172.18.0.2 fd00::2  audit (unlabelled)  ready  0

        Not protected, or less than others:
        CONTAINER        WHY
        node-exporter\r  host-network
        "#);
    }

    #[test]
    fn an_empty_node() {
        insta::assert_snapshot!(plain(|out| print(out, &View::default())), @"no endpoints");
    }
}
