//! Options of sockets, socket(7), ip(7) and tcp(7): set on those that are made, and tried beforehand.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, TcpKeepalive};

use super::calls::{self, Call};
use super::net::{new_socket, number};
use super::source::bind_source;
use crate::config::{Keepalive, Tcp};

/// An option that the system refuses.
#[derive(Debug)]
pub struct Refused {
    /// Its key in the configuration.
    pub option: &'static str,
    /// The system's answer.
    pub error: io::Error,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.option, self.error)
    }
}

/// A buffer that is smaller than was asked for, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clamped {
    /// Its key in the configuration.
    pub option: &'static str,
    /// What it is.
    pub given: u32,
}

/// Options of every connection. Linux hands those of a listener down to what it accepts.
pub(super) fn set(socket: &Socket, tcp: &Tcp, is_v6: bool) -> Result<(), Refused> {
    let set = |option, set: &dyn Fn() -> io::Result<()>| {
        calls::made(Call::Setsockopt, number(socket), set).map_err(|error| Refused { option, error })
    };
    // An urgent byte stays at its place in the stream instead of being lost.
    set("oobinline", &|| socket.set_out_of_band_inline(true))?;
    if tcp.nodelay {
        set("nodelay", &|| socket.set_tcp_nodelay(true))?;
    }
    if let Some(keepalive) = tcp.keepalive {
        let keepalive = scattered(keepalive, number(socket));
        let times = TcpKeepalive::new().with_time(keepalive.idle).with_interval(keepalive.interval);
        let parameters = times.clone().with_retries(u32::from(keepalive.count));
        // Four options: that there is one, and its three parameters.
        (0..4).for_each(|_| calls::happened(Call::Setsockopt, number(socket), 0));
        let set = socket.set_tcp_keepalive(&parameters);
        let set = set.or_else(|error| without_count(socket, &times, error));
        set.map_err(|error| Refused { option: "keepalive", error })?;
    }
    if let Some(bytes) = tcp.rcvbuf {
        set("rcvbuf", &|| socket.set_recv_buffer_size(bytes as usize))?;
    }
    if let Some(bytes) = tcp.sndbuf {
        set("sndbuf", &|| socket.set_send_buffer_size(bytes as usize))?;
    }
    #[cfg(target_os = "linux")]
    {
        if tcp.user_timeout.is_some() {
            set("user_timeout", &|| socket.set_tcp_user_timeout(tcp.user_timeout))?;
        }
        if let Some(algorithm) = &tcp.congestion {
            set("congestion", &|| socket.set_tcp_congestion(algorithm.as_bytes()))?;
        }
        if let Some(dscp) = tcp.dscp {
            set("dscp", &|| set_dscp(socket, dscp, is_v6))?;
        }
        if let Some(mark) = tcp.mark {
            set("mark", &|| socket.set_mark(mark.get()))?;
        }
        if let Some(device) = &tcp.interface {
            set("interface", &|| socket.bind_device(Some(device.as_bytes())))?;
        }
    }
    let _ = is_v6;
    Ok(())
}

/// Has an accepted socket probe its peer at a time of its own; see [`scattered`].
#[cfg(target_os = "linux")]
pub(super) fn scatter(stream: &mio::net::TcpStream, keepalive: Keepalive) {
    use std::os::fd::AsRawFd;
    let idle = scattered(keepalive, stream.as_raw_fd()).idle;
    let set = || rustix::net::sockopt::set_tcp_keepidle(stream, idle).map_err(io::Error::from);
    // A connection that is gone already needs no probes.
    let _ = calls::made(Call::Setsockopt, stream.as_raw_fd(), set);
}

/// Elsewhere it keeps the times of its listener.
#[cfg(not(target_os = "linux"))]
pub(super) fn scatter(_: &mio::net::TcpStream, _: Keepalive) {}

/// Waits before probes for one socket: down to three quarters of what is configured, in whole seconds, as systems have it.
///
/// Connections that began together, as after a restart, would be probed together, for ever. Linux loses what does not fit
/// a queue of packets (`net.core.netdev_max_backlog`, or that of a network card), each time for the same connections, and
/// so ends them: of 9,000 idle ones on loopback that began within two seconds 6,000 were gone after two minutes.
fn scattered(keepalive: Keepalive, number: i32) -> Keepalive {
    // Numbers of sockets follow one another; their products with 2^32 / φ are spread evenly (Knuth, TAOCP 3, 6.4).
    let spread = number.cast_unsigned().wrapping_mul(0x9E37_79B9);
    let less = |most: Duration, bits: u32| {
        let range = most.as_secs() / 4 + 1;
        most - Duration::from_secs((u64::from(bits & 0xFFFF) * range) >> 16)
    };
    Keepalive {
        idle: less(keepalive.idle, spread >> 16),
        interval: less(keepalive.interval, spread),
        ..keepalive
    }
}

/// As [`set`], on a socket that had the options of `before`: what was on is switched off.
pub(super) fn replace(socket: &Socket, before: &Tcp, tcp: &Tcp, is_v6: bool) -> Result<(), Refused> {
    let to = |option| move |error| Refused { option, error };
    socket.set_tcp_nodelay(tcp.nodelay).map_err(to("nodelay"))?;
    socket.set_keepalive(tcp.keepalive.is_some()).map_err(to("keepalive"))?;
    #[cfg(target_os = "linux")]
    {
        if before.user_timeout.is_some() {
            socket.set_tcp_user_timeout(None).map_err(to("user_timeout"))?;
        }
        if before.congestion.is_some() && tcp.congestion.is_none() {
            let system = new_socket(Domain::IPV4, Some(Protocol::TCP)).and_then(|new| new.tcp_congestion());
            let name = system.map_err(to("congestion"))?;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            socket.set_tcp_congestion(name).map_err(to("congestion"))?;
        }
        if before.dscp.is_some() {
            set_dscp(socket, 0, is_v6).map_err(to("dscp"))?;
        }
        if before.mark.is_some() {
            socket.set_mark(0).map_err(to("mark"))?;
        }
        if before.interface != tcp.interface && before.interface.is_some() {
            socket.bind_device(None).map_err(to("interface"))?;
        }
        if before.rcvbuf.is_some() && tcp.rcvbuf.is_none() {
            tune_again(socket, SOCK_RCVBUF_LOCK, |new| {
                socket.set_recv_buffer_size(new.recv_buffer_size()? / 2)
            })
            .map_err(to("rcvbuf"))?;
        }
        if before.sndbuf.is_some() && tcp.sndbuf.is_none() {
            tune_again(socket, SOCK_SNDBUF_LOCK, |new| {
                socket.set_send_buffer_size(new.send_buffer_size()? / 2)
            })
            .map_err(to("sndbuf"))?;
        }
    }
    let _ = before;
    set(socket, tcp, is_v6)
}

/// Whether sockets can have these options here, by trying them on one.
///
/// # Errors
/// The first option that is refused.
pub fn try_out(tcp: &Tcp, is_v6: bool) -> Result<Vec<Clamped>, Refused> {
    let domain = if is_v6 { Domain::IPV6 } else { Domain::IPV4 };
    let made = |error| Refused { option: "socket", error };
    let socket = new_socket(domain, Some(Protocol::TCP)).map_err(made)?;
    set(&socket, tcp, is_v6)?;
    let asked = [
        ("rcvbuf", tcp.rcvbuf, socket.recv_buffer_size()),
        ("sndbuf", tcp.sndbuf, socket.send_buffer_size()),
    ];
    Ok(asked.into_iter().filter_map(|(option, asked, given)| clamped(option, asked?, given.ok()?)).collect())
}

/// Linux tells twice of what it was asked for: the other half is for its own needs.
fn clamped(option: &'static str, asked: u32, told: usize) -> Option<Clamped> {
    let given = u32::try_from(told).ok()? / if cfg!(target_os = "linux") { 2 } else { 1 };
    (given < asked).then_some(Clamped { option, given })
}

/// Whether connections of this host can come from that address, when there is a free port.
///
/// # Errors
/// The system's: AddrNotAvailable when it is another host's.
pub fn try_source(source: IpAddr) -> io::Result<()> {
    let domain = if source.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
    match bind_source(&new_socket(domain, Some(Protocol::TCP))?, source) {
        // All ports are used at this moment, which says that it is an address of this host.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
        bound => bound,
    }
}

/// Whether connections of this host can come from addresses of others.
///
/// # Errors
/// The system's: PermissionDenied without CAP_NET_ADMIN and CAP_NET_RAW.
pub fn try_foreign_source(is_v6: bool) -> io::Result<()> {
    let domain = if is_v6 { Domain::IPV6 } else { Domain::IPV4 };
    allow_foreign_source(&new_socket(domain, Some(Protocol::TCP))?, is_v6)
}

/// Lets a socket be bound to an address that this host does not have (`IP_TRANSPARENT`, ip(7)).
pub(super) fn allow_foreign_source(socket: &Socket, is_v6: bool) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let allow =
            || if is_v6 { socket.set_ip_transparent_v6(true) } else { socket.set_ip_transparent_v4(true) };
        calls::made(Call::Setsockopt, number(socket), allow)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, is_v6);
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The class is in the upper six bits; the lower two tell of congestion (RFC 3168), and are the kernel's.
#[cfg(target_os = "linux")]
fn set_dscp(socket: &Socket, dscp: u8, is_v6: bool) -> io::Result<()> {
    let class = u32::from(dscp) << 2;
    if is_v6 { socket.set_tclass_v6(class) } else { socket.set_tos_v4(class) }
}

#[cfg(target_os = "linux")]
const SOCK_SNDBUF_LOCK: u32 = 1;
#[cfg(target_os = "linux")]
const SOCK_RCVBUF_LOCK: u32 = 2;

/// Gives one of the buffers the size that new sockets have, and lets the kernel tune it again (`SO_BUF_LOCK`, Linux 5.15).
#[cfg(target_os = "linux")]
fn tune_again(socket: &Socket, lock: u32, set: impl FnOnce(&Socket) -> io::Result<()>) -> io::Result<()> {
    set(&new_socket(Domain::IPV4, Some(Protocol::TCP))?)?;
    unlock_buffer(socket, lock)
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "an option that neither rustix nor socket2 has")]
fn unlock_buffer(socket: &Socket, lock: u32) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let fd = socket.as_raw_fd();
    let mut locks: u32 = 0;
    let mut length = size_of_val(&locks) as libc::socklen_t;
    // SAFETY: the descriptor is open because `socket` is borrowed; the kernel writes at most `length` bytes to `locks`,
    // which is ours and that long.
    let done = unsafe {
        let value = (&raw mut locks).cast();
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_BUF_LOCK, value, &raw mut length)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    locks &= !lock;
    // SAFETY: as above; the kernel reads the four bytes of `locks`, which outlives the call.
    let done = unsafe {
        libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_BUF_LOCK, (&raw const locks).cast(), length)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Windows has a count of probes since version 1703 of Windows 10; before, there are ten.
#[cfg(windows)]
fn without_count(socket: &Socket, times: &TcpKeepalive, error: io::Error) -> io::Result<()> {
    static TOLD: std::sync::Once = std::sync::Once::new();
    if error.raw_os_error() != Some(rustix::io::Errno::NOPROTOOPT.raw_os_error()) {
        return Err(error);
    }
    socket.set_tcp_keepalive(times)?;
    TOLD.call_once(|| {
        log::warn!(
            "keepalive: this Windows takes no count of probes, and sends ten before it gives a peer up"
        );
    });
    Ok(())
}

#[cfg(not(windows))]
fn without_count(_: &Socket, _: &TcpKeepalive, error: io::Error) -> io::Result<()> {
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_of_neighbours_are_scattered_over_the_last_quarter_of_what_is_configured() {
        let seconds = Duration::from_secs;
        let configured = Keepalive { idle: seconds(60), interval: seconds(10), count: 6 };
        let mut with = [[0_u32; 61]; 2];
        for number in 0..9_000 {
            let given = scattered(configured, number);
            assert_eq!(given.count, 6);
            with[0][usize::try_from(given.idle.as_secs()).unwrap()] += 1;
            with[1][usize::try_from(given.interval.as_secs()).unwrap()] += 1;
        }
        let ([idle, interval], none) = (with, |counts: &[u32]| counts.iter().all(|count| *count == 0));
        assert!(none(&idle[..45]) && none(&interval[..8]) && none(&interval[11..]));
        assert!(idle[45..].iter().all(|count| (540..590).contains(count)), "{idle:?}");
        assert!(interval[8..11].iter().all(|count| (2_900..3_100).contains(count)), "{interval:?}");
        let least = Keepalive { idle: seconds(1), interval: seconds(3), count: 1 };
        assert_eq!(scattered(least, 12_345), least);
    }
}
