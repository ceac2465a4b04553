//! Bytes that were sent and that the peer has not acknowledged. Each system tells it in its own way.

use mio::net::TcpStream;

/// How many they are; zero where the system does not tell.
///
/// `SIOCOUTQ`, tcp(7).
#[cfg(any(target_os = "linux", target_os = "android"))]
#[expect(unsafe_code, reason = "an ioctl that rustix lacks")]
pub(super) fn unacknowledged(stream: &TcpStream) -> u32 {
    use std::os::fd::AsRawFd;
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open because `stream` is borrowed; TIOCOUTQ (the same number as
    // SIOCOUTQ) writes one int to the pointer, which points to a live int of our own.
    let done = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    super::calls::happened(super::calls::Call::Ioctl, stream.as_raw_fd(), done.into());
    if done == 0 { count.try_into().unwrap_or(0) } else { 0 }
}

/// How many they are; zero where the system does not tell.
///
/// `FIONWRITE`, ioctl(2) of FreeBSD: what is in the send buffer, where bytes stay until they are acknowledged.
#[cfg(target_os = "freebsd")]
#[expect(unsafe_code, reason = "an ioctl that rustix lacks")]
pub(super) fn unacknowledged(stream: &TcpStream) -> u32 {
    use std::os::fd::AsRawFd;
    let mut count: libc::c_int = 0;
    // SAFETY: the descriptor is open because `stream` is borrowed; FIONWRITE writes one int to the pointer, which
    // points to a live int of our own.
    let done = unsafe { libc::ioctl(stream.as_raw_fd(), libc::FIONWRITE, &raw mut count) };
    if done == 0 { count.try_into().unwrap_or(0) } else { 0 }
}

/// How many they are; zero where the system does not tell.
///
/// `SO_NWRITE`, getsockopt(2) of macOS: what is in the send buffer, where bytes stay until they are acknowledged.
#[cfg(target_vendor = "apple")]
#[expect(unsafe_code, reason = "an option that rustix lacks")]
pub(super) fn unacknowledged(stream: &TcpStream) -> u32 {
    use std::os::fd::AsRawFd;
    let mut count: libc::c_int = 0;
    let mut length: libc::socklen_t = 4;
    // SAFETY: the descriptor is open because `stream` is borrowed; the kernel writes at most `length` bytes, which
    // is the size of the int of our own that the pointer points to, and sets `length`.
    let done = unsafe {
        let count = (&raw mut count).cast();
        libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NWRITE, count, &raw mut length)
    };
    if done == 0 { count.try_into().unwrap_or(0) } else { 0 }
}

/// How many they are; zero where the system does not tell.
///
/// `SIO_TCP_INFO` of Windows 10 and later: only what is on its way, not what the peer's window keeps back.
#[cfg(windows)]
#[expect(unsafe_code, reason = "an ioctl that no package has")]
pub(super) fn unacknowledged(stream: &TcpStream) -> u32 {
    use std::mem::offset_of;
    use std::os::windows::io::AsRawSocket;
    use std::ptr;

    use windows_sys::Win32::Networking::WinSock::{SIO_TCP_INFO, TCP_INFO_v0, WSAIoctl};

    const WORDS: usize = size_of::<TCP_INFO_v0>() / 4;
    let version = 0_u32;
    let mut info = [0_u32; WORDS];
    let mut length = 0;
    let Ok(socket) = usize::try_from(stream.as_raw_socket()) else { return 0 };
    // SAFETY: the socket is open because `stream` is borrowed; `version` and `info` are our own, live until the call
    // has returned, which is not overlapped, and their sizes are those that are passed.
    let failed = unsafe {
        WSAIoctl(
            socket,
            SIO_TCP_INFO,
            (&raw const version).cast(),
            4,
            info.as_mut_ptr().cast(),
            (WORDS * 4) as u32,
            &raw mut length,
            ptr::null_mut(),
            None,
        )
    };
    if failed == 0 { info[offset_of!(TCP_INFO_v0, BytesInFlight) / 4] } else { 0 }
}

/// Not told.
#[cfg(not(any(
    target_os = "linux",
    target_os = "android",
    target_os = "freebsd",
    target_vendor = "apple",
    windows
)))]
pub(super) fn unacknowledged(_: &TcpStream) -> u32 {
    0
}
