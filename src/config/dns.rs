//! `[dns]`, and the names that servers may have instead of an address.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use toml::de::DeValue;

use super::name_in;
use super::read::{Draft, Reader, Section, Value};
use super::value::{self, Fault, Parsed};

/// `[dns]`: how names of servers are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// `resolvers`
    pub resolvers: Resolvers,
    /// `ttl_min`: an answer holds for at least so long; 100 ms or more.
    pub ttl_min: Duration,
    /// `ttl_max`: and for no longer than this.
    pub ttl_max: Duration,
    /// `hold`: a name that exists no more, or has no address, keeps those that it had for so long.
    pub hold: Duration,
    /// `timeout` of one attempt.
    pub timeout: Duration,
    /// `tries`: attempts in all, 1 to 10.
    pub tries: u8,
    /// `prefer`
    pub prefer: Prefer,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            resolvers: Resolvers::System,
            ttl_min: Duration::from_secs(1),
            ttl_max: Duration::from_mins(5),
            hold: Duration::from_secs(30),
            timeout: Duration::from_secs(1),
            tries: 3,
            prefer: Prefer::Any,
        }
    }
}

/// `resolvers`: who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolvers {
    /// `"system"`: as resolv.conf(5) and hosts(5) say.
    System,
    /// These alone; at least one.
    Listed(Vec<Resolver>),
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// Where it is asked.
    pub at: SocketAddr,
    /// By TCP alone, `tcp://`; otherwise by UDP, and by TCP where an answer was cut off.
    pub tcp_only: bool,
}

impl fmt::Display for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.tcp_only { "tcp://" } else { "" }, self.at)
    }
}

/// `prefer`: which addresses of a name are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    /// All.
    Any,
    /// Those of IPv4; those of IPv6 where there is none.
    Ipv4,
    /// The other way round.
    Ipv6,
}

impl Prefer {
    pub(super) const NAMES: [(&'static str, Self); 3] =
        [("any", Self::Any), ("ipv4", Self::Ipv4), ("ipv6", Self::Ipv6)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        name_in(&Self::NAMES, &self)
    }
}

/// A name that stands for servers. Shown as it is written in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DnsName {
    /// `"pg.example.com:5432"`: every address of the name (A and AAAA records), each with this port.
    Host(String, u16),
    /// `"srv:_pg._tcp.example.com"`: hosts and ports of a service (SRV records, RFC 2782).
    Service(String),
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name, port) => write!(f, "{name}:{port}"),
            Self::Service(name) => write!(f, "srv:{name}"),
        }
    }
}

impl DnsName {
    /// The name that is looked up, without a port.
    #[must_use]
    pub fn host(&self) -> &str {
        match self {
            Self::Host(name, _) | Self::Service(name) => name,
        }
    }

    /// What `text` says, if it is a name rather than an address.
    pub(super) fn read(text: &str) -> Option<Parsed<Self>> {
        if let Some(name) = text.strip_prefix("srv:") {
            return Some(if is_host_name(name) {
                Ok(Self::Service(name.to_owned()))
            } else {
                let fault = Fault::new(format!("{name:?} is not the name of a service"));
                Err(fault.help("write \"srv:_SERVICE._tcp.DOMAIN\": the records have the ports"))
            });
        }
        let (host, port) = text.rsplit_once(':')?;
        let port = port.parse::<u16>().ok().filter(|_| is_host_name(host))?;
        if port == 0 {
            let fault = Fault::new(format!("{text:?} has port 0"));
            return Some(Err(fault.help("write the port that the server listens on")));
        }
        Some(Ok(Self::Host(host.to_owned(), port)))
    }
}

/// RFC 1035 with underscores: labels of 1 to 63, 253 in all. The last one is not a number: that is a broken address.
pub(super) fn is_host_name(host: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let name = host.strip_suffix('.').unwrap_or(host);
    let mut labels = name.rsplit('.');
    let is_number = labels.clone().next().is_some_and(|last| last.chars().all(|c| c.is_ascii_digit()));
    name.len() <= 253
        && !is_number
        && labels.all(|label| (1..=63).contains(&label.len()) && label.chars().all(fits))
}

impl Reader {
    pub(super) fn dns(&mut self, section: &Section<'_>, draft: &mut Draft) {
        let dns = &mut draft.dns;
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "resolvers" => self.resolvers(&mut dns.resolvers, value),
                "ttl_min" => self.set(&mut dns.ttl_min, value, ttl_min),
                "ttl_max" => self.set(&mut dns.ttl_max, value, value::duration),
                "hold" => self.set(&mut dns.hold, value, value::duration_or_zero),
                "timeout" => self.set(&mut dns.timeout, value, value::duration),
                "tries" => self.set(&mut dns.tries, value, |v| value::integer(v, 1..=10)),
                "prefer" => self.set(&mut dns.prefer, value, |v| value::choice(v, &Prefer::NAMES, &[])),
                _ => self.unread(section, key, value),
            }
        }
        if dns.ttl_min > dns.ttl_max {
            let key = section.keys.get("ttl_min").or_else(|| section.keys.get("ttl_max"));
            let at = key.map_or(section.at, |value| self.at(value.span().start));
            let (min, max) = (super::duration_text(dns.ttl_min), super::duration_text(dns.ttl_max));
            let fault = Fault::new(format!("ttl_min is {min}, longer than ttl_max, which is {max}"));
            self.problem(at, fault.help("lower the one or raise the other"));
        }
    }

    fn resolvers(&mut self, slot: &mut Resolvers, value: &Value<'_>) {
        if value.get_ref().is_str() {
            return self.set(slot, value, |v| value::choice(v, &[("system", Resolvers::System)], &[]));
        }
        let items = self.list(value, "\"system\" or an array of addresses such as [\"10.0.0.53:53\"]");
        let all: Vec<Resolver> = items.iter().filter_map(|item| self.take(item, resolver)).collect();
        if !all.is_empty() {
            *slot = Resolvers::Listed(all);
        }
    }
}

fn ttl_min(value: &DeValue<'_>) -> Parsed<Duration> {
    let time = value::duration(value)?;
    if time < Duration::from_millis(100) {
        return Err(
            Fault::new("a name is asked for ten times a second at most").help("write \"100ms\" or more")
        );
    }
    Ok(time)
}

fn resolver(value: &DeValue<'_>) -> Parsed<Resolver> {
    let text = value::text(value)?;
    let (address, tcp_only) = text.strip_prefix("tcp://").map_or((&*text, false), |rest| (rest, true));
    let address = address.strip_prefix("udp://").unwrap_or(address);
    if let Ok(at) = address.parse::<SocketAddr>()
        && at.port() != 0
    {
        return Ok(Resolver { at, tcp_only });
    }
    let fault = Fault::new(format!("{text:?} is not the address of a resolver"));
    Err(match address.parse::<IpAddr>() {
        Ok(ip) => fault.help(format!("it has no port: write \"{}\"", SocketAddr::new(ip, 53))),
        Err(_) => fault.help("write \"10.0.0.53:53\", or \"tcp://10.0.0.53:53\" for TCP alone"),
    })
}
