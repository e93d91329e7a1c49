//! `dfw-probe listen PROTO/PORT…` answers until it is killed; `dfw-probe PROTO ADDRESS PORT [MILLISECONDS]` tries once,
//! prints the outcome and exits 0 if it was answered; `dfw-probe blast MILLISECONDS ADDRESS:PORT@MAC…` sends frames as fast as
//! it can and prints how many; `dfw-probe serve PORT` and `dfw-probe load MODE ADDRESS:PORT MILLISECONDS` measure. PROTO is tcp, udp
//! or icmp.

use std::{error::Error, net::IpAddr, process::ExitCode, thread, time::Duration};

use dfw_probe::{
    Attempt, Listener, Protocol, Target, blast,
    traffic::{Load, Server},
};

const USAGE: &str = "dfw-probe listen PROTO/PORT… | dfw-probe PROTO ADDRESS PORT [MILLISECONDS] | \
                     dfw-probe blast MILLISECONDS ADDRESS:PORT@MAC… | dfw-probe serve PORT | \
                     dfw-probe load MODE ADDRESS:PORT MILLISECONDS";

/// Before each measurement.
const WARM_UP: Duration = Duration::from_millis(20);

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["listen", ref ports @ ..] => listen(ports),
        ["blast", milliseconds, ref targets @ ..] => {
            let targets: Result<Vec<Target>, _> =
                targets.iter().map(|target| target.parse()).collect();
            println!(
                "{}",
                blast(&targets?, Duration::from_millis(milliseconds.parse()?))
            );
            Ok(ExitCode::SUCCESS)
        }
        ["serve", port] => {
            let _server = Server::start(port.parse()?)?;
            println!("serving");
            wait_for_the_end()
        }
        ["load", mode, to, milliseconds] => {
            let load = Load {
                mode: mode.parse()?,
                to: to.parse()?,
                warm_up: WARM_UP,
                time: Duration::from_millis(milliseconds.parse()?),
            };
            println!("{}", load.run()?);
            Ok(ExitCode::SUCCESS)
        }
        [protocol, address, port, ref patience @ ..] => attempt(protocol, address, port, patience),
        _ => Err(USAGE.into()),
    }
}

fn listen(ports: &[&str]) -> Result<ExitCode, Box<dyn Error>> {
    let (mut tcp, mut udp) = (Vec::new(), Vec::new());
    for port in ports {
        let (protocol, port) = port.split_once('/').ok_or(USAGE)?;
        match protocol.parse()? {
            Protocol::Tcp => tcp.push(port.parse()?),
            Protocol::Udp => udp.push(port.parse()?),
            // The kernel answers.
            Protocol::Icmp => return Err(USAGE.into()),
        }
    }
    let _listener = Listener::start(&tcp, &udp)?;
    println!("listening");
    wait_for_the_end()
}

fn wait_for_the_end() -> ! {
    loop {
        thread::park();
    }
}

fn attempt(
    protocol: &str,
    address: &str,
    port: &str,
    patience: &[&str],
) -> Result<ExitCode, Box<dyn Error>> {
    let address: IpAddr = address.parse()?;
    let mut attempt = Attempt::new(protocol.parse()?, (address, port.parse()?).into());
    if let [milliseconds] = patience {
        attempt.patience = Duration::from_millis(milliseconds.parse()?);
    }
    let outcome = attempt.run()?;
    println!("{outcome}");
    Ok(if outcome.is_answered() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
