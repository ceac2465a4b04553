//! Which servers a pool has at run time: those of the file, those that names stand for, and those of lists that stand
//! elsewhere. Pure but for `ask` and `watch`.
//!
//! A configuration that is in effect is the file's with more `servers` in its pools ([`in_effect`]): whatever goes by
//! servers (snapshots, checks, overrides, the state) needs not know where they come from. Whoever else tells of servers
//! puts them there, too, each with its [`Origin`].

pub mod ask;
pub mod etcd;
mod list;
mod name;
mod parse;
mod reading;
mod tls;
pub mod watch;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use crate::config::{Address, Check, Config, DnsName, ListAt, Origin, Pool, Server, Source};
pub use list::{List, Look, Outcome as ListOutcome, left_out, members};
pub use name::{Answer, MOST, Name, Outcome};
pub use parse::{LARGEST_LIST, LONGEST_LIST, Listed, parse};

/// A server that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// As its record has it: those with the lowest serve, the others are for when these are gone (RFC 2782).
    pub priority: u16,
    /// Where.
    pub addr: SocketAddr,
    /// Its share among those of its service; none where the file says it.
    pub weight: Option<u16>,
    /// The host that has the address.
    pub host: String,
}

/// The configuration as it is in effect: names have become the servers that they stand for, behind those with an
/// address, and behind these are those of lists. `found` and `listed` (by pool) say which those are; none, as long as
/// nothing is known.
pub fn in_effect<'a>(
    file: &Config,
    found: impl Fn(&DnsName) -> &'a [Found],
    listed: impl Fn(&str, &ListAt) -> &'a [Listed],
) -> Config {
    let mut config = file.clone();
    for pool in &mut config.pools {
        let usable = |found: &&Found| can_reach(&pool.source, found.addr.ip());
        let mut servers = Vec::new();
        for named in &pool.named {
            let all = found(&named.addr).iter().filter(usable);
            let first = all.clone().map(|found| found.priority).min().unwrap_or(0);
            servers.extend(all.map(|found| member(named, found, first)));
        }
        pool.servers.extend(servers);
        for at in &pool.lists {
            let servers = members(pool, at, listed(&pool.name, at));
            pool.servers.extend(servers);
        }
    }
    config
}

/// Descriptors that are open at a time, at most, for who is asked for servers.
#[must_use]
pub fn descriptors(config: &Config) -> u64 {
    let named = || config.pools.iter().flat_map(|pool| &pool.named).map(|server| &server.addr);
    let services = named().filter(|name| matches!(name, DnsName::Service(_))).count();
    let lists = || config.pools.iter().flat_map(|pool| &pool.lists);
    let files = lists().filter(|at| matches!(at, ListAt::File(_))).count();
    let urls = lists().filter(|at| matches!(at, ListAt::Url(_))).count();
    let etcds = lists().filter(|at| matches!(at, ListAt::Etcd(_))).count();
    // Of each host both families are asked for at once.
    let hosts = named().count() - services + services * ask::HOSTS_MOST + urls + etcds;
    let questions = (hosts * 2).min(ask::MOST_QUESTIONS);
    // The watch of an etcd stays open meanwhile.
    (questions * ask::DESCRIPTORS + files + urls + etcds * 2) as u64
}

/// Whether connections to that address can come from where they are to.
fn can_reach(source: &Source, to: IpAddr) -> bool {
    match source {
        Source::Addresses(all) => all.iter().any(|from| from.is_ipv4() == to.is_ipv4()),
        Source::System | Source::Client => true,
    }
}

fn member(named: &Server<DnsName>, found: &Found, first: u16) -> Server {
    Server {
        name: named.name_at(found.addr),
        addr: Address::Ip(found.addr),
        weight: found.weight.unwrap_or(named.weight),
        maxconn: named.maxconn,
        backup: named.backup || found.priority > first,
        state: named.state,
        origin: Origin::Dns(named.addr.clone()),
    }
}

/// Checks have to find new servers well before they are used. So where all that a pool has may be new, those of `old` that
/// are to go stay meanwhile: `new` with these; `None` if nobody has to wait. With `waits` some of `old` are new, too.
#[must_use]
pub fn with_leaving(old: &Config, new: &Config, waits: bool) -> Option<Config> {
    let mut joined = None;
    for (place, pool) in new.pools.iter().enumerate().filter(|(_, pool)| pool.check != Check::Off) {
        let Some(before) = old.pools.iter().find(|one| one.name == pool.name) else { continue };
        let mut leaving = told(before, pool).peekable();
        if leaving.peek().is_some() && (waits || told(pool, before).next().is_some()) {
            let joined: &mut Config = joined.get_or_insert_with(|| new.clone());
            joined.pools[place].servers.extend(leaving.cloned());
        }
    }
    joined
}

/// What has come and what has gone between two configurations in effect, in words; servers of the file are left out.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for pool in &new.pools {
        let Some(before) = old.pools.iter().find(|one| one.name == pool.name) else { continue };
        missing(pool, before, "has come", &mut lines);
        missing(before, pool, "has gone", &mut lines);
    }
    lines
}

fn missing(of: &Pool, from: &Pool, what: &str, lines: &mut Vec<String>) {
    lines
        .extend(told(of, from).map(|one| format!("server {}/{} {what} ({})", of.name, one.name, one.origin)));
}

/// The servers that one has and the other has not, but for those of the file.
fn told<'a>(of: &'a Pool, but: &'a Pool) -> impl Iterator<Item = &'a Server> {
    let names: HashSet<&str> = but.servers.iter().map(|one| one.name.as_str()).collect();
    of.servers.iter().filter(move |one| one.origin != Origin::File && !names.contains(one.name.as_str()))
}

#[cfg(test)]
mod tests;
