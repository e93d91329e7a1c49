//! As much HTTP as it takes to ask the agent.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// Status and body of a GET, from the network namespace of the calling thread.
///
/// # Errors
/// When nobody answers, or not with HTTP.
pub fn get(server: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ask(stream, &format!("GET {path}"), "")
}

/// Status and body of a request (`GET /v1/seen`) to a Unix socket, with a body of JSON.
///
/// # Errors
/// When nobody answers, or not with HTTP.
pub fn ask_socket(socket: &Path, request: &str, json: &str) -> io::Result<(u16, String)> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ask(stream, request, json)
}

fn ask(
    mut stream: impl io::Read + io::Write,
    request: &str,
    json: &str,
) -> io::Result<(u16, String)> {
    let length = json.len();
    write!(
        stream,
        "{request} HTTP/1.0\r\nHost: dfw\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{json}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    status
        .map(|status| (status, body.to_owned()))
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Samples by their name and labels as written: `dfw_flows`, `dfw_packets_total{direction="ingress",…}`.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads Prometheus' text format.
    ///
    /// # Panics
    /// When a sample has no number.
    pub fn parse(text: &str) -> Self {
        let samples = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty());
        let pairs = samples.map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or((line, ""));
            (
                series.to_owned(),
                value
                    .parse()
                    .unwrap_or_else(|_| panic!("no sample: {line}")),
            )
        });
        Self(pairs.collect())
    }

    /// The sum of all series of this name whose labels contain each of these (`reason="no-rule"`); 0 when there is none.
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let series = self.0.iter().filter(|(series, _)| {
            let (own, rest) = series.split_once('{').unwrap_or((series, ""));
            own == name && labels.iter().all(|label| rest.contains(label))
        });
        series.map(|(_, value)| value).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_go_over_the_labels_that_are_not_named() {
        let text = "# HELP a b\na{x=\"1\",y=\"1\"} 2\na{x=\"1\",y=\"2\"} 3\na{x=\"2\"} 5\nab 7\n";
        let metrics = Metrics::parse(text);
        assert!((metrics.sum("a", &["x=\"1\""]) - 5.0).abs() < f64::EPSILON);
        assert!((metrics.sum("a", &[]) - 10.0).abs() < f64::EPSILON);
        assert!((metrics.sum("ab", &[]) - 7.0).abs() < f64::EPSILON);
        assert!(metrics.sum("c", &[]).abs() < f64::EPSILON);
    }
}
