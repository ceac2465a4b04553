//! A DNS server that knows one address.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

/// The question with one A record behind it, or none where the question is another one.
pub(crate) fn answer(question: &[u8], ip: Ipv4Addr) -> Vec<u8> {
    let name = 12 + question[12..].iter().position(|byte| *byte == 0).expect("a name ends");
    let is_a = question[name + 1..name + 3] == [0, 1];
    let mut said = question[..name + 5].to_vec();
    said[2..4].copy_from_slice(&[0x81, 0x80]);
    said[6..12].copy_from_slice(&[0, u8::from(is_a), 0, 0, 0, 0]);
    if is_a {
        said.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        said.extend(ip.octets());
    }
    said
}

/// Starts one that gives this address for every name. It answers as long as the tests run.
pub(crate) fn start(ip: Ipv4Addr) -> SocketAddr {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&answer(&buffer[..length], ip), from);
        }
    });
    at
}
