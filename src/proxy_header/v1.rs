//! Version 1: a line of text (2.1 of the specification).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::str::FromStr;

use super::{Addresses, Command, Header, Malformed, Tlvs, Version};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";
/// With CRLF.
pub(super) const LINE_MAX: usize = 107;

pub(super) fn decode(bytes: &[u8]) -> Result<Option<Header<'_>>, Malformed> {
    let window = &bytes[..bytes.len().min(LINE_MAX)];
    let end = window.windows(2).position(|pair| pair == b"\r\n");
    let line = &window[..end.unwrap_or(window.len())];
    if !is_unknown(line) && has_lone_end(line, end.is_some()) {
        return Err(Malformed::LineEnd);
    }
    let Some(end) = end else {
        return if window.len() < LINE_MAX { Ok(None) } else { Err(Malformed::LineTooLong) };
    };
    Ok(Some(Header {
        len: end + 2,
        version: Version::V1,
        command: Command::Proxy,
        addresses: addresses(line)?,
        tlvs: Tlvs::NONE,
    }))
}

/// Whatever follows is ignored, as far as CRLF.
fn is_unknown(line: &[u8]) -> bool {
    let rest = line.strip_prefix(SIGNATURE).and_then(|rest| rest.strip_prefix(b"UNKNOWN"));
    rest.is_some_and(|rest| matches!(rest, [] | [b' ', ..]))
}

/// A CR at the end of a line that is not whole may still become CRLF.
fn has_lone_end(line: &[u8], is_whole: bool) -> bool {
    let line = if is_whole { line } else { line.strip_suffix(b"\r").unwrap_or(line) };
    line.iter().any(|byte| matches!(byte, b'\r' | b'\n'))
}

fn addresses(line: &[u8]) -> Result<Addresses<'_>, Malformed> {
    if is_unknown(line) {
        return Ok(Addresses::Unknown);
    }
    let rest = &line[SIGNATURE.len()..];
    let mut words = rest.split(|byte| *byte == b' ');
    let family = words.next().unwrap_or_default();
    if family != b"TCP4" && family != b"TCP6" {
        return Err(Malformed::Protocol);
    }
    let mut field = || words.next().filter(|word| !word.is_empty()).ok_or(Malformed::Fields);
    let [source, destination, source_port, destination_port] = [field()?, field()?, field()?, field()?];
    if words.next().is_some() {
        return Err(Malformed::Fields);
    }
    let ports = || {
        let source = port(source_port).ok_or(Malformed::SourcePort)?;
        Ok((source, port(destination_port).ok_or(Malformed::DestinationPort)?))
    };
    if family == b"TCP4" {
        let (source, destination) = ips::<Ipv4Addr>(source, destination)?;
        let ports = ports()?;
        return Ok(Addresses::V4 {
            source: SocketAddrV4::new(source, ports.0),
            destination: SocketAddrV4::new(destination, ports.1),
        });
    }
    let (source, destination) = ips::<Ipv6Addr>(source, destination)?;
    let ports = ports()?;
    Ok(Addresses::V6 {
        source: SocketAddrV6::new(source, ports.0, 0, 0),
        destination: SocketAddrV6::new(destination, ports.1, 0, 0),
    })
}

fn ips<A: FromStr>(source: &[u8], destination: &[u8]) -> Result<(A, A), Malformed> {
    // The standard library refuses leading zeros, numbers above 255, and zones.
    let ip = |bytes| std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
    let source = ip(source).ok_or(Malformed::SourceAddress)?;
    Ok((source, ip(destination).ok_or(Malformed::DestinationAddress)?))
}

/// A sign, which the standard library would take, is no digit.
fn port(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [b'0', _, ..] => None,
        digits if digits.iter().all(u8::is_ascii_digit) => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    }
}
