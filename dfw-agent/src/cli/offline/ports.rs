//! Published ports, as Docker's tools write them.

use std::net::{IpAddr, Ipv4Addr};

use dfw_common::key::proto;

use crate::model::Published;

/// A published port. No or an empty `host_ip` means every address; no or an empty `host_port` one that the engine will
/// choose, which is kept as 0; of a range the first one stands for all.
pub(super) fn published(
    host_ip: Option<&str>,
    host_port: Option<&str>,
    container_port: u16,
    protocol: &str,
) -> Result<Published, String> {
    let host_ip = match host_ip {
        None | Some("") => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Some(text) => text
            .parse()
            .map_err(|_| format!("{text:?} is not an address"))?,
    };
    let host_port = match host_port {
        None | Some("") => 0,
        Some(text) => {
            let first = text.split('-').next().unwrap_or(text);
            first
                .parse()
                .map_err(|_| format!("{text:?} is not a port"))?
        }
    };
    let protocol = match protocol {
        "tcp" => proto::TCP,
        "udp" => proto::UDP,
        "sctp" => proto::SCTP,
        other => {
            return Err(format!(
                "{other:?} is not a protocol that ports are published for"
            ));
        }
    };
    Ok(Published {
        host_ip,
        host_port,
        container_port,
        protocol,
    })
}
