//! The network in which a measurement is made.

use std::fs;
use std::io::ErrorKind;

use crate::sys;

/// Ways of congestion control that do not hold packets back by a timer, the best first. One that does, such as BBR, makes
/// of bulk on loopback a measurement of its timers.
const UNPACED: [&str; 2] = ["cubic", "reno"];
const SETTING: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// Enters a fresh network, if this process may: without connections that rest, other programs' traffic, firewall rules, and
/// with a congestion control that does not pace.
///
/// Returns what the figures suffer from where it may not, in words.
pub(super) fn enter() -> Option<String> {
    let entered = sys::enter_new_network();
    if entered.is_ok() {
        // What is not there, or may not be chosen in a namespace, is refused.
        let _ = UNPACED.iter().any(|name| fs::write(SETTING, name).is_ok());
    }
    let control = fs::read_to_string(SETTING).unwrap_or_default();
    let control = control.trim();
    let paced = (!UNPACED.contains(&control)).then(|| {
        format!(
            "TCP's congestion control is {control}, which may hold bytes back on loopback: figures of streams are its, \
             too; `sysctl -w net.ipv4.tcp_congestion_control=cubic`"
        )
    });
    match entered {
        Ok(()) => paced,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Some(format!(
            "only root measures in a network of its own: other connections of this machine and its firewall are in the \
             figures{}",
            paced.map(|paced| format!("; {paced}")).unwrap_or_default()
        )),
        Err(error) => Some(format!("no network of its own: {error}")),
    }
}
