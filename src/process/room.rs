//! Whether the connections that are allowed fit the descriptors that there are.

use std::num::NonZeroU32;

use super::sets::Sets;
use crate::config::{Check, Config, CpuAffinity, EngineKind, Pool, Process, Splice};
use crate::control::discovery;
use crate::sys;

/// Descriptors for everything but connections: logs, selectors, listeners, and for each worker those
/// clients that wait for admission, which are as many as it accepts in a turn (`accept_burst`).
const RESERVE: u64 = 128;
const RESERVE_PER_WORKER: u64 = 16;
/// The most checks of servers that are under way at a time, each with a descriptor. Only where more servers than that are
/// checked, those that are silent hold up checks of others, each for as long as a check may take.
pub(super) const CHECKS: usize = 1024;
/// Those for which the reserve has room in any case; and what a name or a list is taken to bring.
const CHECKS_INCLUDED: usize = 64;
/// Pipes of all workers: with 1 MiB each, as many as Linux allows a user (`fs.pipe-user-pages-soft`, pipe(7)).
const PIPES: u16 = 64;

/// Mappings of a connection of the engine `threads`: of each of its two threads the stack and the signal stack, and the
/// guard page of either. A thread that gets no signal stack ends the process.
const MAPPINGS: u64 = 8;
/// Mappings for everything else: the program, its libraries, its heap.
const MAPPINGS_RESERVE: u64 = 1_000;

/// The limits that hold.
#[derive(Debug)]
pub(super) struct Room {
    /// Client connections in the process.
    pub(super) maxconn: u32,
    /// The descriptor limit at the start, and now.
    limits: (u64, u64),
}

/// Why the start is refused.
#[derive(Debug, thiserror::Error)]
pub enum RoomError {
    /// `maxconn` needs more descriptors than the process may open.
    #[error(
        "process.maxconn = {maxconn} needs {needed} file descriptors (two a connection and {reserve} more), \
         but this process may open {limit}\n  = help: lower maxconn to {fits}, or raise the limit: \
         `ulimit -Hn {needed}`, or LimitNOFILE={needed} in the systemd unit"
    )]
    Maxconn {
        /// As configured.
        maxconn: u32,
        /// What it takes.
        needed: u64,
        /// Of which not for connections.
        reserve: u64,
        /// The hard limit.
        limit: u64,
        /// The most that fits.
        fits: u64,
    },
    /// `maxconn` needs more mappings than the process may have.
    #[error(
        "process.maxconn = {maxconn} with the engine threads needs {needed} memory mappings ({MAPPINGS} a connection), but \
         this process may have {limit}\n  = help: lower maxconn to {fits}, or raise the limit: \
         `sysctl -w vm.max_map_count={needed}`"
    )]
    Mappings {
        /// As configured.
        maxconn: u32,
        /// What it takes.
        needed: u64,
        /// `vm.max_map_count`.
        limit: u64,
        /// The most that fits.
        fits: u64,
    },
    /// A worker cannot run where it should.
    #[error(
        "process.cpu_affinity names CPU {cpu}, which this process may not use\n  = help: it may use {allowed:?}"
    )]
    Cpu {
        /// As configured.
        cpu: u32,
        /// By affinity.
        allowed: Vec<u32>,
    },
    /// A worker's share of the buffers does not hold a single read, or hello.
    #[error(
        "process.buffer_budget = {budget} bytes gives each of {workers} workers less than it needs for {what}\n  \
         = help: raise buffer_budget to {needed} bytes or more, or lower workers"
    )]
    Buffers {
        /// As configured.
        budget: u64,
        /// How many share it.
        workers: u16,
        /// What takes the most.
        what: String,
        /// What it takes.
        needed: u64,
    },
    /// Not even one connection fits.
    #[error(
        "this process may open {limit} file descriptors, and needs {needed} to serve, with one connection\n  \
         = help: raise the limit: `ulimit -Hn 65536`, or LimitNOFILE=65536 in the systemd unit"
    )]
    None {
        /// What it takes.
        needed: u64,
        /// The hard limit.
        limit: u64,
    },
}

/// Raises the descriptor limit as far as it goes and holds `maxconn` against it, and the buffers against
/// the number of workers, which may be known only now.
pub(super) fn check(config: &Config, sets: &Sets, cpus: &[u32]) -> Result<Room, RoomError> {
    if let CpuAffinity::Cpus(wanted) = &config.process.cpu_affinity
        && let Some(cpu) = wanted.iter().find(|cpu| !cpus.contains(cpu))
    {
        return Err(RoomError::Cpu { cpu: *cpu, allowed: cpus.to_vec() });
    }
    let (budget, workers) = (config.process.buffer_budget, sets.workers());
    let (share, what) = config.least_share();
    let needed = u64::from(workers) * share;
    if budget < needed {
        return Err(RoomError::Buffers { budget, workers, what, needed });
    }
    // Where the limit cannot be raised, the one that is there decides.
    let limits = sys::raise_descriptor_limit().unwrap_or_else(|_| {
        let limit = sys::descriptor_limit();
        (limit, limit)
    });
    let limit = limits.1;
    let reserve = reserve(config, sets);
    let fits = limit.saturating_sub(reserve) / 2;
    let fits = match sys::mapping_limit() {
        Some(limit) if sets.engines() == [EngineKind::Threads] => {
            fits.min(mapped(config.process.maxconn, limit)?)
        }
        // Among others: nobody knows how many of a number that was chosen will be of this engine.
        Some(limit) if sets.engines().contains(&EngineKind::Threads) && config.process.maxconn.is_none() => {
            fits.min(fit_mappings(limit))
        }
        _ => fits,
    };
    let maxconn = match config.process.maxconn {
        _ if limit < reserve + 2 => return Err(RoomError::None { needed: reserve + 2, limit }),
        None => u32::try_from(fits).unwrap_or(u32::MAX),
        Some(maxconn) if u64::from(maxconn.get()) > fits => {
            let maxconn = maxconn.get();
            let needed = u64::from(maxconn) * 2 + reserve;
            return Err(RoomError::Maxconn { maxconn, needed, reserve, limit, fits });
        }
        Some(maxconn) => maxconn.get(),
    };
    Ok(Room { maxconn, limits })
}

/// The most connections that an engine can have in this process, beside what the descriptors allow.
#[cfg(all(feature = "lab", target_os = "linux"))]
pub(crate) fn most_connections(engine: EngineKind) -> Option<u64> {
    match engine {
        EngineKind::Threads => sys::mapping_limit().map(fit_mappings),
        // An idle connection has four polls. While a context grows there are two, so that it reaches half of what all
        // may have together; the listener and the bell are in it, too.
        EngineKind::Aio => sys::aio_limit().map(|limit| (limit / 8).saturating_sub(16)),
        _ => None,
    }
}

fn fit_mappings(limit: u64) -> u64 {
    limit.saturating_sub(MAPPINGS_RESERVE) / MAPPINGS
}

/// How many connections of the engine `threads` fit so many mappings.
fn mapped(maxconn: Option<NonZeroU32>, limit: u64) -> Result<u64, RoomError> {
    let fits = fit_mappings(limit);
    match maxconn.map(NonZeroU32::get) {
        Some(maxconn) if u64::from(maxconn) > fits => {
            let needed = u64::from(maxconn) * MAPPINGS + MAPPINGS_RESERVE;
            Err(RoomError::Mappings { maxconn, needed, limit, fits })
        }
        _ => Ok(fits),
    }
}

/// Bytes of buffers that each of so many workers may have.
pub(super) fn buffer_share(process: &Process, workers: u16) -> usize {
    usize::try_from(process.buffer_budget / u64::from(workers)).unwrap_or(usize::MAX)
}

/// Pipes that each of so many workers may have: none unless something is to be spliced.
pub(super) fn pipes_per_worker(process: &Process, workers: u16) -> u16 {
    match process.splice {
        Splice::Off => 0,
        Splice::Auto => (PIPES / workers).max(1),
    }
}

/// `128 + 16 a worker`, which covers the usual number of listening sockets, of clients that are accepted in a turn and of
/// servers that are checked; each one more counts. A pipe has two. Who is asked for servers comes on top.
fn reserve(config: &Config, sets: &Sets) -> u64 {
    let addresses: usize = config.listeners.iter().map(|listener| listener.bind.len()).sum();
    let listening = addresses as u64 * u64::from(sets.each());
    let workers = u64::from(sets.workers());
    let pipes = workers * u64::from(pipes_per_worker(&config.process, sets.workers()));
    let burst = config.listeners.iter().map(|listener| u64::from(listener.accept_burst)).max();
    RESERVE
        + RESERVE_PER_WORKER.max(burst.unwrap_or_default()) * workers
        + listening.saturating_sub(RESERVE / 2)
        + checks(config).saturating_sub(CHECKS_INCLUDED) as u64
        + 2 * pipes
        + discovery::descriptors(config)
}

/// How many checks may be under way at a time.
fn checks(config: &Config) -> usize {
    let checked = config.pools.iter().filter(|pool| matches!(pool.check, Check::Own(_)));
    let each = |pool: &Pool| pool.servers.len() + CHECKS_INCLUDED * (pool.named.len() + pool.lists.len());
    checked.map(each).sum::<usize>().min(CHECKS)
}

impl Room {
    /// Says what was done about the limit.
    pub(super) fn report(&self) {
        let (before, now) = self.limits;
        if before != now {
            log::info!("raised the limit of open files from {before} to {now}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_asked_for_servers_has_descriptors_of_its_own() {
        let reserve_with = |servers: &str| {
            let text = format!("[listener.l]\nbind = [\"127.0.0.1:1\"]\npool = \"p\"\n[pool.p]\n{servers}\n");
            let config = crate::config::parse(&text, "test").unwrap_or_else(|report| panic!("{report}"));
            let sets = Sets::choose(&config, 1, |_| Ok(())).unwrap();
            reserve(&config, &sets)
        };
        let server = "server = [{ name = \"a\", addr = \"10.0.0.1:1\" }]";
        let least = reserve_with(server);
        for (servers, more) in [
            (
                "server = [{ name = \"a\", addr = \"a.example:1\" }, { name = \"b\", addr = \"b.example:1\" }]",
                24,
            ),
            ("servers_file = \"/run/list\"", 1),
            ("servers_url = \"http://a.example/\"", 13),
            ("servers_etcd = { endpoints = [\"http://a.example:1\"], prefix = \"/s/\" }", 14),
        ] {
            assert_eq!(reserve_with(servers), least + more, "{servers}");
        }
    }

    #[test]
    fn servers_that_are_checked_have_their_descriptors() {
        let checks_of = |servers: usize, more: &str| {
            let server = |number| format!("{{ name = \"s{number}\", addr = \"127.0.0.1:{}\" }}", number + 1);
            let servers: Vec<String> = (0..servers).map(server).collect();
            let text = format!(
                "[listener.l]\nbind = [\"127.0.0.1:0\"]\npool = \"p\"\n[pool.p]\nserver = [{}]\n{more}",
                servers.join(", ")
            );
            checks(&crate::config::parse(&text, "test").expect("it is right"))
        };
        assert_eq!(checks_of(300, ""), 0);
        assert_eq!(checks_of(300, "[pool.p.check]"), 300);
        assert_eq!(checks_of(300, "servers_file = \"/more.toml\"\n[pool.p.check]"), 364);
        assert_eq!(checks_of(2_000, "[pool.p.check]"), CHECKS);
    }

    #[test]
    fn two_threads_a_connection_must_fit_the_mappings() {
        let maxconn = NonZeroU32::new(9_000);
        assert_eq!(mapped(None, 65_530).unwrap(), 8_066);
        assert_eq!(mapped(maxconn, 1 << 20).unwrap(), 130_947);
        let refusal = mapped(maxconn, 65_530).unwrap_err().to_string();
        assert!(
            refusal.contains("lower maxconn to 8066") && refusal.contains("vm.max_map_count=73000"),
            "{refusal}"
        );
    }
}
