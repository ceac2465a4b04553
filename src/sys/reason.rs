//! Why an address cannot be listened on, in words for the user.

use std::io::{self, ErrorKind};

use super::holder_of;
use crate::config::Address;

/// Why `at` cannot be had, and what to do about it.
#[must_use]
pub fn why_not_bound(at: &Address, error: &io::Error) -> (String, &'static str) {
    match at {
        Address::Ip(_) => reason_of_port(at, error),
        Address::Unix(_) | Address::Abstract(_) | Address::Handed(_) => reason_of_path(at, error),
    }
}

/// Why a port cannot be had, and what to do about it.
fn reason_of_port(at: &Address, error: &io::Error) -> (String, &'static str) {
    match error.kind() {
        ErrorKind::AddrInUse => match holder_of(at) {
            Some(holder) => (format!("in use by {holder}"), "stop it, or choose another port"),
            None => (
                "in use by another process".to_string(),
                "`ss -tanp` as root shows which: it listens, or the port is the own one of a connection, which those of \
                 net.ipv4.ip_local_port_range may be; stop it, choose another port, or keep this one free for you by \
                 net.ipv4.ip_local_reserved_ports",
            ),
        },
        ErrorKind::PermissionDenied => (
            format!("not permitted ({error})"),
            "ports below 1024 need CAP_NET_BIND_SERVICE: AmbientCapabilities=CAP_NET_BIND_SERVICE in the \
             systemd unit, or a port from 1024 up",
        ),
        ErrorKind::AddrNotAvailable => (
            "no interface of this host has this address".to_string(),
            "`ip address` shows those that there are",
        ),
        _ => (error.to_string(), "nothing was bound; mend the cause and start again"),
    }
}

/// Why a path cannot be had, and what to do about it.
fn reason_of_path(at: &Address, error: &io::Error) -> (String, &'static str) {
    match error.kind() {
        ErrorKind::AddrInUse => {
            let holder = holder_of(at).unwrap_or_else(|| "another process".to_string());
            let is_name = matches!(at, Address::Abstract(_));
            let help =
                if is_name { "stop it, or choose another name" } else { "stop it, or choose another path" };
            (format!("in use by {holder}"), help)
        }
        ErrorKind::AlreadyExists => (
            "there is a file that is no socket".to_string(),
            "it may be precious, so it stays: remove it, or choose another path",
        ),
        ErrorKind::NotFound => {
            ("its directory does not exist".to_string(), "make it, or choose another path")
        }
        ErrorKind::PermissionDenied => (
            format!("not permitted ({error})"),
            "this user must be allowed to write in the directory; RuntimeDirectory= in the systemd unit \
             makes one below /run",
        ),
        _ => (error.to_string(), "nothing was bound; mend the cause and start again"),
    }
}
