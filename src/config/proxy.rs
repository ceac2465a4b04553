//! `accept_proxy` of a listener and `send_proxy` of a pool: headers of the PROXY protocol, in and out.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::de::DeValue;

use super::admission;
use super::read::{Key, Reader, Section, Value};
use super::value::{self, Fault, Parsed};
use crate::proxy_header::{Version, Versions};

/// The word for peers over a unix socket in `from`.
const UNIX: &str = "unix";

/// `accept_proxy`: who is believed about whom a connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptProxy {
    /// `from`: proxies whose headers are read.
    pub from: Vec<IpNet>,
    /// `"unix"` in `from`: whoever may open the listener's unix socket is one of them.
    pub from_unix: bool,
    /// `versions`
    pub versions: Versions,
    /// `untrusted`
    pub untrusted: Untrusted,
}

impl AcceptProxy {
    /// Whether a header from this peer is read; one of a unix socket has no address.
    #[must_use]
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        peer.map_or(self.from_unix, |peer| {
            let peer = peer.to_canonical();
            self.from.iter().any(|network| network.contains(&peer))
        })
    }
}

/// `untrusted`: what becomes of a client that is none of `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untrusted {
    /// It is reset.
    Reject,
    /// All its bytes are passed on as they are; its address is that of its socket.
    Payload,
}

impl Untrusted {
    pub(super) const NAMES: [(&'static str, Self); 2] =
        [("reject", Self::Reject), ("payload", Self::Payload)];
}

/// `send_proxy`: what servers are told of a client before its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendProxy {
    /// `"v1"` or `"v2"`
    pub version: Version,
    /// `proxy_tlvs`; none with version 1.
    pub tlvs: ProxyTlvs,
}

/// `proxy_tlvs`: what a header of version 2 tells besides addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyTlvs {
    /// `"authority"`: the name that the client has asked for.
    pub authority: bool,
    /// `"alpn"`: the protocol on the connection.
    pub alpn: bool,
    /// `"unique_id"`: the connection's id in the access log.
    pub unique_id: bool,
    /// `"crc32c"`: a checksum of the header.
    pub crc32c: bool,
}

/// One of `proxy_tlvs`.
type Tlv = fn(&mut ProxyTlvs) -> &mut bool;

impl ProxyTlvs {
    const NAMES: [(&'static str, Tlv); 4] = [
        ("authority", |tlvs| &mut tlvs.authority),
        ("alpn", |tlvs| &mut tlvs.alpn),
        ("unique_id", |tlvs| &mut tlvs.unique_id),
        ("crc32c", |tlvs| &mut tlvs.crc32c),
    ];

    /// Their names.
    pub(super) fn names(mut self) -> Vec<&'static str> {
        Self::NAMES.iter().filter(|(_, tlv)| *tlv(&mut self)).map(|(name, _)| *name).collect()
    }
}

/// Values of `send_proxy`.
pub(super) const SEND: [(&str, Option<Version>); 3] =
    [("off", None), ("v1", Some(Version::V1)), ("v2", Some(Version::V2))];

impl Reader {
    pub(super) fn accept_proxy(
        &mut self,
        section: &Section<'_>,
        key: &Key<'_>,
        value: &Value<'_>,
    ) -> Option<AcceptProxy> {
        let mut accept = None;
        self.with(section, key, value, "listener.NAME.accept_proxy", |reader, section| {
            accept = Some(reader.accepting(section));
        });
        accept
    }

    fn accepting(&mut self, section: &Section<'_>) -> AcceptProxy {
        let mut accept = AcceptProxy {
            from: Vec::new(),
            from_unix: false,
            versions: Versions::ALL,
            untrusted: Untrusted::Reject,
        };
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "from" => {
                    for item in self.list(value, "an array of networks such as [\"10.0.0.0/16\"]") {
                        if matches!(item.get_ref(), DeValue::String(text) if text == UNIX) {
                            accept.from_unix = true;
                        } else {
                            accept.from.extend(self.take(item, network));
                        }
                    }
                }
                "versions" => self.versions(value, &mut accept.versions),
                "untrusted" => {
                    self.set(&mut accept.untrusted, value, |v| value::choice(v, &Untrusted::NAMES, &[]));
                }
                _ => self.unread(section, key, value),
            }
        }
        let help = "name the proxies in front, such as from = [\"10.0.0.0/16\"]: without it any client could say \
            that its address is another one, and pass every rule and limit";
        self.require(section, "from", help);
        accept
    }

    /// `send_proxy` and `proxy_tlvs` of a pool.
    pub(super) fn send_proxy(&mut self, section: &Section<'_>) -> Option<SendProxy> {
        let version = section.keys.get("send_proxy");
        let version = version.and_then(|value| self.take(value, |v| value::choice(v, &SEND, &[]))).flatten();
        let mut tlvs = ProxyTlvs::default();
        if let Some(value) = section.keys.get("proxy_tlvs") {
            tlvs = self.proxy_tlvs(value);
            if version != Some(Version::V2) && tlvs != ProxyTlvs::default() {
                let fault = Fault::new("`proxy_tlvs` are fields of version 2, and that is not what is sent");
                let fault = fault.help("write send_proxy = \"v2\" beside it, or remove it");
                self.problem(self.at(value.span().start), fault);
            }
        }
        version.map(|version| SendProxy { version, tlvs })
    }

    fn versions(&mut self, value: &Value<'_>, versions: &mut Versions) {
        *versions = Versions { v1: false, v2: false };
        for item in self.list(value, "an array of versions such as [1, 2]") {
            match self.take(item, |item| value::integer(item, 1..=2_u8)) {
                Some(1) => versions.v1 = true,
                Some(_) => versions.v2 = true,
                None => {}
            }
        }
    }

    fn proxy_tlvs(&mut self, value: &Value<'_>) -> ProxyTlvs {
        let mut tlvs = ProxyTlvs::default();
        if value.get_ref().as_array().is_some_and(|items| items.is_empty()) {
            return tlvs;
        }
        for item in self.list(value, "an array of TLVs such as [\"unique_id\", \"crc32c\"]") {
            if let Some(tlv) = self.take(item, tlv) {
                *tlv(&mut tlvs) = true;
            }
        }
        tlvs
    }
}

fn network(value: &DeValue<'_>) -> Parsed<IpNet> {
    admission::network(&value::text(value)?)
}

fn tlv(value: &DeValue<'_>) -> Parsed<Tlv> {
    if matches!(value, DeValue::String(text) if text == "ssl") {
        let fault =
            Fault::new("\"ssl\" tells of TLS that is terminated here, which this version does not do");
        return Err(
            fault.help("leave it out; \"authority\" tells the name in a TLS connection that is passed on")
        );
    }
    value::choice(value, &ProxyTlvs::NAMES, &[])
}
