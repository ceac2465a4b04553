//! `tidegate ctl` and `tidegate diff`: what a running process is told.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use axum::http::Method;
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::ask::{self, Where, Whose};
use super::status;
use crate::config;
use crate::control::client::{Body, Client, Fault};
use crate::control::model::{Changed, Closing, Effect, Filter};
use crate::control::select::Selection;
use crate::say::say;

const HELP: &str = "\
The process listens on its control socket when its configuration has a table [admin].

Examples:
  tidegate ctl status                           listeners, pools, servers and workers
  tidegate ctl drain web/alpha                  no new connections for this server; ctl ready undoes it
  tidegate ctl weight web/alpha 5               its share of new connections
  tidegate ctl kill --server web/alpha --rate 50/s
  tidegate ctl reload --confirm 60s             taken back unless `tidegate ctl confirm` follows
  tidegate ctl --socket /run/x.sock status      another process on this host

Exit codes: 0 success, 1 the process cannot be asked, 2 the command line is wrong,
3 it does not know what was named, or refuses.";

const KILL_HELP: &str = "\
Connections that fit every condition are reset. At least one is needed, or --all.

Examples:
  tidegate ctl kill --source 10.9.0.0/16
  tidegate ctl kill --server web/alpha --older-than 1h --rate 50/s
  tidegate ctl kill --id 00000001000000a3";

const DIFF_HELP: &str = "\
The new configuration is read here, checked, and sent whole; nothing is changed. The control socket is the one that
it names in [admin], unless --socket names another.

Example:
  tidegate diff -c proxy.toml.new

Exit codes: 0 success, 1 errors in the configuration or the process cannot be asked, 2 the command line is wrong,
3 the process refuses.";

/// `tidegate ctl …`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Ctl {
    #[command(flatten)]
    whose: Whose,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show listeners, pools, servers and workers
    Status(Status),
    /// Read the configuration again
    Reload {
        /// Take it back after this time unless `tidegate ctl confirm` comes before: 60s, 5m
        #[arg(long, value_name = "DURATION", value_parser = config::duration)]
        confirm: Option<Duration>,
    },
    /// Keep what a reload with --confirm has changed
    Confirm,
    /// Take back at once what a reload with --confirm has changed
    Rollback,
    /// Give a server no new connections; those that are there go on
    Drain(Target),
    /// Give a server new connections again
    Ready(Target),
    /// Give a server no new connections, as drain does, and do not check it meanwhile
    Maint(Target),
    /// Set a server's share of new connections
    Weight {
        #[command(flatten)]
        target: Target,
        /// 0 to 65535; twice the weight gets twice the connections
        weight: u16,
    },
    /// Reset connections
    #[command(after_help = KILL_HELP)]
    Kill(Kill),
    /// Close as many connections as it takes to even out a pool's servers
    Rebalance {
        /// The pool
        #[arg(value_parser = pool)]
        pool: String,
        /// So many a second, instead of close_rate of the pool
        #[arg(long, value_name = "N/s", value_parser = rate)]
        rate: Option<NonZeroU32>,
    },
    /// Set the level of the log
    LogLevel {
        /// The level
        #[arg(value_parser = config::LEVELS.map(|(name, _)| name))]
        level: String,
    },
    /// Write the configuration that is in effect, every default filled in
    Dump,
}

#[derive(Debug, Args)]
struct Status {
    /// Write JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// A server.
#[derive(Debug, Args)]
struct Target {
    /// The server
    #[arg(value_name = "POOL/SERVER", value_parser = target)]
    server: (String, String),
}

#[derive(Debug, Args)]
struct Kill {
    #[command(flatten)]
    filter: Filter,
    /// Every connection
    #[arg(long)]
    all: bool,
    /// So many a second, instead of all at once
    #[arg(long, value_name = "N/s", value_parser = rate)]
    rate: Option<NonZeroU32>,
}

/// `tidegate diff`.
#[derive(Debug, Args)]
#[command(after_help = DIFF_HELP)]
pub(super) struct Diff {
    /// The new configuration
    #[arg(short, long = "config", value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    place: Where,
}

fn target(text: &str) -> Result<(String, String), String> {
    let both = text.split_once('/').filter(|(pool, server)| !pool.is_empty() && !server.is_empty());
    let both = both.filter(|(pool, server)| is_name(pool) && is_server(server));
    let (pool, server) = both.ok_or("a pool and a server of it, such as web/alpha")?;
    Ok((pool.to_owned(), server.to_owned()))
}

fn pool(text: &str) -> Result<String, String> {
    if text.is_empty() || !is_name(text) {
        return Err("the name of a pool, such as web".to_owned());
    }
    Ok(text.to_owned())
}

fn rate(text: &str) -> Result<NonZeroU32, String> {
    let rate = config::rate(text).and_then(NonZeroU32::new);
    rate.ok_or_else(|| "a rate is a whole number a second, from 1/s to 1000000/s".to_owned())
}

/// Whether a configuration can name something so; then it needs no quoting in a path either.
fn is_name(text: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
}

/// Whether something can be called so at run time: also an address of a name, as `pg@10.0.0.1:5432`.
fn is_server(text: &str) -> bool {
    let (given, address) = text.split_once('@').map_or((text, None), |(given, at)| (given, Some(at)));
    is_name(given) && address.is_none_or(|at| at.parse::<SocketAddr>().is_ok())
}

impl Ctl {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        if let Verb::Kill(kill) = &self.verb
            && let Some(wrong) = kill.misuse()
        {
            return Ok(super::misused(&wrong));
        }
        match self.whose.client()? {
            Ok(client) => ask::end(self.verb.ask(&client)),
            Err(code) => Ok(code),
        }
    }
}

impl Verb {
    fn ask(self, client: &Client) -> Result<(), Fault> {
        match self {
            Self::Status(Status { json: true }) => {
                Ok(say(client.ask_text(Method::GET, "/api/v1/status", Body::None)?)?)
            }
            Self::Status(Status { json: false }) => Ok(say(status::tables(&client.status()?))?),
            Self::Reload { confirm: None } => tell(&post(client, "/api/v1/reload", json!({}))?),
            Self::Reload { confirm: Some(wait) } => {
                let within = config::duration_text(wait);
                tell(&post(client, "/api/v1/reload", json!({ "confirm": within }))?)?;
                Ok(say(format_args!("taken back in {within} unless `tidegate ctl confirm` comes before\n"))?)
            }
            Self::Confirm => changed(&client.ask(Method::POST, "/api/v1/reload/confirm", Body::None)?),
            Self::Rollback => tell(&client.ask(Method::POST, "/api/v1/reload/rollback", Body::None)?),
            Self::Drain(target) => target.set(client, "state", json!({ "state": "drain" })),
            Self::Ready(target) => target.set(client, "state", json!({ "state": "ready" })),
            Self::Maint(target) => target.set(client, "state", json!({ "state": "maint" })),
            Self::Weight { target, weight } => target.set(client, "weight", json!({ "weight": weight })),
            Self::Kill(Kill { filter, all, rate }) => {
                let asked = json!({ "filter": filter, "all": all, "rate": rate });
                closing(&post(client, "/api/v1/kill", asked)?)
            }
            Self::Rebalance { pool, rate } => {
                closing(&post(client, &format!("/api/v1/pools/{pool}/rebalance"), json!({ "rate": rate }))?)
            }
            Self::LogLevel { level } => {
                let body = Body::Json(json!({ "level": level }));
                changed(&client.ask(Method::PUT, "/api/v1/log-level", body)?)
            }
            Self::Dump => Ok(say(client.ask_text(Method::GET, "/api/v1/config", Body::None)?)?),
        }
    }
}

fn post<T: DeserializeOwned>(client: &Client, target: &str, value: Value) -> Result<T, Fault> {
    client.ask(Method::POST, target, Body::Json(value))
}

impl Target {
    fn set(&self, client: &Client, what: &str, value: Value) -> Result<(), Fault> {
        let (pool, server) = &self.server;
        // Brackets of IPv6 cannot stand in a path, and `%` of its zones means something else there.
        let server = server.replace('%', "%25").replace('[', "%5B").replace(']', "%5D");
        let target = format!("/api/v1/pools/{pool}/servers/{server}/{what}");
        changed(&client.ask(Method::PUT, &target, Body::Json(value))?)
    }
}

impl Kill {
    /// Why so much, or so little, cannot be meant.
    fn misuse(&self) -> Option<String> {
        match (self.filter == Filter::default(), self.all) {
            (true, false) => {
                Some("which connections? Give a condition such as --server, or --all".to_owned())
            }
            (false, true) => Some("--all goes with no condition".to_owned()),
            _ => Selection::new(&self.filter).err().map(|refusal| refusal.to_string()),
        }
    }
}

impl Diff {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let config = match config::load(&self.config) {
            Ok(config) => config,
            Err(report) => return Ok(super::refuse(&report)),
        };
        let named = config.admin.as_ref().and_then(|admin| admin.socket.clone());
        let client = ask::client(&self.place.socket.or(named).unwrap_or_else(ask::usual))?;
        let body = Body::Toml(config::dump(&config));
        let effect = client.ask(Method::POST, "/api/v1/diff", body);
        ask::end(effect.and_then(|effect| tell(&effect)))
    }
}

fn changed(Changed { what, next_reload }: &Changed) -> Result<(), Fault> {
    Ok(say(format_args!("{what}\nthe next reload {next_reload}\n"))?)
}

fn tell(effect: &Effect) -> Result<(), Fault> {
    if effect.unchanged {
        return Ok(say("nothing differs\n")?);
    }
    Ok(say(effect.lines.iter().fold(String::new(), |text, line| text + line + "\n"))?)
}

fn closing(Closing { id, why, connections, told, rate }: &Closing) -> Result<(), Fault> {
    let pace = rate.map_or_else(|| ", all at once".to_owned(), |rate| format!(", {rate} a second"));
    let told = if *told == 0 { String::new() } else { format!(", {told} told so far") };
    Ok(say(format_args!("closing {id} ({why}): {connections} connections{pace}{told}\n"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_pool_and_a_server() {
        assert_eq!(target("web/alpha.1"), Ok(("web".to_owned(), "alpha.1".to_owned())));
        for wrong in ["", "web", "web/", "/alpha", "a/b/c", "web/al pha", "web/%2e"] {
            assert!(target(wrong).is_err(), "{wrong:?} was accepted");
        }
    }
}
