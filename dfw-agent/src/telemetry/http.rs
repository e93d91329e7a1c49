//! HTTP: `/metrics`, `/healthz`, `/readyz` on TCP; the same, the view, questions and orders on the Unix socket.

use std::{future::Future, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::Listener,
};
use hyper::server::conn::http1;
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
    metrics::{self, Metrics},
    orders::{self, Orders},
};
use crate::{
    model::View,
    policy::{InForce, Question, explain},
};

/// Most connections of one listener at a time; more wait in the kernel's queue. The agent's descriptors are for the maps.
const CONNECTIONS_MAX: usize = 64;
/// How long one connection, which is one request, may take.
const CONNECTION_TIME: Duration = Duration::from_secs(10);
/// How long requests under way may go on once the agent is to stop.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// Most bytes of what is asked or ordered: a few names.
const BODY_MAX: usize = 4096;

/// What the handlers read.
#[derive(Clone)]
pub struct Shared {
    /// The node, as the reconciler last published it.
    pub view: watch::Receiver<Arc<View>>,
    /// The metrics.
    pub metrics: Metrics,
    /// What the kernel holds, since the first pass that succeeded.
    pub in_force: watch::Receiver<Option<Arc<InForce>>>,
    /// Notified by `POST /v1/stop`: the agent is to end as on SIGTERM.
    pub stop: Arc<Notify>,
    /// Where `POST /v1/reload` and `POST /v1/mode` go.
    pub orders: Orders,
}

/// What everybody on this host may ask.
pub fn public(shared: Shared) -> Router {
    public_routes().with_state(shared)
}

/// What those may ask who may write to the socket: the public routes, `GET /v1/view`, and `POST /v1/explain`,
/// `/v1/reload`, `/v1/mode` and `/v1/stop`.
pub fn commands(shared: Shared) -> Router {
    // An answer lays out the maps anew, so one is made at a time.
    let turn = Arc::new(Semaphore::new(1));
    let answer = move |State(shared): State<Shared>, Json(question): Json<Question>| {
        let turn = Arc::clone(&turn);
        async move {
            let _turn = turn.acquire().await.expect("never closed");
            answer(shared, question).await
        }
    };
    public_routes()
        .route("/v1/view", get(view))
        .route("/v1/explain", post(answer))
        .route("/v1/stop", post(stop))
        .route("/v1/reload", post(orders::reload))
        .route("/v1/mode", post(orders::switch))
        .layer(DefaultBodyLimit::max(BODY_MAX))
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
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let _permit = permit;
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // A client that hangs up or dawdles is its own problem.
            let _ = timeout(CONNECTION_TIME, connection).await;
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

fn public_routes() -> Router<Shared> {
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
}

async fn scrape(State(shared): State<Shared>) -> Response {
    match tokio::task::spawn_blocking(move || shared.metrics.encode()).await {
        Ok(Ok(text)) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Ok(Err(error)) => broken("the metrics cannot be written", &error),
        Err(error) => broken("the metrics cannot be written", &error),
    }
}

fn broken(what: &str, error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "{what}");
    let body = format!("{what}, see the log\n");
    (StatusCode::INTERNAL_SERVER_ERROR, body).into_response()
}

/// 200 with the explanation, 422 with what is wrong with the question, 503 before anything is in force.
async fn answer(shared: Shared, question: Question) -> Response {
    let Some(in_force) = shared.in_force.borrow().clone() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "nothing is in force yet\n").into_response();
    };
    match tokio::task::spawn_blocking(move || explain(&in_force, &question)).await {
        Ok(Ok(explanation)) => Json(explanation).into_response(),
        Ok(Err(refusal)) => (StatusCode::UNPROCESSABLE_ENTITY, Json(refusal)).into_response(),
        Err(error) => broken("the question cannot be answered", &error),
    }
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
    match tokio::task::spawn_blocking(move || shared.metrics.counted()).await {
        Ok(view) => Json(view).into_response(),
        Err(error) => broken("the figures cannot be read", &error),
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
        sync::mpsc,
        task::JoinHandle,
    };

    use super::*;
    use crate::telemetry::{
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
            in_force: watch::channel(None).1,
            stop: Arc::default(),
            orders: mpsc::channel(1).0,
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
            let request = format!("{request} HTTP/1.1\r\nhost: localhost\r\n\r\n");
            self.send(&request).await
        }

        /// The whole answer to these bytes.
        async fn send(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.expect("it listens");
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
            "POST /v1/explain",
            "POST /v1/stop",
            "POST /v1/reload",
            "POST /v1/mode",
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

    #[tokio::test]
    async fn questions_are_answered_once_something_is_in_force() {
        let question = |body: &str| {
            let length = body.len();
            format!(
                "POST /v1/explain HTTP/1.1\r\nhost: dfw\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )
        };
        let asked = question(r#"{"from":"web","to":"db","ports":"tcp/80"}"#);
        let server = start(commands(shared(View::default()))).await;
        assert_eq!(status(&server.send(&asked).await), "503");

        let ready = Shared {
            in_force: watch::channel(Some(Arc::default())).1,
            ..shared(View::default())
        };
        let server = start(commands(ready)).await;
        let answer = server.send(&asked).await;
        assert_eq!(status(&answer), "422", "{answer}");
        assert!(answer.contains("nobody here is called `web`"), "{answer}");
        let long = format!(
            r#"{{"from":"{}","to":"b","ports":"tcp/80"}}"#,
            "a".repeat(BODY_MAX)
        );
        assert_eq!(status(&server.send(&question(&long)).await), "413");
        assert_eq!(status(&server.send(&question("[")).await), "400");
        assert_eq!(status(&server.ask("GET /v1/explain").await), "405");
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
