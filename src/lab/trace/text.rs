//! The picture for a terminal: at most 110 columns.

use std::fmt::Write;

use super::stage::{MESSAGE, THINKS, TRIES};
use super::steps::{Act, Deed, Life, Side, Step, explained};
use crate::lab::report::wrap;

/// Columns of a line.
const WIDTH: usize = 110;
/// Where lanes are.
const CLIENT: usize = 19;
const SOCKETS: [usize; 2] = [32, 93];
const SERVER: usize = 106;

/// What an arrow is drawn of.
#[derive(Clone, Copy)]
enum Line {
    /// A call, a report, or a message on its way.
    Plain,
    /// A call that copies bytes.
    Copies,
    /// Something in the ring that moves bytes.
    Ring,
}

impl Line {
    fn stroke(self) -> char {
        match self {
            Self::Plain => '─',
            Self::Copies => '═',
            Self::Ring => '┅',
        }
    }
}

/// All lives and what they took.
pub(super) fn page(lives: &[Life]) -> String {
    let mut text = String::new();
    let bytes = format!(
        "{MESSAGE} bytes to the server, {MESSAGE} bytes back over one open connection, by a proxy with one worker. \
         The server takes {} ms for its answer. The fastest of {TRIES} is shown.",
        THINKS.as_millis()
    );
    wrap(&mut text, "One request: ", &bytes);
    for life in lives {
        text.push('\n');
        picture(&mut text, life);
    }
    text.push_str(
        "\n═ a call that copies bytes   ┅ passes through the shared ring: no call, the kernel copies   ┊ asleep\n",
    );
    for life in lives {
        wrap(&mut text, &format!("{}: ", life.engine.name()), &life.checked);
    }
    text.push('\n');
    totals(&mut text, lives);
    text
}

fn picture(text: &mut String, life: &Life) {
    wrap(text, &format!("{}  ", life.engine.name()), explained(life.model));
    text.push('\n');
    heads(text, life.threads);
    let mut asleep = vec![true; life.threads];
    for step in &life.steps {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", row(step, life.threads, &mut asleep));
    }
}

fn heads(text: &mut String, threads: usize) {
    let mut above = Row::empty();
    above.centred(CLIENT, "client");
    above.centred(SERVER, "server");
    let mut below = Row::empty();
    below.put(0, "  at, µs    took");
    for (at, name) in SOCKETS.into_iter().zip(["(client's socket)", "(server's socket)"]) {
        above.centred(at, "kernel");
        below.centred(at, name);
    }
    for thread in 0..threads {
        above.centred(lane(thread, threads), "tidegate");
        if threads > 1 {
            below.centred(lane(thread, threads), &format!("thread {}", thread + 1));
        }
    }
    let _ = writeln!(text, "{}\n{}", above.text(), below.text());
}

/// Where a thread is.
fn lane(thread: usize, threads: usize) -> usize {
    SOCKETS[0] + (SOCKETS[1] - SOCKETS[0]) * (thread + 1) / (threads + 1)
}

fn socket(side: Side) -> usize {
    SOCKETS[usize::from(side == Side::Server)]
}

fn row(step: &Step, threads: usize, asleep: &mut [bool]) -> String {
    if let Deed::Thread { thread, act, .. } = &step.deed {
        asleep[*thread] = matches!(act, Act::Sleeps(_));
    }
    let mut row = Row::empty();
    row.time(step);
    for at in [CLIENT, SERVER] {
        row.put(at, "│");
    }
    for at in SOCKETS {
        row.put(at, "╎");
    }
    for (thread, asleep) in asleep.iter().enumerate() {
        row.put(lane(thread, threads), if *asleep { "┊" } else { "┃" });
    }
    let bytes = format!("{MESSAGE} B");
    match &step.deed {
        Deed::PeerSends(Side::Client) => row.arrow(CLIENT, SOCKETS[0], Line::Plain, &bytes),
        Deed::PeerSends(Side::Server) => row.arrow(SERVER, SOCKETS[1], Line::Plain, &bytes),
        Deed::PeerGets(Side::Client) => row.arrow(SOCKETS[0], CLIENT, Line::Plain, &bytes),
        Deed::PeerGets(Side::Server) => row.arrow(SOCKETS[1], SERVER, Line::Plain, &bytes),
        Deed::Thread { thread, act, .. } => {
            let (at, label) = (lane(*thread, threads), step.deed.label());
            match act {
                Act::Sleeps(_) | Act::Calls { socket: None, .. } => row.centred(at, &format!("┤ {label} ├")),
                Act::Wakes(side) => row.arrow(socket(*side), at, Line::Plain, &label),
                Act::Calls { socket: Some(side), .. } => row.arrow(at, socket(*side), Line::Plain, &label),
                Act::Receives(side, _) => row.arrow(socket(*side), at, Line::Copies, &label),
                Act::Sends(side, _) => row.arrow(at, socket(*side), Line::Copies, &label),
                Act::Submits(Some(side)) => row.arrow(at, socket(*side), Line::Ring, &label),
                Act::Completes { socket: Some(side), .. } => row.arrow(socket(*side), at, Line::Ring, &label),
                Act::Submits(None) | Act::Completes { .. } => row.centred(at, &format!("┅ {label} ┅")),
            }
        }
    }
    row.text()
}

/// What is asked of each, side by side.
fn totals(text: &mut String, lives: &[Life]) {
    let mut line = |name: &str, cell: &dyn Fn(&Life) -> String| {
        let cells: String = lives.iter().map(|life| format!("{:>14}", cell(life))).collect();
        let _ = writeln!(text, "{name:<52}{cells}");
    };
    line("", &|life| life.engine.name().to_owned());
    for (name, cell) in Life::COMPARED {
        line(name, &cell);
    }
    for life in lives {
        let calls: Vec<String> =
            life.totals.calls.iter().map(|(name, count)| format!("{name} {count}")).collect();
        wrap(text, &format!("{}: ", life.engine.name()), &calls.join(", "));
    }
}

/// A line of characters.
struct Row(Vec<char>);

impl Row {
    fn empty() -> Self {
        Self(vec![' '; WIDTH])
    }

    fn put(&mut self, at: usize, text: &str) {
        for (place, char) in self.0.iter_mut().skip(at).zip(text.chars()) {
            *place = char;
        }
    }

    fn centred(&mut self, at: usize, text: &str) {
        self.put(at.saturating_sub(text.chars().count() / 2), text);
    }

    fn time(&mut self, step: &Step) {
        let micros = |nanos: i64| format!("{:.1}", nanos as f64 / 1e3);
        let at = if step.at < 0 { "before".to_owned() } else { micros(step.at) };
        self.put(0, &format!("{at:>8}"));
        if let Some(took) = step.took {
            self.put(8, &format!("{:>8}", micros(took.cast_signed())));
        }
    }

    /// From one lane to another, with a label that has its own ground.
    fn arrow(&mut self, from: usize, to: usize, line: Line, label: &str) {
        let (left, right) = (from.min(to) + 1, from.max(to));
        for place in &mut self.0[left..right] {
            *place = line.stroke();
        }
        let (head, at) = if from < to { ("▶", right - 1) } else { ("◀", left) };
        self.put(at, head);
        self.centred(usize::midpoint(left, right), &format!(" {label} "));
    }

    fn text(&self) -> String {
        self.0.iter().collect::<String>().trim_end().to_owned()
    }
}
