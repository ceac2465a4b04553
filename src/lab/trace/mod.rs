//! `tidegate lab trace`: the life of one request in an engine, as a sequence diagram of what really happened.
//!
//! `stage` has a proxy carry the request and records it, `steps` makes of the records what is to be seen, `text` and
//! `svg` draw that, `check` asks strace whether the system calls are those that the kernel saw.

mod check;
mod stage;
mod steps;
mod svg;
#[cfg(test)]
mod tests;
mod text;

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow};

use self::stage::Stage;
use self::steps::Life;
use super::tracer::Tracer;
use crate::config::{EngineKind, Uring};
use crate::engine::probe;
use crate::say::say;

/// How many engines fit into one picture.
pub const MOST: usize = 2;

/// Shows one request in each of `engines`, at most [`MOST`] of them and different ones, on the standard output. None
/// stands for mio and the engine that is least like it of those that run here. A picture of it is written to `picture`.
///
/// # Errors
/// An engine that cannot run here, with what to do about it; a proxy that fails; and what the file system says.
pub fn trace(engines: &[EngineKind], picture: Option<&Path>) -> anyhow::Result<()> {
    let tracer = Tracer::found();
    let lives = chosen(engines)
        .into_iter()
        .map(|engine| live(engine, &tracer).with_context(|| format!("engine {}", engine.name())))
        .collect::<anyhow::Result<Vec<_>>>()?;
    say(text::page(&lives))?;
    match picture {
        Some(file) => {
            fs::write(file, svg::picture(&lives)).with_context(|| format!("cannot write {}", file.display()))
        }
        None => Ok(()),
    }
}

fn chosen(engines: &[EngineKind]) -> Vec<EngineKind> {
    if !engines.is_empty() {
        return engines.iter().map(|engine| engine.resolved()).collect();
    }
    let uring = probe(EngineKind::IoUring, Uring::default(), 1);
    vec![EngineKind::Mio, if uring.is_ok() { EngineKind::IoUring } else { EngineKind::Threads }]
}

fn live(engine: EngineKind, tracer: &Result<Tracer, String>) -> anyhow::Result<Life> {
    probe(engine, Uring::default(), 1).map_err(|why| anyhow!("it cannot run here: {why}"))?;
    let mut stage = Stage::set(engine)?;
    let mut life = Life::of(&stage.record()?);
    life.checked = match tracer {
        Ok(tracer) => check::check(tracer, &mut stage, &life.totals.calls),
        Err(absent) => format!("not compared with strace: {absent}"),
    };
    Ok(life)
}
