//! Headers of the PROXY protocol, versions 1 and 2: what a proxy in front says of a client before the client's own
//! bytes. Pure: no socket, no clock, no allocation.
//!
//! Source: [the specification](https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt), by its sections below.
//! [`decode`] is given what has arrived so far, from the first byte, as often as more arrives; until the header is whole
//! it looks at 16 bytes of version 2, and at no more than 107 of version 1, so a header that drips costs nothing more.

mod encode;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

pub use encode::{ENCODED_MAX, Encoded, Told, encode};
pub use v2::{Tlv, Tlvs, UNIQUE_ID_MAX};

/// The longest header that is taken, in bytes. Of version 1 none has more than 107; of version 2 this is the limit of
/// nginx, too, and many times what anybody sends.
pub const LEN_MAX: usize = 4096;

/// Which of the two formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary, with more fields.
    V2,
}

impl Version {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V1, Self::V2];

    /// Its number, 1 or 2.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// How a header begins.
    fn signature(self) -> &'static [u8] {
        match self {
            Self::V1 => v1::SIGNATURE,
            Self::V2 => v2::SIGNATURE,
        }
    }
}

/// Versions that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// Version 1.
    pub v1: bool,
    /// Version 2.
    pub v2: bool,
}

impl Versions {
    /// Both.
    pub const ALL: Self = Self { v1: true, v2: true };

    /// Whether this one is.
    #[must_use]
    pub fn allow(self, version: Version) -> bool {
        match version {
            Version::V1 => self.v1,
            Version::V2 => self.v2,
        }
    }
}

/// For whom the connection was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// For the sender itself, for example to check health: the ends of the socket are the ends of the connection.
    Local,
    /// For somebody else.
    Proxy,
}

/// Between whom the connection was, at the first proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses<'a> {
    /// Not told, or of a kind that a stream over IP or a unix socket does not have: the ends of the socket hold.
    Unknown,
    /// TCP over IPv4.
    V4 {
        /// The client.
        source: SocketAddrV4,
        /// Where it had connected to.
        destination: SocketAddrV4,
    },
    /// TCP over IPv6.
    V6 {
        /// The client.
        source: SocketAddrV6,
        /// Where it had connected to.
        destination: SocketAddrV6,
    },
    /// A unix socket: paths, with zero bytes behind them.
    Unix {
        /// The client's.
        source: &'a [u8; 108],
        /// Where it had connected to.
        destination: &'a [u8; 108],
    },
}

impl Addresses<'_> {
    /// Addresses of one family: IPv4 inside of IPv6 is IPv4, and where only one of the two is, both are IPv6.
    #[must_use]
    pub fn between(source: SocketAddr, destination: SocketAddr) -> Self {
        let as_v6 = |address: SocketAddr| match address {
            SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0),
            SocketAddr::V6(v6) => SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0),
        };
        match [source, destination]
            .map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
        {
            [SocketAddr::V4(source), SocketAddr::V4(destination)] => Self::V4 { source, destination },
            [source, destination] => Self::V6 { source: as_v6(source), destination: as_v6(destination) },
        }
    }

    /// The client and where it had connected to, if they have IP addresses.
    #[must_use]
    pub fn ends(&self) -> Option<[SocketAddr; 2]> {
        match *self {
            Self::V4 { source, destination } => Some([source.into(), destination.into()]),
            Self::V6 { source, destination } => Some([source.into(), destination.into()]),
            Self::Unknown | Self::Unix { .. } => None,
        }
    }
}

/// A whole header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// How many bytes it has; the client's own begin there.
    pub len: usize,
    /// In which format it came.
    pub version: Version,
    /// For whom the connection was made.
    pub command: Command,
    /// Between whom it was; [`Addresses::Unknown`] with [`Command::Local`].
    pub addresses: Addresses<'a>,
    /// What else is told; nothing with version 1 and with [`Command::Local`].
    pub tlvs: Tlvs<'a>,
}

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Neither signature.
    #[error("the first bytes are not a PROXY header's")]
    NoHeader,
    /// A version that is not allowed here.
    #[error("the header is of version {}, which `versions` does not allow", .0.number())]
    VersionNotAllowed(Version),
    /// 2.1: no CRLF in 107 bytes.
    #[error("version 1: no CRLF in the first 107 bytes")]
    LineTooLong,
    /// 2.1: a CR or LF alone.
    #[error("version 1: a CR or LF alone does not end the line")]
    LineEnd,
    /// 2.1: neither `TCP4`, `TCP6` nor `UNKNOWN`.
    #[error("version 1: the protocol is not TCP4, TCP6 or UNKNOWN")]
    Protocol,
    /// 2.1: not four fields with one space before each.
    #[error("version 1: not two addresses and two ports, with one space between them")]
    Fields,
    /// 2.1: not an address of the family.
    #[error("version 1: the source is not an address of the family that is named")]
    SourceAddress,
    /// 2.1: not an address of the family.
    #[error("version 1: the destination is not an address of the family that is named")]
    DestinationAddress,
    /// 2.1: not a decimal number from 0 to 65535 without leading zeros.
    #[error("version 1: the source port is not a number from 0 to 65535 without leading zeros")]
    SourcePort,
    /// 2.1: not a decimal number from 0 to 65535 without leading zeros.
    #[error("version 1: the destination port is not a number from 0 to 65535 without leading zeros")]
    DestinationPort,
    /// 2.2: the upper half of byte 13.
    #[error("version 2: byte 13 says version {0}")]
    WrongVersion(u8),
    /// 2.2: the lower half of byte 13.
    #[error("version 2: unknown command {0:#x}")]
    UnknownCommand(u8),
    /// 2.2: the upper half of byte 14.
    #[error("version 2: unknown address family {0:#x}")]
    UnknownFamily(u8),
    /// 2.2: the lower half of byte 14.
    #[error("version 2: unknown transport protocol {0:#x}")]
    UnknownTransport(u8),
    /// More than [`LEN_MAX`] bytes.
    #[error("version 2: a header of {0} bytes; {LEN_MAX} at most are taken")]
    TooLong(usize),
    /// 2.2: the length is less than that of the family's addresses.
    #[error("version 2: {have} bytes for addresses that have {need}")]
    AddressesCut {
        /// Bytes behind the first 16.
        have: usize,
        /// What the family's addresses take.
        need: usize,
    },
    /// 2.2: a TLV goes on behind the header's end, or its own three bytes do.
    #[error("version 2: TLV {0:#04x} goes on behind the end of the header")]
    TlvCut(u8),
    /// 2.2.3: a checksum that has not 4 bytes.
    #[error("version 2: a CRC32C of {0} bytes")]
    ChecksumLength(usize),
    /// 2.2.3: more than one checksum.
    #[error("version 2: more than one CRC32C")]
    ChecksumTwice,
    /// 2.2.3: the checksum of other bytes.
    #[error("version 2: the CRC32C is wrong")]
    ChecksumWrong,
    /// 2.2.5: more than 128 bytes.
    #[error("version 2: a unique id of {0} bytes; 128 at most are allowed")]
    UniqueIdTooLong(usize),
}

/// Reads a header at the beginning of `bytes`; `None`: it is not whole yet.
///
/// # Errors
/// [`Malformed`], as soon as no more bytes could make it whole and right.
pub fn decode(bytes: &[u8], allowed: Versions) -> Result<Option<Header<'_>>, Malformed> {
    let Some(version) = Version::BOTH.into_iter().find(|version| may_begin(bytes, version.signature()))
    else {
        return Err(Malformed::NoHeader);
    };
    if bytes.is_empty() {
        return Ok(None);
    }
    if !allowed.allow(version) {
        // The first byte decides between the two; whether it is a header at all, only the whole signature does.
        let is_whole = bytes.len() >= version.signature().len();
        return if is_whole { Err(Malformed::VersionNotAllowed(version)) } else { Ok(None) };
    }
    match version {
        Version::V1 => v1::decode(bytes),
        Version::V2 => v2::decode(bytes),
    }
}

/// Whether the bytes that are there are those of the signature.
fn may_begin(bytes: &[u8], signature: &[u8]) -> bool {
    let len = bytes.len().min(signature.len());
    bytes[..len] == signature[..len]
}
