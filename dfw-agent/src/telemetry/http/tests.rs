//! Routes, limits and streams over real connections.

use std::{net::SocketAddr, time::Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
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
        in_force: watch::channel(None).1,
        history: Arc::new(History::new(Limits::AGENT, SystemTime::now())),
        stop: Arc::default(),
        orders: mpsc::channel(1).0,
        memory: Memory {
            learned: watch::channel(Arc::default()).1,
            forget: mpsc::channel(1).0,
        },
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
        "GET /v1/seen",
        "POST /v1/forget",
        "POST /v1/observe",
        "POST /v1/explain",
        "POST /v1/suggest",
        "POST /v1/reload",
        "POST /v1/mode",
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
