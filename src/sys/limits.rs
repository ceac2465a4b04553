//! What this process may use: descriptors and CPUs.

use std::io;
use std::num::NonZeroUsize;

/// How many descriptors this process may open now: the soft `RLIMIT_NOFILE`, getrlimit(2).
#[must_use]
pub fn descriptor_limit() -> u64 {
    #[cfg(unix)]
    {
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX)
    }
    #[cfg(not(unix))]
    {
        u64::MAX
    }
}

/// How many descriptors this process has open; 0 where the system does not tell.
#[must_use]
pub fn open_descriptors() -> u64 {
    const LIST: &str = "/proc/self/fd";
    // Since Linux 6.2 their number is the size of the directory, proc(5); reading it takes as long as there are many.
    match std::fs::metadata(LIST) {
        Ok(list) if list.len() > 0 => list.len(),
        _ => std::fs::read_dir(LIST).map_or(0, |list| list.count() as u64),
    }
}

/// The number that the system gives this thread; `None` where it is of no use.
#[must_use]
pub fn thread_number() -> Option<u32> {
    #[cfg(target_os = "linux")]
    {
        u32::try_from(rustix::thread::gettid().as_raw_nonzero().get()).ok()
    }
    #[cfg(not(target_os = "linux"))]
    {
        None
    }
}

/// How long a thread of this process was on a CPU since its start: the first number of its `schedstat`, proc(5).
#[must_use]
pub fn cpu_time_of(thread: u32) -> Option<std::time::Duration> {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).ok()?;
    text.split(' ').next()?.parse().ok().map(std::time::Duration::from_nanos)
}

/// Has this thread give way to the others of the process wherever there are too few CPUs for all (nice(2)). Where that is
/// not possible it competes with them.
pub fn give_way() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::setpriority_process;
        let _ = setpriority_process(Some(rustix::thread::gettid()), 10);
    }
}

/// Raises the soft limit to the hard one. Returns the limits before and after.
///
/// # Errors
/// The operating system's; the old limit stays.
pub fn raise_descriptor_limit() -> io::Result<(u64, u64)> {
    let before = descriptor_limit();
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let hard = getrlimit(Resource::Nofile).maximum;
        if hard != Some(before) {
            setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard })?;
        }
    }
    Ok((before, descriptor_limit()))
}

/// How many memory mappings a process may have (`vm.max_map_count`, proc(5)); `None` where nothing says so.
#[must_use]
pub fn mapping_limit() -> Option<u64> {
    setting("vm/max_map_count")
}

/// The longest queue that a listening socket may have (`net.core.somaxconn`, listen(2)), which a longer one is cut to; `None`
/// where nothing says so.
#[must_use]
pub fn longest_backlog() -> Option<u64> {
    setting("net/core/somaxconn")
}

/// How many operations all contexts of Linux AIO may hold together (`fs.aio-max-nr`, proc(5)); `None` where nothing says
/// so.
#[cfg(all(feature = "lab", target_os = "linux"))]
#[must_use]
pub fn aio_limit() -> Option<u64> {
    setting("fs/aio-max-nr")
}

/// A number among the settings of the Linux kernel.
fn setting(name: &str) -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    std::fs::read_to_string(format!("/proc/sys/{name}")).ok()?.trim().parse().ok()
}

/// The CPUs that this process may run on, by affinity; and how many of them its cgroup lets it keep busy.
#[must_use]
pub fn allowed_cpus() -> (Vec<u32>, usize) {
    let quota = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity};
        if let Ok(set) = sched_getaffinity(None) {
            let cpus: Vec<u32> = (0..CpuSet::MAX_CPU)
                .filter(|cpu| set.is_set(*cpu))
                .filter_map(|cpu| cpu.try_into().ok())
                .collect();
            return (cpus, quota);
        }
    }
    ((0..quota).filter_map(|cpu| cpu.try_into().ok()).collect(), quota)
}

/// How many ports the system chooses from by itself for connections to one place (`net.ipv4.ip_local_port_range`, ip(7));
/// `None` where it does not tell.
#[must_use]
pub fn source_ports() -> Option<u32> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<u32>().ok());
    let (first, last) = (ends.next()?, ends.next()?);
    Some((last + 1).saturating_sub(first)).filter(|count| *count > 0)
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
/// The operating system's, such as for a CPU that this process may not use.
pub fn pin_to(cpu: u32) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_setaffinity};
        let mut set = CpuSet::new();
        set.set(cpu as usize);
        Ok(sched_setaffinity(None, &set)?)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = cpu;
        Err(io::Error::from(io::ErrorKind::Unsupported))
    }
}
