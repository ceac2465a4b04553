//! Where a connection comes from.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use socket2::Socket;

/// Binds a socket that is to connect to a local address, and leaves its port open until the target is known: then the
/// same port can be used towards others, and ports run out for each target by itself (`IP_BIND_ADDRESS_NO_PORT`, ip(7)).
///
/// # Errors
/// The operating system's: an address that this host does not have.
#[expect(unsafe_code, reason = "an option that neither rustix nor socket2 has")]
pub fn bind_source(socket: &Socket, source: IpAddr) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open because `socket` is borrowed; the kernel reads `size_of(c_int)` bytes of `on`, which
    // outlives the call.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    socket.bind(&SocketAddr::new(source, 0).into())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use socket2::{Domain, Type};

    use super::*;

    #[test]
    fn a_connection_comes_from_the_address_and_has_no_port_before() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        bind_source(&socket, Ipv4Addr::new(127, 0, 0, 9).into()).unwrap();
        let local = |socket: &Socket| socket.local_addr().unwrap().as_socket_ipv4().unwrap();
        assert_eq!(local(&socket).port(), 0);
        socket.connect(&listener.local_addr().unwrap().into()).unwrap();
        assert_eq!(local(&socket).ip(), &Ipv4Addr::new(127, 0, 0, 9));
        assert_ne!(local(&socket).port(), 0);
    }
}
