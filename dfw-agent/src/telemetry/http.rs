//! HTTP: `/metrics`, `/healthz`, `/readyz` on TCP; the same, the view, the flow events and the order to stop on the Unix
//! socket.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use axum::{
    Extension, Json, Router,
    body::Body,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::Listener,
};
use hyper::{
    Request,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    history::History,
    metrics::{self, Metrics},
    observe::{self, Query},
};
use crate::model::View;

/// Most connections of one listener at a time; more wait in the kernel's queue. The agent's descriptors are for the maps.
const CONNECTIONS_MAX: usize = 64;
/// How long one connection, which is one request, may take, unless its answer is a [`Stream`].
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// How long requests under way may go on once the agent is to stop.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// What the handlers read.
#[derive(Clone)]
pub struct Shared {
    /// The node, as the reconciler last published it.
    pub view: watch::Receiver<Arc<View>>,
    /// The metrics.
    pub metrics: Metrics,
    /// The last flow events.
    pub history: Arc<History>,
    /// Notified by `POST /v1/stop`: the agent is to end as on SIGTERM.
    pub stop: Arc<Notify>,
}

/// What everybody on this host may ask.
pub fn public(shared: Shared) -> Router {
    public_routes().with_state(shared)
}

/// What those may ask who may write to the socket: the public routes, `GET /v1/view`, `POST /v1/observe` and
/// `POST /v1/stop`.
pub fn commands(shared: Shared) -> Router {
    public_routes()
        .route("/v1/view", get(view))
        .route("/v1/observe", post(observe))
        .route("/v1/stop", post(stop))
        .with_state(shared)
}

/// Serves until `shutdown` is ready, then lets requests under way end for two seconds.
pub async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let next = async {
            let permit = Arc::clone(&permits)
                .acquire_owned()
                .await
                .expect("never closed");
            (permit, listener.accept().await.0)
        };
        let (permit, stream) = tokio::select! {
            accepted = next => accepted,
            () = &mut shutdown => break,
        };
        let (routes, stays) = (TowerToHyperService::new(router.clone()), Stream::default());
        connections.spawn(async move {
            let _permit = permit;
            let service = service_fn(|mut request: Request<_>| {
                request.extensions_mut().insert(stays.clone());
                routes.call(request)
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            // A client that hangs up or dawdles is its own problem.
            let in_time = timeout(CONNECTION_TIME, &mut connection).await;
            if in_time.is_err() && stays.is_one() {
                let _ = connection.await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    // Whoever is not done by then is cut off as the set is dropped.
    let _ = timeout(DRAIN_TIME, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

/// Whether the answer of a connection goes on for as long as the client reads.
#[derive(Clone, Debug, Default)]
struct Stream(Arc<AtomicBool>);

impl Stream {
    fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_one(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn public_routes() -> Router<Shared> {
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
}

async fn scrape(State(shared): State<Shared>) -> Response {
    match tokio::task::spawn_blocking(move || shared.metrics.encode()).await {
        Ok(Ok(text)) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Ok(Err(error)) => broken(&error),
        Err(error) => broken(&error),
    }
}

fn broken(error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "the metrics cannot be written");
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "the metrics cannot be written, see the log\n",
    )
        .into_response()
}

async fn ready(State(shared): State<Shared>) -> Response {
    let view = Arc::clone(&shared.view.borrow());
    match view.not_ready() {
        None => "ready\n".into_response(),
        Some(why) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {why}\n"),
        )
            .into_response(),
    }
}

async fn view(State(shared): State<Shared>) -> Response {
    let view = Arc::clone(&shared.view.borrow());
    Json(&*view).into_response()
}

async fn observe(
    State(shared): State<Shared>,
    Extension(connection): Extension<Stream>,
    Json(query): Json<Query>,
) -> Response {
    let view = Arc::clone(&shared.view.borrow());
    match observe::answer(&query, &shared.history, &view, SystemTime::now()) {
        Ok(lines) => {
            connection.begin();
            (
                [(CONTENT_TYPE, "application/x-ndjson")],
                Body::from_stream(lines),
            )
                .into_response()
        }
        Err(refusal) => (StatusCode::UNPROCESSABLE_ENTITY, Json(refusal)).into_response(),
    }
}

async fn stop(State(shared): State<Shared>) -> StatusCode {
    tracing::info!("told to stop by a command; enforcement stays in place");
    shared.stop.notify_one();
    StatusCode::ACCEPTED
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Instant};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        task::JoinHandle,
    };

    use super::*;
    use crate::telemetry::{
        history::{By, Entry, Limits, Lost},
        kernel::{KernelFigures, tests::Fixed},
        listen,
    };

    fn shared(view: View) -> Shared {
        let kernel = Arc::new(Fixed::default());
        kernel.set(Some(KernelFigures::default()));
        let (_, view) = watch::channel(Arc::new(view));
        let metrics = Metrics::new(view.clone(), kernel);
        Shared {
            view,
            metrics,
            history: Arc::new(History::new(Limits::AGENT, SystemTime::now())),
            stop: Arc::default(),
        }
    }

    struct Server {
        address: SocketAddr,
        stop: Arc<Notify>,
        task: JoinHandle<()>,
    }

    async fn start(router: Router) -> Server {
        let any_port = "127.0.0.1:0".parse().expect("address");
        let listener: TcpListener = listen::bind_tcp(any_port).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let stop = Arc::new(Notify::new());
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(serve(
            listener,
            router,
            async move { stopped.notified().await },
        ));
        Server {
            address,
            stop,
            task,
        }
    }

    impl Server {
        /// The whole answer to a request.
        async fn ask(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.expect("it listens");
            let request = format!("{request} HTTP/1.1\r\nhost: localhost\r\n\r\n");
            stream
                .write_all(request.as_bytes())
                .await
                .expect("it reads");
            let mut answer = String::new();
            stream
                .read_to_string(&mut answer)
                .await
                .expect("it answers and closes");
            answer
        }
    }

    fn status(answer: &str) -> &str {
        answer.split(' ').nth(1).unwrap_or(answer)
    }

    #[tokio::test]
    async fn what_everybody_may_ask() {
        let server = start(public(shared(View::default()))).await;
        let metrics = server.ask("GET /metrics").await;
        assert_eq!(status(&metrics), "200");
        assert!(
            metrics.contains("content-type: text/plain; version=0.0.4"),
            "{metrics}"
        );
        assert!(metrics.contains("\ndfw_docker_connected 0\n"), "{metrics}");
        assert_eq!(status(&server.ask("GET /healthz").await), "200");
        for request in [
            "GET /v1/view",
            "POST /v1/observe",
            "POST /v1/stop",
            "GET /",
            "GET /../metrics",
        ] {
            assert_eq!(status(&server.ask(request).await), "404", "{request}");
        }
        assert_eq!(status(&server.ask("POST /metrics").await), "405");
        assert_eq!(status(&server.ask("nonsense").await), "400");
    }

    #[tokio::test]
    async fn ready_means_synced_and_attached() {
        for (synced, attached, expected) in [
            (false, false, "503"),
            (true, false, "503"),
            (false, true, "503"),
            (true, true, "200"),
        ] {
            let view = View {
                synced,
                attached,
                ..View::default()
            };
            let server = start(public(shared(view))).await;
            assert_eq!(status(&server.ask("GET /readyz").await), expected);
        }
    }

    #[tokio::test]
    async fn commands_see_the_view_and_stop_the_agent() {
        let shared = shared(View {
            version: "1.2.3".to_owned(),
            ..View::default()
        });
        let told = Arc::clone(&shared.stop);
        let server = start(commands(shared)).await;
        let answer = server.ask("GET /v1/view").await;
        let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
        let view: View = serde_json::from_str(body).expect("a view");
        assert_eq!(view.version, "1.2.3");
        assert_eq!(status(&server.ask("GET /v1/stop").await), "405");
        assert_eq!(status(&server.ask("POST /v1/stop").await), "202");
        timeout(Duration::from_secs(1), told.notified())
            .await
            .expect("told");
    }

    /// Asks for every event, and reads no answer yet.
    async fn observe(server: &Server) -> TcpStream {
        let mut stream = TcpStream::connect(server.address)
            .await
            .expect("it listens");
        let query = r#"{"follow":true}"#;
        let length = query.len();
        let request = format!(
            "POST /v1/observe HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{query}"
        );
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        stream
    }

    fn lost(lost: u64) -> Entry {
        Entry::Lost(Lost {
            time: SystemTime::UNIX_EPOCH,
            lost,
            by: By::Kernel,
        })
    }

    /// What a stream says until it has said this.
    async fn read_until(stream: &mut TcpStream, wanted: &str) {
        let mut answer = Vec::new();
        let read = async {
            while !String::from_utf8_lossy(&answer).contains(wanted) {
                let read = stream.read_buf(&mut answer).await.expect("it writes");
                assert_ne!(read, 0, "cut: {}", String::from_utf8_lossy(&answer));
            }
        };
        timeout(Duration::from_secs(5), read)
            .await
            .expect("in time");
    }

    #[tokio::test]
    async fn observers_outstay_other_clients_and_starve_none() {
        let shared = shared(View::default());
        let history = Arc::clone(&shared.history);
        let server = start(commands(shared)).await;
        let mut all = Vec::new();
        while history.observers() < 16 {
            all.push(observe(&server).await);
            read_until(all.last_mut().expect("one"), "200 OK").await;
        }
        let mut refused = observe(&server).await;
        read_until(&mut refused, "as many observers").await;
        assert_eq!(status(&server.ask("GET /v1/view").await), "200");

        history.append([lost(1)]);
        read_until(&mut all[0], "\"lost\":1").await;
        tokio::time::sleep(CONNECTION_TIME + Duration::from_millis(500)).await;
        history.append([lost(2)]);
        for stream in &mut all {
            read_until(stream, "\"lost\":2").await;
        }
        // Who hangs up while nothing happens makes room.
        drop(all);
        let gone = async {
            while history.observers() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(5), gone)
            .await
            .expect("all left");
    }

    #[tokio::test]
    async fn a_client_that_dawdles_does_not_hold_up_the_end() {
        let server = start(public(shared(View::default()))).await;
        let mut idle = TcpStream::connect(server.address)
            .await
            .expect("it listens");
        idle.write_all(b"GET /metr").await.expect("it reads");
        assert_eq!(
            status(&server.ask("GET /healthz").await),
            "200",
            "others are served meanwhile"
        );
        let begin = Instant::now();
        server.stop.notify_one();
        server.task.await.expect("it ends");
        assert!(begin.elapsed() < 2 * DRAIN_TIME);
        assert!(
            TcpStream::connect(server.address).await.is_err(),
            "nobody listens any more"
        );
    }
}
