//! Lists of servers that stand elsewhere: `servers_file`, `servers_url`, `servers_etcd`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::Etcd;
use super::dns::DnsName;
use super::read::{Key, Reader, Section, Value};
use super::tls::{self, Tls};
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

/// `http://HOST:PORT/TARGET`, or `https://`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListUrl {
    /// Who is asked: an address, or a name that is looked up as `[dns]` says.
    pub host: ListHost,
    /// The path and, behind `?`, the query, as they are sent.
    pub target: String,
    /// `ca`, `client_cert`, `client_key`: there for `https://`.
    pub tls: Option<Tls>,
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

    /// Whether both list the same servers, whoever of etcd is asked, and however one proves to be who one is.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Etcd(one), Self::Etcd(other)) => one.prefix == other.prefix,
            _ => self.key() == other.key() && self.value() == other.value(),
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

    /// The path, or the whole URL; of etcd what tells it from others.
    #[must_use]
    pub fn value(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Url(ListUrl { host, target, tls }) => {
                format!("http{}://{host}{target}", if tls.is_some() { "s" } else { "" })
            }
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

/// A URL, and whether it has TLS; `None` where it is empty.
fn url(value: &DeValue<'_>) -> Parsed<Option<(ListHost, String, bool)>> {
    const EXAMPLE: &str = "write one such as \"http://10.0.0.5:8080/servers\"";
    let text = value::text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |why: &str| Fault::new(format!("`servers_url` {why}")).help(EXAMPLE);
    let uri: hyper::Uri = text.parse().map_err(|error| wrong(&format!("is no URL: {error}")))?;
    let is_tls = uri.scheme_str() == Some("https");
    let Some(authority) = uri.authority().filter(|_| is_tls || uri.scheme_str() == Some("http")) else {
        return Err(wrong("does not begin with \"http://\" or \"https://\" and a host"));
    };
    if authority.as_str().contains('@') {
        return Err(wrong("has a user's name in front of its host, which is not sent"));
    }
    let port = match authority.port() {
        Some(port) => port.as_u16(),
        None if authority.as_str() != authority.host() => {
            return Err(wrong("has no port from 1 to 65535 behind the `:` of its host"));
        }
        None if is_tls => 443,
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
    Ok(Some((host, target, is_tls)))
}

/// A URL that stands alone.
fn plain_url(value: &DeValue<'_>) -> Parsed<Option<ListAt>> {
    let Some((host, target, is_tls)) = url(value)? else { return Ok(None) };
    if is_tls {
        let fault = Fault::new("`servers_url` with https needs to know whose certificates to trust");
        return Err(fault.help(
            "write servers_url = { url = \"https://...\", ca = \"/etc/ssl/certs/ca-certificates.crt\" }: who has signed the \
             certificate there",
        ));
    }
    Ok(Some(ListAt::Url(ListUrl { host, target, tls: None })))
}

impl Reader {
    /// `servers_url`: a URL, or a table with one. `None` where it is empty, or something is wrong with it.
    pub(super) fn servers_url(
        &mut self,
        parent: &Section<'_>,
        key: &Key<'_>,
        value: &Value<'_>,
    ) -> Option<ListAt> {
        if !matches!(value.get_ref(), DeValue::Table(_)) {
            return self.take(value, plain_url).flatten();
        }
        let mut list = None;
        self.with(parent, key, value, "pool.NAME.servers_url", |reader, section| {
            list = reader.url_table(section);
        });
        list
    }

    fn url_table(&mut self, section: &Section<'_>) -> Option<ListAt> {
        let (mut whole, mut tls) = (None, tls::Draft::default());
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "url" => whole = self.take(value, |value| url(value)?.ok_or_else(no_url)),
                key if self.tls_key(&mut tls, key, value) => {}
                _ => self.unread(section, key, value),
            }
        }
        self.require(section, "url", "write url = \"https://HOST/servers\"");
        let is_tls = whole.as_ref().map(|(.., is_tls)| *is_tls);
        let not_used = ("the URL has none", "write https:// for http:// in `url`");
        let tls = self.tls(section, tls, is_tls, not_used);
        let (host, target, is_tls) = whole?;
        (tls.is_some() == is_tls).then_some(ListAt::Url(ListUrl { host, target, tls }))
    }
}

fn no_url() -> Fault {
    Fault::new("expected a URL, found none").help("write one such as \"https://10.0.0.5/servers\"")
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
