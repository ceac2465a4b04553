//! Lists of servers that stand elsewhere: `servers_file`, `servers_url`, `servers_etcd`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::Etcd;
use super::dns::DnsName;
use super::value::{self, Fault, Parsed};

/// Where a list of servers stands, and is looked at again and again. Shown without what may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListAt {
    /// `servers_file`: a whole path.
    File(PathBuf),
    /// `servers_url`: at a web server.
    Url(ListUrl),
    /// `servers_etcd`
    Etcd(Box<Etcd>),
}

/// `http://HOST:PORT/TARGET`
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListUrl {
    /// Who is asked: an address, or a name that is looked up as `[dns]` says.
    pub host: ListHost,
    /// The path and, behind `?`, the query, as they are sent.
    pub target: String,
}

/// The host and port of a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListHost {
    /// An address.
    At(SocketAddr),
    /// A name with its port.
    Named(DnsName),
}

impl fmt::Display for ListHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(addr) => addr.fmt(f),
            Self::Named(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for ListAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.key(), self.place())
    }
}

impl ListAt {
    /// The key that names it.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::File(_) => "servers_file",
            Self::Url(_) => "servers_url",
            Self::Etcd(_) => "servers_etcd",
        }
    }

    /// Whether both list the same servers: etcd is another way to the same, whoever is asked and however.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Etcd(one), Self::Etcd(other)) => one.prefix == other.prefix,
            _ => self == other,
        }
    }

    /// Where it stands, without what may be a secret.
    #[must_use]
    pub fn place(&self) -> String {
        let mut place = self.value();
        if let (Self::Url(_), Some(query)) = (self, place.find('?')) {
            place.truncate(query);
        }
        place
    }

    /// The key's value, whole; of a table what tells it from others.
    #[must_use]
    pub fn value(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Url(ListUrl { host, target }) => format!("http://{host}{target}"),
            Self::Etcd(etcd) => etcd.to_string(),
        }
    }
}

/// The default of `servers_poll`.
pub(super) const POLL: Duration = Duration::from_secs(5);

/// `servers_file`; `None` where it is empty.
pub(super) fn file(value: &DeValue<'_>) -> Parsed<Option<ListAt>> {
    let text = value::text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(&text);
    if text.contains('\0') || text.ends_with('/') {
        return Err(Fault::new(format!("{text:?} is not the path of a file")));
    }
    if !path.has_root() {
        let fault = Fault::new(format!("{text:?} depends on where this program is started"));
        return Err(fault.help("write the whole path, from \"/\" on"));
    }
    Ok(Some(ListAt::File(path)))
}

/// `servers_url`; `None` where it is empty.
pub(super) fn url(value: &DeValue<'_>) -> Parsed<Option<ListAt>> {
    const EXAMPLE: &str = "write one such as \"http://10.0.0.5:8080/servers\"";
    let text = value::text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |why: &str| Fault::new(format!("`servers_url` {why}")).help(EXAMPLE);
    if text.starts_with("https:") {
        let fault = Fault::not_yet("`servers_url` with https");
        return Err(fault.help("fetch the list by another program, and name its file in `servers_file`"));
    }
    let uri: hyper::Uri = text.parse().map_err(|error| wrong(&format!("is no URL: {error}")))?;
    let Some(authority) = uri.authority().filter(|_| uri.scheme_str() == Some("http")) else {
        return Err(wrong("does not begin with \"http://\" and a host"));
    };
    if authority.as_str().contains('@') {
        return Err(wrong("has a user's name in front of its host, which is not sent"));
    }
    let port = match authority.port() {
        Some(port) => port.as_u16(),
        None if authority.as_str() != authority.host() => {
            return Err(wrong("has no port from 1 to 65535 behind the `:` of its host"));
        }
        None => 80,
    };
    let host = format!("{}:{port}", authority.host());
    let host = match (host.parse::<SocketAddr>(), DnsName::read(&host)) {
        _ if port == 0 => return Err(wrong("has port 0")),
        (Ok(addr), _) => ListHost::At(addr),
        (_, Some(Ok(name @ DnsName::Host(..)))) => ListHost::Named(name),
        _ => return Err(wrong(&format!("has no host: {:?} is none", authority.host()))),
    };
    let target = uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    Ok(Some(ListAt::Url(ListUrl { host, target })))
}

/// `servers_poll`
pub(super) fn poll(value: &DeValue<'_>) -> Parsed<Duration> {
    let time = value::duration(value)?;
    if time < Duration::from_millis(100) {
        let fault = Fault::new("a list is looked at ten times a second at most");
        return Err(fault.help("write \"100ms\" or more"));
    }
    Ok(time)
}

/// What a server of a list may be called; what is wrong with it if it may not.
///
/// # Errors
/// Why not, in words.
pub fn check_name(name: &str) -> Result<(), String> {
    value::name(name).map_err(|fault| fault.message + "; " + &fault.help.unwrap_or_default())
}

/// The address of a server of a list.
///
/// # Errors
/// What is wrong with it, in words.
pub fn address_in_list(text: &str) -> Result<SocketAddr, String> {
    match text.parse::<SocketAddr>() {
        Ok(addr) if addr.port() != 0 => return Ok(addr),
        Ok(_) => return Err(format!("{text:?} has port 0; write the port that the server listens on")),
        Err(_) => {}
    }
    Err(if text.parse::<IpAddr>().is_ok() {
        format!("{text:?} has no port; write the port that the server listens on")
    } else if matches!(DnsName::read(text), Some(Ok(_))) {
        format!("{text:?} is a name; a list has addresses, names stand in [[pool.NAME.server]]")
    } else {
        format!("{text:?} is not an IP address and port such as \"10.0.0.1:5432\"")
    })
}
