//! `tidegate lab`: the same workloads over every engine of this program and over others' proxies, on this machine, and
//! a report that says who wins where, by how much, and why.
//!
//! Everything that is measured is a process of its own, pinned to its CPU: the proxy on one, the load (`load`) on
//! others. `plan` says what is to be measured, `cell` measures one subject with one workload once, `run` has all of
//! them take turns and fills [`results`]. [`trace`] shows one request instead of measuring many.

mod cell;
mod child;
pub mod compare;
pub mod facts;
mod load;
pub mod measure;
mod network;
pub mod peers;
mod plan;
mod proxy;
pub mod report;
pub mod results;
mod room;
mod run;
pub mod statistics;
mod subject;
pub mod trace;
pub mod tracer;
pub mod words;
pub mod workload;

use std::io::{self, Write};
use std::time::Instant;

use serde::Serialize;

pub use child::exec_here;
pub use load::serve;
pub use plan::{Options, Plan};
pub use proxy::serve as serve_counted;
pub use run::run;

/// The lab measures the proxy from outside, and is none of the rooms that get the time as an argument.
#[expect(clippy::disallowed_methods, reason = "measures the proxy from outside")]
fn now() -> Instant {
    Instant::now()
}

/// Says something to the process that has started this one: a line of JSON on the standard output.
fn say_line(what: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, what)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
