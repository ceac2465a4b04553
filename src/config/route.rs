//! `[[listener.NAME.route]]`: which pool a client gets, by what it says first and by its address.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use toml::de::DeValue;

use super::admission;
use super::read::{At, Reader, Section, Value};
use super::value::{self, Fault, Parsed};
use super::{Check, Kind, Listener, Pool, Probe};
use crate::client_hello::{BadName, ClientHello, ServerName};

/// Routes of one listener.
const MOST_ROUTES: usize = 4096;

/// One route. Of a listener's routes the first that [takes](Self::takes) a client decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `sni`: names of which the client asks for one; without any, whatever it asks for.
    pub sni: Vec<NamePattern>,
    /// `alpn`: protocols of which the client offers one; without any, whatever it offers.
    pub alpn: Vec<String>,
    /// `source`: networks of which the client's address is in one; without any, wherever it is.
    pub source: Vec<IpNet>,
    /// `starttls`
    pub starttls: Starttls,
    /// `default`: it takes every client; it is the last route.
    pub default: bool,
    /// `pool` or `action`
    pub to: RouteTo,
}

/// What becomes of a client that a route takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTo {
    /// `pool`: an index into [`pools`](super::Config::pools).
    Pool(usize),
    /// `action = "reject"`: a TLS client is sent the alert `unrecognized_name`; any other one is reset.
    Reject,
    /// `action = "close"`: its connection is closed, by FIN.
    Close,
}

impl RouteTo {
    /// The pool, if it leads to one.
    #[must_use]
    pub fn pool(self) -> Option<usize> {
        match self {
            Self::Pool(pool) => Some(pool),
            Self::Reject | Self::Close => None,
        }
    }

    /// Values of `action`.
    pub(super) const NAMES: [(&'static str, Self); 2] = [("reject", Self::Reject), ("close", Self::Close)];
}

/// `starttls`: how clients may ask for TLS in a protocol that does not begin with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starttls {
    /// They do not ask.
    Off,
    /// By PostgreSQL's `SSLRequest`, or not at all.
    Postgres,
}

impl Starttls {
    pub(super) const NAMES: [(&'static str, Self); 2] = [("off", Self::Off), ("postgres", Self::Postgres)];
}

/// One of `sni`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NamePattern {
    /// `"db.example.com"`: this name.
    Exact(ServerName),
    /// `"*.example.com"`: every name with one more part than this one, in front of it; as in a certificate (RFC 6125,
    /// 6.4.3).
    Below(ServerName),
}

impl NamePattern {
    /// Whether it means this name.
    #[must_use]
    pub fn matches(&self, name: &ServerName) -> bool {
        match self {
            Self::Exact(exact) => exact == name,
            Self::Below(parent) => {
                name.as_str().split_once('.').is_some_and(|(_, rest)| rest == parent.as_str())
            }
        }
    }

    /// The pattern with a `*` that means this name too.
    fn wider(&self) -> Option<Self> {
        let Self::Exact(name) = self else { return None };
        let (_, parent) = name.as_str().split_once('.')?;
        ServerName::new(parent.as_bytes()).ok().map(Self::Below)
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(out),
            Self::Below(parent) => write!(out, "*.{parent}"),
        }
    }
}

/// What is known of a client when its route is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its hello; none: it does not speak TLS.
    pub hello: Option<ClientHello<'a>>,
    /// Whether it has asked for TLS before its hello.
    pub starttls: bool,
    /// Its address; one of a unix socket has none.
    pub source: Option<IpAddr>,
}

impl Route {
    /// Whether this client is its.
    #[must_use]
    pub fn takes(&self, asked: &Asked<'_>) -> bool {
        self.default
            || (self.starttls == Starttls::Postgres || !asked.starttls)
                && self.takes_source(asked.source)
                && (self.sni.is_empty() && self.alpn.is_empty()
                    || asked.hello.is_some_and(|hello| self.takes_hello(&hello)))
    }

    fn takes_source(&self, source: Option<IpAddr>) -> bool {
        let is_in = |source: IpAddr| {
            let source = source.to_canonical();
            self.source.iter().any(|network| network.contains(&source))
        };
        self.source.is_empty() || source.is_some_and(is_in)
    }

    fn takes_hello(&self, hello: &ClientHello<'_>) -> bool {
        let asks = |name: &ServerName| self.sni.iter().any(|pattern| pattern.matches(name));
        (self.sni.is_empty() || hello.server_name.as_ref().is_some_and(asks))
            && (self.alpn.is_empty() || self.alpn.iter().any(|name| hello.alpn.offers(name.as_bytes())))
    }

    /// Whether it looks at what a client says.
    #[must_use]
    pub fn needs_hello(&self) -> bool {
        !self.sni.is_empty() || !self.alpn.is_empty() || self.starttls != Starttls::Off
    }

    /// Whether it takes the same clients, wherever they are led.
    #[must_use]
    pub fn takes_as(&self, other: &Self) -> bool {
        let Self { sni, alpn, source, starttls, default, to: _ } = self;
        (sni, alpn, source) == (&other.sni, &other.alpn, &other.source)
            && (*starttls, *default) == (other.starttls, other.default)
    }

    /// Whether it takes every client that the other one does, whatever names they ask for.
    fn is_as_open_as(&self, other: &Self) -> bool {
        (self.starttls == Starttls::Postgres || other.starttls == Starttls::Off)
            && (self.alpn.is_empty() || self.alpn == other.alpn)
            && (self.source.is_empty() || self.source == other.source)
    }
}

/// Whom it takes, in short: of each list the first, and whether there are more.
impl fmt::Display for Route {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = "";
        let mut part = |key: &str, first: Option<&dyn fmt::Display>, count: usize| {
            let Some(first) = first else { return Ok(()) };
            let more = if count > 1 { ",..." } else { "" };
            write!(out, "{}{key}={first}{more}", std::mem::replace(&mut before, " "))
        };
        part("sni", self.sni.first().map(|name| name as _), self.sni.len())?;
        part("alpn", self.alpn.first().map(|name| name as _), self.alpn.len())?;
        part("source", self.source.first().map(|network| network as _), self.source.len())?;
        if self.default { out.write_str("default") } else { Ok(()) }
    }
}

/// A route whose pool is a name still.
pub(super) struct DraftRoute {
    route: Route,
    /// Where it stands.
    at: At,
    /// Where each of its `sni` does.
    sni_at: Vec<At>,
    pool: Option<(String, At)>,
}

/// Routes by the names that they are about.
#[derive(Default)]
struct ByName<'r>(HashMap<NamePattern, Vec<(usize, &'r Route)>>);

impl<'r> ByName<'r> {
    /// The number of a route that takes all clients which ask for these names and would come as far as `route`.
    fn before(&self, route: &Route, pattern: &NamePattern) -> Option<usize> {
        let own = [Some(*pattern), pattern.wider()];
        let mut others = own.iter().flatten().filter_map(|pattern| self.0.get(pattern)).flatten();
        others.find(|(_, other)| other.is_as_open_as(route)).map(|(number, _)| *number)
    }

    fn add(&mut self, number: usize, route: &'r Route) {
        for pattern in &route.sni {
            self.0.entry(*pattern).or_default().push((number, route));
        }
    }
}

impl Reader {
    /// `server_speaks_first` and `max_client_hello` of a listener, and its routes.
    pub(super) fn routing(&mut self, section: &Section<'_>, listener: &mut Listener) -> Vec<DraftRoute> {
        if let Some(value) = section.keys.get("server_speaks_first") {
            self.set(&mut listener.server_speaks_first, value, value::boolean);
        }
        if let Some(value) = section.keys.get("max_client_hello") {
            let size = |v: &DeValue<'_>| value::size(v, 1 << 10..=32 << 10, "from 1KiB to 32KiB");
            self.set(&mut listener.max_client_hello, value, size);
        }
        let routes = section.keys.get("route").map_or_else(Vec::new, |value| self.routes(section, value));
        self.check_routing(section, listener.server_speaks_first, &routes);
        routes
    }

    /// What a listener's routes say together with its other keys.
    fn check_routing(&mut self, section: &Section<'_>, server_speaks_first: bool, routes: &[DraftRoute]) {
        let reads = routes.iter().find(|draft| draft.route.needs_hello());
        if let (Some(draft), true) = (reads, server_speaks_first) {
            let fault = Fault::new("this route waits for the client, and `server_speaks_first` is true");
            let help = "a client that waits for its server says nothing that a route could look at: remove `sni`, \
                `alpn` and `starttls`, or write server_speaks_first = false";
            self.problem(draft.at, fault.help(help));
        }
        if let (true, Some(value)) = (section.keys.contains_key("route"), section.keys.get("pool")) {
            let fault = Fault::new(format!("[{}] has routes and a `pool` beside them", section.path));
            let help = "write the pool in a last route: [[listener.NAME.route]] with default = true";
            self.problem(self.at(value.span().start), fault.help(help));
        }
    }

    /// A client that waits for its server, and a listener that waits for its client: neither would ever begin.
    pub(super) fn check_who_waits(&mut self, at: At, listener: &Listener, pools: &[Pool]) {
        if listener.server_speaks_first || !listener.needs_hello(pools) {
            return;
        }
        let speaks = |pool: &Pool| match &pool.check {
            Check::Own(Probe { kind: Kind::Mysql, port: None, .. }) => Some("MySQL"),
            Check::Own(Probe { kind: Kind::Smtp, port: None, .. }) => Some("SMTP"),
            _ => None,
        };
        let mut all = listener.pools().map(|pool| &pools[pool]);
        if let Some((name, protocol)) = all.find_map(|pool| Some((&pool.name, speaks(pool)?))) {
            let message = format!(
                "listener {} waits for its clients, and those of pool {name} wait for their server: it speaks \
                 {protocol}, as its check says",
                listener.name
            );
            let speaks_first = "write server_speaks_first = true";
            let waiting = listener.pools().map(|pool| &pools[pool]).find(|pool| pool.needs_hello());
            let help = match waiting.filter(|_| !listener.routes.iter().any(Route::needs_hello)) {
                Some(Pool { name, .. }) => format!(
                    "{speaks_first}, or take out of pool {name} what goes by the client's hello: `authority` and `alpn` \
                     in proxy_tlvs, `balance = \"sni\"`"
                ),
                None => format!("{speaks_first}, and routes by `source` only"),
            };
            self.problem(at, Fault::new(message).help(help));
        }
    }

    fn routes(&mut self, section: &Section<'_>, value: &Value<'_>) -> Vec<DraftRoute> {
        let path = format!("{}.route", section.path);
        if value.get_ref().is_table() {
            let fault = Fault::new(format!("[{path}] is one table where there may be many"));
            let help = format!("write it in double brackets: [[{path}]]");
            self.problem(self.at(value.span().start), fault.help(help));
        }
        let one = std::slice::from_ref(value);
        let items = if value.get_ref().is_table() {
            one
        } else {
            self.list(value, "an array of routes: [{ default = true, pool = \"NAME\" }]")
        };
        if items.len() > MOST_ROUTES {
            let message = format!("there are {} routes, and {MOST_ROUTES} is the most", items.len());
            self.problem(self.at(value.span().start), Fault::new(message));
        }
        let mut routes = Vec::new();
        for item in items {
            let at = self.at(item.span().start);
            let DeValue::Table(keys) = item.get_ref() else {
                let expected = "a route: { default = true, pool = \"NAME\" }";
                self.problem(at, Fault::mismatch(expected, item.get_ref()));
                continue;
            };
            let section = Section { kind: "listener.NAME.route", path: path.clone(), at, keys };
            routes.extend(self.route(&section));
        }
        self.check_order(&routes);
        routes
    }

    fn route(&mut self, section: &Section<'_>) -> Option<DraftRoute> {
        let (mut sni, mut sni_at) = (Vec::new(), Vec::new());
        let (mut alpn, mut source) = (Vec::new(), Vec::new());
        let (mut starttls, mut default, mut action, mut pool) = (Starttls::Off, false, None, None);
        for (key, value) in section.keys {
            let at = self.at(value.span().start);
            match key.get_ref().as_ref() {
                "sni" => {
                    for item in self.list(value, "an array of names such as [\"db.example.com\"]") {
                        if let Some(name) = self.take(item, |item| once(pattern(item)?, &sni)) {
                            sni.push(name);
                            sni_at.push(self.at(item.span().start));
                        }
                    }
                }
                "alpn" => {
                    for item in self.list(value, "an array of protocols such as [\"h2\"]") {
                        alpn.extend(self.take(item, |item| once(protocol(item)?, &alpn)));
                    }
                }
                "source" => {
                    for item in self.list(value, "an array of networks such as [\"10.0.0.0/8\"]") {
                        source.extend(self.take(item, |item| once(network(item)?, &source)));
                    }
                }
                "starttls" => self.set(&mut starttls, value, |v| value::choice(v, &Starttls::NAMES, &[])),
                "default" => self.set(&mut default, value, value::boolean),
                "action" => action = self.take(value, |v| value::choice(v, &RouteTo::NAMES, &[])),
                "pool" => pool = self.take(value, value::text).map(|name| (name, at)),
                _ => self.unread(section, key, value),
            }
        }
        self.check_conditions(section, default);
        let has = |key| section.keys.contains_key(key);
        if has("pool") == has("action") {
            let what = if has("pool") { "both `pool` and `action`" } else { "neither `pool` nor `action`" };
            let fault = Fault::new(format!("this route has {what}"));
            self.missing(section.at, fault.help("write pool = \"NAME\" or action = \"reject\""));
            return None;
        }
        let to = action.unwrap_or(RouteTo::Reject);
        let route = Route { sni, alpn, source, starttls, default, to };
        (action.is_some() || pool.is_some()).then_some(DraftRoute { route, at: section.at, sni_at, pool })
    }

    /// A route that takes everybody says so, and one that says so has no conditions.
    fn check_conditions(&mut self, section: &Section<'_>, default: bool) {
        let condition = ["sni", "alpn", "source"].into_iter().find_map(|key| section.keys.get_key_value(key));
        match condition {
            Some((key, value)) if default => {
                let fault = Fault::new(format!("the default route has `{}`", key.get_ref()));
                let help = "the default route takes whoever is left: remove it, or `default`";
                self.problem(self.at(value.span().start), fault.help(help));
            }
            None if !default => {
                let fault = Fault::new("this route would take every client");
                let help = "write sni = [\"NAME\"], alpn or source, or default = true if that is meant";
                self.missing(section.at, fault.help(help));
            }
            _ => {}
        }
    }

    /// Every route, and every name of one, must be one that a client can get to.
    fn check_order(&mut self, routes: &[DraftRoute]) {
        let mut by_name = ByName::default();
        let mut nameless: Vec<(usize, &Route)> = Vec::new();
        let mut default = None;
        for (number, DraftRoute { route, at, sni_at, .. }) in (1..).zip(routes) {
            let unreached = |by| {
                let fault = Fault::new(format!("no client comes as far as this route: route {by} takes it"));
                fault.help("the first route that takes a client decides: put the narrower one first")
            };
            let before = nameless.iter().find(|(_, other)| other.is_as_open_as(route));
            if let Some(by) = default.or_else(|| before.map(|(by, _)| *by)) {
                self.problem(*at, unreached(by));
                continue;
            }
            for (pattern, at) in route.sni.iter().zip(sni_at) {
                if let Some(by) = by_name.before(route, pattern) {
                    let fault = Fault::new(format!("no client gets here by {pattern}: route {by} takes it"));
                    let help = "the first route that takes a client decides: put the narrower one first";
                    self.problem(*at, fault.help(help));
                }
            }
            by_name.add(number, route);
            if route.default {
                default = Some(number);
            } else if route.sni.is_empty() {
                nameless.push((number, route));
            }
        }
    }

    /// Finds the pools that routes name with `find`. The index is that of the listener's pool: where its last route that has
    /// one leads.
    pub(super) fn join_routes(
        &mut self,
        drafts: Vec<DraftRoute>,
        mut find: impl FnMut(&mut Self, &str, At) -> Option<usize>,
    ) -> (Vec<Route>, Option<usize>) {
        let (first, mut last, mut is_whole) = (drafts.first().map(|draft| draft.at), None, true);
        let mut routes = Vec::new();
        for DraftRoute { mut route, pool, .. } in drafts {
            if let Some((name, at)) = pool {
                let found = find(self, &name, at);
                is_whole &= found.is_some();
                route.to = found.map_or(route.to, RouteTo::Pool);
                last = found.or(last);
            }
            routes.push(route);
        }
        if let (Some(at), None, true) = (first, last, is_whole) {
            let fault = Fault::new("no route of this listener leads to a pool");
            self.problem(at, fault.help("write pool = \"NAME\" in one of them"));
        }
        (routes, last)
    }
}

/// What is not among the others yet.
fn once<T: PartialEq + fmt::Display>(item: T, others: &[T]) -> Parsed<T> {
    if others.contains(&item) {
        return Err(Fault::new(format!("{:?} is in the list twice", item.to_string())));
    }
    Ok(item)
}

fn network(value: &DeValue<'_>) -> Parsed<IpNet> {
    admission::network(&value::text(value)?)
}

/// RFC 7301, 3.1.
fn protocol(value: &DeValue<'_>) -> Parsed<String> {
    let text = value::text(value)?;
    if !(1..=255).contains(&text.len()) {
        let fault = Fault::new(format!("{text:?} is not the name of a protocol"));
        return Err(fault.help("it has 1 to 255 bytes, such as \"h2\", \"http/1.1\" or \"postgresql\""));
    }
    Ok(text)
}

fn pattern(value: &DeValue<'_>) -> Parsed<NamePattern> {
    let text = value::text(value)?;
    let (make, name): (fn(ServerName) -> NamePattern, _) = match text.strip_prefix("*.") {
        Some(parent) => (NamePattern::Below, parent),
        None => (NamePattern::Exact, text.as_str()),
    };
    ServerName::new(name.as_bytes()).map(make).map_err(|bad| {
        let fault = Fault::new(format!("{text:?} is not a name that a client can ask for: it {bad}"));
        match bad {
            BadName::Byte(b'*') if text == "*" => {
                fault.help("for every client write default = true instead of `sni`, in the last route")
            }
            BadName::Byte(b'*') => fault.help(
                "a `*` stands for one whole part at the beginning: \"*.example.com\" is a.example.com, not a.b.example.com",
            ),
            BadName::Byte(byte) if !byte.is_ascii() => fault.help("write it as DNS has it: \"xn--…\""),
            BadName::Byte(b':' | b'/') => fault.help("write the name alone, without a port or a path"),
            BadName::Address => fault.help("clients name hosts only; `source` is about their own addresses"),
            _ => fault,
        }
    })
}
