//! What Linux tells of the queues in which clients wait until they are accepted.

use std::fs;

/// How often clients found the queue of a listening socket full, since the network namespace came into being, and of whatever
/// program in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflows {
    /// The handshake was over, and the queue was full (`ListenOverflows`).
    pub overflows: u64,
    /// Those, and whoever was dropped for another reason before it was accepted (`ListenDrops`).
    pub drops: u64,
}

/// What `/proc/net/netstat` says; `None` where there is no such file.
#[must_use]
pub fn overflows() -> Option<Overflows> {
    if cfg!(target_os = "linux") { read(&fs::read_to_string("/proc/net/netstat").ok()?) } else { None }
}

/// Two lines for each protocol: the names, and the numbers below them.
fn read(text: &str) -> Option<Overflows> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, numbers) = (lines.next()?.split_whitespace(), lines.next()?.split_whitespace());
    let all: Vec<(&str, &str)> = names.zip(numbers).collect();
    let number = |wanted: &str| all.iter().find(|(name, _)| *name == wanted)?.1.parse().ok();
    Some(Overflows { overflows: number("ListenOverflows")?, drops: number("ListenDrops")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_below_their_names() {
        let text = "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPHPHits\nTcpExt: 1 22 333 4\n\
                    IpExt: ListenOverflows ListenDrops\nIpExt: 7 8\n";
        assert_eq!(read(text), Some(Overflows { overflows: 22, drops: 333 }));
        for without in [" ListenDrops", "TcpExt: 1 22 333 4\n", " 333 4"] {
            assert_eq!(read(&text.replacen(without, "", 1)), None, "without {without}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_kernel_tells_of_them() {
        let before = overflows().expect("both are there since Linux 2.6");
        let after = overflows().expect("it was there");
        assert!(after.overflows >= before.overflows && after.drops >= before.drops, "{before:?} {after:?}");
    }
}
