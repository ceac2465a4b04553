//! Whether a workload fits on this machine: descriptors, ports, memory. Found out before the run.

use std::fs;

use crate::sys;

use super::measure::value;
use super::workload::{Work, Workload};

/// Descriptors of a process beside those of its connections.
pub(super) const RESERVE: u64 = 300;
/// Idle connections fewer than that say nothing.
const FEWEST_IDLE: u32 = 500;
/// Ports that connections which come and go need: more than are made in the time for which a port rests.
const FEWEST_PORTS: u64 = 8_000;
/// What a connection through a proxy takes of the kernel's memory and of all processes, in bytes; generously.
const CONNECTION: u64 = 128 << 10;

/// What there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Descriptors that a process may have.
    pub(super) descriptors: u64,
    /// Ports that a client may have towards one address.
    pub(super) ports: u64,
    /// Memory that is free or can be freed, in bytes.
    pub(super) memory: u64,
}

impl Room {
    pub(super) fn now(descriptors: u64) -> Self {
        Self { descriptors, ports: ports(), memory: memory() }
    }

    /// How many connections a workload can have here: all it wants, or for idle ones as many as fit.
    ///
    /// # Errors
    /// Why it does not fit, and the setting that would change that.
    pub(super) fn connections(&self, workload: &Workload) -> Result<u32, String> {
        let wanted = workload.connections;
        let fit = u32::try_from(self.descriptors.saturating_sub(RESERVE) / 2).unwrap_or(u32::MAX);
        let fewest = if workload.work == Work::Idle { FEWEST_IDLE } else { wanted };
        if fit < fewest {
            return Err(format!(
                "{} needs {} descriptors in a process, and the limit is {}: raise it with `ulimit -n {}`",
                workload.name,
                u64::from(fewest) * 2 + RESERVE,
                self.descriptors,
                u64::from(wanted) * 2 + RESERVE
            ));
        }
        let needs_ports = match workload.work {
            Work::Churn | Work::FirstByte => FEWEST_PORTS,
            _ => u64::from(wanted.min(fit)).div_ceil(4) + 100,
        };
        if self.ports < needs_ports {
            return Err(format!(
                "{} needs {needs_ports} ports, and net.ipv4.ip_local_port_range has {}: widen it with \
                 `sysctl -w net.ipv4.ip_local_port_range=\"15000 65000\"`",
                workload.name, self.ports
            ));
        }
        let fit_memory = u32::try_from(self.memory / CONNECTION).unwrap_or(u32::MAX);
        if fit_memory < fewest {
            return Err(format!(
                "{} needs {} MiB of memory, and {} MiB are free: end other programs",
                workload.name,
                (u64::from(fewest) * CONNECTION) >> 20,
                self.memory >> 20
            ));
        }
        Ok(wanted.min(fit).min(fit_memory))
    }
}

fn ports() -> u64 {
    sys::source_ports().map_or(u64::MAX, u64::from)
}

fn memory() -> u64 {
    let lines = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    value(&lines, "MemAvailable").map_or(u64::MAX, |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::super::workload::named;
    use super::*;

    const PLENTY: Room = Room { descriptors: 1 << 20, ports: 28_000, memory: 8 << 30 };

    #[test]
    fn a_workload_that_does_not_fit_names_the_setting() {
        for (room, name, words) in [
            (Room { descriptors: 1_024, ..PLENTY }, "pp1000", "ulimit -n 2300"),
            (Room { descriptors: 1_024, ..PLENTY }, "idle", "ulimit -n 18300"),
            (Room { ports: 5_000, ..PLENTY }, "churn", "ip_local_port_range"),
            (Room { memory: 100 << 20, ..PLENTY }, "pp1000", "125 MiB"),
        ] {
            let why = room.connections(named(name).unwrap()).unwrap_err();
            assert!(why.contains(words) && why.starts_with(name), "{why}");
        }
    }

    #[test]
    fn idle_connections_are_as_many_as_fit() {
        let idle = named("idle").unwrap();
        assert_eq!(PLENTY.connections(idle), Ok(9_000));
        assert_eq!(Room { descriptors: 10_300, ..PLENTY }.connections(idle), Ok(5_000));
        assert_eq!(Room { descriptors: 1_024, ..PLENTY }.connections(named("pp64").unwrap()), Ok(64));
    }

    #[test]
    fn this_machine_tells() {
        let room = Room::now(1_024);
        assert!(room.ports < 65_536 && room.memory < u64::MAX, "{room:?}");
    }
}
