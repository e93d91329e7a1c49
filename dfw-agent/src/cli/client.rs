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
use serde::{Serialize, de::DeserializeOwned};
use tokio::{net::UnixStream, runtime::Runtime, time::timeout};

use super::Error;
use crate::{
    exit::{ExitCode, Failure},
    model::{Done, Refused, Unanswerable, View},
    policy::{Explanation, Question, Suggestions, Wish},
    telemetry::{history::Entry, observe::Query, text},
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
    /// It has only just started, or is about to end.
    #[error("the agent on {} cannot answer now: {why}", .path.display())]
    Busy {
        /// The socket.
        path: PathBuf,
        /// What it says of it.
        why: String,
    },
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
    /// It does not know the question.
    #[error("the agent on {} is older than this command: it has no {what}", .path.display())]
    Old {
        /// The socket.
        path: PathBuf,
        /// What it does not have.
        what: &'static str,
    },
    /// The question has no answer.
    #[error("{0}")]
    Unanswerable(Unanswerable),
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
            ClientError::TooLong => (ExitCode::Usage, "name those whom `dfw ls` lists"),
            ClientError::Busy { .. } => (
                ExitCode::Unreachable,
                "ask again in a moment; `dfw status` tells what it waits for",
            ),
            ClientError::Foreign { .. } => (
                ExitCode::Unreachable,
                "use the `dfw` of the agent's version, or another --socket",
            ),
            ClientError::Old { .. } => (
                ExitCode::Unreachable,
                "start `dfw run` of this version: it takes over without a gap",
            ),
            ClientError::Unanswerable(question) => (ExitCode::Usage, question.hint.as_str()),
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
        let answer = self.ask(Method::GET, "/v1/view", Bytes::new())?;
        self.read(&answer.expect(StatusCode::OK, self)?)
    }

    /// The agent's metrics, as Prometheus would read them.
    pub(super) fn metrics(&self) -> Result<String, ClientError> {
        let answer = self.ask(Method::GET, "/metrics", Bytes::new())?;
        let text = answer.expect(StatusCode::OK, self)?;
        String::from_utf8(text.into()).map_err(|error| self.foreign(error.to_string()))
    }

    /// What becomes of a connection.
    pub(super) fn explain(&self, question: &Question) -> Result<Explanation, ClientError> {
        let answer = self.post("/v1/explain", question)?;
        answer.map_err(ClientError::Unanswerable)
    }

    /// What labels would allow what was seen.
    pub(super) fn suggest(&self, wish: &Wish) -> Result<Suggestions, ClientError> {
        let answer = self.post("/v1/suggest", wish)?;
        answer.map_err(ClientError::Unanswerable)
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
        self.post(path, order)
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
            let response = begun.unwrap_or_else(|_| Err(self.silent()))?;
            if response.status() != StatusCode::OK {
                let answer = timeout(PATIENCE, self.collect(PATH, response)).await;
                let answer = answer.unwrap_or_else(|_| Err(self.silent()))?;
                let why = answer.expect(StatusCode::UNPROCESSABLE_ENTITY, self)?;
                return Err(ClientError::Unanswerable(self.read(&why)?).into());
            }
            let mut body = response.into_body();
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

    /// What lines of a stream say.
    pub(super) fn entries(&self, lines: &[u8]) -> impl Iterator<Item = Result<Entry, ClientError>> {
        let lines = lines.split(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.is_empty());
        lines.map(|line| self.read(line))
    }

    /// The outcome of a question or an order, or why there is none.
    fn post<T: DeserializeOwned, E: DeserializeOwned>(
        &self,
        path: &'static str,
        body: &impl Serialize,
    ) -> Result<Result<T, E>, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.broken(error))?;
        let answer = self.ask(Method::POST, path, body.into())?;
        match answer.status {
            StatusCode::UNPROCESSABLE_ENTITY => self.read(&answer.body).map(Err),
            _ => self.read(&answer.expect(StatusCode::OK, self)?).map(Ok),
        }
    }

    fn ask(&self, method: Method, path: &'static str, body: Bytes) -> Result<Answer, ClientError> {
        let exchange = async {
            let response = self.send(method, path, body).await?;
            self.collect(path, response).await
        };
        self.runtime()?
            .block_on(async { timeout(PATIENCE, exchange).await })
            .unwrap_or_else(|_| Err(self.silent()))
    }

    fn runtime(&self) -> Result<Runtime, ClientError> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.broken(error))
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

    async fn collect(
        &self,
        path: &'static str,
        response: Response<Incoming>,
    ) -> Result<Answer, ClientError> {
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX);
        let body = body.collect().await.map_err(|error| self.broken(error))?;
        Ok(Answer {
            path,
            status,
            body: body.to_bytes(),
        })
    }

    fn silent(&self) -> ClientError {
        ClientError::Silent(self.socket.clone())
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.foreign(error.to_string()))
    }

    fn foreign(&self, what: String) -> ClientError {
        ClientError::Foreign {
            path: self.socket.clone(),
            what,
        }
    }

    fn broken(&self, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
        ClientError::Connection {
            path: self.socket.clone(),
            source: error.into(),
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
        let Self { path, body, .. } = self;
        let socket = || client.socket.clone();
        match self.status {
            found if found == status => Ok(body),
            StatusCode::NOT_FOUND => Err(ClientError::Old {
                path: socket(),
                what: path,
            }),
            StatusCode::PAYLOAD_TOO_LARGE => Err(ClientError::TooLong),
            StatusCode::SERVICE_UNAVAILABLE => Err(ClientError::Busy {
                path: socket(),
                why: String::from_utf8_lossy(&body).trim().to_owned(),
            }),
            found => Err(client.foreign(format!("{path} gives {found}"))),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    )
}
