//! Socket options, tried before anything is bound: what the system refuses is an error at the start and of a reload, not
//! of the first connection.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, ErrorKind};

use crate::config::{Address, Config, Pool, Prefer, Source, Tcp};
use crate::sys::options::{self, Refused};

/// Every option that sockets cannot have here, with the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OptionsError(String);

/// Tries the options of each listener and pool. Returns what differs from what was asked for, in words.
pub(super) fn check(config: &Config) -> Result<Vec<String>, OptionsError> {
    try_all(config, |_| true)
}

/// Every option that sockets cannot have here, but for those of whose errors `is_heeded` says no.
pub(super) fn refused(config: &Config, is_heeded: impl Fn(&io::Error) -> bool) -> Option<OptionsError> {
    try_all(config, is_heeded).err()
}

fn try_all(config: &Config, is_heeded: impl Fn(&io::Error) -> bool) -> Result<Vec<String>, OptionsError> {
    let is_v6 = |at: &Address| at.ip().map(|at| at.is_ipv6());
    let listeners = config.listeners.iter().map(|one| {
        let families: Vec<bool> = one.bind.iter().filter_map(is_v6).collect();
        (format!("listener {}", one.name), &one.tcp, families)
    });
    let pools = config.pools.iter().map(|one| {
        let mut families: Vec<bool> = one.servers.iter().filter_map(|server| is_v6(&server.addr)).collect();
        // Of a name it is not known yet; most have addresses of this one.
        families.extend(one.named.first().map(|_| config.dns.prefer == Prefer::Ipv6));
        families.extend(one.lists.first().map(|_| false));
        (format!("pool {}", one.name), &one.tcp, families)
    });
    let (mut problems, mut notes) = (String::new(), Vec::new());
    let mut tried: Vec<(&Tcp, bool)> = Vec::new();
    for (whose, tcp, families) in listeners.chain(pools) {
        for is_v6 in [false, true] {
            // What most have is tried once.
            if !families.contains(&is_v6) || tried.contains(&(tcp, is_v6)) {
                continue;
            }
            tried.push((tcp, is_v6));
            match options::try_out(tcp, is_v6) {
                Ok(clamped) => notes.extend(clamped.into_iter().map(|clamped| {
                    let (option, kib) = (clamped.option, clamped.given >> 10);
                    let limit = if option == "rcvbuf" { "net.core.rmem_max" } else { "net.core.wmem_max" };
                    format!("{whose}: {option} is {kib}KiB, the most that the sysctl {limit} allows")
                })),
                Err(refused) if !is_heeded(&refused.error) => {}
                Err(refused) => explain(&mut problems, &whose, tcp, &refused),
            }
        }
    }
    for pool in &config.pools {
        try_source(&mut problems, pool, &is_heeded);
    }
    notes.dedup();
    if problems.is_empty() { Ok(notes) } else { Err(OptionsError(problems.trim_end().to_owned())) }
}

/// Whether connections can come from where a pool says.
fn try_source(out: &mut String, pool: &Pool, is_heeded: &impl Fn(&io::Error) -> bool) {
    let (source, error, help) = match &pool.source {
        Source::System => return,
        Source::Addresses(all) => {
            let failed = all.iter().find_map(|at| options::try_source(*at).err().map(|error| (at, error)));
            let Some((at, error)) = failed else { return };
            (at.to_string(), error, "write addresses that this host has: `ip address` shows them")
        }
        Source::Client => {
            let is_v6 = |server: &crate::config::Server| server.addr.ip().is_some_and(|at| at.is_ipv6());
            let unknown = (!pool.named.is_empty() || !pool.lists.is_empty()).then_some(false);
            let families = pool.servers.iter().map(is_v6).chain(unknown);
            let failed = families.into_iter().find_map(|is_v6| options::try_foreign_source(is_v6).err());
            let Some(error) = failed else { return };
            let help = "it takes CAP_NET_ADMIN or CAP_NET_RAW: start it as root, or with CAP_NET_RAW in \
                        AmbientCapabilities= and CapabilityBoundingSet= of the systemd unit; `process.user` keeps it where this is set at the start";
            ("client".to_owned(), error, help)
        }
    };
    if !is_heeded(&error) {
        return;
    }
    let _ = writeln!(out, "pool {}: source = [{source:?}]: {error}\n  = help: {help}", pool.name);
}

/// Whether what is asked for takes CAP_NET_RAW for each connection.
pub(super) fn need_net_raw(config: &Config) -> bool {
    let listeners = config.listeners.iter().map(|one| &one.tcp);
    let mut legs = listeners.chain(config.pools.iter().map(|one| &one.tcp));
    legs.any(|tcp| tcp.mark.is_some()) || config.pools.iter().any(|pool| pool.source == Source::Client)
}

fn explain(out: &mut String, whose: &str, tcp: &Tcp, refused: &Refused) {
    let Refused { option, error } = refused;
    let value = match *option {
        "congestion" => tcp.congestion.clone(),
        "interface" => tcp.interface.clone(),
        "mark" => tcp.mark.map(|mark| mark.to_string()),
        _ => None,
    };
    let value = value.map_or_else(String::new, |value| format!(" = {value:?}"));
    let (cause, help) = reason(option, error);
    let said = format!("{option}{value}: {cause}\n  = help: {help}\n");
    if !out.contains(&said) {
        let _ = write!(out, "{whose}: {said}");
    }
}

/// Why an option was refused, and what to do about it.
fn reason(option: &str, error: &io::Error) -> (String, String) {
    /// ENODEV on Linux, where alone there is this option.
    const NO_DEVICE: Option<i32> = Some(19);
    let is = |kind| error.kind() == kind;
    let algorithms = |which: &str| {
        let read = fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_{which}_congestion_control"));
        read.unwrap_or_default().trim().to_owned()
    };
    match option {
        "congestion" if is(ErrorKind::NotFound) => (
            format!("this kernel has no such algorithm; it has: {}", algorithms("available")),
            "take one of those, or load another with `modprobe tcp_NAME`".to_owned(),
        ),
        "congestion" if is(ErrorKind::PermissionDenied) => (
            format!("it takes CAP_NET_ADMIN; without it: {}", algorithms("allowed")),
            "take one of those, or add it to the sysctl net.ipv4.tcp_allowed_congestion_control".to_owned(),
        ),
        "mark" if is(ErrorKind::PermissionDenied) => (
            "it takes CAP_NET_ADMIN, or CAP_NET_RAW since Linux 5.17".to_owned(),
            "start it as root, or with CAP_NET_RAW in AmbientCapabilities= and CapabilityBoundingSet= of the systemd unit; \
             `process.user` keeps it where `mark` is set at the start"
                .to_owned(),
        ),
        "interface" if error.raw_os_error() == NO_DEVICE => {
            ("there is no such device".to_owned(), "`ip link` shows those that there are".to_owned())
        }
        "interface" if is(ErrorKind::PermissionDenied) => (
            "it takes CAP_NET_RAW".to_owned(),
            "start it as root, or with CAP_NET_RAW in AmbientCapabilities= and CapabilityBoundingSet= of the systemd unit"
                .to_owned(),
        ),
        _ => (error.to_string(), "leave it out, or ask why this system refuses it".to_owned()),
    }
}
