//! The commands that go on: `observe` and `top`.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, SystemTime},
};

use dfw_agent::telemetry::history::{By, Entry, Lost};
use rustix::process::{Pid, Signal, kill_process};

use super::{Served, code, dfw, run, stderr, stdout, view};

/// One packet of db that was dropped, and what else an observer is told.
fn entries() -> [Entry; 2] {
    let flow = r#"{"time_ms":15556,"source":{"name":"shop/db","container":"shop-db-1","project":"shop","service":"db","class":"endpoint","address":"172.18.0.2","port":40000},"destination":{"class":"world","address":"192.0.2.1","port":443},"protocol":"tcp","direction":"egress","verdict":"deny","reason":"no-rule","rule":null,"network":"shop_default","length":74}"#;
    let lost = Lost {
        time: SystemTime::UNIX_EPOCH,
        lost: 3,
        by: By::Kernel,
    };
    [
        serde_json::from_str(flow).expect("an event"),
        Entry::Lost(lost),
    ]
}

#[test]
fn observe_shows_the_past_and_ends_or_goes_on() {
    let served = Served::new(view());
    served.history.append(entries());
    let output = served.run(&["observe", "--last", "5"]);
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
    insta::assert_snapshot!(stdout(&output), @"
    00:00:15.556  shop/db:40000 -> 192.0.2.1:443/tcp  DENIED  egress  no-rule
    00:00:00.000  3 events lost: they came faster than the agent takes them
    ");
    let output = served.run(&["observe", "--last", "5", "--verdict", "allow", "-o", "json"]);
    assert_eq!(stdout(&output), "");

    let mut child = dfw(&["observe", "--denied", "--from", "db", "--since", "30000d"])
        .args(["-o", "json", "--socket"])
        .arg(&served.socket)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || -> Entry {
        let line = lines.next().expect("a line").expect("UTF-8");
        serde_json::from_str(&line).expect("an entry")
    };
    let begin = Lost {
        time: SystemTime::UNIX_EPOCH,
        lost: 0,
        by: By::History,
    };
    assert_eq!(next(), Entry::Lost(begin));
    assert_eq!([next(), next()], entries());
    served.history.append(entries());
    assert_eq!([next(), next()], entries(), "live");
    // Nobody reads any more: it ends by itself when there is more to say.
    drop(lines);
    served.history.append(entries());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

#[test]
fn observe_says_what_is_wrong() {
    let served = Served::new(view());
    let output = served.run(&["observe", "--to", "shop/bd"]);
    assert_eq!((code(&output), stdout(&output).as_str()), (2, ""));
    insta::assert_snapshot!(stderr(&output), @"
    dfw: error: nobody here is called `shop/bd`
    hint: did you mean `shop/db`?
    ");
    let output = run(&["observe", "--reason", "no-rules"]);
    assert_eq!(code(&output), 2);

    let mut child = dfw(&["observe", "--socket"])
        .arg(&served.socket)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    while served.history.observers() == 0 {
        thread::sleep(Duration::from_millis(5));
        assert!(child.try_wait().expect("ours").is_none(), "it goes on");
    }
    let socket = served.socket.display().to_string();
    drop(served);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 69);
    insta::assert_snapshot!(stderr(&output).replace(&socket, "SOCKET"), @"
    dfw: error: the agent on SOCKET has ended
    hint: enforcement stays in place; start it again with `dfw run`
    ");
}

#[test]
fn an_agent_that_cannot_be_observed_yet_is_named() {
    let directory = tempfile::tempdir().expect("directory");
    let socket = directory.path().join("old.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    let old = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a question");
            request.extend(byte);
        }
        let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).expect("written");
    });
    let path = socket.to_str().expect("UTF-8");
    let output = run(&["observe", "--socket", path]);
    old.join().expect("it was asked");
    assert_eq!(code(&output), 69);
    insta::assert_snapshot!(stderr(&output).replace(path, "SOCKET"), @"
    dfw: error: the agent on SOCKET is older than this command: it has no /v1/observe
    hint: start `dfw run` of this version: it takes over without a gap
    ");
}

#[test]
fn top_prints_one_interval_where_there_is_no_terminal() {
    let served = Served::new(view());
    served.history.append(entries());
    let output = served.run(&["top", "--interval", "1"]);
    assert_eq!((code(&output), stderr(&output).as_str()), (0, ""));
    let picture = stdout(&output);
    let (head, rest) = picture.split_once('\n').expect("several lines");
    assert!(
        head.starts_with("dfw 1.2.3, ready, 1 endpoint, over "),
        "{head}"
    );
    insta::assert_snapshot!(rest, @"
    packets/s  0 allowed, 0 denied, 0 would be denied
    flows      0 of 0, 0 %
    events/s   0, 0 lost, 0 so far
    reasons    nothing was denied

    Last denials:
    00:00:15.556  shop/db:40000 -> 192.0.2.1:443/tcp  DENIED  egress  no-rule

    SERVICE  ENDPOINTS  MODE     IN/S  OUT/S  DENIED/S  AUDIT/S  DENIED  AUDIT
    shop/db  1          enforce  0     0      0         0        0       0
    ");
    let output = served.run(&["top", "--interval", "1", "-o", "json"]);
    let frame: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(frame["services"][0]["service"], "db");
    assert_eq!(code(&served.run(&["top", "--interval", "0"])), 2);
}

/// On a terminal of its own, which `script` makes: what it wrote there, and how it ended. `end` gets its first picture.
fn on_a_terminal(served: &Served, end: impl FnOnce(&mut Child)) -> (String, Option<i32>) {
    let binary = env!("CARGO_BIN_EXE_dfw");
    let socket = served.socket.display();
    // What the terminal is set to afterwards is shown too.
    let line = format!(
        "stty rows 20 columns 60; {binary} top --interval 1 --socket {socket}; code=$?; stty -a; exit $code"
    );
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.env("TERM", "xterm").spawn().expect("script runs");
    let mut out = child.stdout.take().expect("piped");
    let (mut shown, mut end) = (Vec::new(), Some(end));
    let mut buffer = [0; 4096];
    loop {
        match out.read(&mut buffer).expect("it can be read") {
            0 => break,
            read => shown.extend_from_slice(&buffer[..read]),
        }
        if String::from_utf8_lossy(&shown).contains("shop/db ")
            && let Some(end) = end.take()
        {
            end(&mut child);
        }
    }
    let status = child.wait().expect("it ends");
    (String::from_utf8_lossy(&shown).into_owned(), status.code())
}

#[test]
fn top_gives_the_terminal_back() {
    let served = Served::new(view());
    let key = |key: &'static [u8]| {
        move |child: &mut Child| {
            let stdin = child.stdin.as_mut().expect("piped");
            stdin.write_all(key).expect("it reads");
        }
    };
    let kill = |_: &mut Child| {
        let own = format!("top --interval 1 --socket {}", served.socket.display());
        for process in fs::read_dir("/proc").expect("processes").flatten() {
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.starts_with(env!("CARGO_BIN_EXE_dfw")) && line.trim_end().ends_with(&own) {
                let pid = process.file_name().into_string().expect("a number");
                let pid = pid.parse().ok().and_then(Pid::from_raw);
                kill_process(pid.expect("a number"), Signal::TERM).expect("it runs");
            }
        }
    };
    for (how, (shown, code)) in [
        ("q", on_a_terminal(&served, key(b"q"))),
        ("Ctrl-C", on_a_terminal(&served, key(b"\x03"))),
        ("SIGTERM", on_a_terminal(&served, kill)),
    ] {
        assert_eq!(code, Some(0), "{how}: {shown}");
        let (_, after) = shown.split_once("\x1b[?1049h").expect("another screen");
        let (picture, after) = after
            .split_once("\x1b[?1049l")
            .expect("the first screen again");
        assert!(picture.contains("q ends"), "{how}: {picture}");
        assert!(!picture.contains("shop-db-1\x1b"), "{how}: {picture}");
        assert!(
            after.contains(" icanon") && after.contains(" echo "),
            "{how}: {after}"
        );
    }
}
