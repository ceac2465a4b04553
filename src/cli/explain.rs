//! `tidegate explain`: why a client gets the server that it gets.

use std::fmt::Write as _;
use std::io::{Write as _, stderr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::table::table;
use crate::config::{self, Config};
use crate::control::model::{Explanation, Outcome, ProxyHeader, Question, Refusal, RefusalKind, Serving};
use crate::explain::explain;
use crate::say::say_on;
use crate::snapshot::Snapshot;
use crate::tick::Tick;

const HELP: &str = "\
With --config the file is asked: every server is taken to be up and to have no connections, and names are not looked
up. Without it the running process is asked, which knows better.

Examples:
  tidegate explain --source 10.1.2.3                        the running process
  tidegate explain -c proxy.toml --listener pg --source 10.1.2.3
  tidegate explain --source 10.1.2.3 --sni db.example.com --alpn postgresql
  tidegate explain --source 203.0.113.9 --peer 10.0.0.7     told by the PROXY header of 10.0.0.7
  tidegate explain --source 2001:db8::7 --json | jq -r .server

Exit codes: 0 it is told, whatever becomes of the client, 1 the configuration has errors or the process cannot
be asked, 2 the command line is wrong, 3 there is no such listener.";

/// `tidegate explain`.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(super) struct Explain {
    /// The configuration that is asked, instead of the running process
    #[arg(short, long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The control socket of the running process [default: that of /etc/tidegate/proxy.toml, or /run/tidegate/admin.sock]
    #[cfg(unix)]
    #[arg(long, value_name = "PATH", conflicts_with = "config")]
    socket: Option<PathBuf>,
    #[command(flatten)]
    question: Question,
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let explained = match &self.config {
            Some(file) => {
                let config = match config::load(file) {
                    Ok(config) => config,
                    Err(report) => return Ok(super::refuse(&report)),
                };
                let snapshot = Snapshot::new(&config, u32::MAX);
                let explained = explain(&config, &snapshot, &self.question, Tick(0), |_, _| None);
                explained.map(|it| without_lookups(&config, it))
            }
            None => self.ask()?,
        };
        match explained {
            Ok(explained) if self.json => say_on(serde_json::to_string_pretty(&explained)? + "\n")?,
            Ok(explained) => say_on(story(&explained))?,
            Err(refusal) if refusal.kind == RefusalKind::NotFound => {
                let _ = writeln!(stderr(), "tidegate: {refusal}");
                return Ok(ExitCode::from(super::REFUSED));
            }
            Err(refusal) => return Ok(super::misused(&refusal.to_string())),
        };
        Ok(ExitCode::SUCCESS)
    }

    #[cfg(unix)]
    fn ask(&self) -> anyhow::Result<Result<Explanation, Refusal>> {
        use super::ask;
        use crate::control::client::{Body, Fault};
        use axum::http::Method;

        let client = ask::client(&self.socket.clone().unwrap_or_else(ask::usual))?;
        let target = format!("/api/v1/explain?{}", self.question);
        match client.ask(Method::GET, &target, Body::None) {
            Ok(explained) => Ok(Ok(explained)),
            Err(Fault::Refused(refusal)) => Ok(Err(refusal)),
            Err(fault) => Err(fault.into()),
        }
    }

    #[cfg(not(unix))]
    fn ask(&self) -> anyhow::Result<Result<Explanation, Refusal>> {
        anyhow::bail!("on this system a running process cannot be asked: name a file with --config")
    }
}

/// Says so where nobody serves only because a file alone does not tell for whom its names and lists stand.
fn without_lookups(config: &Config, mut it: Explanation) -> Explanation {
    let pool = config.pools.iter().find(|pool| pool.name == it.pool);
    if it.outcome == Outcome::NoServer
        && pool.is_some_and(|pool| !pool.named.is_empty() || !pool.lists.is_empty())
    {
        let ends = it.then.split_once(':').map_or(&*it.then, |(ends, _)| ends);
        it.then = format!(
            "{ends}, as far as the file tells: names and lists of its pool are not looked up here; the running process, asked \
             without -c, knows their servers"
        );
    }
    it
}

/// What becomes of its PROXY header, where one is looked for.
fn header(it: &Explanation) -> String {
    let peer = it.peer.map_or_else(|| "its unix socket".to_owned(), |peer| peer.to_string());
    let says = match it.proxy_header {
        ProxyHeader::Off => return String::new(),
        ProxyHeader::Required => "is in accept_proxy's `from`: a PROXY header must come first",
        ProxyHeader::Payload => {
            "is none of accept_proxy's `from`: all its bytes are passed on as they are, a PROXY header too \
             (untrusted = \"payload\")"
        }
        ProxyHeader::Rejected => {
            "is none of accept_proxy's `from`, whose headers are believed (--peer names the proxy in front of a \
             client)"
        }
    };
    format!("  {peer} {says}\n")
}

/// The same for people.
fn story(it: &Explanation) -> String {
    let mut text = String::new();
    let who = it.source.map_or_else(|| "a client".to_owned(), |source| source.to_string());
    let asks = it.sni.as_ref().map(|name| format!(" asking for {name}")).unwrap_or_default();
    let offers = if it.alpn.is_empty() { String::new() } else { format!(" offering {}", it.alpn.join(", ")) };
    let _ = writeln!(text, "{who}{asks}{offers} at listener {}:", it.listener);
    text += &header(it);
    let rule = match (&it.access.rule, it.access.number) {
        (Some(rule), Some(number)) => format!("rule {number} of [access] is the first that names it: {rule}"),
        _ if it.access.allowed => "no rule of [access] names it: it is let in".to_owned(),
        _ => "no rule of [access] names it, and the default is \"deny\"".to_owned(),
    };
    let _ = writeln!(text, "  {rule}");
    if let Some(count) = it.source_connections {
        let most =
            it.source_connections_most.map(|most| format!(", and {most} is the most")).unwrap_or_default();
        let _ = writeln!(text, "  its source has {count} connections now{most}");
    }
    if let Some(number) = it.route {
        let _ = writeln!(text, "  route {number} is the first that takes it");
    } else if it.outcome == Outcome::NoRoute {
        let _ = writeln!(text, "  no route takes it");
    }
    if it.pool.is_empty() {
        return format!("{text}  it {}\n", it.then);
    }
    let serving = match it.serving {
        Serving::Servers => "",
        Serving::Backups => "; its backup servers serve, since no other takes connections",
        Serving::Down => "; servers that are down are tried, since no other is left",
        Serving::Nobody => "; none of its servers takes connections",
    };
    let _ = writeln!(text, "  pool {} chooses by {}{serving}", it.pool, it.balance);
    let result = match (it.outcome, &it.server) {
        (Outcome::Server, Some(server)) => format!("it gets {}/{server}, and {}", it.pool, it.then),
        _ => format!("it {}", it.then),
    };
    let _ = writeln!(text, "  {result}\n");
    let mut lines = vec![["SERVER", "ADDRESS", "FROM", "", "WHY"].map(str::to_owned).to_vec()];
    lines.extend(it.servers.iter().map(|server| {
        let mark = if server.chosen { "*" } else { "" };
        vec![
            format!("{}/{}", it.pool, server.name),
            server.address.clone(),
            server.origin.clone(),
            mark.to_owned(),
            server.why.clone(),
        ]
    }));
    text + &table(&lines)
}
