//! Version 2: binary (2.2 of the specification).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

use super::{Addresses, Command, Header, LEN_MAX, Malformed, Version};

pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Before the addresses: signature, version and command, family and transport, length of the rest.
pub(super) const FIXED: usize = 16;
/// 2.2.5, in bytes.
pub const UNIQUE_ID_MAX: usize = 128;
/// A TLV's type and length.
pub(super) const TLV_FIXED: usize = 3;
pub(super) const CHECKSUM_LEN: usize = 4;

/// Types of TLVs that mean something here.
pub(super) mod kind {
    pub(in super::super) const ALPN: u8 = 0x01;
    pub(in super::super) const AUTHORITY: u8 = 0x02;
    pub(in super::super) const CRC32C: u8 = 0x03;
    pub(in super::super) const UNIQUE_ID: u8 = 0x05;
    /// Of the types that anybody may give a meaning (2.2.7), the one that AWS uses.
    pub(in super::super) const AWS: u8 = 0xea;
}

/// What the first byte of a TLV of AWS says: the rest is the id of an endpoint.
const AWS_ENDPOINT: u8 = 0x01;

/// The upper half of byte 14.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressFamily {
    /// `AF_UNSPEC`
    Unspec = 0,
    /// `AF_INET`
    Inet = 1,
    /// `AF_INET6`
    Inet6 = 2,
    /// `AF_UNIX`
    Unix = 3,
}

impl AddressFamily {
    /// How many bytes both addresses and their ports take.
    pub(super) fn len(self) -> usize {
        match self {
            Self::Unspec => 0,
            Self::Inet => 2 * 4 + 2 * 2,
            Self::Inet6 => 2 * 16 + 2 * 2,
            Self::Unix => 2 * 108,
        }
    }
}

/// A type and a value. `NOOP`, `SSL`, `NETNS` and types that nobody knows are among them: who is not interested passes
/// over them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// Its type.
    pub kind: u8,
    /// What it says.
    pub value: &'a [u8],
}

/// The TLVs of a header, in their order; each is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    /// None at all.
    pub const NONE: Self = Self(&[]);

    /// The value of the first one of a type.
    #[must_use]
    pub fn get(mut self, kind: u8) -> Option<&'a [u8]> {
        self.find(|tlv| tlv.kind == kind).map(|tlv| tlv.value)
    }

    /// 2.2.2: the name that the client asked for, in TLS its `server_name`. It is as the client wrote it.
    #[must_use]
    pub fn authority(self) -> Option<&'a [u8]> {
        self.get(kind::AUTHORITY)
    }

    /// 2.2.1: the protocol on the connection.
    #[must_use]
    pub fn alpn(self) -> Option<&'a [u8]> {
        self.get(kind::ALPN)
    }

    /// 2.2.5: at most [`UNIQUE_ID_MAX`] bytes.
    #[must_use]
    pub fn unique_id(self) -> Option<&'a [u8]> {
        self.get(kind::UNIQUE_ID)
    }

    /// The VPC endpoint through which the client has come, as load balancers of AWS tell it: `vpce-...`.
    #[must_use]
    pub fn vpce_id(mut self) -> Option<&'a [u8]> {
        self.find_map(|tlv| match tlv {
            Tlv { kind: kind::AWS, value: [AWS_ENDPOINT, id @ ..] } => Some(id),
            _ => None,
        })
    }

    /// Takes the first one off; it may be cut.
    fn parse(&mut self) -> Option<Result<Tlv<'a>, Malformed>> {
        let kind = *self.0.first()?;
        let whole = self.0.split_first_chunk::<TLV_FIXED>().and_then(|([_, high, low], rest)| {
            rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))
        });
        Some(match whole {
            Some((value, rest)) => {
                self.0 = rest;
                Ok(Tlv { kind, value })
            }
            None => {
                self.0 = &[];
                Err(Malformed::TlvCut(kind))
            }
        })
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        self.parse()?.ok()
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Option<Header<'_>>, Malformed> {
    let Some(&version_and_command) = bytes.get(12) else { return Ok(None) };
    let command = command(version_and_command)?;
    let Some(&family_and_transport) = bytes.get(13) else { return Ok(None) };
    let layout = match command {
        // Nothing of it counts but its length.
        Command::Local => Layout::Opaque,
        Command::Proxy => Layout::new(family_and_transport)?,
    };
    let Some(&[high, low]) = bytes.get(14..FIXED) else { return Ok(None) };
    let len = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if len > LEN_MAX {
        return Err(Malformed::TooLong(len));
    }
    if let Layout::Known { family, .. } = layout
        && len - FIXED < family.len()
    {
        return Err(Malformed::AddressesCut { have: len - FIXED, need: family.len() });
    }
    let Some(header) = bytes.get(..len) else { return Ok(None) };
    let (addresses, tlvs) = match (command, layout) {
        (Command::Local, _) => (Addresses::Unknown, Tlvs::NONE),
        (Command::Proxy, Layout::Opaque) => (Addresses::Unknown, perhaps_tlvs(header)?),
        (Command::Proxy, Layout::Known { family, is_stream }) => {
            let addresses = if is_stream { addresses(family, &header[FIXED..]) } else { Addresses::Unknown };
            (addresses, tlvs(header, family.len())?)
        }
    };
    Ok(Some(Header { len, version: Version::V2, command, addresses, tlvs }))
}

fn command(byte: u8) -> Result<Command, Malformed> {
    match (byte >> 4, byte & 0xf) {
        (2, 0) => Ok(Command::Local),
        (2, 1) => Ok(Command::Proxy),
        (2, command) => Err(Malformed::UnknownCommand(command)),
        (version, _) => Err(Malformed::WrongVersion(version)),
    }
}

/// What byte 14 makes of the bytes behind the first 16.
#[derive(Clone, Copy)]
enum Layout {
    /// Family or transport are not specified: whatever addresses are there are ignored.
    Opaque,
    /// Addresses, then TLVs. Datagrams are valid, but none of a stream's: their addresses are passed over.
    Known { family: AddressFamily, is_stream: bool },
}

impl Layout {
    fn new(byte: u8) -> Result<Self, Malformed> {
        let family = match byte >> 4 {
            0 => AddressFamily::Unspec,
            1 => AddressFamily::Inet,
            2 => AddressFamily::Inet6,
            3 => AddressFamily::Unix,
            other => return Err(Malformed::UnknownFamily(other)),
        };
        match (family, byte & 0xf) {
            (_, other @ 3..) => Err(Malformed::UnknownTransport(other)),
            (AddressFamily::Unspec, _) | (_, 0) => Ok(Self::Opaque),
            (family, transport) => Ok(Self::Known { family, is_stream: transport == 1 }),
        }
    }
}

/// `bytes` are at least as many as the family's addresses have.
fn addresses(family: AddressFamily, bytes: &[u8]) -> Addresses<'_> {
    match family {
        AddressFamily::Unspec => Addresses::Unknown,
        AddressFamily::Inet => {
            let ([source, destination], [source_port, destination_port]) = ends::<4>(bytes);
            Addresses::V4 {
                source: SocketAddrV4::new(Ipv4Addr::from(source), source_port),
                destination: SocketAddrV4::new(Ipv4Addr::from(destination), destination_port),
            }
        }
        AddressFamily::Inet6 => {
            let ([source, destination], [source_port, destination_port]) = ends::<16>(bytes);
            Addresses::V6 {
                source: SocketAddrV6::new(Ipv6Addr::from(source), source_port, 0, 0),
                destination: SocketAddrV6::new(Ipv6Addr::from(destination), destination_port, 0, 0),
            }
        }
        AddressFamily::Unix => {
            let path =
                |at: usize| bytes[at..].first_chunk().expect("the length was held against the family's");
            Addresses::Unix { source: path(0), destination: path(108) }
        }
    }
}

/// Two addresses of `N` bytes, and two ports.
fn ends<const N: usize>(bytes: &[u8]) -> ([[u8; N]; 2], [u16; 2]) {
    let chunk =
        |at: usize| *bytes[at..].first_chunk::<N>().expect("the length was held against the family's");
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    ([chunk(0), chunk(N)], [port(2 * N), port(2 * N + 2)])
}

/// The TLVs of a whole header, behind addresses of that length; held against what the specification demands of them.
fn tlvs(header: &[u8], addresses: usize) -> Result<Tlvs<'_>, Malformed> {
    let tlvs = Tlvs(&header[FIXED + addresses..]);
    let mut rest = tlvs;
    let mut checksum = None;
    while let Some(tlv) = rest.parse() {
        let Tlv { kind, value } = tlv?;
        match kind {
            kind::CRC32C if checksum.is_some() => return Err(Malformed::ChecksumTwice),
            kind::CRC32C => {
                let value: [u8; CHECKSUM_LEN] =
                    value.try_into().map_err(|_| Malformed::ChecksumLength(value.len()))?;
                checksum = Some((header.len() - rest.0.len() - CHECKSUM_LEN, u32::from_be_bytes(value)));
            }
            kind::UNIQUE_ID if value.len() > UNIQUE_ID_MAX => {
                return Err(Malformed::UniqueIdTooLong(value.len()));
            }
            _ => {}
        }
    }
    match checksum {
        Some((at, value)) if value != self::checksum(header, at) => Err(Malformed::ChecksumWrong),
        _ => Ok(tlvs),
    }
}

/// What follows an address that is not specified may be anything; a sender that knows no address and has TLVs puts them
/// there.
fn perhaps_tlvs(header: &[u8]) -> Result<Tlvs<'_>, Malformed> {
    match tlvs(header, 0) {
        Err(Malformed::ChecksumWrong) => Err(Malformed::ChecksumWrong),
        other => Ok(other.unwrap_or(Tlvs::NONE)),
    }
}

/// 2.2.3: CRC32C of a header, with zeros for the checksum's own bytes, which begin at `at`.
pub(super) fn checksum(header: &[u8], at: usize) -> u32 {
    let before = crc32c::crc32c(&header[..at]);
    let zeros = crc32c::crc32c_append(before, &[0; CHECKSUM_LEN]);
    crc32c::crc32c_append(zeros, &header[at + CHECKSUM_LEN..])
}
