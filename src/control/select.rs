//! Which connections are asked for: in a query, as it is typed, and what a [`Filter`] means. Pure.

use std::fmt;
use std::net::IpAddr;

use form_urlencoded::Serializer;
use ipnet::IpNet;
use serde_json::{Map, Value};

use super::model::{Connection, Filter, Question, Refusal, RefusalKind};
use crate::config;

/// A query for connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Which.
    pub filter: Filter,
    /// With what the kernel says of both sides.
    pub paths: bool,
    /// At most so many.
    pub limit: Option<u64>,
}

impl Query {
    /// Reads what stands behind the `?`.
    ///
    /// # Errors
    /// What makes no sense, and what would.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut given = conditions(form_urlencoded::parse(text.as_bytes()).into_owned())?;
        let mut own = |name| given.remove(name).and_then(|value| value.as_str().map(str::to_owned));
        let (paths, limit) = (own("paths"), own("limit"));
        let filter = named(given)
            .map_err(|refusal| refusal.help("a query takes `paths` and `limit` beside the conditions"))?;
        Selection::new(&filter)?;
        Ok(Self {
            filter,
            paths: read("paths", paths.as_deref(), "true or false", |text| text.parse().ok())?
                .unwrap_or(false),
            limit: read("limit", limit.as_deref(), "a whole number", |text| text.parse().ok())?,
        })
    }
}

impl fmt::Display for Query {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Serializer::new(String::new());
        if let Ok(Value::Object(conditions)) = serde_json::to_value(&self.filter) {
            let given = conditions.iter().filter_map(|(name, value)| Some((name, value.as_str()?)));
            text.extend_pairs(given);
        }
        if self.paths {
            text.append_pair("paths", "true");
        }
        if let Some(limit) = self.limit {
            text.append_pair("limit", &limit.to_string());
        }
        out.write_str(&text.finish())
    }
}

impl Question {
    /// Reads what stands behind the `?`.
    ///
    /// # Errors
    /// What makes no sense, and what would.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut given = conditions(form_urlencoded::parse(text.as_bytes()).into_owned())?;
        let mut own = |name| given.remove(name).and_then(|value| value.as_str().map(str::to_owned));
        let (listener, source, peer) = (own("listener"), own("source"), own("peer"));
        let (sni, alpn, starttls) = (own("sni"), own("alpn"), own("starttls"));
        if let Some(name) = given.keys().next() {
            return Err(invalid(format!("unknown parameter `{name}`"))
                .help("a question takes `listener`, `source`, `peer`, `sni`, `alpn` and `starttls`"));
        }
        let source = read("source", source.as_deref(), "an IP address", |text| text.parse().ok())?;
        let peer = read("peer", peer.as_deref(), "an IP address", |text| text.parse().ok())?;
        let alpn = alpn.iter().flat_map(|list| list.split(',')).map(str::to_owned).collect();
        let starttls = read("starttls", starttls.as_deref(), "true or false", |text| text.parse().ok())?;
        Ok(Self { listener, source, peer, sni, alpn, starttls: starttls.unwrap_or(false) })
    }
}

impl fmt::Display for Question {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Serializer::new(String::new());
        let source = self.source.map(|source| source.to_string());
        text.extend_pairs(self.listener.as_ref().map(|name| ("listener", name)));
        text.extend_pairs(source.map(|source| ("source", source)));
        text.extend_pairs(self.peer.map(|peer| ("peer", peer.to_string())));
        text.extend_pairs(self.sni.as_ref().map(|name| ("sni", name)));
        text.extend_pairs((!self.alpn.is_empty()).then(|| ("alpn", self.alpn.join(","))));
        text.extend_pairs(self.starttls.then_some(("starttls", "true")));
        out.write_str(&text.finish())
    }
}

/// The filter that was typed: `listener=web idle_for=60s`.
///
/// # Errors
/// What makes no sense, and what would.
pub fn typed(text: &str) -> Result<Filter, Refusal> {
    let pair = |word: &str| {
        let pair = word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        pair.ok_or_else(|| invalid(format!("{word}: write a condition as listener=web")))
    };
    let pairs: Vec<_> = text.split_whitespace().map(pair).collect::<Result<_, _>>()?;
    let filter = named(conditions(pairs)?)?;
    Selection::new(&filter).map(|_| filter)
}

fn conditions(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Map<String, Value>, Refusal> {
    let mut conditions = Map::new();
    for (name, value) in pairs {
        if conditions.contains_key(&name) {
            return Err(invalid(format!("`{name}` is given twice")));
        }
        conditions.insert(name, value.into());
    }
    Ok(conditions)
}

fn named(conditions: Map<String, Value>) -> Result<Filter, Refusal> {
    serde_json::from_value(conditions.into()).map_err(|error| invalid(error.to_string()))
}

/// A filter that makes sense.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    id: Option<u64>,
    listener: Option<String>,
    pool: Option<String>,
    server: Option<String>,
    source: Option<IpNet>,
    older_than_ms: Option<u64>,
    idle_for_ms: Option<u64>,
}

impl Selection {
    /// Reads the texts of a filter.
    ///
    /// # Errors
    /// A number, an address or a time that is none.
    pub fn new(filter: &Filter) -> Result<Self, Refusal> {
        let Filter { id, listener, pool, server, source, older_than, idle_for } = filter;
        let (of_pool, server) = match server.as_deref().map(|name| name.split_once('/').ok_or(name)) {
            Some(Ok((of_pool, server))) => (Some(of_pool), Some(server)),
            Some(Err(server)) => (pool.as_deref(), Some(server)),
            None => (pool.as_deref(), None),
        };
        if pool.is_some() && pool.as_deref() != of_pool {
            return Err(invalid("`pool` and `server` name different pools").help("give one of them"));
        }
        // An IPv4 client of an IPv6 socket is an IPv4 client.
        let network = |text: &str| {
            let address = || text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical().into());
            text.parse().ok().or_else(address)
        };
        let number = |text: &str| u64::from_str_radix(text, 16).ok();
        let time = |text: &str| u64::try_from(config::duration(text).ok()?.as_millis()).ok();
        const TIME: &str = "a duration such as \"60s\" or \"1h\"";
        Ok(Self {
            id: read("id", id.as_deref(), "hexadecimal digits, as the access log has them", number)?,
            listener: listener.clone(),
            pool: of_pool.map(str::to_owned),
            server: server.map(str::to_owned),
            source: whole(read("source", source.as_deref(), "10.1.2.3, 10.0.0.0/8 or fd00::/8", network)?)?,
            older_than_ms: read("older_than", older_than.as_deref(), TIME, time)?,
            idle_for_ms: read("idle_for", idle_for.as_deref(), TIME, time)?,
        })
    }

    /// The listener that is asked for.
    #[must_use]
    pub fn listener(&self) -> Option<&str> {
        self.listener.as_deref()
    }

    /// The pool that is asked for, and the server.
    #[must_use]
    pub fn server(&self) -> (Option<&str>, Option<&str>) {
        (self.pool.as_deref(), self.server.as_deref())
    }

    /// Whether it means this one.
    #[must_use]
    pub fn has(&self, connection: &Connection) -> bool {
        let same = |wanted: &Option<String>, is: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| Some(wanted) == is)
        };
        let over =
            |limit: Option<u64>, ms: Option<u64>| limit.is_none_or(|limit| ms.is_some_and(|ms| ms > limit));
        self.id.is_none_or(|id| u64::from_str_radix(&connection.id, 16) == Ok(id))
            && same(&self.listener, Some(&connection.listener))
            && same(&self.pool, Some(&connection.pool))
            && (same(&self.server, connection.server.as_deref())
                || same(&self.server, connection.server.as_deref().map(config::given_name)))
            && self.source.is_none_or(|net| {
                connection.client.is_some_and(|client| net.contains(&client.ip().to_canonical()))
            })
            && over(self.older_than_ms, Some(connection.age_ms))
            && over(self.idle_for_ms, connection.idle_ms)
    }
}

/// Refuses a network that is written as an address in it: which of the two is meant?
fn whole(network: Option<IpNet>) -> Result<Option<IpNet>, Refusal> {
    match network.filter(|network| *network != network.trunc()) {
        None => Ok(network),
        Some(odd) => Err(invalid(format!("`source`: \"{odd}\" has bits set behind its prefix")).help(
            format!("write \"{}\" for the network, or \"{}\" for the one address", odd.trunc(), odd.addr()),
        )),
    }
}

/// What a text says, if one is given.
fn read<T>(
    name: &str,
    text: Option<&str>,
    expected: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, Refusal> {
    let refusal = |text| invalid(format!("`{name}`: expected {expected}, found {text:?}"));
    text.map(|text| read(text).ok_or_else(|| refusal(text))).transpose()
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::model::{Bytes, SessionState};

    fn connection() -> Connection {
        Connection {
            id: "1f".to_owned(),
            listener: "l".to_owned(),
            client: Some("[::ffff:10.1.2.3]:999".parse().expect("an address")),
            pool: "p".to_owned(),
            server: Some("a".to_owned()),
            state: SessionState::Relaying,
            age_ms: 10_000,
            idle_ms: Some(2_000),
            bytes: Bytes::default(),
            client_path: None,
            server_path: None,
            worker: 0,
            engine: "mio".to_owned(),
        }
    }

    fn has(filter: &Filter) -> bool {
        Selection::new(filter).expect("it makes sense").has(&connection())
    }

    fn with(set: impl Fn(&mut Filter)) -> Filter {
        let mut filter = Filter::default();
        set(&mut filter);
        filter
    }

    #[test]
    fn a_connection_must_fit_every_condition() {
        assert!(has(&Filter::default()));
        let some = |text: &str| Some(text.to_owned());
        type Set = Box<dyn Fn(&mut Filter, &str)>;
        let cases: [(Set, &[&str], &[&str]); 5] = [
            (Box::new(move |f, t| f.id = some(t)), &["1f", "1F", "001f"], &["1e"]),
            (Box::new(move |f, t| f.listener = some(t)), &["l"], &["m"]),
            (Box::new(move |f, t| f.pool = some(t)), &["p"], &["q"]),
            (Box::new(move |f, t| f.server = some(t)), &["a", "p/a"], &["b", "q/a", "p/b"]),
            (
                Box::new(move |f, t| f.source = some(t)),
                &["10.1.2.3", "10.0.0.0/8", "::ffff:10.1.2.3"],
                &["10.1.2.4", "fd00::/8"],
            ),
        ];
        for (set, right, wrong) in cases {
            assert!(right.iter().all(|text| has(&with(|filter| set(filter, text)))), "{right:?}");
            assert!(wrong.iter().all(|text| !has(&with(|filter| set(filter, text)))), "{wrong:?}");
        }
        let times = |older: &str, idle: &str| {
            has(&with(|f| (f.older_than, f.idle_for) = (Some(older.to_owned()), Some(idle.to_owned()))))
        };
        assert!(times("9s", "1s") && !times("10s", "1s") && !times("9s", "2s"));
    }

    #[test]
    fn every_condition_has_its_name_in_a_query_and_as_it_is_typed() {
        let some = |text: &str| Some(text.to_owned());
        let filter = Filter {
            id: some("1f"),
            listener: some("a"),
            pool: some("p"),
            server: some("p/s"),
            source: some("10.0.0.0/8"),
            older_than: some("1h"),
            idle_for: some("500ms"),
        };
        let query = Query { filter: filter.clone(), paths: true, limit: Some(3) };
        let text = query.to_string();
        assert_eq!(
            text,
            "id=1f&idle_for=500ms&listener=a&older_than=1h&pool=p&server=p%2Fs&source=10.0.0.0%2F8&paths=true&limit=3"
        );
        assert_eq!(Query::parse(&text), Ok(query));
        assert_eq!(Query::parse(""), Ok(Query::default()));
        assert_eq!(Query::default().to_string(), "");
        let words = "id=1f listener=a  pool=p server=p/s source=10.0.0.0/8 older_than=1h idle_for=500ms ";
        assert_eq!(typed(words), Ok(filter));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (text, part) in [
            ("colour=red", "unknown field `colour`, expected one of `id`, `listener`"),
            ("limit=-1", "`limit`: expected a whole number, found \"-1\""),
            ("paths=yes", "`paths`: expected true or false"),
            ("pool=a&pool=b", "`pool` is given twice"),
            ("id=xyz", "`id`: expected hexadecimal digits, as the access log has them, found \"xyz\""),
            ("source=127.0.0.1/8", "`source`: \"127.0.0.1/8\" has bits set behind its prefix"),
            ("source=10.0.0.0/33", "`source`: expected 10.1.2.3, 10.0.0.0/8"),
            ("older_than=10", "`older_than`: expected a duration such as \"60s\" or \"1h\", found \"10\""),
            ("idle_for=0s", "`idle_for`: expected a duration"),
            ("pool=q&server=p/a", "different pools"),
        ] {
            let refusal = Query::parse(text).expect_err("it makes no sense");
            assert!(refusal.message.contains(part), "{text}: {refusal}");
        }
        let refusal = typed("web").expect_err("it is no condition");
        assert_eq!(refusal.message, "web: write a condition as listener=web");
    }
}
