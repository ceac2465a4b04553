//! `tidegate conns`: the live connections.

use std::io::stdout;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use terminal_size::terminal_size_of;

use super::ask::{self, Whose};
use super::table::table;
use crate::control::client::{Client, Fault};
use crate::control::model::{Connection, Filter, Path};
use crate::control::select::{Query, Selection};
use crate::control::words::{NONE, bytes, span};
use crate::say::say_on;

const HELP: &str = "\
Columns that do not fit the terminal are left out; --json has everything.

Examples:
  tidegate conns                                every live connection
  tidegate conns --server web/alpha --older-than 1h
  tidegate conns --source 10.0.0.0/8 --paths    with round-trip time and retransmits of both sides
  tidegate conns --watch                        redrawn each second
  tidegate conns --json | jq -r .client

Exit codes: 0 success, 1 the process cannot be asked, 2 the command line is wrong,
3 it does not know what was named, or refuses.";

/// Rows that are lined up with each other.
const BATCH: usize = 1000;

/// How often `--watch` draws.
const EVERY: Duration = Duration::from_secs(1);

/// `tidegate conns`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Conns {
    #[command(flatten)]
    whose: Whose,
    #[command(flatten)]
    filter: Filter,
    /// Write one JSON object a line instead of a table
    #[arg(long)]
    json: bool,
    /// Draw anew each second, as many as fit the terminal
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Ask the kernel about both sides of each
    #[arg(long)]
    paths: bool,
}

impl Conns {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        if let Err(refusal) = Selection::new(&self.filter) {
            return Ok(super::misused(&refusal.to_string()));
        }
        let client = match self.whose.client()? {
            Ok(client) => client,
            Err(code) => return Ok(code),
        };
        let query = Query { filter: self.filter, paths: self.paths, limit: None };
        ask::end(match (self.json, self.watch) {
            (true, _) => client.connections(&query, |line| say_on(format_args!("{line}\n"))),
            (false, true) => watch(&client, query),
            (false, false) => list(&client, &query),
        })
    }
}

fn list(client: &Client, query: &Query) -> Result<(), Fault> {
    let width = width();
    let mut batch = Vec::new();
    let mut with_heads = true;
    client.connections(query, |line| {
        batch.push(serde_json::from_str(line)?);
        if batch.len() < BATCH {
            return Ok(true);
        }
        let text = lines(&std::mem::take(&mut batch), query.paths, width, std::mem::take(&mut with_heads));
        say_on(text)
    })?;
    say_on(lines(&batch, query.paths, width, with_heads))?;
    Ok(())
}

/// Ends with the reader of what is written, or with a signal.
fn watch(client: &Client, query: Query) -> Result<(), Fault> {
    let height = terminal_size_of(stdout()).map_or(usize::MAX, |(_, height)| usize::from(height.0));
    // A line for the heads, one for what is left out, and one for the cursor.
    let room = height.saturating_sub(3).max(1);
    let query = Query { limit: Some(room as u64 + 1), ..query };
    // From the top of the screen on, so that it does not flicker; what is left of the last time is wiped.
    let clear = if height == usize::MAX { "" } else { "\x1b[H\x1b[J" };
    loop {
        let mut all: Vec<Connection> = Vec::new();
        client.connections(&query, |line| {
            all.push(serde_json::from_str(line)?);
            Ok(true)
        })?;
        let more = if all.len() > room { "… and more\n" } else { "" };
        all.truncate(room);
        let text = lines(&all, query.paths, width(), true);
        if !say_on(format_args!("{clear}{text}{more}"))? {
            return Ok(());
        }
        sleep(EVERY);
    }
}

/// The columns of a terminal; without one there is no limit.
fn width() -> usize {
    terminal_size_of(stdout()).map_or(usize::MAX, |(width, _)| usize::from(width.0))
}

/// A column: its head, what it has of a connection, and how soon it is left out, the largest first.
struct Column(&'static str, fn(&Connection) -> String, u8);

const COLUMNS: [Column; 11] = [
    Column("ID", |it| it.id.clone(), 4),
    Column("LISTENER", |it| it.listener.clone(), 6),
    Column("CLIENT", |it| it.client.map_or_else(|| "unix".to_owned(), |at| at.to_string()), 0),
    Column("SERVER", |it| format!("{}/{}", it.pool, it.server.as_deref().unwrap_or(NONE)), 0),
    Column("STATE", |it| it.state.name().to_owned(), 5),
    Column(">AGE", |it| span(it.age_ms), 0),
    Column(">IDLE", |it| it.idle_ms.map_or_else(|| NONE.to_owned(), span), 3),
    Column(">UP", |it| bytes(it.bytes.up as f64), 2),
    Column(">DOWN", |it| bytes(it.bytes.down as f64), 2),
    Column(">WORKER", |it| it.worker.to_string(), 8),
    Column("ENGINE", |it| it.engine.clone(), 7),
];

const PATHS: [Column; 4] = [
    Column(">CLIENT RTT", |it| rtt(it.client_path), 1),
    Column(">RESENT", |it| resent(it.client_path), 1),
    Column(">SERVER RTT", |it| rtt(it.server_path), 1),
    Column(">RESENT", |it| resent(it.server_path), 1),
];

fn rtt(path: Option<Path>) -> String {
    path.map_or_else(|| NONE.to_owned(), |path| format!("{:.1} ms", f64::from(path.rtt_us) / 1000.0))
}

fn resent(path: Option<Path>) -> String {
    path.map_or_else(|| NONE.to_owned(), |path| path.retransmits.to_string())
}

/// A table with as many columns as fit, and with the heads if asked for.
fn lines(all: &[Connection], paths: bool, width: usize, with_heads: bool) -> String {
    let paths: &[Column] = if paths { &PATHS } else { &[] };
    let mut columns: Vec<&Column> = COLUMNS.iter().chain(paths).collect();
    loop {
        let heads = columns.iter().map(|Column(head, ..)| (*head).to_owned()).collect();
        let mut lines: Vec<Vec<String>> = vec![heads];
        lines.extend(all.iter().map(|it| columns.iter().map(|Column(_, cell, _)| cell(it)).collect()));
        let text = table(&lines);
        let least = columns.iter().map(|Column(.., soon)| *soon).max().unwrap_or(0);
        if least == 0 || text.lines().all(|line| line.chars().count() <= width) {
            let skipped = usize::from(!with_heads);
            let cut =
                text.lines().skip(skipped).map(|line| line.chars().take(width).collect::<String>() + "\n");
            return cut.collect();
        }
        columns.retain(|Column(.., soon)| *soon < least);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::{Bytes, SessionState};

    fn connection() -> Connection {
        Connection {
            id: "00000001000000a3".to_owned(),
            listener: "web".to_owned(),
            client: Some("192.0.2.1:50000".parse().unwrap()),
            pool: "web".to_owned(),
            server: Some("alpha".to_owned()),
            state: SessionState::Relaying,
            age_ms: 61_000,
            idle_ms: None,
            bytes: Bytes { up: 100, down: 2048 },
            client_path: Some(Path { rtt_us: 1234, retransmits: 7 }),
            server_path: None,
            worker: 1,
            engine: "mio".to_owned(),
        }
    }

    #[test]
    fn a_wide_terminal_shows_everything() {
        let expected = "\
ID                LISTENER  CLIENT           SERVER     STATE      AGE  IDLE     UP     DOWN  WORKER  ENGINE
00000001000000a3  web       192.0.2.1:50000  web/alpha  relaying  1m1s     -  100 B  2.0 KiB       1  mio
";
        assert_eq!(lines(&[connection()], false, 200, true), expected);
        let (_, row) = expected.split_once('\n').unwrap();
        assert_eq!(
            lines(&[connection()], false, 200, false).split_whitespace().count(),
            row.split_whitespace().count()
        );
        let paths = lines(&[connection()], true, 200, true);
        assert!(
            paths.contains("CLIENT RTT  RESENT  SERVER RTT  RESENT") && paths.contains("1.2 ms"),
            "{paths}"
        );
    }

    #[test]
    fn a_narrow_terminal_loses_what_matters_least() {
        for (width, paths, first, last) in [
            (100, false, "ID", "ENGINE"),
            (80, false, "ID", "DOWN"),
            (60, false, "CLIENT", "DOWN"),
            (80, true, "CLIENT", "RESENT"),
            (30, true, "CLIENT", "SERVER      A"),
        ] {
            let text = lines(&[connection()], paths, width, true);
            let heads = text.lines().next().unwrap();
            assert!(heads.starts_with(first) && heads.trim_end().ends_with(last), "{width}:\n{text}");
            assert!(text.lines().all(|line| line.len() <= width), "{width}:\n{text}");
        }
        let unix = Connection { client: None, ..connection() };
        assert!(lines(&[unix], false, 60, true).contains("unix  "));
    }
}
