//! `tidegate engines`: what each way of doing I/O is, and whether it can be used here.

use std::fmt::Write as _;

use serde::Serialize;

use super::table::table;
use crate::config::{EngineKind, Uring};
use crate::engine::{FACTS, Facts, Model, Unavailable, probe};
use crate::say::say;

/// One engine on this machine.
#[derive(Serialize)]
struct Row {
    engine: &'static str,
    /// The other name that configurations may use.
    synonym: Option<&'static str>,
    runs_here: bool,
    /// Why not, and what to do about it.
    #[serde(flatten)]
    unavailable: Option<Unavailable>,
    model: Model,
    notification: &'static str,
    copies: &'static str,
    calls_per_message: Calls,
    bytes_at_rest: u32,
}

#[derive(Clone, Copy, Serialize)]
struct Calls {
    on_1_connection: f32,
    on_64_connections: f32,
}

impl Row {
    fn new(facts: &Facts) -> Self {
        let [one, many] = facts.calls_per_message;
        let unavailable = probe(facts.kind, Uring::default(), 1).err();
        Self {
            engine: facts.kind.name(),
            synonym: facts.kind.synonym(),
            runs_here: unavailable.is_none(),
            unavailable,
            model: facts.model,
            notification: facts.notification,
            copies: facts.copies,
            calls_per_message: Calls { on_1_connection: one, on_64_connections: many },
            bytes_at_rest: facts.bytes_at_rest,
        }
    }

    /// In the order of [`HEADS`].
    fn cells(&self) -> [String; 8] {
        let Calls { on_1_connection: one, on_64_connections: many } = self.calls_per_message;
        [
            self.engine.to_owned(),
            self.synonym.unwrap_or("").to_owned(),
            if self.runs_here { "yes" } else { "no" }.to_owned(),
            self.model.to_string(),
            format!("{one:.1} / {many:.1}"),
            format!("{} B", self.bytes_at_rest),
            self.notification.to_owned(),
            self.copies.to_owned(),
        ]
    }
}

const HEADS: [&str; 8] =
    ["engine", "also called", "runs here", "model", "calls", "at rest", "notification", "copies"];

const LEGEND: &str = "\
calls    system calls for a message of 100 bytes that passes through: on one connection / on each of 64
at rest  memory that an idle connection takes in the process, the kernel's sockets not counted
         (both measured on one machine, by `tidegate lab run`)
";

/// Shows all engines, as a table or in JSON.
pub(super) fn show(json: bool) -> anyhow::Result<()> {
    let rows: Vec<Row> = FACTS.iter().map(Row::new).collect();
    if json {
        return Ok(say(format_args!("{}\n", serde_json::to_string_pretty(&rows)?))?);
    }
    let heads = HEADS.map(str::to_owned).to_vec();
    let cells = rows.iter().map(|row| row.cells().to_vec());
    let mut text = table(&std::iter::once(heads).chain(cells).collect::<Vec<_>>());
    writeln!(text, "\nauto, the default, is {}.", EngineKind::Auto.resolved().name())?;
    for row in &rows {
        if let Some(Unavailable { cause, remedy }) = &row.unavailable {
            writeln!(text, "{} cannot run here: {cause}\n  = help: {remedy}", row.engine)?;
        }
    }
    Ok(say(text + "\n" + LEGEND)?)
}
