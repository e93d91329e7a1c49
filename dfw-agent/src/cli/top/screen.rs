//! The picture on a terminal, until somebody has seen enough.

use std::{
    io::{self, Stdout, Write},
    panic,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anstream::{AutoStream, ColorChoice, StripStream};
use crossterm::{
    cursor::{Hide, MoveTo, Show},
    event::{self, Event, KeyCode, KeyEvent, KeyModifiers},
    execute, queue,
    style::Print,
    terminal::{
        self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
        enable_raw_mode,
    },
};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
};
use unicode_width::UnicodeWidthChar as _;

use super::{Frame, Look};
use crate::{
    cli::{Error, client::Client},
    telemetry::text,
};

/// How soon a signal to end is heard at the latest.
const STEP: Duration = Duration::from_millis(200);
/// What ends our styles.
const RESET: &str = "\x1b[0m";

/// Shows one picture after another until q, Escape, Ctrl-C or a signal.
pub(super) fn run(client: &Client, first: Look, interval: Duration) -> Result<(), Error> {
    let told = until_signal()?;
    let mut screen = Screen::enter()?;
    let mut earlier = first;
    // The first rates are those of a short time, but soon there.
    let mut due = Instant::now() + interval.min(Duration::from_secs(1));
    while !told.is_finished() {
        let wait = due.saturating_duration_since(Instant::now()).min(STEP);
        if event::poll(wait)? {
            match event::read()? {
                Event::Key(key) if is_end(key) => break,
                Event::Resize(..) => screen.draw()?,
                Event::Key(_) | Event::Mouse(_) | Event::FocusGained | Event::FocusLost => {}
            }
        }
        if Instant::now() < due {
            continue;
        }
        due = Instant::now() + interval;
        match Look::at(client) {
            Ok(look) => {
                screen.show(&look.since(&earlier))?;
                earlier = look;
            }
            // It may be about to be replaced by another version: that takes a moment.
            Err(Error::Failure(failure)) => screen.note(&failure.message)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ends when the process is told to: the terminal must be put right first.
fn until_signal() -> io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let [mut terminate, mut interrupt, mut hangup] = [
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
        signal(SignalKind::hangup())?,
    ];
    drop(entered);
    thread::Builder::new().spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
        });
    })
}

fn is_end(key: KeyEvent) -> bool {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    key.code == KeyCode::Char('q')
        || key.code == KeyCode::Esc
        || is_control && key.code == KeyCode::Char('c')
}

/// The terminal, taken over; given back when this is dropped, and before a panic is told.
struct Screen {
    out: Stdout,
    text: String,
    note: String,
}

impl Screen {
    fn enter() -> io::Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            leave();
            before(info);
        }));
        enable_raw_mode()?;
        let mut screen = Self {
            out: io::stdout(),
            text: String::new(),
            note: String::new(),
        };
        execute!(screen.out, EnterAlternateScreen, Hide)?;
        screen.draw()?;
        Ok(screen)
    }

    fn show(&mut self, frame: &Frame) -> io::Result<()> {
        let mut picture = Vec::new();
        // NO_COLOR and the like; our own way around the screen is not for them to strip.
        match AutoStream::choice(&self.out) {
            ColorChoice::Never => {
                let mut plain = StripStream::new(picture);
                frame.print(&mut plain)?;
                picture = plain.into_inner();
            }
            ColorChoice::Auto | ColorChoice::Always | ColorChoice::AlwaysAnsi => {
                frame.print(&mut picture)?;
            }
        }
        self.text = String::from_utf8_lossy(&picture).into_owned();
        self.note.clear();
        self.draw()
    }

    /// Says something below the last picture, which stays.
    fn note(&mut self, message: &str) -> io::Result<()> {
        self.note = text::one_line(message).into_owned();
        self.draw()
    }

    fn draw(&mut self) -> io::Result<()> {
        let (width, height) = terminal::size()?;
        let (width, rows) = (usize::from(width), usize::from(height).saturating_sub(1));
        queue!(self.out, MoveTo(0, 0))?;
        for line in self.text.lines().take(rows) {
            let line = clip(line, width);
            queue!(
                self.out,
                Print(line),
                Clear(ClearType::UntilNewLine),
                Print("\r\n")
            )?;
        }
        let below = self.text.lines().count().saturating_sub(rows);
        let more = if below > 0 {
            format!(", {below} lines more")
        } else {
            String::new()
        };
        let foot = if self.note.is_empty() {
            format!("q ends{more}")
        } else {
            self.note.clone()
        };
        queue!(
            self.out,
            Clear(ClearType::FromCursorDown),
            MoveTo(0, height.saturating_sub(1)),
            Print(clip(&foot, width))
        )?;
        self.out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// Gives the terminal back. Where it is gone there is nobody to tell.
fn leave() {
    let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
    let _ = disable_raw_mode();
}

/// As much of a line as fits into so many columns; styles take none.
fn clip(line: &str, width: usize) -> String {
    let (mut out, mut used, mut in_style) = (String::new(), 0, false);
    for c in line.chars() {
        if in_style || c == '\x1b' {
            in_style = c != 'm';
            out.push(c);
            continue;
        }
        used += c.width().unwrap_or(0);
        if used > width {
            out.push_str(RESET);
            break;
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_the_edge() {
        assert_eq!(clip("abc", 3), "abc");
        assert_eq!(clip("abcd", 3), format!("abc{RESET}"));
        assert_eq!(clip("数据库", 5), format!("数据{RESET}"));
        assert_eq!(clip("\x1b[31mab\x1b[0m", 2), "\x1b[31mab\x1b[0m");
        assert_eq!(clip("\x1b[31mabc", 2), format!("\x1b[31mab{RESET}"));
        assert_eq!(clip("ab", 0), RESET);
    }

    #[test]
    #[ignore = "panics on purpose, on the terminal of the next test"]
    fn a_panic() {
        let _screen = Screen::enter().expect("a terminal");
        panic!("on purpose");
    }

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        let own = std::env::current_exe().expect("a process knows its binary");
        let own = own.display();
        let (_, module) = module_path!().split_once("::").expect("of a crate");
        let line = format!("{own} --ignored --exact {module}::a_panic --nocapture; stty -a");
        let output = std::process::Command::new("script")
            .args(["--quiet", "--command", &line, "/dev/null"])
            .env("TERM", "xterm")
            .output()
            .expect("script runs");
        let shown = String::from_utf8_lossy(&output.stdout);
        let (_, after) = shown.split_once("\x1b[?1049h").expect("another screen");
        let (_, after) = after.split_once("\x1b[?1049l").expect("the first again");
        assert!(after.contains("on purpose"), "{shown}");
        assert!(
            after.contains(" icanon") && after.contains(" echo "),
            "{shown}"
        );
    }

    #[test]
    fn keys_that_end() {
        let key = |code, modifiers| is_end(KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE));
        assert!(key(KeyCode::Esc, KeyModifiers::NONE));
        assert!(key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE));
    }
}
