//! `servers_etcd`: servers that register in etcd.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use toml::de::DeValue;

use super::dns;
use super::read::{Reader, Section};
use super::tls::{self, Tls, path};
use super::value::{self, Fault, Parsed};

/// `servers_etcd`
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Etcd {
    /// `endpoints`: members of the cluster, asked in this order; at least one.
    pub endpoints: Vec<Endpoint>,
    /// `prefix` of the keys; not empty.
    pub prefix: String,
    /// `username` and `password_file`
    pub user: Option<(String, PathBuf)>,
    /// `ca`, `client_cert`, `client_key`: there where an endpoint has TLS.
    pub tls: Option<Tls>,
}

/// One of `endpoints`. Shown as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// `https://`
    pub is_tls: bool,
    /// A name, or an IP address, without brackets.
    pub host: String,
    /// 1 to 65535
    pub port: u16,
}

impl Endpoint {
    /// `HOST:PORT`, as in a URL.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The host, if it is an address.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }

    fn read(value: &DeValue<'_>) -> Parsed<Self> {
        let text = value::text(value)?;
        let parts = || {
            let (is_tls, authority) = match text.split_once("://")? {
                ("http", rest) => (false, rest),
                ("https", rest) => (true, rest),
                _ => return None,
            };
            let (host, port) = authority.strip_suffix('/').unwrap_or(authority).rsplit_once(':')?;
            let port = port.parse::<u16>().ok().filter(|port| *port != 0)?;
            let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
            let is_host = match address {
                Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
                None => host.parse::<std::net::Ipv4Addr>().is_ok() || dns::is_host_name(host),
            };
            is_host.then(|| Self { is_tls, host: address.unwrap_or(host).to_owned(), port })
        };
        parts().ok_or_else(|| {
            let fault = Fault::new(format!("{text:?} is not the URL of a member of etcd"));
            fault.help("write \"http://HOST:2379\" or \"https://HOST:2379\", without a path")
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.is_tls { "https" } else { "http" }, self.authority())
    }
}

/// All endpoints, since any of them may be the one that answers, and the prefix.
impl fmt::Display for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, endpoint) in self.endpoints.iter().enumerate() {
            write!(f, "{}{endpoint}", if number == 0 { "" } else { "," })?;
        }
        write!(f, " {}", self.prefix)
    }
}

impl Reader {
    /// `servers_etcd`; `None` where something is wrong with it.
    pub(super) fn etcd(&mut self, section: &Section<'_>) -> Option<Etcd> {
        let (mut endpoints, mut prefix) = (Vec::new(), None);
        let (mut username, mut password_file) = (None, None);
        let mut tls = tls::Draft::default();
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "endpoints" => {
                    let items = self.list(value, "an array of URLs such as [\"http://10.0.0.1:2379\"]");
                    endpoints = items.iter().filter_map(|item| self.take(item, Endpoint::read)).collect();
                }
                "prefix" => prefix = self.take(value, not_empty),
                "username" => username = self.take(value, not_empty),
                "password_file" => password_file = self.take(value, path),
                key if self.tls_key(&mut tls, key, value) => {}
                _ => self.unread(section, key, value),
            }
        }
        self.require(section, "endpoints", "write endpoints = [\"http://10.0.0.1:2379\"]");
        self.require(
            section,
            "prefix",
            "write prefix = \"/services/NAME/\": what the keys of servers begin with",
        );
        self.require_both(section, ["username", "password_file"]);
        let is_tls = endpoints.iter().any(|endpoint| endpoint.is_tls);
        let not_used = ("no endpoint has it", "write https:// for http:// in `endpoints`");
        let tls = self.tls(section, tls, (!endpoints.is_empty()).then_some(is_tls), not_used);
        if endpoints.is_empty() {
            return None;
        }
        Some(Etcd { endpoints, prefix: prefix?, user: username.zip(password_file), tls })
    }
}

fn not_empty(value: &DeValue<'_>) -> Parsed<String> {
    let text = value::text(value)?;
    if text.is_empty() { Err(Fault::new("expected some text, found none")) } else { Ok(text) }
}
