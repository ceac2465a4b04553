//! `[listener.NAME.access]` and `[listener.NAME.limits]`: who is let in, and how much of each.

use std::num::{NonZeroU32, NonZeroU64};

use ipnet::IpNet;
use toml::de::DeValue;

use super::known;
use super::read::{Key, Reader, Section, Value};
use super::value::{self, Fault, Parsed};

/// The most of `per_source_conns`, and of a `burst`.
const MOST: u32 = 1_000_000;

/// `[listener.NAME.access]`: which clients are let in, by their addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRules {
    /// `default`: what becomes of a client that no rule names.
    pub default: Action,
    /// `rules`: the first that names a client's address decides.
    pub rules: Vec<Rule>,
    /// `match_on`
    pub match_on: MatchOn,
}

impl Default for AccessRules {
    fn default() -> Self {
        Self { default: Action::Allow, rules: Vec::new(), match_on: MatchOn::Client }
    }
}

/// One of `rules`, as `"deny 10.9.0.0/16"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its first word.
    pub action: Action,
    /// The addresses it is about; no bit is set behind the prefix, and an IPv4 network is never written as IPv6.
    pub network: IpNet,
}

/// What becomes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is let in.
    Allow,
    /// It is reset.
    Deny,
}

impl Action {
    pub(super) const NAMES: [(&'static str, Self); 2] = [("allow", Self::Allow), ("deny", Self::Deny)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }
}

/// `match_on`: which address of a client the rules are about. As long as nothing but its socket tells one, both are
/// the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchOn {
    /// The one that the client is said to have.
    Client,
    /// The other end of the socket.
    Peer,
}

impl MatchOn {
    pub(super) const NAMES: [(&'static str, Self); 2] = [("client", Self::Client), ("peer", Self::Peer)];
}

/// `[listener.NAME.limits]`; `None` is `"off"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `per_source_conns`: connections of one source at a time, up to a million.
    pub per_source_conns: Option<NonZeroU32>,
    /// `per_source_rate`: new connections of one source.
    pub per_source_rate: Option<Rate>,
    /// `rate`: new connections a second, from all clients together; up to a million.
    pub rate: Option<u32>,
    /// `ipv6_prefix`: IPv6 addresses with so many leading bits in common are one source; 1 to 128.
    pub ipv6_prefix: u8,
    /// `table_size`: sources that are known at a time; 16 to 16 million.
    pub table_size: u32,
    /// `dry_run`: who is over `per_source_conns`, `per_source_rate` or `rate` is counted and let in.
    pub dry_run: bool,
    /// `upload`: bytes a second that each connection may take from its client, 1 KiB to 1 TiB.
    pub upload: Option<NonZeroU64>,
    /// `download`: the same of what it may take from its server.
    pub download: Option<NonZeroU64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_source_conns: None,
            per_source_rate: None,
            rate: None,
            ipv6_prefix: 64,
            table_size: 100_000,
            dry_run: false,
            upload: None,
            download: None,
        }
    }
}

/// `{ rate = "50/s", burst = 100 }`: a bucket of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// `rate`: tokens a second, 1 to a million.
    pub rate: u32,
    /// `burst`: tokens that a full bucket has, 1 to a million; without it, those of a second.
    pub burst: u32,
}

impl Reader {
    pub(super) fn access_rules(&mut self, section: &Section<'_>) -> AccessRules {
        let mut access = AccessRules::default();
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "default" => {
                    self.set(&mut access.default, value, |v| value::choice(v, &Action::NAMES, &[]));
                }
                "rules" => {
                    let DeValue::Array(items) = value.get_ref() else {
                        let expected = "an array of rules such as [\"allow 10.0.0.0/8\"]";
                        self.problem(self.at(value.span().start), Fault::mismatch(expected, value.get_ref()));
                        continue;
                    };
                    access.rules.extend(items.iter().filter_map(|item| self.take(item, rule)));
                }
                "match_on" => {
                    self.set(&mut access.match_on, value, |v| value::choice(v, &MatchOn::NAMES, &[]));
                }
                _ => self.unread(section, key, value),
            }
        }
        access
    }

    pub(super) fn limits(&mut self, section: &Section<'_>) -> Limits {
        let mut limits = Limits::default();
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "per_source_conns" => self.set(&mut limits.per_source_conns, value, |v| {
                    Ok(value::integer_or("off", v, 1..=MOST)?.and_then(NonZeroU32::new))
                }),
                "per_source_rate" => self.source_rate(section, key, value, &mut limits.per_source_rate),
                "rate" => self.set(&mut limits.rate, value, rate_or_off),
                "ipv6_prefix" => {
                    self.set(&mut limits.ipv6_prefix, value, |v| value::integer(v, 1..=128));
                }
                "table_size" => {
                    self.set(&mut limits.table_size, value, |v| value::integer(v, 16..=16_000_000));
                }
                "dry_run" => self.set(&mut limits.dry_run, value, value::boolean),
                "upload" => self.set(&mut limits.upload, value, byte_rate_or_off),
                "download" => self.set(&mut limits.download, value, byte_rate_or_off),
                _ => self.unread(section, key, value),
            }
        }
        limits
    }

    fn source_rate(
        &mut self,
        section: &Section<'_>,
        key: &Key<'_>,
        value: &Value<'_>,
        slot: &mut Option<Rate>,
    ) {
        if !value.get_ref().is_table() {
            return self.set(slot, value, source_rate_off);
        }
        self.with(section, key, value, "listener.NAME.limits.per_source_rate", |reader, section| {
            let (mut rate, mut burst) = (None, None);
            for (key, value) in section.keys {
                match key.get_ref().as_ref() {
                    "rate" => rate = reader.take(value, value::rate),
                    "burst" => burst = reader.take(value, |v| value::integer(v, 1..=MOST)),
                    _ => reader.unread(section, key, value),
                }
            }
            reader.require(section, "rate", "write rate = \"50/s\"");
            *slot = rate.map(|rate| Rate { rate, burst: burst.unwrap_or(rate) });
        });
    }
}

fn rate_or_off(value: &DeValue<'_>) -> Parsed<Option<u32>> {
    if matches!(value, DeValue::String(_)) && value::text(value)? == "off" {
        return Ok(None);
    }
    value::rate(value).map(Some)
}

/// A size and `/s`, or `"off"`.
fn byte_rate_or_off(value: &DeValue<'_>) -> Parsed<Option<NonZeroU64>> {
    const RANGE: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 40;
    let fault = || Fault::mismatch("a rate from 1KiB/s to 1024GiB/s, such as \"10MiB/s\", or \"off\"", value);
    if !matches!(value, DeValue::String(_)) {
        return Err(fault());
    }
    let text = value::text(value)?;
    if text == "off" {
        return Ok(None);
    }
    if let Some(bytes) = value::bits_a_second(&text) {
        return Err(fault().help(format!("a byte has 8 bits: write {bytes}")));
    }
    let Some(size) = text.strip_suffix("/s") else {
        return Err(fault().help("a rate ends with `/s`"));
    };
    let size = DeValue::String(size.trim_end().into());
    let read = value::size(&size, RANGE, "from 1KiB to 1024GiB");
    // What is suggested is a size.
    let help = |refused: Fault| refused.help.map(|help| help.replace("\"?", "/s\"?"));
    read.map(NonZeroU64::new).map_err(|refused| Fault { help: help(refused), ..fault() })
}

fn source_rate_off(value: &DeValue<'_>) -> Parsed<Option<Rate>> {
    let example = "{ rate = \"50/s\", burst = 100 }";
    let fault = Fault::mismatch(&format!("\"off\" or a table such as {example}"), value);
    match value {
        DeValue::String(_) if value::text(value)? == "off" => Ok(None),
        DeValue::String(_) => match super::rate(&value::text(value)?) {
            Some(rate) => Err(fault.help(format!("write {{ rate = \"{rate}/s\", burst = {rate} }}"))),
            None => Err(fault),
        },
        _ => Err(fault),
    }
}

/// `"allow NETWORK"` or `"deny NETWORK"`; an address alone is a network of its own.
fn rule(value: &DeValue<'_>) -> Parsed<Rule> {
    const EXPECTED: &str = "a rule such as \"allow 10.0.0.0/8\"";
    if !matches!(value, DeValue::String(_)) {
        return Err(Fault::mismatch(EXPECTED, value));
    }
    let text = value::text(value)?;
    let mut words = text.split_ascii_whitespace();
    let (first, second, more) = (words.next(), words.next(), words.next());
    let (Some(word), Some(written), None) = (first, second, more) else {
        let fault = Fault::mismatch(EXPECTED, value);
        return Err(match first.filter(|_| second.is_none()) {
            Some(alone) if network(alone).is_ok() => {
                fault.help(format!("say what becomes of it: \"allow {alone}\" or \"deny {alone}\""))
            }
            _ => fault.help("a rule is `allow` or `deny`, and one network"),
        });
    };
    let Some((_, action)) = Action::NAMES.iter().find(|(name, _)| *name == word) else {
        let fault = Fault::new(format!("expected \"allow\" or \"deny\" at the start of {text:?}"));
        let near = known::value_of_others(word)
            .or_else(|| known::nearest(word, Action::NAMES.iter().map(|(name, _)| *name)));
        return Err(match near {
            Some(near) => fault.help(format!("did you mean \"{near} {written}\"?")),
            None => fault.help("a rule is `allow` or `deny`, and one network"),
        });
    };
    network(written).map(|network| Rule { action: *action, network })
}

pub(super) fn network(written: &str) -> Parsed<IpNet> {
    if matches!(written, "all" | "any" | "*") {
        let fault = Fault::new(format!("{written:?} is not a network"));
        return Err(fault.help("write `default` for whom no rule names, or \"0.0.0.0/0\" and \"::/0\""));
    }
    let alone = || written.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    let Some(network) = written.parse().ok().or_else(alone) else {
        let fault = Fault::new(format!("{written:?} is not a network"));
        return Err(
            fault.help("write an address and the length of a prefix, such as \"10.0.0.0/8\" or \"fd00::/8\"")
        );
    };
    if let IpNet::V6(v6) = network
        && let Some(v4) = v6.addr().to_ipv4_mapped()
        && v6.prefix_len() >= 96
    {
        let fault = Fault::new(format!("{written:?} is a network of IPv4 in the clothes of IPv6"));
        return Err(
            fault.help(format!("write \"{v4}/{}\": that is how such clients are seen", v6.prefix_len() - 96))
        );
    }
    if network != network.trunc() {
        let fault = Fault::new(format!("{written:?} has bits set behind its prefix"));
        let (whole, one) = (network.trunc(), network.addr());
        return Err(
            fault.help(format!("write \"{whole}\" for the network, or \"{one}\" for the one address"))
        );
    }
    Ok(network)
}
