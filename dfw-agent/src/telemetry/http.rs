//! HTTP: `/metrics`, `/healthz`, `/readyz` on TCP; the same, the view, flow events, questions and orders on the Unix socket.

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
    extract::{DefaultBodyLimit, State},
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
    sync::{Notify, OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    history::History,
    learned::{self, Memory},
    metrics::{self, Metrics},
    observe::{self, Query},
    orders::{self, Orders},
};
use crate::{
    model::View,
    policy::{InForce, Question, explain},
};

/// Most connections of one listener at a time; more wait in the kernel's queue. The agent's descriptors are for the maps.
const CONNECTIONS_MAX: usize = 64;
/// How long one connection, which is one request, may take, unless its answer is a [`Stream`].
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
    /// The last flow events.
    pub history: Arc<History>,
    /// Notified by `POST /v1/stop`: the agent is to end as on SIGTERM.
    pub stop: Arc<Notify>,
    /// Where `POST /v1/reload` and `POST /v1/mode` go.
    pub orders: Orders,
    /// What was learned in audit.
    pub memory: Memory,
}

/// What everybody on this host may ask.
pub fn public(shared: Shared) -> Router {
    public_routes().with_state(shared)
}

/// What those may ask who may write to the socket: the public routes, `GET /v1/view` and `/v1/seen`, and `POST /v1/observe`,
/// `/v1/explain`, `/v1/reload`, `/v1/mode`, `/v1/forget` and `/v1/stop`.
pub fn commands(shared: Shared) -> Router {
    // An answer lays out the maps anew, so one is made at a time.
    let turn = Arc::new(Semaphore::new(1));
    let answer = move |State(shared): State<Shared>, Json(question): Json<Question>| {
        let turn = Arc::clone(&turn);
        async move {
            let turn = turn.acquire_owned().await.expect("never closed");
            answer(shared, question, turn).await
        }
    };
    public_routes()
        .route("/v1/view", get(view))
        .route("/v1/seen", get(learned::seen))
        .route("/v1/observe", post(observe))
        .route("/v1/explain", post(answer))
        .route("/v1/reload", post(orders::reload))
        .route("/v1/mode", post(orders::switch))
        .route("/v1/forget", post(learned::forget))
        .route("/v1/stop", post(stop))
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
async fn answer(shared: Shared, question: Question, turn: OwnedSemaphorePermit) -> Response {
    let Some(in_force) = shared.in_force.borrow().clone() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "nothing is in force yet\n").into_response();
    };
    let explain = move || {
        // It goes on when the client has gone.
        let _turn = turn;
        explain(&in_force, &question)
    };
    match tokio::task::spawn_blocking(explain).await {
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
    let memory = shared.memory;
    match tokio::task::spawn_blocking(move || shared.metrics.counted()).await {
        Ok(mut view) => {
            memory.tell(&mut view);
            Json(view).into_response()
        }
        Err(error) => broken("the figures cannot be read", &error),
    }
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
mod tests;
