//! Headers as we send them.

use std::io::Write;
use std::net::SocketAddr;

#[cfg(doc)]
use super::Command;
use super::v2::{self, AddressFamily, CHECKSUM_LEN, FIXED, TLV_FIXED, UNIQUE_ID_MAX, kind};
use super::{Addresses, Version};

/// The longest header that is sent, in bytes: what fits into the smallest segment that every host must take (2. of the
/// specification), so that it is always whole.
pub const ENCODED_MAX: usize = 536;

/// What a header is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told<'a> {
    /// Between whom the connection is that is passed on. Where that is not known the header says [`Command::Local`] and
    /// nothing else: each receiver must take that, and HAProxy refuses [`Command::Proxy`] without addresses.
    pub addresses: Addresses<'a>,
    /// The name that the client has asked for.
    pub authority: Option<&'a [u8]>,
    /// The protocol on the connection.
    pub alpn: Option<&'a [u8]>,
    /// The connection's number; no more than [`UNIQUE_ID_MAX`] bytes of it are sent.
    pub unique_id: Option<&'a [u8]>,
    /// Whether a checksum of the header is added.
    pub crc32c: bool,
}

impl Told<'_> {
    /// What is told with a connection of the sender's own.
    pub const LOCAL: Self =
        Self { addresses: Addresses::Unknown, authority: None, alpn: None, unique_id: None, crc32c: false };
}

/// A header that is ready to be sent.
#[derive(Clone, Copy)]
pub struct Encoded {
    bytes: [u8; ENCODED_MAX],
    len: usize,
}

impl Encoded {
    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn room(&self) -> usize {
        ENCODED_MAX - self.len
    }

    /// The caller has looked at the room.
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// One that does not fit beside `reserve` bytes that are to follow is left out: the header stays whole and right.
    fn push_tlv(&mut self, kind: u8, value: &[u8], reserve: usize) {
        let fits = TLV_FIXED + value.len() + reserve <= self.room();
        if let (Ok(len), true) = (u16::try_from(value.len()), fits) {
            self.push(&[kind]);
            self.push(&len.to_be_bytes());
            self.push(value);
        }
    }
}

impl std::fmt::Debug for Encoded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Encoded").field(&self.as_bytes().escape_ascii().to_string()).finish()
    }
}

/// Writes a header. Version 1 tells nothing but IP addresses: of everything else it says `UNKNOWN`.
#[must_use]
pub fn encode(version: Version, told: Told<'_>) -> Encoded {
    let empty = Encoded { bytes: [0; ENCODED_MAX], len: 0 };
    match version {
        Version::V1 => line(told, empty),
        Version::V2 => binary(told, empty),
    }
}

fn line(told: Told<'_>, mut out: Encoded) -> Encoded {
    let mut rest = out.bytes.as_mut_slice();
    let written = match told.addresses.ends() {
        Some([source, destination]) => {
            let family = if matches!(source, SocketAddr::V4(_)) { 4 } else { 6 };
            let (ips, ports) = ((source.ip(), destination.ip()), (source.port(), destination.port()));
            write!(rest, "PROXY TCP{family} {} {} {} {}\r\n", ips.0, ips.1, ports.0, ports.1)
        }
        None => write!(rest, "PROXY UNKNOWN\r\n"),
    };
    written.expect("no line has more than 107 bytes");
    out.len = ENCODED_MAX - rest.len();
    out
}

fn binary(told: Told<'_>, mut out: Encoded) -> Encoded {
    out.push(v2::SIGNATURE);
    let family = match told.addresses {
        Addresses::Unknown => {
            out.push(&[0x20, 0, 0, 0]);
            return out;
        }
        Addresses::V4 { .. } => AddressFamily::Inet,
        Addresses::V6 { .. } => AddressFamily::Inet6,
        Addresses::Unix { .. } => AddressFamily::Unix,
    };
    // The command PROXY and the transport STREAM; the length follows at the end.
    out.push(&[0x21, (family as u8) << 4 | 1, 0, 0]);
    match told.addresses {
        Addresses::Unknown => {}
        Addresses::V4 { source, destination } => {
            out.push(&source.ip().octets());
            out.push(&destination.ip().octets());
        }
        Addresses::V6 { source, destination } => {
            out.push(&source.ip().octets());
            out.push(&destination.ip().octets());
        }
        Addresses::Unix { source, destination } => {
            out.push(source);
            out.push(destination);
        }
    }
    for end in told.addresses.ends().into_iter().flatten() {
        out.push(&end.port().to_be_bytes());
    }
    let checksum_len = if told.crc32c { TLV_FIXED + CHECKSUM_LEN } else { 0 };
    let unique_id = told.unique_id.map(|id| &id[..id.len().min(UNIQUE_ID_MAX)]);
    let tlvs = [(kind::UNIQUE_ID, unique_id), (kind::AUTHORITY, told.authority), (kind::ALPN, told.alpn)];
    for (kind, value) in tlvs {
        if let Some(value) = value {
            out.push_tlv(kind, value, checksum_len);
        }
    }
    if told.crc32c {
        out.push_tlv(kind::CRC32C, &[0; CHECKSUM_LEN], 0);
    }
    let rest = u16::try_from(out.len - FIXED).expect("it is less than 536 bytes");
    out.bytes[FIXED - 2..FIXED].copy_from_slice(&rest.to_be_bytes());
    if told.crc32c {
        let at = out.len - CHECKSUM_LEN;
        let sum = v2::checksum(out.as_bytes(), at);
        out.bytes[at..out.len].copy_from_slice(&sum.to_be_bytes());
    }
    out
}
