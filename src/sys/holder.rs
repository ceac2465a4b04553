//! Who listens on an address: for the message when it is not free.

use std::net::SocketAddr;

/// The process that listens on `at`, as `name (pid 123)`. `None` when it cannot be found: it belongs to
/// another user, or the system has no `/proc`.
#[must_use]
pub fn holder_of(at: SocketAddr) -> Option<String> {
    let inodes = listening_inodes(at);
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
fn listening_inodes(at: SocketAddr) -> Vec<String> {
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn finds_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let at = listener.local_addr().expect("an address");
        let holder = holder_of(at).expect("our own listener");
        assert!(holder.ends_with(&format!("(pid {})", std::process::id())), "{holder}");
        drop(listener);
        assert_eq!(holder_of(at), None);
    }
}
