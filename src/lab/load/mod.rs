//! The load: clients and back ends, each a process of its own with one thread, so that what they cost is not the
//! proxy's, and neither can hide what it does to the bytes.
//!
//! They are told what to do by one JSON argument, and say what happens by lines of JSON on their standard output. They
//! end with their standard input.

mod back_end;
mod clients;
mod epoll;
mod pattern;
mod reader;
mod schedule;

use std::io::{self, BufRead};
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::measure::Usage;
use super::results::{Latency, RatePoint};
use super::workload::Work;

/// What a process of the load is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Role {
    BackEnd(BackEndTask),
    Clients(ClientsTask),
}

/// What a back end is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct BackEndTask {
    pub(super) work: Work,
    /// Bytes of a reply.
    pub(super) reply: u32,
}

/// What clients are to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ClientsTask {
    pub(super) work: Work,
    pub(super) connections: u32,
    /// Bytes of a reply; of [`Work::Integrity`], bytes each way of a connection.
    pub(super) size: u32,
    /// Where to connect to, in turns.
    pub(super) targets: Vec<SocketAddr>,
    /// Seconds before the measured window.
    pub(super) warm_up: f64,
    /// Seconds that are measured.
    pub(super) window: f64,
    /// The processes of the proxy, whose costs are measured.
    pub(super) proxy: Vec<u32>,
    /// The back end's.
    pub(super) back_end: u32,
    /// All traffic rests at both edges of the window, until told to go on by a line of input.
    pub(super) rests: bool,
}

/// What a back end says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum BackEndSays {
    Listening(Vec<SocketAddr>),
    /// Its last words.
    Ended(Tally),
}

/// What clients say, in this order; behind [`ClientsSay::Begin`] with `rests`, and behind [`ClientsSay::End`] always,
/// they wait for a line of input. Whoever fails says [`ClientsSay::Ended`] at once.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ClientsSay {
    /// Everybody is connected and warm.
    Begin,
    /// The window is over; connections are still open.
    End(Box<Window>),
    /// All is closed.
    Ended(Tally),
}

/// All bytes of a process's life, and what went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) errors: u64,
    /// The first of them.
    pub(super) error: Option<String>,
}

impl Tally {
    fn fail(&mut self, what: impl FnOnce() -> String) {
        self.errors += 1;
        self.error.get_or_insert_with(what);
    }
}

/// What clients measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Window {
    pub(super) seconds: f64,
    /// Replies, connections or streams' bytes, as the work has it.
    pub(super) units: u64,
    /// Bytes that clients sent and received.
    pub(super) bytes: u64,
    pub(super) latency: Option<Latency>,
    pub(super) curve: Vec<RatePoint>,
    /// Of the proxy: user and system CPU seconds, voluntary and involuntary switches if they are known.
    pub(super) cpu: [f64; 2],
    pub(super) switches: Option<[u64; 2]>,
    /// CPU seconds of the clients and of the back end.
    pub(super) load_cpu: [f64; 2],
}

impl Window {
    /// What the proxy, the clients and the back end used between two moments.
    fn between(before: &[Usage; 3], after: &[Usage; 3], seconds: f64) -> Self {
        let [proxy, clients, back_end] = [0, 1, 2].map(|which| after[which].since(&before[which]));
        Self {
            seconds,
            cpu: [proxy.cpu_user, proxy.cpu_system],
            switches: after[0].switches_since(&before[0]),
            load_cpu: [clients, back_end].map(|used| used.cpu_user + used.cpu_system),
            ..Self::default()
        }
    }
}

/// The whole life of a process of the load.
///
/// # Errors
/// The task cannot be understood, or the system refuses what every load needs: a listener, an epoll instance. What
/// connections meet is told in the tally instead.
pub fn serve(task: &str) -> anyhow::Result<ExitCode> {
    match serde_json::from_str(task).context("the task of a load")? {
        Role::BackEnd(task) => back_end::serve(&task)?,
        Role::Clients(task) => clients::serve(task)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Waits for the lab's word; `false` when it is gone.
fn await_word() -> io::Result<bool> {
    Ok(io::stdin().lock().read_line(&mut String::new())? > 0)
}
