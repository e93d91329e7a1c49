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
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, time::timeout};

use crate::{
    exit::{ExitCode, Failure},
    model::{Done, Refused, View},
    policy::{Explanation, Question, Unanswerable},
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
    /// It has only just started.
    #[error("the agent on {} has put nothing in force yet", .0.display())]
    Starting(PathBuf),
    /// It takes nothing that long.
    #[error("that is longer than any name")]
    TooLong,
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
            ClientError::TooLong => (ExitCode::Usage, "name those whom `dfw ls` lists"),
            ClientError::Starting(_) => (
                ExitCode::Unreachable,
                "ask again in a moment; `dfw status` tells what it waits for",
            ),
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
        let answer = self.ask(Method::GET, "/v1/view", Bytes::new())?;
        self.read(&answer.expect(StatusCode::OK, self)?)
    }

    /// What becomes of a connection, or what is wrong with the question.
    pub(super) fn explain(
        &self,
        question: &Question,
    ) -> Result<Result<Explanation, Unanswerable>, ClientError> {
        let answer = self.post("/v1/explain", question)?;
        match answer.status {
            StatusCode::UNPROCESSABLE_ENTITY => self.read(&answer.body).map(Err),
            StatusCode::SERVICE_UNAVAILABLE => Err(ClientError::Starting(self.socket.clone())),
            _ => self.read(&answer.expect(StatusCode::OK, self)?).map(Ok),
        }
    }

    /// Tells the agent to end. Enforcement stays in place.
    pub(super) fn stop(&self) -> Result<(), ClientError> {
        let answer = self.ask(Method::POST, "/v1/stop", Bytes::new())?;
        answer.expect(StatusCode::ACCEPTED, self).map(drop)
    }

    /// Tells the agent to do something, and what came of it.
    pub(super) fn order(
        &self,
        path: &'static str,
        order: &impl Serialize,
    ) -> Result<Result<Done, Refused>, ClientError> {
        let answer = self.post(path, order)?;
        match answer.status {
            StatusCode::UNPROCESSABLE_ENTITY => self.read(&answer.body).map(Err),
            _ => self.read(&answer.expect(StatusCode::OK, self)?).map(Ok),
        }
    }

    /// Whether nobody listens on the socket.
    pub(super) fn is_gone(&self) -> bool {
        std::os::unix::net::UnixStream::connect(&self.socket).is_err_and(|error| is_absent(&error))
    }

    fn post(&self, path: &'static str, body: &impl Serialize) -> Result<Answer, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(error))?;
        match self.ask(Method::POST, path, body.into())? {
            answer if answer.status == StatusCode::PAYLOAD_TOO_LARGE => Err(ClientError::TooLong),
            answer => Ok(answer),
        }
    }

    fn ask(&self, method: Method, path: &'static str, body: Bytes) -> Result<Answer, ClientError> {
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
        path: &'static str,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
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
            Ok(Answer {
                path,
                status,
                body: body.to_bytes(),
            })
        };
        let (answer, _) = tokio::join!(exchange, connection);
        answer
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.foreign(error.to_string()))
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

/// What the agent says.
struct Answer {
    path: &'static str,
    status: StatusCode,
    body: Bytes,
}

impl Answer {
    /// The body of an answer with this status.
    fn expect(self, status: StatusCode, client: &Client) -> Result<Bytes, ClientError> {
        if self.status == status {
            Ok(self.body)
        } else {
            Err(client.foreign(format!("{} gives {}", self.path, self.status)))
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}
