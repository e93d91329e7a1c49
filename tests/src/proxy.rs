//! Stands before an engine's socket and fails as told.

use std::{
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread::{self, JoinHandle},
};

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They are passed on: no fault.
    None,
    /// They are accepted and never answered.
    Hang,
    /// They are answered with status 500.
    Refusal,
    /// They are answered with half a JSON document.
    Garbage,
    /// They are answered with what is no HTTP.
    Noise,
    /// They are closed at once.
    Cut,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Hang,
        Self::Refusal,
        Self::Garbage,
        Self::Noise,
        Self::Cut,
    ];
}

/// A Unix socket that leads to another. Dropped, it closes.
#[derive(Debug)]
pub struct Proxy {
    path: PathBuf,
    state: Arc<Mutex<State>>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    fault: Fault,
    is_over: bool,
    /// Whatever is open, to be cut.
    open: Vec<Weak<Vec<UnixStream>>>,
    /// What is never answered.
    hung: Vec<UnixStream>,
}

impl Proxy {
    /// Listens at `path` for what is meant for `engine`, as `unix:///PATH` or as a path.
    ///
    /// # Panics
    /// When the path is taken.
    #[track_caller]
    pub fn new(path: &Path, engine: &str, fault: Fault) -> Self {
        let listener = UnixListener::bind(path);
        let listener = listener.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let engine = PathBuf::from(engine.strip_prefix("unix://").unwrap_or(engine));
        let state = Arc::new(Mutex::new(State {
            fault,
            is_over: false,
            open: Vec::new(),
            hung: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        Self {
            path: path.to_owned(),
            state,
            accepting: Some(thread::spawn(move || accept(&listener, &engine, &shared))),
        }
    }

    /// Where it listens: `unix:///…`.
    pub fn socket(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// From now on. What is open is cut, as when a proxy is started again.
    pub fn set(&self, fault: Fault) {
        let mut state = lock(&self.state);
        state.fault = fault;
        state.hung.clear();
        for ends in state.open.drain(..).filter_map(|ends| ends.upgrade()) {
            for end in ends.iter() {
                // The far side may have closed it already.
                let _ = end.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        lock(&self.state).is_over = true;
        self.set(Fault::Cut);
        // Wakes it.
        drop(UnixStream::connect(&self.path));
        if let Some(accepting) = self.accepting.take() {
            // It said so, had it panicked.
            let _ = accepting.join();
        }
    }
}

/// Nothing is half-written when a thread panics.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &UnixListener, engine: &Path, state: &Mutex<State>) {
    for client in listener.incoming() {
        let mut state = lock(state);
        if state.is_over {
            return;
        }
        // Who cannot be served is cut.
        if let Ok(client) = client {
            let _ = serve(client, engine, &mut state);
        }
    }
}

fn serve(client: UnixStream, engine: &Path, state: &mut State) -> io::Result<()> {
    let answer = match state.fault {
        Fault::None => {
            let ends = Arc::new(vec![client, UnixStream::connect(engine)?]);
            state.open.retain(|open| open.strong_count() > 0);
            state.open.push(Arc::downgrade(&ends));
            for (from, to) in [(0, 1), (1, 0)] {
                let ends = Arc::clone(&ends);
                thread::spawn(move || carry(&ends[from], &ends[to]));
            }
            return Ok(());
        }
        Fault::Hang => {
            state.hung.push(client);
            return Ok(());
        }
        Fault::Refusal => http("500 Internal Server Error", "{\"message\":\"no\"}"),
        Fault::Garbage => http("200 OK", "{\"a\":"),
        Fault::Noise => vec![0xff; 64],
        Fault::Cut => return Ok(()),
    };
    thread::spawn(move || reply(client, &answer));
    Ok(())
}

fn http(status: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}");
    format!("{head}\r\n\r\n{body}").into_bytes()
}

/// Reads first: closing on what was not read would look like a cut.
fn reply(mut client: UnixStream, answer: &[u8]) -> io::Result<()> {
    let _ = client.read(&mut [0; 4096])?;
    client.write_all(answer)
}

fn carry(mut from: &UnixStream, mut to: &UnixStream) {
    // Either side may go at any time; then so does the other.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
}
