//! A program that tells whether a server is well: by its exit code, 0 or another.
//!
//! No shell reads its arguments; it has a process group of its own, an environment of a few variables, and is killed with
//! its group when its time is over or nobody wants to know any more.

use std::time::Duration;

use super::{Found, Trouble};
use crate::config::Address;

/// What it finds out, and the last bytes that the program wrote; nothing is found out when time ran out.
#[cfg(unix)]
pub(super) async fn run(argv: &[String], addr: &Address, limit: Duration) -> (Option<Found>, Vec<u8>) {
    use tokio::io::AsyncReadExt;
    use tokio::net::unix::pipe::Receiver;
    use tokio::process::Command;
    use tokio::time::timeout;

    use super::wire::{KEPT, keep};

    let mut kept = std::collections::VecDeque::with_capacity(KEPT);
    let started = || {
        let (output, input) = std::io::pipe()?;
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]).env_clear().envs(environment(addr));
        command.stdin(std::process::Stdio::null()).stdout(input.try_clone()?).stderr(input);
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        Ok((child, Receiver::from_owned_fd(output.into())?))
    };
    let (mut child, mut output) = match started() {
        Ok(started) => started,
        Err(error) => {
            let error: std::io::Error = error;
            return (Some(Err(Trouble::Here(format!("{}: {error}", argv[0])))), Vec::new());
        }
    };
    // It goes before the child, which is reaped only then: the number of the group is still its own.
    let group = Group(child.id().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed())));
    let ended = timeout(limit, async {
        let mut some = [0; 1024];
        let mut is_open = true;
        loop {
            tokio::select! {
                biased;
                Ok(count) = output.read(&mut some), if is_open => {
                    is_open = count > 0;
                    keep(&mut kept, &some[..count]);
                }
                status = child.wait() => return status,
            }
        }
    });
    let ended = ended.await;
    let found = match ended {
        Ok(status) => {
            group.forget();
            Some(status.map_err(Trouble::Io).and_then(judge))
        }
        Err(_) => None,
    };
    (found, kept.into_iter().collect())
}

#[cfg(unix)]
fn judge(status: std::process::ExitStatus) -> Found {
    match status.code() {
        Some(0) => Ok("exit code 0".to_owned()),
        Some(code) => Err(Trouble::Said(format!("exit code {code}"))),
        // A signal has ended it.
        None => Err(Trouble::Said(status.to_string())),
    }
}

/// Kills the processes of a group.
#[cfg(unix)]
struct Group(Option<rustix::process::Pid>);

#[cfg(unix)]
impl Group {
    /// Its first process has ended and is reaped: the number may be another's.
    fn forget(mut self) {
        self.0 = None;
    }
}

#[cfg(unix)]
impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}

/// What the program is told of the server.
#[cfg(unix)]
fn environment(addr: &Address) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("TIDEGATE_ADDR", addr.to_string()),
    ];
    if let Some(at) = addr.ip() {
        all.push(("TIDEGATE_HOST", at.ip().to_string()));
        all.push(("TIDEGATE_PORT", at.port().to_string()));
    }
    all
}

#[cfg(not(unix))]
pub(super) async fn run(_: &[String], _: &Address, _: Duration) -> (Option<Found>, Vec<u8>) {
    (Some(Err(Trouble::Here("this system's build runs no programs as checks".to_owned()))), Vec::new())
}
