//! The calls to the engine, each with a limit of time.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error as ApiError,
    models::{ContainerInspectResponse, ContainerSummary, EventMessage, NetworkInspect},
    query_parameters::{
        EventsOptionsBuilder, InspectContainerOptions, InspectNetworkOptions,
        ListContainersOptionsBuilder, ListNetworksOptions,
    },
};
use futures_util::{Stream, StreamExt};
use tokio::net::UnixStream;

/// Where Docker listens unless told otherwise.
pub const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// Longest wait for one answer. An engine takes milliseconds; only the inspection of a container that is just starting
/// waits for that start.
const PATIENCE: Duration = Duration::from_secs(5);

/// The oldest API that has what is asked here: Docker 20.10.
const OLDEST_API: (usize, usize) = (1, 41);

/// The events that can change a snapshot. Left out is what comes often and says nothing: exec, health, attach, kill.
const ACTIONS: [&str; 13] = [
    "create",
    "start",
    "die",
    "stop",
    "restart",
    "destroy",
    "rename",
    "pause",
    "unpause",
    "update",
    "connect",
    "disconnect",
    "remove",
];

/// Why there is no engine to read from.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The socket does not exist.
    #[error(
        "there is no Docker socket at {}; start Docker, name its socket with --docker-host unix:///PATH, or run without \
         Docker with --inventory FILE", path.display()
    )]
    NoSocket {
        /// The socket.
        path: PathBuf,
    },
    /// The socket may not be used.
    #[error("may not use the Docker socket {}: {source}; run dfw as root or in the group that owns the socket", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nobody listens at the socket.
    #[error("nobody answers at the Docker socket {}: {source}; start Docker", path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// An address of a kind that is not spoken.
    #[error(
        "cannot use the Docker host {host:?}; write unix:///PATH, or tcp://ADDRESS:PORT for a socket proxy on this host"
    )]
    Unsupported {
        /// As given.
        host: String,
    },
    /// Something else than a Docker engine answers, or nothing does.
    #[error("no Docker engine answers at {host}: {source}; check --docker-host")]
    NotAnEngine {
        /// The address.
        host: String,
        /// What came instead.
        source: EngineError,
    },
    /// An engine that is too old.
    #[error(
        "the engine at {host} speaks API {version}, dfw needs 1.41 (Docker 20.10) or newer; upgrade Docker"
    )]
    TooOld {
        /// The address.
        host: String,
        /// What it speaks.
        version: String,
    },
}

impl ConnectError {
    /// An engine at this address that gives no answer.
    pub(super) fn not_an_engine(host: Option<&str>, source: EngineError) -> Self {
        Self::NotAnEngine {
            host: or_default(host).to_owned(),
            source,
        }
    }
}

fn or_default(host: Option<&str>) -> &str {
    host.filter(|host| !host.is_empty()).unwrap_or(DEFAULT_HOST)
}

/// A call that failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No answer in time.
    #[error("{what}: no answer within {} s", PATIENCE.as_secs())]
    Timeout {
        /// The call.
        what: &'static str,
    },
    /// An error as answer, or an answer that cannot be understood.
    #[error("{what}: {source}")]
    Api {
        /// The call.
        what: &'static str,
        /// What is wrong with it.
        source: Box<ApiError>,
    },
    /// The engine ended the stream of events, as when it is stopped.
    #[error("the engine closed the stream of events")]
    EventsEnded,
}

impl EngineError {
    /// Whether the engine answered, so that only this one call failed.
    pub(super) fn is_answer(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::EventsEnded => false,
            Self::Api { source, .. } => {
                matches!(
                    **source,
                    ApiError::DockerResponseServerError { .. } | ApiError::JsonDataError { .. }
                )
            }
        }
    }

    fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { source, .. }
            if matches!(**source, ApiError::DockerResponseServerError { status_code: 404, .. }))
    }
}

/// A Docker engine.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    docker: Docker,
}

impl Engine {
    /// Connects and agrees on a version of the API.
    pub(super) async fn connect(host: Option<&str>) -> Result<Self, ConnectError> {
        let host = or_default(host);
        let client = if let Some(path) = host
            .strip_prefix("unix://")
            .or(Some(host).filter(|host| host.starts_with('/')))
        {
            try_socket(Path::new(path)).await?;
            Docker::connect_with_unix(path, PATIENCE.as_secs(), API_DEFAULT_VERSION)
        } else if host.starts_with("tcp://") || host.starts_with("http://") {
            Docker::connect_with_http(host, PATIENCE.as_secs(), API_DEFAULT_VERSION)
        } else {
            return Err(ConnectError::Unsupported {
                host: host.to_owned(),
            });
        };
        let docker = call("connect", async { client?.negotiate_version().await })
            .await
            .map_err(|source| ConnectError::not_an_engine(Some(host), source))?;
        let version = docker.client_version();
        if (version.major_version, version.minor_version) < OLDEST_API {
            return Err(ConnectError::TooOld {
                host: host.to_owned(),
                version: version.to_string(),
            });
        }
        Ok(Self { docker })
    }

    /// Its version, which is not that of its API.
    pub(super) async fn version(&self) -> Result<String, EngineError> {
        let version = call("ask for its version", self.docker.version()).await?;
        Ok(version.version.unwrap_or_default())
    }

    /// All containers in every state, or one. Answered from a copy that the engine keeps beside its locks, so it does not
    /// wait for a container that is starting; that copy lags a few milliseconds when a container ends.
    pub(super) async fn list(
        &self,
        id: Option<&str>,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let mut options = ListContainersOptionsBuilder::new().all(true);
        if let Some(id) = id {
            options = options.filters(&HashMap::from([("id", vec![id])]));
        }
        call(
            "list containers",
            self.docker.list_containers(Some(options.build())),
        )
        .await
    }

    /// One container in full; none if there is no such one. While it starts or stops, the answer waits for that.
    pub(super) async fn container(
        &self,
        id: &str,
    ) -> Result<Option<ContainerInspectResponse>, EngineError> {
        let request = self
            .docker
            .inspect_container(id, None::<InspectContainerOptions>);
        found(call("inspect a container", request).await)
    }

    /// Ids of all networks.
    pub(super) async fn networks(&self) -> Result<Vec<String>, EngineError> {
        let networks = call(
            "list networks",
            self.docker.list_networks(None::<ListNetworksOptions>),
        )
        .await?;
        Ok(networks
            .into_iter()
            .filter_map(|network| network.id)
            .collect())
    }

    /// One network with its endpoints; none if there is no such one. Does not wait for a container that is starting.
    pub(super) async fn network(&self, id: &str) -> Result<Option<NetworkInspect>, EngineError> {
        let request = self
            .docker
            .inspect_network(id, None::<InspectNetworkOptions>);
        found(call("inspect a network", request).await)
    }

    /// Labels that an image carries; none if there is no such one.
    pub(super) async fn image_labels(
        &self,
        id: &str,
    ) -> Result<Option<BTreeMap<String, String>>, EngineError> {
        let image = found(call("inspect an image", self.docker.inspect_image(id)).await)?;
        Ok(image.map(|image| {
            image
                .config
                .and_then(|config| config.labels)
                .unwrap_or_default()
                .into_iter()
                .collect()
        }))
    }

    /// Events of containers and networks from a time on, in ns since 1970. Ends with an error.
    pub(super) fn events(
        &self,
        since: i64,
    ) -> impl Stream<Item = Result<EventMessage, EngineError>> + use<> {
        let filters = HashMap::from([
            ("type", vec!["container", "network"]),
            ("event", ACTIONS.to_vec()),
        ]);
        let since = format!("{}.{:09}", since / 1_000_000_000, since % 1_000_000_000);
        let options = EventsOptionsBuilder::new()
            .since(&since)
            .filters(&filters)
            .build();
        let events = self.docker.events(Some(options));
        events.map(|event| {
            event.map_err(|source| EngineError::Api {
                what: "read events",
                source: Box::new(source),
            })
        })
    }
}

async fn call<T>(
    what: &'static str,
    request: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, EngineError> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(EngineError::Api {
            what,
            source: Box::new(source),
        }),
        Err(_) => Err(EngineError::Timeout { what }),
    }
}

fn found<T>(result: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match result {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Connects once by hand, for an error that says what is wrong with the socket itself.
async fn try_socket(path: &Path) -> Result<(), ConnectError> {
    let path = path.to_owned();
    match UnixStream::connect(&path).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(ConnectError::NoSocket { path })
        }
        Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
            Err(ConnectError::Denied { path, source })
        }
        Err(source) => Err(ConnectError::Refused { path, source }),
    }
}
