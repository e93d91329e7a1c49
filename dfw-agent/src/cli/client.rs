//! The commands' side of the agent's Unix socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::{net::UnixStream, time::timeout};

use crate::{
    exit::{ExitCode, Failure},
    model::{Done, Refused, View},
    telemetry::text,
};

/// How long an answer may take: the agent answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of an answer; a view has about 1 KiB an endpoint.
const ANSWER_MAX: usize = 64 << 20;

/// Asks one agent.
#[derive(Debug)]
pub(super) struct Client {
    socket: PathBuf,
}

/// An agent that cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// There is no socket, or nobody listens on it.
    #[error("no agent answers on {}", .0.display())]
    Absent(PathBuf),
    /// The socket belongs to others.
    #[error("no permission to use the agent's socket {}", .0.display())]
    Denied(PathBuf),
    /// It does not answer in time.
    #[error("the agent on {} did not answer in {} s", .0.display(), PATIENCE.as_secs())]
    Silent(PathBuf),
    /// The connection fails.
    #[error("cannot ask the agent on {}", .path.display())]
    Connection {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It answers, but not as an agent of this version.
    #[error("what answers on {} is not an agent that this command understands: {what}", .path.display())]
    Foreign {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the answer.
        what: String,
    },
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let (code, hint) = match &error {
            ClientError::Absent(_) => (
                ExitCode::Unreachable,
                "start it with `dfw run`, or name its socket with --socket",
            ),
            ClientError::Denied(_) => (
                ExitCode::Capability,
                "run this as root or as a member of the socket's group",
            ),
            ClientError::Silent(_) | ClientError::Connection { .. } => {
                (ExitCode::Unreachable, "look at the agent's log")
            }
            ClientError::Foreign { .. } => (
                ExitCode::Unreachable,
                "use the `dfw` of the agent's version, or another --socket",
            ),
        };
        Self::new(code, text::chain(&error), hint)
    }
}

impl Client {
    pub(super) const fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The node as the agent sees it.
    pub(super) fn view(&self) -> Result<View, ClientError> {
        let body = self.ask(Method::GET, "/v1/view", StatusCode::OK)?;
        serde_json::from_slice(&body).map_err(|error| self.foreign(error.to_string()))
    }

    /// Tells the agent to end. Enforcement stays in place.
    pub(super) fn stop(&self) -> Result<(), ClientError> {
        self.ask(Method::POST, "/v1/stop", StatusCode::ACCEPTED)
            .map(drop)
    }

    /// Tells the agent to do something, and what came of it.
    pub(super) fn order(
        &self,
        path: &str,
        order: &impl Serialize,
    ) -> Result<Result<Done, Refused>, ClientError> {
        let order = serde_json::to_vec(order).map_err(|error| self.broken(error))?;
        let (status, body) = self.exchange_in_time(Method::POST, path, order.into())?;
        let foreign = |error: serde_json::Error| self.foreign(error.to_string());
        match status {
            StatusCode::OK => Ok(Ok(serde_json::from_slice(&body).map_err(foreign)?)),
            StatusCode::UNPROCESSABLE_ENTITY => {
                Ok(Err(serde_json::from_slice(&body).map_err(foreign)?))
            }
            _ => Err(self.foreign(format!("{path} gives {status}"))),
        }
    }

    /// Whether nobody listens on the socket.
    pub(super) fn is_gone(&self) -> bool {
        std::os::unix::net::UnixStream::connect(&self.socket).is_err_and(|error| is_absent(&error))
    }

    fn ask(&self, method: Method, path: &str, expected: StatusCode) -> Result<Bytes, ClientError> {
        let (status, answer) = self.exchange_in_time(method, path, Bytes::new())?;
        if status == expected {
            Ok(answer)
        } else {
            Err(self.foreign(format!("{path} gives {status}")))
        }
    }

    fn exchange_in_time(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.broken(error))?;
        runtime
            .block_on(async { timeout(PATIENCE, self.exchange(method, path, body)).await })
            .unwrap_or_else(|_| Err(ClientError::Silent(self.socket.clone())))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            if is_absent(&error) {
                ClientError::Absent(self.socket.clone())
            } else if error.kind() == io::ErrorKind::PermissionDenied {
                ClientError::Denied(self.socket.clone())
            } else {
                self.broken(error)
            }
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.broken(error))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "dfw")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .expect("a valid request");
        let exchange = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| self.broken(error))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_MAX);
            let body = body.collect().await.map_err(|error| self.broken(error))?;
            Ok((status, body.to_bytes()))
        };
        let (answer, _) = tokio::join!(exchange, connection);
        answer
    }

    fn broken(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Connection {
            path: self.socket.clone(),
            source: error.into(),
        }
    }

    fn foreign(&self, what: String) -> ClientError {
        ClientError::Foreign {
            path: self.socket.clone(),
            what,
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}
