//! What a client's first bytes say, before a server is picked for it. Pure and bounded: the bytes are the engine's.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::dial::Dial;
use super::hello::{Heard, HelloReader};
use super::{Cause, Closing, Context, Order, Session, Spare, State};
use crate::client_hello::{self, UNRECOGNIZED_NAME};
use crate::config::Asked;
use crate::proxy_header::{self, Addresses, Header, Malformed, Versions};
use crate::relay::Side;
use crate::snapshot::{Listener, RouteTo, Snapshot};
use crate::tick::Tick;

/// The most bytes of a PROXY header.
const HEADER_MAX: u16 = proxy_header::LEN_MAX as u16;

/// Reads the first bytes of one client.
#[derive(Debug)]
pub(super) struct Inspector {
    /// There is to be a PROXY header first, in one of these.
    header: Option<Versions>,
    /// Then there may be a hello.
    hello: Option<HelloReader>,
    /// Nothing has come yet.
    pub(super) is_silent: bool,
    /// When all of it must have come; `None` is never.
    pub(super) ends: Option<Tick>,
}

/// What was seen of a client's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// So many of them are not to be passed on, at their beginning.
    pub used: usize,
    /// The client is to be told this.
    pub say: &'static [u8],
    /// Then [`Input::Inspected`](super::Input::Inspected) is to tell this.
    pub verdict: Verdict,
}

/// What the first bytes came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// More are needed.
    More {
        /// Than so many.
        more_than: u16,
        /// And no more than so many in all.
        most: u16,
    },
    /// A server can be picked.
    Done,
    /// The client has ended without a byte, as those do that only look whether somebody listens.
    Nothing,
    /// They are wrong.
    Wrong(Flaw),
    /// Nobody is there for this client.
    Unwanted {
        /// It is closed, not reset.
        closes: bool,
    },
}

/// What is wrong with a client's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// They are no header of the PROXY protocol.
    #[error("bad PROXY header: {0}")]
    Header(#[from] Malformed),
    /// The client has ended within its header.
    #[error("bad PROXY header: it ends behind {0} bytes")]
    Cut(usize),
    /// They are no hello, though they begin as one.
    #[error("bad TLS hello: {0}")]
    Hello(#[from] client_hello::Malformed),
    /// The client has ended within its hello.
    #[error("bad TLS hello: it ends behind {0} bytes")]
    HelloCut(usize),
    /// The client has asked for TLS, and has not begun with it.
    #[error("bad TLS hello: none came after SSLRequest")]
    NoHello,
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

impl Flaw {
    /// What it ends a connection with.
    #[must_use]
    pub fn cause(self) -> Cause {
        match self {
            Self::Header(_) | Self::Cut(_) => Cause::BadProxyHeader,
            Self::Hello(client_hello::Malformed::TooLarge(_)) => Cause::HelloTooLarge,
            Self::Hello(_) | Self::HelloCut(_) | Self::NoHello => Cause::BadClientHello,
        }
    }
}

impl From<Verdict> for Seen {
    fn from(verdict: Verdict) -> Self {
        Self { used: 0, say: &[], verdict }
    }
}

impl Seen {
    /// A request that has its answer; up to `most` bytes come next.
    pub(super) fn answered(used: usize, say: &'static [u8], most: u16) -> Self {
        Self { used, say, verdict: Verdict::More { more_than: 0, most } }
    }
}

impl Inspector {
    /// For a client of `listener` that is to say something first; `None`: its server can be picked at once.
    fn new(listener: &Listener, peer: Option<SocketAddr>, now: Tick) -> Option<Self> {
        let accept = listener.accept_proxy.as_ref().filter(|one| one.trusts(peer.map(|peer| peer.ip())));
        let (header, hello) =
            (accept.map(|accept| accept.versions), listener.reads_hello.map(HelloReader::new));
        let looks = header.is_some() || hello.is_some();
        let limit = listener.leads.own.timeouts.preread.filter(|_| !mutant!(PrereadForgotten));
        looks.then(|| Self { header, hello, is_silent: true, ends: limit.map(|limit| now.after(limit)) })
    }

    /// What is to be read first.
    fn first(&self, listener: &Listener) -> Order {
        let hello_max = listener.reads_hello.map_or(HEADER_MAX, |reads| reads.most);
        Order::ReadHead { more_than: 0, max: if self.header.is_some() { HEADER_MAX } else { hello_max } }
    }
}

/// Looks for a whole header.
fn header(head: &[u8], versions: Versions, ended: bool) -> Result<Header<'_>, Verdict> {
    let whole = proxy_header::decode(head, versions);
    match whole.map_err(|malformed| Verdict::Wrong(malformed.into()))? {
        Some(header) => Ok(header),
        None if ended && head.is_empty() => Err(Verdict::Nothing),
        None if ended => Err(Verdict::Wrong(Flaw::Cut(head.len()))),
        None => {
            let len = u16::try_from(head.len()).unwrap_or(HEADER_MAX);
            Err(Verdict::More { more_than: len.min(HEADER_MAX - 1), most: HEADER_MAX })
        }
    }
}

/// Whether a header says that `peer` has made the connection for itself, as checks do: it names no client, or the peer's own
/// socket, as HAProxy's do with version 1.
fn is_for_itself(peer: Option<SocketAddr>, ends: Option<[SocketAddr; 2]>) -> bool {
    let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    ends.is_none_or(|[source, _]| peer.map(canonical) == Some(canonical(source)))
}

impl Session {
    /// Waits for what its client has to say before a server is picked, or goes where a route leads that needs nothing of
    /// the kind; `None`: a server is to be picked at once.
    #[inline]
    pub(super) fn begin_inspecting(&mut self, cx: Context<'_>) -> Option<Order> {
        let listener = cx.snapshot.listener(self.listener);
        if listener.accept_proxy.is_none() && listener.reads_hello.is_none() && listener.routes.is_none() {
            return None;
        }
        let Some(inspector) = Inspector::new(listener, self.client, cx.now) else {
            let seen = self.decide(&self.asked(), listener);
            return self.inspected(seen.verdict, cx);
        };
        let order = inspector.first(listener);
        self.state = State::Inspecting(inspector);
        Some(order)
    }

    /// Looks at the client's first bytes, all that has come so far; `ended`: nothing more will. `None` where it looks for
    /// nothing.
    pub fn inspect(&mut self, head: &[u8], ended: bool, snapshot: &Snapshot) -> Option<Seen> {
        let State::Inspecting(inspector) = &mut self.state else { return None };
        inspector.is_silent &= head.is_empty();
        let mut used = 0;
        if let Some(versions) = inspector.header {
            match header(head, versions, ended) {
                Ok(header) => {
                    inspector.header = None;
                    used = header.len;
                    self.heard = Heard::told(header.tlvs);
                    let ends = header.addresses.ends();
                    self.probes = is_for_itself(self.client, ends);
                    if let Some([source, destination]) = ends {
                        (self.client, self.destination) = (Some(source), Some(destination.into()));
                    }
                }
                Err(verdict) => return Some(verdict.into()),
            }
        }
        self.probes &= head[used..].is_empty();
        let seen = self.inspect_hello(&head[used..], ended, snapshot);
        Some(Seen { used: used + seen.used, ..seen })
    }

    /// The same for what is behind a PROXY header.
    fn inspect_hello(&mut self, head: &[u8], ended: bool, snapshot: &Snapshot) -> Seen {
        let listener = snapshot.listener(self.listener);
        let mut asked = self.asked();
        let State::Inspecting(inspector) = &mut self.state else { return Verdict::Done.into() };
        if let Some(reader) = &mut inspector.hello {
            // A reload may have come in between: then it is not asked for any more.
            if let Some(reads) = listener.reads_hello {
                match reader.look(head, ended, reads.most) {
                    Ok(hello) => asked.hello = hello,
                    Err(seen) => return seen,
                }
            }
            asked.starttls = reader.starttls;
        }
        self.decide(&asked, listener)
    }

    /// What is known of a client that says nothing.
    fn asked(&self) -> Asked<'static> {
        Asked { hello: None, starttls: false, source: self.client.map(|client| client.ip()) }
    }

    /// Where a client goes of whom that is known; what no route takes is rejected.
    fn decide(&mut self, asked: &Asked<'_>, listener: &Listener) -> Seen {
        let tells = |say, closes| Seen { say, ..Verdict::Unwanted { closes }.into() };
        let mut heard = self.heard.take().map_or_else(Heard::default, Arc::unwrap_or_clone).and_said(asked);
        let seen = match &listener.routes {
            None => Verdict::Done.into(),
            Some(routes) => {
                let found = routes.find(asked);
                heard.route = found.map(|(number, _)| number);
                match found.map_or(RouteTo::Reject, |(_, to)| to) {
                    RouteTo::Pool(pool) => {
                        heard.pool = Some(pool);
                        Verdict::Done.into()
                    }
                    RouteTo::Close => tells(&[], true),
                    RouteTo::Reject if asked.hello.is_some() => tells(&UNRECOGNIZED_NAME, true),
                    RouteTo::Reject => tells(&[], false),
                }
            }
        };
        if heard != Heard::default() {
            self.heard = Some(Arc::new(heard));
        }
        seen
    }

    /// Its listener has led it somewhere, or nowhere: that is counted for the route, if it has routes.
    fn count_route(&self, snapshot: &Snapshot) {
        if let Some(routes) = &snapshot.listener(self.listener).routes {
            routes.count(self.heard.as_ref().and_then(|heard| heard.route));
        }
    }

    /// Whether its client is to tell who it is, and has not yet.
    #[must_use]
    pub fn awaits_header(&self) -> bool {
        matches!(&self.state, State::Inspecting(inspector) if inspector.header.is_some())
    }

    /// Whether its server is to be asked for TLS as its client has asked, before anything is relayed.
    #[must_use]
    pub fn starttls(&self) -> bool {
        self.heard.as_ref().is_some_and(|heard| heard.starttls)
    }

    /// Between whom the connection is, as servers are told. `local` is the address of the client's socket here.
    #[must_use]
    pub fn addresses(&self, local: impl FnOnce() -> Option<SocketAddr>) -> Addresses<'static> {
        let ends = self.client.zip(self.destination.map(SocketAddr::from).or_else(local));
        ends.map_or(Addresses::Unknown, |(source, destination)| Addresses::between(source, destination))
    }

    pub(super) fn inspected(&mut self, verdict: Verdict, cx: Context<'_>) -> Option<Order> {
        if matches!(verdict, Verdict::Done | Verdict::Unwanted { .. }) {
            self.count_route(cx.snapshot);
        }
        match verdict {
            Verdict::More { more_than, most } => Some(Order::ReadHead { more_than, max: most }),
            Verdict::Done => {
                let connect_total = self.timeouts(cx.snapshot).connect_total;
                self.state = State::Dialing(Dial::new(cx.now, connect_total));
                Some(self.dial(cx, false).unwrap_or(Order::Queue))
            }
            Verdict::Nothing => {
                // What came before may have had its answer: then it is no mere look.
                if let State::Inspecting(inspector) = &self.state {
                    self.probes |= inspector.is_silent;
                }
                Some(self.dismiss(Cause::ClientLeft, cx))
            }
            Verdict::Wrong(flaw) => Some(self.give_up(flaw.cause(), cx)),
            Verdict::Unwanted { closes: true } => Some(self.dismiss(Cause::NoRoute, cx)),
            Verdict::Unwanted { closes: false } => Some(self.give_up(Cause::NoRoute, cx)),
        }
    }

    /// Closes a client that has no server, once it has got what it was told.
    pub(super) fn dismiss(&mut self, cause: Cause, cx: Context<'_>) -> Order {
        let spare = Spare::new(Side::Client, true, self.timeouts(cx.snapshot).half_close(), cx);
        let order = spare.order();
        self.state = State::Closing(Closing { cause, moved: [0; 2], spare: Some(spare) });
        order
    }
}
