//! Who listens on an address: for the message when it is not free.

use std::net::{IpAddr, SocketAddr};

use crate::config::Address;

/// The process that listens on `at`, as `name (pid 123)`. `None` when it cannot be found: it belongs to
/// another user, or the system has no `/proc`.
#[must_use]
pub fn holder_of(at: &Address) -> Option<String> {
    let inodes = match at {
        Address::Ip(at) => inodes_of_port(*at),
        Address::Unix(path) => inodes_of_path(&path.display().to_string()),
        // As unix(7) has it in that table, with `@` for the zero byte in front.
        Address::Abstract(name) => inodes_of_path(&format!("@{name}")),
        Address::Handed(_) => return None,
    };
    // All descriptors of the host are many.
    if inodes.is_empty() {
        return None;
    }
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(descriptors) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = descriptors.flatten().any(|descriptor| {
            std::fs::read_link(descriptor.path())
                .is_ok_and(|target| links.iter().any(|link| target.as_os_str() == link.as_str()))
        });
        if holds {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

/// The inodes of listening sockets that keep `at` from being bound: on its port, and on its address or on
/// one that stands for all. An IPv6 socket on all addresses may have the IPv4 ones too.
fn inodes_of_port(at: SocketAddr) -> Vec<String> {
    let files = ["/proc/net/tcp", "/proc/net/tcp6"];
    files.iter().flat_map(|file| inodes(&std::fs::read_to_string(file).unwrap_or_default(), at)).collect()
}

/// proc_pid_net(5), `tcp` and `tcp6`: the second field is the address, the fourth the state, 0A is LISTEN,
/// and the tenth the inode.
fn inodes(table: &str, at: SocketAddr) -> Vec<String> {
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (ip, port) = address(fields.get(1)?)?;
        let covers = ip == at.ip()
            || ip.is_unspecified()
            || (at.ip().is_unspecified() && ip.is_ipv4() == at.is_ipv4());
        let listens = port == at.port() && covers && *fields.get(3)? == "0A";
        listens.then(|| fields.get(9).map(ToString::to_string))?
    };
    table.lines().filter_map(inode).collect()
}

/// An address as the kernel writes it: 32-bit words in hexadecimal, each in the byte order of the machine.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let words: Option<Vec<u8>> = (0..ip.len() / 8)
        .map(|word| u32::from_str_radix(ip.get(word * 8..word * 8 + 8)?, 16).ok().map(u32::to_ne_bytes))
        .collect::<Option<Vec<_>>>()
        .map(|words| words.concat());
    let bytes = words?;
    let ip = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_canonical(),
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

/// The inodes of sockets on that path, or of that name, that take connections: proc_pid_net(5), `unix`; of the flags,
/// 00010000 is `__SO_ACCEPTCON`.
fn inodes_of_path(path: &str) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let end = format!(" {path}");
    text.lines()
        .filter(|line| line.ends_with(&end))
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (*fields.get(3)? == "00010000").then(|| Some((*fields.get(6)?).to_string()))?
        })
        .collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn finds_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let at = listener.local_addr().expect("an address").into();
        let holder = holder_of(&at).expect("our own listener");
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
        drop(listener);
        assert_eq!(holder_of(&at), None);
    }

    #[test]
    fn finds_this_process_by_a_path() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a b");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("a free path");
        let at = Address::Unix(path);
        let holder = holder_of(&at).expect("our own listener");
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
        drop(listener);
        assert_eq!(holder_of(&at), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_table_is_read_by_address_and_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
             0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 11 1\n   \
             1: 0900007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 22 1\n   \
             2: 00000000000000000000000000000000:1F91 0:0 0A 0:0 0:0 0 0 0 33 1\n   \
             3: 0100007F:1F90 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 44 1\n";
        for (at, expected) in [
            ("127.0.0.1:8080", vec!["11"]),
            ("127.0.0.9:8080", vec!["22"]),
            ("127.0.0.2:8080", vec![]),
            ("0.0.0.0:8080", vec!["11", "22"]),
            ("[::1]:8081", vec!["33"]),
            ("127.0.0.1:8081", vec!["33"]),
        ] {
            assert_eq!(inodes(table, at.parse().expect("an address")), expected, "{at}");
        }
    }
}
