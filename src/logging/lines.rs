//! The program's own messages: from the `log` facade to a line.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::Thread;

use log::{Level, Log, Metadata};

use super::control::Wanted;
use super::recorder::Tally;
use super::stamp::{Now, Stamps};
use crate::config::LogFormat;
use crate::sys::Clock;
use crate::tick::Tick;

/// Lines that the program can be ahead of the writer.
pub(super) const CAPACITY: usize = 1024;

/// A message on its way to the writer.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) at: Tick,
    pub(super) level: Level,
    pub(super) text: String,
}

/// Takes what `log::info!` and its like say, on any thread, and never waits for the writer.
#[derive(Debug)]
pub(super) struct Logger {
    pub(super) wanted: Arc<Wanted>,
    pub(super) lines: SyncSender<Line>,
    pub(super) tally: Arc<Tally>,
    pub(super) writer: Thread,
    pub(super) clock: Clock,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.wanted.has(metadata.level())
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let line = Line { at: self.clock.now(), level: record.level(), text };
        self.tally.count(self.lines.try_send(line).is_ok());
        self.writer.unpark();
    }

    fn flush(&self) {}
}

/// Writes log lines.
#[derive(Debug)]
pub(super) struct LogLines {
    format: LogFormat,
    stamps: Stamps,
}

impl LogLines {
    pub(super) fn new(format: LogFormat) -> Self {
        Self { format, stamps: Stamps::default() }
    }

    /// Appends the line, without its end. The text is escaped as in JSON, in logfmt too, so that it stays
    /// on one line whatever it holds.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, line: &Line, now: Now) {
        let (before_ts, before_level, before_text, after) = match self.format {
            LogFormat::Logfmt => ("ts=", " level=", " msg=", ""),
            LogFormat::Json => ("{\"ts\":\"", "\",\"level\":\"", "\",\"msg\":", "}"),
        };
        out.extend_from_slice(before_ts.as_bytes());
        self.stamps.write(out, now.wall_ms_at(line.at));
        out.extend_from_slice(before_level.as_bytes());
        out.extend_from_slice(level_name(line.level).as_bytes());
        out.extend_from_slice(before_text.as_bytes());
        serde_json::to_writer(&mut *out, &line.text).expect("a Vec takes every byte");
        out.extend_from_slice(after.as_bytes());
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use log::LevelFilter;

    use super::*;

    const NOW: Now = Now { tick: Tick(10_000), wall_ms: 1_795_419_482_000 };

    fn shown(format: LogFormat, level: Level, text: &str) -> String {
        let mut out = Vec::new();
        let line = Line { at: Tick(8_123), level, text: text.to_owned() };
        LogLines::new(format).write(&mut out, &line, NOW);
        String::from_utf8(out).unwrap()
    }

    fn logger(level: LevelFilter, capacity: usize) -> (Logger, Receiver<Line>, Arc<Tally>) {
        let (sender, receiver) = sync_channel(capacity);
        let tally = Arc::new(Tally::default());
        let writer = std::thread::current();
        let clock = Clock::start();
        let wanted = Arc::new(Wanted::new(level));
        (Logger { wanted, lines: sender, tally: Arc::clone(&tally), writer, clock }, receiver, tally)
    }

    fn say(logger: &Logger, level: Level, text: &str) {
        logger.log(&log::Record::builder().level(level).args(format_args!("{text}")).build());
    }

    #[test]
    fn a_logfmt_line() {
        let expected = r#"ts=2026-11-23T07:38:00.123Z level=info msg="2 workers, café""#;
        assert_eq!(shown(LogFormat::Logfmt, Level::Info, "2 workers, café"), expected);
        assert!(shown(LogFormat::Logfmt, Level::Error, "").ends_with(r#" level=error msg="""#));
    }

    #[test]
    fn a_json_line() {
        let expected = r#"{"ts":"2026-11-23T07:38:00.123Z","level":"warn","msg":"slow"}"#;
        assert_eq!(shown(LogFormat::Json, Level::Warn, "slow"), expected);
    }

    #[test]
    fn whatever_a_text_holds_stays_on_one_line() {
        let nasty = "a \"b\" \\ c\nd\r\t\u{1b}[31m\0";
        let json = shown(LogFormat::Json, Level::Trace, nasty);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["msg"], nasty);
        assert_eq!(value["level"], "trace");
        let logfmt = shown(LogFormat::Logfmt, Level::Debug, nasty);
        assert!(logfmt.ends_with(r#" level=debug msg="a \"b\" \\ c\nd\r\t\u001b[31m\u0000""#), "{logfmt}");
    }

    #[test]
    fn a_full_channel_drops_and_counts() {
        let (logger, lines, tally) = logger(LevelFilter::Info, 2);
        for text in ["one", "two", "three"] {
            say(&logger, Level::Info, text);
        }
        assert_eq!((tally.offered(), tally.dropped()), (3, 1));
        let texts: Vec<String> = lines.try_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["one", "two"]);
        drop(lines);
        say(&logger, Level::Info, "after the writer has ended");
        assert_eq!((tally.offered(), tally.dropped()), (4, 2));
    }

    #[test]
    fn what_is_below_the_level_is_not_a_line() {
        let (logger, lines, tally) = logger(LevelFilter::Warn, 8);
        for level in [Level::Error, Level::Warn, Level::Info, Level::Debug, Level::Trace] {
            say(&logger, level, level_name(level));
        }
        let texts: Vec<String> = lines.try_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["error", "warn"]);
        assert_eq!(tally.offered(), 2);
    }
}
