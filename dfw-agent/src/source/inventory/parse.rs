//! The inventory file: text in, snapshot out. Pure.

use std::{collections::BTreeMap, net::IpAddr, ops::Range, sync::Arc};

use dfw_common::addr::Mac;
use serde::Deserialize;
use toml::Spanned;

use crate::model::{Attachment, Container, Network, Snapshot, position};

/// What is wrong, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    /// From 1.
    pub(super) line: usize,
    /// From 1, in characters.
    pub(super) column: usize,
    /// What and what to do.
    pub(super) message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    endpoint: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    interface: Spanned<String>,
    network: Spanned<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    ip: Vec<Spanned<String>>,
    mac: Option<Spanned<String>>,
}

/// Reads a whole file; the first mistake rejects it all, for half an inventory would close the ports of the other half.
pub(super) fn parse(text: &str) -> Result<Snapshot, Mistake> {
    let file: File = toml::from_str(text).map_err(|error| {
        let message = error.message().lines().collect::<Vec<_>>().join("; ");
        mistake(text, error.span().unwrap_or_default(), message)
    })?;
    let mut seen = Seen {
        text,
        ..Seen::default()
    };
    let mut snapshot = Snapshot::default();
    for entry in file.endpoint {
        let name = seen.once("name", &entry.name, |name| {
            !name.is_empty() && !name.chars().any(char::is_control)
        })?;
        let interface = seen.once("interface", &entry.interface, is_interface)?;
        let network = entry.network.get_ref().clone();
        if network.is_empty() {
            return Err(mistake(
                text,
                entry.network.span(),
                "network is empty; name the network it is on".to_owned(),
            ));
        }
        let mut addresses = Vec::new();
        for ip in &entry.ip {
            addresses.push(seen.address(&network, ip)?);
        }
        let mac = entry
            .mac
            .as_ref()
            .map(|mac| read_mac(text, mac))
            .transpose()?;
        if snapshot.networks.iter().all(|known| known.id != network) {
            snapshot.networks.push(Network {
                id: network.clone(),
                name: network.clone(),
                project: None,
                short_name: None,
                filtered: false,
                bridge: String::new(),
                subnets: Vec::new(),
            });
        }
        snapshot.containers.push(Arc::new(Container {
            id: name.clone(),
            name,
            labels: entry.labels,
            attachments: vec![Attachment {
                network,
                interface: Some(interface),
                mac,
                addresses,
            }],
            running: true,
            ..Container::default()
        }));
    }
    Ok(snapshot)
}

/// What may stand in a file once only, with the line of the first.
#[derive(Default)]
struct Seen<'a> {
    text: &'a str,
    words: BTreeMap<(&'static str, String), usize>,
    addresses: BTreeMap<(String, IpAddr), usize>,
}

impl Seen<'_> {
    fn once(
        &mut self,
        what: &'static str,
        word: &Spanned<String>,
        is_valid: impl Fn(&str) -> bool,
    ) -> Result<String, Mistake> {
        let value = word.get_ref();
        let here = mistake(self.text, word.span(), String::new());
        if !is_valid(value) {
            return Err(Mistake {
                message: format!("{value:?} is no {what}; {}", rule(what)),
                ..here
            });
        }
        if let Some(first) = self.words.insert((what, value.clone()), here.line) {
            let message = format!(
                "{what} {value:?} stands on line {first} already; each endpoint has its own"
            );
            return Err(Mistake { message, ..here });
        }
        Ok(value.clone())
    }

    fn address(&mut self, network: &str, word: &Spanned<String>) -> Result<IpAddr, Mistake> {
        let value = word.get_ref();
        let here = mistake(self.text, word.span(), String::new());
        let Ok(ip) = value.parse::<IpAddr>() else {
            let message = format!(
                "{value:?} is no IP address; write it without a prefix, like \"10.0.0.2\" or \"fd00::2\""
            );
            return Err(Mistake { message, ..here });
        };
        if ip.is_unspecified()
            || ip.is_loopback()
            || ip.is_multicast()
            || ip == IpAddr::from([255; 4])
        {
            return Err(Mistake {
                message: format!("{ip} cannot be the address of an endpoint; write its own"),
                ..here
            });
        }
        if let Some(first) = self.addresses.insert((network.to_owned(), ip), here.line) {
            let message = format!(
                "{ip} stands on line {first} already; each endpoint of a network has its own"
            );
            return Err(Mistake { message, ..here });
        }
        Ok(ip)
    }
}

fn rule(what: &str) -> &'static str {
    match what {
        "interface" => "write the host's side of it, of 1 to 15 bytes without blank or slash",
        _ => "write one line that is not empty",
    }
}

/// As the kernel's `dev_valid_name`.
fn is_interface(name: &str) -> bool {
    let forbidden = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    !name.is_empty()
        && name.len() < 16
        && name != "."
        && name != ".."
        && !name.chars().any(forbidden)
}

fn read_mac(text: &str, word: &Spanned<String>) -> Result<Mac, Mistake> {
    let wrong = |message| mistake(text, word.span(), message);
    let mac: Mac = word
        .get_ref()
        .parse()
        .map_err(|error| wrong(format!("{:?}: {error}", word.get_ref())))?;
    if mac.is_group() || mac == Mac::default() {
        return Err(wrong(format!(
            "{mac} cannot be the MAC of an endpoint; write its own"
        )));
    }
    Ok(mac)
}

fn mistake(text: &str, span: Range<usize>, message: String) -> Mistake {
    let (line, column) = position(text, span.start);
    Mistake {
        line,
        column,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DB: &str = "[[endpoint]]\nname = \"db\"\ninterface = \"veth-db\"\nnetwork = \"shop\"\n";

    #[test]
    fn a_whole_file() {
        let text = format!(
            "{DB}labels = {{ \"dfw.ingress\" = \"tcp/5432 from service:api\" }}\nip = [\"10.0.0.2\", \"fd00::2\"]\n\
             mac = \"02:00:00:00:00:02\"\n[[endpoint]]\nname = \"api\"\ninterface = \"veth-api\"\nnetwork = \"shop\"\n\
             [[endpoint]]\nname = \"x\"\ninterface = \"veth-x\"\nnetwork = \"other\"\nip = [\"10.0.0.2\"]"
        );
        let snapshot = parse(&text).expect("valid");
        let networks: Vec<&str> = snapshot
            .networks
            .iter()
            .map(|network| network.name.as_str())
            .collect();
        assert_eq!(networks, ["shop", "other"]);
        assert_eq!(snapshot.containers.len(), 3);
        let db = &snapshot.containers[0];
        assert_eq!(
            (db.id.as_str(), db.name.as_str(), db.running),
            ("db", "db", true)
        );
        assert_eq!(db.labels["dfw.ingress"], "tcp/5432 from service:api");
        let expected = Attachment {
            network: "shop".into(),
            interface: Some("veth-db".into()),
            mac: Some(Mac::new([2, 0, 0, 0, 0, 2])),
            addresses: vec![
                IpAddr::from([10, 0, 0, 2]),
                "fd00::2".parse().expect("address"),
            ],
        };
        assert_eq!(db.attachments, [expected]);
        assert_eq!(parse(""), Ok(Snapshot::default()));
    }

    #[test]
    fn mistakes_have_a_place_and_a_remedy() {
        let api = |lines: &str| {
            format!(
                "{DB}[[endpoint]]\nname = \"api\"\ninterface = \"veth-api\"\nnetwork = \"shop\"\n{lines}"
            )
        };
        let cases = [
            (
                format!("{DB}ipp = []"),
                "5:1: unknown field `ipp`, expected one of `name`, `interface`, `network`, `labels`, `ip`, `mac`",
            ),
            (
                "[[endpoint]]\nname = \"db\"".into(),
                "1:1: missing field `interface`",
            ),
            (
                "[[endpoint]".into(),
                "1:12: unclosed array table, expected `]`",
            ),
            (
                format!("{DB}labels = {{ a = 1 }}"),
                "5:16: invalid type: integer `1`, expected a string",
            ),
            (
                DB.replace("\"db\"", "\"\""),
                "2:8: \"\" is no name; write one line that is not empty",
            ),
            (
                DB.replace("veth-db", "veth-of-database"),
                "3:13: \"veth-of-database\" is no interface; write the host's side of it, of 1 to 15 bytes without blank or slash",
            ),
            (
                DB.replace("shop", ""),
                "4:11: network is empty; name the network it is on",
            ),
            (
                format!("{DB}{DB}"),
                "6:8: name \"db\" stands on line 2 already; each endpoint has its own",
            ),
            (
                format!("{DB}{}", DB.replace("\"db\"", "\"x\"")),
                "7:13: interface \"veth-db\" stands on line 3 already; each endpoint has its own",
            ),
            (
                format!("{DB}ip = [ \"é\", \"10.0.0.2/24\"]"),
                "5:8: \"é\" is no IP address; write it without a prefix, like \"10.0.0.2\" or \"fd00::2\"",
            ),
            (
                format!("{DB}ip = [\"224.0.0.1\"]"),
                "5:7: 224.0.0.1 cannot be the address of an endpoint; write its own",
            ),
            (
                api("ip = [\"10.0.0.2\"]").replacen("shop\"", "shop\"\nip = [\"10.0.0.2\"]", 1),
                "10:7: 10.0.0.2 stands on line 5 already; each endpoint of a network has its own",
            ),
            (
                format!("{DB}mac = \"2:0\""),
                "5:7: \"2:0\": a MAC address is six bytes in hex, like 02:42:ac:11:00:02",
            ),
            (
                format!("{DB}mac = \"ff:ff:ff:ff:ff:ff\""),
                "5:7: ff:ff:ff:ff:ff:ff cannot be the MAC of an endpoint; write its own",
            ),
        ];
        for (text, expected) in cases {
            let Mistake {
                line,
                column,
                message,
            } = parse(&text).expect_err(&text);
            assert_eq!(format!("{line}:{column}: {message}"), expected, "{text}");
        }
    }
}
