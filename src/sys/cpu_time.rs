//! The CPU time of a process, to the nanosecond.

#![expect(unsafe_code, reason = "rustix has no CPU clocks of other processes")]

use std::io;
use std::time::Duration;

/// How long the process has run on CPUs, in user mode and in the kernel, all its threads together, since its start: its
/// CPU-time clock, clock_getcpuclockid(3). It never goes back.
///
/// Threads that have ended are in it. So are the kernel's threads that work for an io_uring of the process (`iou-wrk-…`,
/// `iou-sqp-…`), which belong to its thread group. Seen on Linux 6.18 with reads that were forced into the workers
/// (`IOSQE_ASYNC`): the process took 464.5 ms, of which its own thread 14.1 ms and the workers' tasks 449.8 ms by their
/// `schedstat`. The test beside this holds it.
///
/// A thread that is running at this moment counts up to the scheduler's last look at it, a tick ago at most (1 to 10 ms).
///
/// # Errors
/// `NotFound` when there is no such process; otherwise the operating system's.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
    let mut clock: libc::clockid_t = 0;
    // SAFETY: `clock` is a clockid_t that lives on through the call, which writes nothing else.
    let failed = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    // It returns the error's number instead of setting errno.
    match failed {
        0 => {}
        libc::ESRCH => return Err(io::Error::from(io::ErrorKind::NotFound)),
        errno => return Err(io::Error::from_raw_os_error(errno)),
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a timespec that lives on through the call, which writes nothing else. A clock of a process that
    // has ended meanwhile is refused with EINVAL.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        let error = io::Error::last_os_error();
        let gone = error.raw_os_error() == Some(libc::EINVAL);
        return Err(if gone { io::Error::from(io::ErrorKind::NotFound) } else { error });
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Ok(Duration::new(seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsRawFd;
    use std::process::Command;
    use std::thread;

    use io_uring::{IoUring, opcode, squeue, types};

    use super::*;

    /// Tells this test, run again as a process of its own, to do the work that is measured.
    const CHILD: &str = "TIDEGATE_TEST_IO_WORKERS";
    const THIS: &str = "sys::cpu_time::tests::the_workers_of_a_ring_and_threads_that_ended_count";

    #[test]
    fn there_is_no_time_of_a_process_that_is_gone() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(cpu_time(child.id()).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(cpu_time(u32::MAX).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_workers_of_a_ring_and_threads_that_ended_count() {
        if std::env::var_os(CHILD).is_some() {
            return work_of_the_child();
        }
        let this = std::env::current_exe().unwrap();
        let child = Command::new(this)
            .args(["--exact", THIS, "--test-threads=1", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{said}\n{}", String::from_utf8_lossy(&child.stderr));
        print!("{said}");
    }

    fn work_of_the_child() {
        let me = std::process::id();
        let start = cpu_time(me).unwrap();
        thread::spawn(|| while thread_time() < Duration::from_millis(100) {}).join().unwrap();
        let after_thread = cpu_time(me).unwrap();
        assert!(after_thread - start >= Duration::from_millis(100), "a thread that has ended counts");

        let Ok(mut ring) = IoUring::new(8) else {
            println!("skipped: this kernel has no io_uring for us");
            return;
        };
        let own = thread_time();
        read_in_workers(&mut ring);
        let (all, own) = (cpu_time(me).unwrap() - after_thread, thread_time() - own);
        let workers = time_of_workers();
        println!("the process took {all:?}, of which this thread {own:?} and the ring's workers {workers:?}");
        assert!(workers > Duration::from_millis(50), "the workers did something: {workers:?}");
        assert!(
            all + Duration::from_millis(20) >= own + workers,
            "{all:?}, of which {own:?} and {workers:?}"
        );
    }

    /// Fills buffers with random bytes, which costs CPU time, where the kernel is told not to try it in this thread.
    fn read_in_workers(ring: &mut IoUring) {
        let source = File::open("/dev/urandom").unwrap();
        let mut buffers = vec![vec![0_u8; 4 << 20]; 8];
        for _ in 0..8 {
            for buffer in &mut buffers {
                let length = u32::try_from(buffer.len()).unwrap();
                let read = opcode::Read::new(types::Fd(source.as_raw_fd()), buffer.as_mut_ptr(), length)
                    .build()
                    .flags(squeue::Flags::ASYNC);
                // SAFETY: the buffer and the file live until all the reads have been answered, at the end of this round.
                unsafe { ring.submission().push(&read) }.unwrap();
            }
            ring.submit_and_wait(buffers.len()).unwrap();
            assert!(ring.completion().all(|answer| answer.result() > 0));
        }
    }

    /// CPU time of those threads of this process that are workers of a ring.
    fn time_of_workers() -> Duration {
        let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        let workers = tasks.filter(|task| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("iou-wrk"))
        });
        let time = |schedstat: String| schedstat.split(' ').next()?.parse().ok();
        workers
            .filter_map(|task| time(fs::read_to_string(task.join("schedstat")).ok()?))
            .map(Duration::from_nanos)
            .sum()
    }

    /// CPU time of the calling thread.
    fn thread_time() -> Duration {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
    }
}
