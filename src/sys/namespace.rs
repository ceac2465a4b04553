//! A network of one's own: network_namespaces(7).

use std::io;
use std::os::fd::AsRawFd;

use rustix::net::{AddressFamily, SocketType, socket};
use rustix::thread::UnshareFlags;

/// Moves the calling thread, and what it starts from now on, into a new network that has the loopback interface and
/// nothing else: no connection, no port in use, no rule, every setting as the kernel has it.
///
/// # Errors
/// `PermissionDenied` without CAP_SYS_ADMIN, and the operating system's. The thread may have been moved then, to a network
/// without an interface that is up.
#[expect(unsafe_code, reason = "neither call has a safe form")]
pub fn enter_new_network() -> io::Result<()> {
    // SAFETY: a network namespace has no part in the memory or the descriptors of this process; sockets that are open stay
    // where they are.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)? };
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: ifreq is plain integers, bytes and pointers in a union, for which all bytes zero are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, letter) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = letter.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the descriptor is open; SIOCSIFFLAGS (netdevice(7)) reads an ifreq, which `request` is, and writes nothing.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::thread;

    use super::*;

    /// In a thread of its own, which is all that moves.
    #[test]
    fn a_new_network_has_a_loopback_of_its_own() {
        let outside = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let at = outside.local_addr().unwrap();
        let inside = move || match enter_new_network() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => println!("skipped: {error}"),
            entered => {
                entered.unwrap();
                assert_eq!(TcpStream::connect(at).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
                let listener = TcpListener::bind(at).expect("nobody has the port here");
                TcpStream::connect(at).unwrap();
                drop(listener);
            }
        };
        thread::spawn(inside).join().unwrap();
        TcpStream::connect(at).expect("the other threads are where they were");
    }
}
