//! Logs on stderr, one event a line whatever a name contains.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer, filter::Targets, fmt::MakeWriter, layer::SubscriberExt, registry,
    util::SubscriberInitExt,
};

use super::text;

/// Form of the log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object a line
    Json,
}

/// Least severe messages that are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing
    Off,
    /// What needs somebody
    Error,
    /// What may need somebody
    Warn,
    /// What happened
    #[default]
    Info,
    /// Why it happened
    Debug,
    /// Each step
    Trace,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Off => Self::OFF,
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// Starts logging to stderr, for `tracing` and for the `log` crate (which aya-log writes to). The first call of a process
/// counts, later ones change nothing.
pub fn init(format: Format, level: Level) {
    // An error says that somebody was here before.
    let _ = registry().with(layer(format, level, io::stderr)).try_init();
}

fn layer<S, W>(format: Format, level: Level, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> registry::LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = LevelFilter::from(level);
    // What libraries have to say below a warning is about themselves.
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        // It warns of each answer that nobody waits for any more.
        .with_target("netlink_proto::connection", level.min(LevelFilter::ERROR))
        .with_target("dfw", level)
        .with_target("dfw_agent", level)
        .with_target("dfw_ebpf", level);
    let plain = tracing_subscriber::fmt::layer().with_ansi(false);
    match format {
        Format::Text => plain
            .with_writer(OneLine(writer))
            .with_filter(targets)
            .boxed(),
        // JSON escapes what could end a line.
        Format::Json => plain
            .json()
            .flatten_event(true)
            .with_writer(writer)
            .with_filter(targets)
            .boxed(),
    }
}

/// Makes one line of each event. The library escapes terminal sequences in values, newlines it leaves.
struct OneLine<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for OneLine<W> {
    type Writer = OneLineWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLineWriter(self.0.make_writer())
    }
}

/// Takes one whole event a write, which is how the library hands them over.
struct OneLineWriter<W>(W);

impl<W: Write> Write for OneLineWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let event_text = String::from_utf8_lossy(event);
        let line = text::one_line(event_text.strip_suffix('\n').unwrap_or(&event_text))
            .into_owned()
            + "\n";
        self.0.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const HOSTILE: &str = "db\n2024-01-01T00:00:00Z  INFO dfw: forged\r\x1b[2J\u{85}\u{2028}\"";

    fn logged(format: Format, level: Level) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let subscriber = registry().with(layer(format, level, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(container = %HOSTILE, "display");
            tracing::info!(container = ?HOSTILE, "debug");
            tracing::info!(container = HOSTILE, "value");
            tracing::info!("message {HOSTILE}");
            tracing::debug!("more");
            tracing::info!(target: "hyper", "chatter");
            tracing::warn!(target: "hyper", "matters");
        });
        let bytes = sink.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn a_name_cannot_forge_a_line() {
        let text = logged(Format::Text, Level::Info);
        assert_eq!(
            text.split_inclusive(['\n', '\r', '\u{85}', '\u{2028}'])
                .count(),
            5,
            "{text}"
        );
        assert!(
            text.lines().all(|line| !line.chars().any(char::is_control)),
            "{text}"
        );
        assert_eq!(
            text.matches("db\\n2024").count() + text.matches("db\\\\n2024").count(),
            4,
            "{text}"
        );
    }

    #[test]
    fn json_is_one_object_a_line_with_the_name_intact() {
        let text = logged(Format::Json, Level::Info);
        let lines: Vec<serde_json::Value> = text
            .split_terminator('\n')
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert_eq!(lines[0]["container"], HOSTILE);
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[2]["container"], HOSTILE);
    }

    #[test]
    fn libraries_speak_from_warning_on() {
        let text = logged(Format::Text, Level::Debug);
        assert!(text.contains("more") && text.contains("matters") && !text.contains("chatter"));
        assert_eq!(logged(Format::Text, Level::Off), "");
    }
}
