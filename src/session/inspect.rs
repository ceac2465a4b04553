//! What a client's first bytes say, before a server is picked for it. Pure and bounded: the bytes are the engine's.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::dial::Dial;
use super::{Cause, Context, Order, Session, State};
use crate::config::AcceptProxy;
use crate::proxy_header::{self, Addresses, Malformed, Versions};
use crate::relay::Side;
use crate::tick::Tick;

/// The most of a client's first bytes that is gathered.
pub(super) const HEAD_MAX: u16 = proxy_header::LEN_MAX as u16;

/// Reads the first bytes of one client.
#[derive(Debug)]
pub(super) struct Inspector {
    versions: Versions,
    /// When all of it must have come; `None` is never.
    pub(super) ends: Option<Tick>,
}

/// What the first bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There must be more than so many.
    More(u16),
    /// A server can be picked.
    Done,
    /// The client has ended without a byte, as those do that only look whether somebody listens.
    Nothing,
    /// They are wrong.
    Wrong(Flaw),
}

/// What is wrong with a client's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// They are no header of the PROXY protocol.
    #[error("{0}")]
    Header(#[from] Malformed),
    /// The client has ended within its header.
    #[error("the header ends behind {0} bytes")]
    Cut(usize),
}

/// Where a client had connected to, by what a proxy in front has told: small, since every connection has room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// IPv4 inside of IPv6, too.
    ip: Ipv6Addr,
    port: u16,
}

impl From<SocketAddr> for Destination {
    fn from(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self { ip, port: address.port() }
    }
}

impl From<Destination> for SocketAddr {
    fn from(Destination { ip, port }: Destination) -> Self {
        Self::new(IpAddr::V6(ip).to_canonical(), port)
    }
}

/// A header of the PROXY protocol: how long it is, and from where to where the connection was, if it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) len: usize,
    pub(super) ends: Option<[SocketAddr; 2]>,
}

impl Flaw {
    /// What it ends a connection with.
    #[must_use]
    pub fn cause(self) -> Cause {
        match self {
            Self::Header(_) | Self::Cut(_) => Cause::BadProxyHeader,
        }
    }
}

impl Inspector {
    /// For a client of a listener that reads headers; `None`: its server can be picked at once, since it is not to be
    /// believed.
    fn new(accept: &AcceptProxy, peer: Option<SocketAddr>, ends: Option<Tick>) -> Option<Self> {
        let is_trusted = accept.trusts(peer.map(|peer| peer.ip()));
        is_trusted.then_some(Self { versions: accept.versions, ends })
    }

    /// Looks at all that has come so far; `ended`: nothing more will.
    pub(super) fn look(&self, head: &[u8], ended: bool) -> Result<Told, Verdict> {
        let whole = proxy_header::decode(head, self.versions);
        match whole.map_err(|malformed| Verdict::Wrong(malformed.into()))? {
            Some(header) => Ok(Told { len: header.len, ends: header.addresses.ends() }),
            None if ended && head.is_empty() => Err(Verdict::Nothing),
            None if ended => Err(Verdict::Wrong(Flaw::Cut(head.len()))),
            None => Err(Verdict::More(u16::try_from(head.len()).unwrap_or(HEAD_MAX).min(HEAD_MAX - 1))),
        }
    }
}

impl Session {
    /// Waits for what its client has to say before a server is picked; `None`: that is nothing.
    pub(super) fn begin_inspecting(&mut self, cx: Context<'_>) -> Option<Order> {
        let listener = cx.snapshot.listener(self.listener);
        let accept = listener.accept_proxy.as_ref()?;
        let ends = listener.timeouts.preread.map(|limit| cx.now.after(limit));
        self.state = State::Inspecting(Inspector::new(accept, self.client, ends)?);
        Some(Order::ReadHead { more_than: 0, max: HEAD_MAX })
    }

    /// Looks at the client's first bytes, all that has come so far; `ended`: nothing more will. Says how many of them are
    /// not to be passed on, and what [`Input::Inspected`] is to tell; `None` where it looks for nothing.
    pub fn inspect(&mut self, head: &[u8], ended: bool) -> Option<(usize, Verdict)> {
        let State::Inspecting(inspector) = &self.state else { return None };
        Some(match inspector.look(head, ended) {
            Ok(told) => {
                if let Some([source, destination]) = told.ends {
                    (self.client, self.destination) = (Some(source), Some(destination.into()));
                }
                (told.len, Verdict::Done)
            }
            Err(verdict) => (0, verdict),
        })
    }

    /// Between whom the connection is, as servers are told. `local` is the address of the client's socket here.
    #[must_use]
    pub fn addresses(&self, local: impl FnOnce() -> Option<SocketAddr>) -> Addresses<'static> {
        let ends = self.client.zip(self.destination.map(SocketAddr::from).or_else(local));
        ends.map_or(Addresses::Unknown, |(source, destination)| Addresses::between(source, destination))
    }

    pub(super) fn inspected(&mut self, verdict: Verdict, cx: Context<'_>) -> Option<Order> {
        match verdict {
            Verdict::More(more_than) => Some(Order::ReadHead { more_than, max: HEAD_MAX }),
            Verdict::Done => {
                let connect_total = cx.snapshot.listener(self.listener).timeouts.connect_total;
                self.state = State::Dialing(Dial::new(cx.now, connect_total));
                self.dial(cx, false)
            }
            Verdict::Nothing => {
                self.give_up(Cause::ClientLeft, cx);
                Some(Order::Dismiss { peer: Side::Client })
            }
            Verdict::Wrong(flaw) => Some(self.give_up(flaw.cause(), cx)),
        }
    }
}
