//! Where a connection comes from.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::Socket;

use super::calls::{self, Call};
use super::net::number;

/// Binds a socket that is to connect to a local address, and leaves its port open until the target is known: then the
/// same port can be used towards others, and ports run out for each target by itself (`IP_BIND_ADDRESS_NO_PORT`, ip(7)).
/// Other systems than Linux choose the port here.
///
/// # Errors
/// The operating system's: an address that this host does not have.
pub fn bind_source(socket: &Socket, source: IpAddr) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    calls::made(Call::Setsockopt, number(socket), || choose_port_later(socket))?;
    calls::made(Call::Bind, number(socket), || socket.bind(&SocketAddr::new(source, 0).into()))
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "an option that neither rustix nor socket2 has")]
fn choose_port_later(socket: &Socket) -> io::Result<()> {
    use std::os::fd::AsRawFd;
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
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(all(test, target_os = "linux"))]
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
