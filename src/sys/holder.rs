//! Who listens on an address: for the message when it is not free.

use std::net::SocketAddr;
use std::path::Path;

use crate::config::Address;

/// The process that listens on `at`, as `name (pid 123)`. `None` when it cannot be found: it belongs to
/// another user, or the system has no `/proc`.
#[must_use]
pub fn holder_of(at: &Address) -> Option<String> {
    let inodes = match at {
        Address::Ip(at) => inodes_of_port(*at),
        Address::Unix(path) => inodes_of_path(path),
    };
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(descriptors) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = descriptors.flatten().any(|descriptor| {
            std::fs::read_link(descriptor.path()).is_ok_and(|target| {
                inodes.iter().any(|inode| target.as_os_str() == format!("socket:[{inode}]").as_str())
            })
        });
        if holds {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

/// The inodes of listening sockets on that port: proc_pid_net(5), `tcp` and `tcp6`; state 0A is LISTEN.
fn inodes_of_port(at: SocketAddr) -> Vec<String> {
    let file = if at.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let port = format!(":{:04X}", at.port());
    text.lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = fields.get(1)?.ends_with(&port) && *fields.get(3)? == "0A";
            listens.then(|| (*fields.get(9)?).to_string().into())?
        })
        .collect()
}

/// The inodes of sockets on that path that take connections: proc_pid_net(5), `unix`; of the flags,
/// 00010000 is `__SO_ACCEPTCON`.
fn inodes_of_path(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let end = format!(" {}", path.display());
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
}
