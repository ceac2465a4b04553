//! Addresses to listen on and to connect to.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::dns::DnsName;
use super::value::{Fault, Parsed, text};

/// Where to listen, or to connect to. Shown as it is written in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `"192.0.2.1:80"` or `"[2001:db8::1]:80"`
    Ip(SocketAddr),
    /// `"unix:/run/x.sock"`: the absolute path of a socket, at most 107 bytes.
    Unix(PathBuf),
    /// `"unix:@x"`: the name of a unix socket without a file, unix(7), of 1 to 107 bytes. Linux alone has them.
    Abstract(String),
    /// `"fd:pg"`: the sockets of that name which the supervisor has opened and hands over, sd_listen_fds(3). Only to
    /// listen on.
    Handed(String),
}

/// The longest path of a unix socket, in bytes: `sun_path` without the zero at its end, unix(7). An abstract name has one in
/// front of it instead.
const LONGEST_PATH: usize = 107;

/// The most ports of one range.
const MOST_PORTS: u16 = 1024;

/// The longest name of a socket that is handed over, systemd.socket(5).
const LONGEST_NAME: usize = 255;

impl Address {
    /// The address, if it is one of IP.
    #[must_use]
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(addr) => Some(*addr),
            Self::Unix(_) | Self::Abstract(_) | Self::Handed(_) => None,
        }
    }

    /// Whether it is that of a unix socket, whose clients have no address. What is handed over may be one, too.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_) | Self::Abstract(_))
    }

    /// Whether it may stand for all addresses of IPv4, too: `v6only` says whether it does.
    #[must_use]
    pub fn is_all_of_ipv6(&self) -> bool {
        self.ip().is_some_and(|at| at.ip() == Ipv6Addr::UNSPECIFIED)
    }

    /// What two addresses that [`overlap`] have in common: the port, the path, or the name.
    pub(super) fn place(&self) -> (u16, &Path) {
        match self {
            Self::Ip(addr) => (addr.port(), Path::new("")),
            Self::Unix(path) => (0, path),
            Self::Abstract(name) | Self::Handed(name) => (0, Path::new(name)),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{name}"),
            Self::Handed(name) => write!(f, "fd:{name}"),
        }
    }
}

impl<A: Into<SocketAddr>> From<A> for Address {
    fn from(addr: A) -> Self {
        Self::Ip(addr.into())
    }
}

/// Addresses to listen on: one, or one for each port of a range such as `"0.0.0.0:5000-5010"`.
pub(super) fn binds(value: &DeValue<'_>) -> Parsed<Vec<Address>> {
    let range = if value.is_str() { range(&text(value)?)? } else { None };
    range.map_or_else(|| bind(value).map(|at| vec![at]), Ok)
}

/// The addresses of a range of ports; nothing where it is none, or none of an address.
fn range(text: &str) -> Parsed<Option<Vec<Address>>> {
    let parts = || {
        let (host, ports) = text.rsplit_once(':')?;
        let (first, last) = ports.split_once('-')?;
        let at: SocketAddr = format!("{host}:{first}").parse().ok()?;
        Some((host, at, last.parse::<u16>().ok()?))
    };
    let Some((host, at, last)) = parts() else { return Ok(None) };
    let (at, first) = (of_its_family(at)?, at.port());
    if first == 0 {
        let fault = Fault::new(format!("the range of ports in {text:?} begins with 0"));
        return Err(fault.help("the lowest port is 1; port 0 alone lets the kernel choose one"));
    }
    if first > last {
        let fault = Fault::new(format!("the range of ports in {text:?} ends before it begins"));
        return Err(fault.help(format!("write \"{host}:{last}-{first}\"")));
    }
    let count = last - first + 1;
    if count > MOST_PORTS {
        let fault = Fault::new(format!("{text:?} has {count} ports, and {MOST_PORTS} is the most"));
        return Err(fault.help("each is a listening socket of its own: write a smaller range"));
    }
    let of_port = |port| {
        let mut at = at;
        at.set_port(port);
        Address::Ip(at)
    };
    Ok(Some((first..=last).map(of_port).collect()))
}

/// An address to listen on; port 0 lets the kernel choose.
pub(super) fn bind(value: &DeValue<'_>) -> Parsed<Address> {
    if let DeValue::Integer(port) = value {
        let fault = Fault::mismatch("an address and port such as \"0.0.0.0:8080\"", value);
        return Err(fault.help(format!("write \"0.0.0.0:{port}\" or \"[::]:{port}\"")));
    }
    let text = text(value)?;
    if let Ok(addr) = text.parse() {
        return of_its_family(addr).map(Address::Ip);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path);
    }
    if let Some(name) = text.strip_prefix("fd:") {
        return handed(name);
    }
    let fault = not_an_address(&text);
    let (host, port) = text.rsplit_once(':').unwrap_or(("", &text));
    if fault.help.is_some() {
        return Err(fault);
    }
    let both = |by| port.split_once(by).filter(|(first, last)| is_port(first) && is_port(last));
    if let Some((first, last)) = both(',') {
        let list = format!("each port stands alone: [\"{host}:{first}\", \"{host}:{last}\"]");
        return Err(fault.help(list));
    }
    if !is_port(port) && both('-').is_none() {
        return Err(fault.help("write an address and a port: \"0.0.0.0:8080\" or \"[::]:8080\""));
    }
    Err(match host {
        "" | "*" => {
            fault.help(format!("write \"0.0.0.0:{port}\" for IPv4, \"[::]:{port}\" for IPv6, or both"))
        }
        "localhost" => fault.help(format!("write \"127.0.0.1:{port}\" or \"[::1]:{port}\"")),
        _ => fault.help("a listener binds an IP address: host names are not looked up"),
    })
}

/// Of an address of IPv4 inside of IPv6 no socket of IPv6 listens that is one of IPv6 only.
fn of_its_family(addr: SocketAddr) -> Parsed<SocketAddr> {
    match addr.ip().to_canonical() {
        IpAddr::V4(v4) if addr.is_ipv6() => {
            let fault = Fault::new(format!("\"{addr}\" is an address of IPv4, written as one of IPv6"));
            Err(fault.help(format!("write {v4} in its place")))
        }
        _ => Ok(addr),
    }
}

/// Where a server is: an address, or a name that stands for addresses.
#[derive(Debug, PartialEq)]
pub(super) enum Target {
    At(Address),
    Named(DnsName),
}

/// The address of a server, or its name.
pub(super) fn server(value: &DeValue<'_>) -> Parsed<Target> {
    let text = text(value)?;
    if let Ok(addr) = text.parse::<SocketAddr>() {
        if addr.port() == 0 {
            return Err(
                Fault::new(format!("{text:?} has port 0")).help("write the port that the server listens on")
            );
        }
        return Ok(Target::At(Address::Ip(addr)));
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return unix(path).map(Target::At);
    }
    if let Some(name) = DnsName::read(&text) {
        return name.map(Target::Named);
    }
    let fault = not_an_address(&text);
    Err(match &fault.help {
        Some(_) => fault,
        None if matches!(DnsName::read(&format!("{text}:1")), Some(Ok(_))) => {
            fault.help(format!("it has no port: write \"{text}:PORT\""))
        }
        None => {
            fault.help("write an address or a name, and a port: \"10.0.0.1:80\" or \"db.example.com:5432\"")
        }
    })
}

/// What stands behind `unix:`.
pub(super) fn unix(path: &str) -> Parsed<Address> {
    if !cfg!(unix) {
        return Err(
            Fault::new("there are no unix sockets on this system").help("write an IP address and port")
        );
    }
    if let Some(name) = path.strip_prefix('@') {
        return without_file(name);
    }
    if path.is_empty() {
        return Err(Fault::new("there is no path after `unix:`").help("write \"unix:/run/NAME.sock\""));
    }
    if !path.starts_with('/') {
        let fault = Fault::new(format!("{path:?} depends on where this program is started"));
        return Err(fault.help("write the whole path, from \"/\" on"));
    }
    if path.contains('\0') {
        return Err(Fault::new(format!("{path:?} has a zero byte in it")).help("no file can be called so"));
    }
    if path.len() > LONGEST_PATH {
        let fault = Fault::new(format!("the path {path:?} has {} bytes", path.len()));
        return Err(fault.help(format!("the path of a unix socket has {LONGEST_PATH} at most")));
    }
    Ok(Address::Unix(path.into()))
}

/// What stands behind `unix:@`.
fn without_file(name: &str) -> Parsed<Address> {
    if !cfg!(target_os = "linux") {
        let fault = Fault::new("on this system every unix socket has a file");
        return Err(fault.help("write the path of a file: \"unix:/run/NAME.sock\""));
    }
    if name.is_empty() {
        return Err(Fault::new("there is no name after `unix:@`").help("write \"unix:@NAME\""));
    }
    if name.contains('\0') {
        let fault = Fault::new(format!("{name:?} has a zero byte in it"));
        return Err(fault.help("write a name without it"));
    }
    if name.len() > LONGEST_PATH {
        let fault = Fault::new(format!("the name {name:?} has {} bytes", name.len()));
        return Err(fault.help(format!("the name of a unix socket has {LONGEST_PATH} at most")));
    }
    Ok(Address::Abstract(name.to_owned()))
}

/// What stands behind `fd:`. Names are as systemd.socket(5) has them in `FileDescriptorName=`.
fn handed(name: &str) -> Parsed<Address> {
    if !cfg!(target_os = "linux") {
        let fault = Fault::new("on this system nobody hands sockets over");
        return Err(fault.help("write an IP address and port"));
    }
    let fits = |c: char| matches!(c, ' '..='~') && c != ':';
    if (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(fits) {
        return Ok(Address::Handed(name.to_owned()));
    }
    let fault = Fault::new(format!("{name:?} is not the name of a socket"));
    Err(fault.help("write \"fd:NAME\" with the FileDescriptorName= of the .socket unit"))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn not_an_address(text: &str) -> Fault {
    let fault = Fault::new(format!("{text:?} is not an IP address and port"));
    if let Some((scheme, rest)) = text.split_once("://") {
        return match scheme {
            "udp" | "quic" => fault.help("only TCP is relayed, not UDP"),
            _ => fault.help(format!("leave `{scheme}://` out: write \"{}\"", rest.trim_end_matches('/'))),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return fault.help("an IPv6 address stands in brackets before its port: \"[::1]:8080\"");
    }
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if bare.parse::<IpAddr>().is_ok() {
        return fault.help(format!("it has no port: write \"{text}:PORT\""));
    }
    match text.rsplit_once(':') {
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() && port.parse::<u16>().is_ok() => {
            fault.help(format!("write \"[{host}]:{port}\""))
        }
        Some((_, port)) if port.parse::<u32>().is_ok_and(|port| port > 65535) => {
            fault.help("the highest port is 65535")
        }
        _ => fault,
    }
}

/// Whether a socket bound to one of the addresses keeps the other from being bound: the same port, and the
/// same address or one that stands for all of its family. Or the same path, or the same name. Whether
/// `[::]` stands for IPv4 as well is not asked here: see [`meet`].
pub(super) fn overlap(one: &Address, other: &Address) -> bool {
    let (Address::Ip(one), Address::Ip(other)) = (one, other) else { return one == other };
    one.port() != 0
        && one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one == other || one.ip().is_unspecified() || other.ip().is_unspecified())
}

/// Whether the first, where it stands for all addresses of both families, keeps the other one from being bound: one of
/// IPv4 with its port.
pub(super) fn meet(both_families: &Address, other: &Address) -> bool {
    let (Some(one), Some(other)) = (both_families.ip(), other.ip()) else { return false };
    both_families.is_all_of_ipv6() && other.is_ipv4() && one.port() != 0 && one.port() == other.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal<T: fmt::Debug>(parsed: Parsed<T>) -> String {
        let fault = parsed.unwrap_err();
        fault.message + &fault.help.map_or_else(String::new, |help| format!(" / {help}"))
    }

    fn string(text: &str) -> DeValue<'_> {
        DeValue::String(text.into())
    }

    fn ip(text: &str) -> Address {
        Address::Ip(text.parse().unwrap())
    }

    #[test]
    fn addresses_of_both_families_are_read() {
        for text in ["127.0.0.1:9001", "[::1]:9001", "[fe80::1%2]:80", "0.0.0.0:80"] {
            assert_eq!(bind(&string(text)), Ok(ip(text)), "{text}");
            assert_eq!(server(&string(text)), Ok(Target::At(ip(text))), "{text}");
        }
        assert_eq!(bind(&string("127.0.0.1:0")), Ok(ip("127.0.0.1:0")));
        assert!(refusal(server(&string("127.0.0.1:0"))).contains("has port 0"));
    }

    #[test]
    fn unix_sockets_are_read_and_shown_as_they_are_written() {
        let longest = format!("unix:/{}", "x".repeat(LONGEST_PATH - 1));
        for text in ["unix:/run/pg.sock", "unix:/tmp/ä b", &longest] {
            let addr = bind(&string(text)).unwrap();
            assert_eq!(addr.to_string(), text);
            assert_eq!(server(&string(text)), Ok(Target::At(addr)));
        }
        let cases = [
            ("unix:", "there is no path after `unix:`"),
            ("unix:run/x", "\"run/x\" depends on where this program is started / write the whole path"),
            ("unix:/a\0b", "has a zero byte in it"),
            (&format!("{longest}x"), "has 108 bytes / the path of a unix socket has 107 at most"),
        ];
        for (text, part) in cases {
            for refusal in [refusal(bind(&string(text))), refusal(server(&string(text)))] {
                assert!(refusal.contains(part), "{text}: {refusal}");
            }
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn unix_sockets_without_a_file_are_read_and_shown_as_they_are_written() {
        let longest = format!("unix:@{}", "x".repeat(LONGEST_PATH));
        for text in ["unix:@pg", "unix:@/a//b", "unix:@@ä b", &longest] {
            let addr = bind(&string(text)).unwrap();
            assert_eq!(addr, Address::Abstract(text[6..].to_owned()));
            assert_eq!(addr.to_string(), text);
            assert_eq!(server(&string(text)), Ok(Target::At(addr)));
        }
        let cases = [
            ("unix:@", "there is no name after `unix:@` / write \"unix:@NAME\""),
            ("unix:@a\0b", "has a zero byte in it / write a name without it"),
            (&format!("{longest}x"), "has 108 bytes / the name of a unix socket has 107 at most"),
        ];
        for (text, part) in cases {
            for refusal in [refusal(bind(&string(text))), refusal(server(&string(text)))] {
                assert!(refusal.contains(part), "{text}: {refusal}");
            }
        }
    }

    #[test]
    fn a_range_of_ports_is_an_address_for_each() {
        let all = |text: &str| binds(&string(text)).map(|all| all.iter().map(ToString::to_string).collect());
        let read = |text: &str| -> Vec<String> { all(text).unwrap() };
        assert_eq!(read("0.0.0.0:79-81"), ["0.0.0.0:79", "0.0.0.0:80", "0.0.0.0:81"]);
        assert_eq!(read("[fe80::1%2]:80-80"), ["[fe80::1%2]:80"]);
        assert_eq!(read("[::]:80"), ["[::]:80"]);
        assert_eq!(read("unix:/run/a:1-2"), ["unix:/run/a:1-2"]);
        assert_eq!(read("127.0.0.1:64512-65535").len(), 1024);
        let cases = [
            ("127.0.0.1:81-80", "ends before it begins / write \"127.0.0.1:80-81\""),
            ("127.0.0.1:0-9", "begins with 0 / the lowest port is 1"),
            ("[::]:1000-2024", "\"[::]:1000-2024\" has 1025 ports, and 1024 is the most / each is a"),
            ("127.0.0.1:80-65536", "write an address and a port"),
            ("127.0.0.1:80-", "write an address and a port"),
            ("*:80-90", "write \"0.0.0.0:80-90\" for IPv4, \"[::]:80-90\" for IPv6, or both"),
            ("localhost:80-90", "write \"127.0.0.1:80-90\" or \"[::1]:80-90\""),
            ("[::ffff:10.0.0.1]:80-90", "is an address of IPv4, written as one of IPv6 / write 10.0.0.1"),
        ];
        for (text, part) in cases {
            let refusal = refusal(all(text));
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn sockets_that_are_handed_over_are_read_and_shown_as_they_are_written() {
        for text in ["fd:pg", "fd:tidegate.socket", "fd:a b/c"] {
            let addr = bind(&string(text)).unwrap();
            assert_eq!(addr, Address::Handed(text[3..].to_owned()));
            assert_eq!(addr.to_string(), text);
            assert!(server(&string(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn other_binds_are_refused_with_what_to_write() {
        let cases = [
            ("*:80", "write \"0.0.0.0:80\" for IPv4, \"[::]:80\" for IPv6, or both"),
            (":80", "write \"0.0.0.0:80\" for IPv4"),
            ("80", "write \"0.0.0.0:80\" for IPv4"),
            ("localhost:80", "write \"127.0.0.1:80\" or \"[::1]:80\""),
            ("example.com:80", "host names are not looked up"),
            ("127.0.0.1", "it has no port: write \"127.0.0.1:PORT\""),
            ("[::1]", "it has no port: write \"[::1]:PORT\""),
            ("::1", "in brackets before its port: \"[::1]:8080\""),
            ("::1.2.3.4:80", "write \"[::1.2.3.4]:80\""),
            ("127.0.0.1:70000", "the highest port is 65535"),
            ("300.0.0.1:80", "is not an IP address and port"),
            ("", "is not an IP address and port / write an address and a port: \"0.0.0.0:8080\""),
            ("nowhere", "write an address and a port"),
            ("0.0.0.0:80,443", "each port stands alone: [\"0.0.0.0:80\", \"0.0.0.0:443\"]"),
            ("[::ffff:10.0.0.1]:80", "is an address of IPv4, written as one of IPv6 / write 10.0.0.1 in its"),
            ("tcp://0.0.0.0:80", "leave `tcp://` out: write \"0.0.0.0:80\""),
            ("udp://0.0.0.0:53", "only TCP is relayed, not UDP"),
            ("fd:", "\"\" is not the name of a socket / write \"fd:NAME\" with the FileDescriptorName="),
            ("fd:a:b", "\"a:b\" is not the name of a socket"),
            ("fd:é", "\"é\" is not the name of a socket"),
            (&format!("fd:{}", "x".repeat(256)), "is not the name of a socket"),
        ];
        for (text, part) in cases {
            let refusal = refusal(bind(&string(text)));
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
        let number = DeValue::parse("8080").unwrap();
        assert!(refusal(bind(number.get_ref())).contains("write \"0.0.0.0:8080\" or \"[::]:8080\""));
    }

    #[test]
    fn names_are_read_and_shown_as_they_are_written() {
        let longest =
            format!("{}.{}.{}.{}:1", "a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61));
        for text in
            ["pg1.example.com:5432", "localhost:1", "1.a.:9", "a_b-c:80", "srv:_pg._tcp.example", &longest]
        {
            let Ok(Target::Named(name)) = server(&string(text)) else { panic!("{text}") };
            assert_eq!(name.to_string(), text);
        }
        assert!(server(&string(&longest.replacen('d', "dd", 1))).is_err());
        assert!(refusal(bind(&string("srv:_pg._tcp.example"))).contains("is not an IP address and port"));
    }

    #[test]
    fn other_servers_are_refused_with_what_to_write() {
        let cases = [
            ("pg1.example.com:0", "has port 0"),
            ("pg1.example.com", "it has no port: write \"pg1.example.com:PORT\""),
            (
                "a..b:1",
                "is not an IP address and port / write an address or a name, and a port: \"10.0.0.1:80\" or",
            ),
            ("10.0.0.300:1", "is not an IP address and port"),
            ("srv:", "is not the name of a service / write \"srv:_SERVICE._tcp.DOMAIN\""),
            ("srv:_pg._tcp.example:5432", "is not the name of a service"),
            ("10.0.0.1", "it has no port"),
            ("10.0.0.1:0x50", "is not an IP address and port"),
            ("http://10.0.0.1:80/", "leave `http://` out: write \"10.0.0.1:80\""),
        ];
        for (text, part) in cases {
            let refusal = refusal(server(&string(text)));
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
        assert!(refusal(server(&DeValue::Boolean(true))).contains("expected a string, found true"));
    }

    #[test]
    fn addresses_overlap_within_a_family_and_a_port() {
        let cases = [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("[::]:80", "[::1]:80", true),
            ("[::]:80", "0.0.0.0:80", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("0.0.0.0:0", "0.0.0.0:0", false),
            ("[fe80::1%2]:80", "[fe80::1%3]:80", false),
            ("unix:/a", "unix:/a", true),
            ("unix:/a", "unix://a", true),
            ("unix:/a", "unix:/b", false),
            ("unix:/a", "127.0.0.1:80", false),
            #[cfg(target_os = "linux")]
            ("unix:@/a//b", "unix:@/a/b", false),
            #[cfg(target_os = "linux")]
            ("unix:@a", "unix:@a", true),
            #[cfg(target_os = "linux")]
            ("unix:@a", "fd:a", false),
            ("fd:a", "fd:a", true),
            ("fd:a", "fd:b", false),
            ("fd:/a", "unix:/a", false),
        ];
        for (one, other, expected) in cases {
            let [one, other] = [one, other].map(|text| bind(&string(text)).unwrap());
            assert_eq!(overlap(&one, &other), expected, "{one} {other}");
            assert!(!expected || one.place() == other.place(), "{one} {other}");
        }
    }

    #[test]
    fn all_of_both_families_meets_what_is_of_ipv4() {
        let cases = [
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:81", false),
            ("[::]:80", "[::1]:80", false),
            ("[::]:0", "0.0.0.0:0", false),
            ("[::1]:80", "127.0.0.1:80", false),
            ("0.0.0.0:80", "[::]:80", false),
            ("[::]:80", "unix:/a", false),
        ];
        for (one, other, expected) in cases {
            let [one, other] = [one, other].map(|text| bind(&string(text)).unwrap());
            assert_eq!(meet(&one, &other), expected, "{one} {other}");
        }
    }
}
