//! Which connections a [`Filter`] means. Pure.

use std::net::IpAddr;

use ipnet::IpNet;

use super::model::{Connection, Filter, Refusal, RefusalKind};

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
    /// A number or an address that is none.
    pub fn new(filter: &Filter) -> Result<Self, Refusal> {
        let (pool, server) = match filter.server.as_deref().map(|name| (name, name.split_once('/'))) {
            Some((_, Some((pool, server)))) => {
                if filter.pool.as_ref().is_some_and(|other| other != pool) {
                    return Err(refuse(
                        "`pool` and `server` name different pools".to_owned(),
                        "give one of them",
                    ));
                }
                (Some(pool.to_owned()), Some(server.to_owned()))
            }
            Some((server, None)) => (filter.pool.clone(), Some(server.to_owned())),
            None => (filter.pool.clone(), None),
        };
        let id = filter.id.as_deref().map(|id| {
            u64::from_str_radix(id, 16).map_err(|_| {
                refuse(
                    format!("`id` {id:?} is no connection's number"),
                    "write it as the access log does: hexadecimal digits",
                )
            })
        });
        Ok(Self {
            id: id.transpose()?,
            listener: filter.listener.clone(),
            pool,
            server,
            source: filter.source.as_deref().map(source).transpose()?,
            older_than_ms: filter.older_than_s.map(|seconds| seconds.saturating_mul(1_000)),
            idle_for_ms: filter.idle_for_s.map(|seconds| seconds.saturating_mul(1_000)),
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
            && same(&self.server, connection.server.as_deref())
            && self.source.is_none_or(|net| {
                connection.client.is_some_and(|client| net.contains(&canonical(client.ip())))
            })
            && over(self.older_than_ms, Some(connection.age_ms))
            && over(self.idle_for_ms, connection.idle_ms)
    }
}

/// An IPv4 client of an IPv6 socket is an IPv4 client.
fn canonical(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

fn source(text: &str) -> Result<IpNet, Refusal> {
    let address = || text.parse::<IpAddr>().ok().map(|ip| IpNet::from(canonical(ip)));
    let net = text.parse::<IpNet>().ok().or_else(address);
    net.ok_or_else(|| {
        refuse(
            format!("`source` {text:?} is no address and no network"),
            "write 10.1.2.3, 10.0.0.0/8 or fd00::/8",
        )
    })
}

fn refuse(message: String, help: &str) -> Refusal {
    Refusal { kind: RefusalKind::Invalid, message, help: Some(help.to_owned()) }
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
        assert!(has(&with(|f| (f.older_than_s, f.idle_for_s) = (Some(9), Some(1)))));
        assert!(!has(&with(|f| f.older_than_s = Some(10))));
        assert!(!has(&with(|f| (f.older_than_s, f.idle_for_s) = (Some(9), Some(2)))));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        let some = |text: &str| Some(text.to_owned());
        for (filter, part) in [
            (with(|f| f.id = some("xyz")), "no connection's number"),
            (with(|f| f.source = some("10.0.0.0/33")), "no address and no network"),
            (with(|f| (f.pool, f.server) = (some("q"), some("p/a"))), "different pools"),
        ] {
            let refusal = Selection::new(&filter).expect_err("it makes no sense");
            assert!(refusal.message.contains(part) && refusal.help.is_some(), "{refusal}");
        }
    }
}
