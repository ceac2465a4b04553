//! Ports for other people's programs, which have to be told where to listen.

use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU16, Ordering};

use socket2::{Domain, Socket, Type};

/// An address of the host where nothing listens. It is held until the test program ends, so that no other test, of this
/// program or of another one, is given it; whoever binds it with `SO_REUSEADDR`, as servers do, may listen there. The port
/// is below those that the kernel gives out by itself, for UDP as well.
pub(crate) fn free_address(host: &str) -> SocketAddr {
    const PORTS: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    static HELD: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let ip: IpAddr = host.parse().expect("an IP address");
    let first = u16::try_from(std::process::id() % u32::from(PORTS)).unwrap();
    let hold = |_| {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let address = SocketAddr::new(ip, port);
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        // Without the option it fails wherever any other socket is; with it, it is in no server's way.
        socket.bind(&address.into()).ok()?;
        socket.set_reuse_address(true).unwrap();
        HELD.lock().unwrap().push(socket);
        Some(address)
    };
    (0..PORTS).find_map(hold).expect("one of many ports is free")
}
