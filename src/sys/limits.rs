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
