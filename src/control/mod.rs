//! The control plane: one ordinary thread beside the workers. It sees everything, changes what may be changed at run
//! time, and can never slow a worker: it gives them immutable snapshots and small commands, and asks in small pieces.

pub mod api;
pub mod check;
#[cfg(unix)]
pub mod client;
pub mod discovery;
pub mod effect;
pub mod metrics;
pub mod model;
pub mod page;
pub mod select;
pub mod serve;
pub mod words;

use std::time::Duration;

use log::LevelFilter;
use model::{
    Changed, Closing, Connection, Effect, Explanation, Filter, Question, Refusal, ServerState, Status,
};

/// What can be asked of a running process. The control socket, HTTP and signals all end here.
pub trait Control: Send + Sync + 'static {
    /// The whole state now.
    fn status(&self) -> impl Future<Output = Status> + Send;

    /// Whether metrics tell of each server: `metrics.per_server`.
    fn has_metrics_per_server(&self) -> bool;

    /// The next live connections behind `after`, at most about a hundred; with the place to go on from, or none at the
    /// end. `with_paths` asks the kernel about both sides of each.
    fn connections(
        &self,
        filter: &Filter,
        after: Option<Cursor>,
        with_paths: bool,
    ) -> impl Future<Output = Result<(Vec<Connection>, Option<Cursor>), Refusal>> + Send;

    /// Sets a server's state until the file says another one.
    fn set_state(
        &self,
        pool: &str,
        server: &str,
        state: ServerState,
    ) -> impl Future<Output = Result<Changed, Refusal>> + Send;

    /// Sets a server's weight until the file says another one.
    fn set_weight(
        &self,
        pool: &str,
        server: &str,
        weight: u16,
    ) -> impl Future<Output = Result<Changed, Refusal>> + Send;

    /// Resets the connections that fit, `rate` a second, or all at once.
    fn kill(
        &self,
        filter: Filter,
        rate: Option<u32>,
    ) -> impl Future<Output = Result<Closing, Refusal>> + Send;

    /// Closes as many connections of servers that have more than their share as are needed to even it out, at quiet
    /// moments and idle ones first, `rate` a second or as `close_rate` of the pool says.
    fn rebalance(
        &self,
        pool: &str,
        rate: Option<u32>,
    ) -> impl Future<Output = Result<Closing, Refusal>> + Send;

    /// Reads the configuration again. With `confirm`, it is taken back after that time unless [`Control::confirm`] is
    /// called, or before if connect errors rise.
    fn reload(&self, confirm: Option<Duration>) -> impl Future<Output = Result<Effect, Refusal>> + Send;

    /// Keeps what a reload that waits for it has changed.
    fn confirm(&self) -> impl Future<Output = Result<Changed, Refusal>> + Send;

    /// Takes back what a reload that waits for a confirmation has changed.
    fn roll_back(&self) -> impl Future<Output = Result<Effect, Refusal>> + Send;

    /// What a reload with this configuration, a whole file as text, would do.
    fn diff(&self, text: &str) -> impl Future<Output = Result<Effect, Refusal>> + Send;

    /// Sets the level of the log until the file says another one.
    fn set_log_level(&self, level: LevelFilter) -> impl Future<Output = Changed> + Send;

    /// What would become of that client if it came now.
    fn explain(&self, question: &Question) -> impl Future<Output = Result<Explanation, Refusal>> + Send;

    /// The configuration that is in effect, every default filled in, as a file.
    fn dump(&self) -> impl Future<Output = String> + Send;
}

/// Where a walk over the live connections is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The worker.
    pub worker: u16,
    /// The first slot of its table that was not looked at.
    pub slot: u32,
}
