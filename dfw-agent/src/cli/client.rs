//! The commands' side of the agent's Unix socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Error as JsonError;
use tokio::{net::UnixStream, runtime::Runtime, time::timeout};

use super::Error;
use crate::{
    exit::{ExitCode, Failure},
    model::View,
    telemetry::{
        observe::{Query, Refusal},
        text,
    },
};

/// How long an answer may take: the agent answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most bytes of an answer; a view has about 1 KiB an endpoint.
const ANSWER_MAX: usize = 64 << 20;
/// Most bytes of a line of a stream; an event has less than 1 KiB unless somebody has very long names.
const LINE_MAX: usize = 1 << 20;

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
    /// It does not know the question.
    #[error("the agent on {} is older than this command: it has no {what}", .path.display())]
    Old {
        /// The socket.
        path: PathBuf,
        /// What it does not have.
        what: &'static str,
    },
    /// It understands the question and does not answer it.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// It ended in the middle of its answer.
    #[error("the agent on {} has ended", .0.display())]
    Ended(PathBuf),
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
            ClientError::Old { .. } => (
                ExitCode::Unreachable,
                "start `dfw run` of this version: it takes over without a gap",
            ),
            ClientError::Refused(refusal) => (ExitCode::Usage, refusal.hint.as_str()),
            ClientError::Ended(_) => (
                ExitCode::Unreachable,
                "enforcement stays in place; start it again with `dfw run`",
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

    /// The agent's metrics, as Prometheus would read them.
    pub(super) fn metrics(&self) -> Result<String, ClientError> {
        let body = self.ask(Method::GET, "/metrics", StatusCode::OK)?;
        String::from_utf8(body.into()).map_err(|error| self.foreign(error.to_string()))
    }

    /// Tells the agent to end. Enforcement stays in place.
    pub(super) fn stop(&self) -> Result<(), ClientError> {
        self.ask(Method::POST, "/v1/stop", StatusCode::ACCEPTED)
            .map(drop)
    }

    /// Whether nobody listens on the socket.
    pub(super) fn is_gone(&self) -> bool {
        std::os::unix::net::UnixStream::connect(&self.socket).is_err_and(|error| is_absent(&error))
    }

    /// What happens, in whole lines of JSON as they come, each as soon as it is there.
    pub(super) fn observe(
        &self,
        query: &Query,
        mut lines: impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        const PATH: &str = "/v1/observe";
        let question = serde_json::to_vec(query).expect("plain values, into memory");
        self.runtime()?.block_on(async {
            let begun = timeout(PATIENCE, self.send(Method::POST, PATH, question.into())).await;
            let answer = begun.unwrap_or_else(|_| Err(self.silent()))?;
            let status = answer.status();
            if status == StatusCode::NOT_FOUND {
                let (path, what) = (self.socket.clone(), PATH);
                return Err(ClientError::Old { path, what }.into());
            }
            if status != StatusCode::OK {
                let body = timeout(PATIENCE, self.collect(answer)).await;
                let body = body.unwrap_or_else(|_| Err(self.silent()))?;
                let refusal: Result<Refusal, JsonError> = serde_json::from_slice(&body);
                let unknown = |_| self.foreign(format!("{PATH} gives {status}"));
                return Err(ClientError::Refused(refusal.map_err(unknown)?).into());
            }
            let mut body = answer.into_body();
            let mut rest = Vec::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|_| ClientError::Ended(self.socket.clone()))?;
                let bytes = frame.into_data().unwrap_or_default();
                let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
                    rest.extend_from_slice(&bytes);
                    if rest.len() > LINE_MAX {
                        return Err(self.foreign("a line without an end".to_owned()).into());
                    }
                    continue;
                };
                rest.extend_from_slice(&bytes[..=end]);
                lines(&rest)?;
                rest.clear();
                rest.extend_from_slice(&bytes[end + 1..]);
            }
            if query.follow {
                return Err(ClientError::Ended(self.socket.clone()).into());
            }
            Ok(())
        })
    }

    /// An error for an answer that does not have the form that this version knows.
    pub(super) fn foreign(&self, what: String) -> ClientError {
        ClientError::Foreign {
            path: self.socket.clone(),
            what,
        }
    }

    fn runtime(&self) -> Result<Runtime, ClientError> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.broken(error))
    }

    fn ask(&self, method: Method, path: &str, expected: StatusCode) -> Result<Bytes, ClientError> {
        let exchange = async {
            let answer = self.send(method, path, Bytes::new()).await?;
            let status = answer.status();
            if status != expected {
                return Err(self.foreign(format!("{path} gives {status}")));
            }
            self.collect(answer).await
        };
        self.runtime()?
            .block_on(async { timeout(PATIENCE, exchange).await })
            .unwrap_or_else(|_| Err(self.silent()))
    }

    /// Sends a question, with JSON if there is a body, and waits for the head of the answer.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
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
        // What goes wrong there is told to whoever waits for the answer.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "dfw")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .expect("a valid request");
        let answer = sender.send_request(request).await;
        answer.map_err(|error| self.broken(error))
    }

    async fn collect(&self, answer: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = Limited::new(answer.into_body(), ANSWER_MAX).collect().await;
        Ok(body.map_err(|error| self.broken(error))?.to_bytes())
    }

    fn silent(&self) -> ClientError {
        ClientError::Silent(self.socket.clone())
    }

    fn broken(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Connection {
            path: self.socket.clone(),
            source: error.into(),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}
