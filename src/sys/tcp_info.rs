//! `TCP_INFO`, tcp(7): what the kernel knows of a connection and its path.

use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::net::TcpStream;

use super::calls::{self, Call};
use super::unacknowledged::unacknowledged;
use crate::path::Path;

/// The kernel's structure as of Linux 5.4 (`linux/tcp.h`), of which libc has the first part only. The kernel only ever
/// adds to its end, and writes as much as it knows; the rest stays zero.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    _state: u8,
    _ca_state: u8,
    retransmits: u8,
    probes: u8,
    backoff: u8,
    _options: u8,
    _wscale: u8,
    _limits: u8,
    rto: u32,
    _ato: u32,
    _snd_mss: u32,
    _rcv_mss: u32,
    _unacked: u32,
    _sacked: u32,
    _lost: u32,
    _retrans: u32,
    _fackets: u32,
    last_data_sent: u32,
    _last_ack_sent: u32,
    last_data_recv: u32,
    last_ack_recv: u32,
    _pmtu: u32,
    _rcv_ssthresh: u32,
    rtt: u32,
    _rttvar: u32,
    _snd_ssthresh: u32,
    _snd_cwnd: u32,
    _advmss: u32,
    _reordering: u32,
    _rcv_rtt: u32,
    _rcv_space: u32,
    total_retrans: u32,
    _pacing_rate: u64,
    _max_pacing_rate: u64,
    _bytes_acked: u64,
    _bytes_received: u64,
    _segs_out: u32,
    _segs_in: u32,
    _notsent_bytes: u32,
    _min_rtt: u32,
    data_segs_in: u32,
    data_segs_out: u32,
    _delivery_rate: u64,
    _busy_time: u64,
    _rwnd_limited: u64,
    _sndbuf_limited: u64,
    _delivered: u32,
    _delivered_ce: u32,
    _bytes_sent: u64,
    _bytes_retrans: u64,
    _dsack_dups: u32,
    _reord_seen: u32,
    rcv_ooopack: u32,
    _snd_wnd: u32,
}

#[expect(unsafe_code, reason = "an option that rustix lacks")]
fn info(stream: &TcpStream) -> Option<Info> {
    // SAFETY: Info is plain integers, for which all bytes zero are a value.
    let mut info: Info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    calls::happened(Call::Getsockopt, stream.as_raw_fd(), 0);
    // SAFETY: the descriptor is open because `stream` is borrowed; the kernel writes at most `length`
    // bytes to `info`, which is ours and that long, and sets `length` to what it wrote.
    let done = unsafe {
        let info = (&raw mut info).cast();
        libc::getsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, info, &raw mut length)
    };
    (done == 0).then_some(info)
}

/// [`super::net::Net::path`].
pub(super) fn path(stream: &TcpStream) -> Option<Path> {
    let info = info(stream)?;
    Some(Path {
        rtt_us: info.rtt,
        retransmits: info.total_retrans,
        sent: info.data_segs_out,
        received: info.data_segs_in,
        out_of_order: info.rcv_ooopack,
        quiet_ms: info.last_data_recv.min(info.last_data_sent),
        unheard_ms: info.last_data_recv,
    })
}

/// [`super::net::Net::silence`].
///
/// A live peer that takes no bytes for the moment (its window is shut) answers each probe, however rare
/// they become: for it no probe is without an answer. So silence alone proves nothing, but with two probes
/// or retransmissions unanswered it does. Where nothing is unacknowledged the probes are those of
/// keep-alive, which has limits of its own.
pub(super) fn silence(stream: &TcpStream) -> Option<Duration> {
    let info = info(stream)?;
    let asked_again = info.retransmits.max(info.probes) >= 2;
    (asked_again && unacknowledged(stream) > 0).then(|| silence_of(&info))
}

/// How long a peer that was asked again has been silent. Its last acknowledgement may be older than the bytes
/// that it owes one for: after an hour of quiet it has not been silent for an hour.
fn silence_of(info: &Info) -> Duration {
    let mut millis = u64::from(info.last_ack_recv);
    if info.retransmits > 0 {
        // Each wait is twice the one before, so all that are over add up to the one that runs less the first.
        let waits_micros = info.rto - (info.rto >> info.backoff.min(31));
        millis = millis.min(u64::from(waits_micros / 1_000) + u64::from(info.last_data_sent));
    }
    Duration::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// Each field is at its place: what was sent and received is counted as such, also when the peer has reset.
    #[test]
    fn segments_are_counted_on_their_side_also_after_the_peer_has_gone() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        for _ in 0..5 {
            client.write_all(b"x").unwrap();
            server.read_exact(&mut [0]).unwrap();
        }
        server.write_all(b"y").unwrap();
        client.read_exact(&mut [0]).unwrap();
        socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO)).unwrap();
        drop(server);
        assert!(client.read(&mut [0]).is_err(), "it is reset");
        let path = path(&TcpStream::from_std(client)).expect("it tells");
        assert_eq!((path.sent, path.received, path.retransmits, path.out_of_order), (5, 1, 0, 0));
        assert!(path.rtt_us > 0 && path.rtt_us < 1_000_000, "{path:?}");
    }
}
