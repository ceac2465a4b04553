//! The line of HAProxy's `option tcplog`, for what was made to read those:
//! `%ci:%cp [%t] %ft %b/%s %Tw/%Tc/%Tt %B %ts %ac/%fc/%bc/%sc/%rc %sq/%bq` ("TCP log format" in its manual). Places in queues
//! (`%sq/%bq`) are not kept, and told as 0.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::Record;
use super::stamp::{Now, timestamp};
use crate::session::Cause;
use crate::snapshot::{Limit, Listener, ListenerId, ServerId, Snapshot};

/// Writes lines as HAProxy does: in local time, with counts as they are when the line is written.
#[derive(Debug)]
pub(super) struct Tcplog {
    names: Arc<Snapshot>,
    /// The servers of each pool.
    members: Vec<Vec<ServerId>>,
    zone: TimeZone,
}

impl Tcplog {
    pub(super) fn new(names: &Arc<Snapshot>, zone: TimeZone) -> Self {
        let mut tcplog = Self { names: Arc::clone(names), members: Vec::new(), zone };
        tcplog.set_names(names);
        tcplog
    }

    pub(super) fn set_names(&mut self, names: &Arc<Snapshot>) {
        self.names = Arc::clone(names);
        self.members = vec![Vec::new(); names.pools.len()];
        for (id, server) in (0..).map(ServerId).zip(&names.servers) {
            self.members[usize::from(server.pool.0)].push(id);
        }
    }

    /// Appends the line of a connection that has ended, without its end.
    pub(super) fn write(&self, out: &mut Vec<u8>, record: &Record, now: Now) {
        let listener = self.names.listener(record.listener);
        let mut write = || {
            write_client(out, record.client, record.listener)?;
            let accepted = self.zone.to_datetime(timestamp(now.wall_ms_at(record.began)));
            write!(out, " [{}] ", accepted.strftime("%d/%b/%Y:%H:%M:%S.%3f"))?;
            self.write_path(out, listener, record)?;
            let hap_ts = record.cause.map_or("--", Cause::hap_ts);
            write!(out, " {} {hap_ts} ", record.bytes_out)?;
            self.write_counts(out, listener, record)
        };
        write().expect("a Vec takes every byte");
    }

    /// Where it went, and how long each step took: in the queue, from there to a connection, in all.
    fn write_path(&self, out: &mut Vec<u8>, listener: &Listener, record: &Record) -> io::Result<()> {
        // HAProxy names the frontend where there is no backend.
        let pool = record.pool(&self.names).map_or(&listener.name, |pool| &self.names.pool(pool).name);
        let (server, queue_ms) = match record.server {
            Some(id) => (&*self.names.server(id).name, i64::from(record.queue_ms)),
            None if record.queue_ms > 0 => ("<NOSRV>", i64::from(record.queue_ms)),
            None => ("<NOSRV>", -1),
        };
        let connect_ms = record.connect_ms.map_or(-1, |ms| i64::from(ms.saturating_sub(record.queue_ms)));
        let total_ms = record.ended.0.saturating_sub(record.began.0);
        write!(out, "{} {pool}/{server} {queue_ms}/{connect_ms}/{total_ms}", listener.name)
    }

    /// How many connections there are in all, at the listener, the pool and the server; further tries; queues. HAProxy
    /// counts one that ends as long as its line is not written, but no longer at its pool and server.
    fn write_counts(&self, out: &mut Vec<u8>, listener: &Listener, record: &Record) -> io::Result<()> {
        let with_this = |limit: &Limit| u64::from(limit.count()) + 1;
        let of_server = |id: &ServerId| u64::from(self.names.server(*id).connections.count());
        let [all, of_listener] = [&self.names.connections, &listener.connections].map(with_this);
        let members = record.pool(&self.names).map(|pool| &self.members[usize::from(pool.0)]);
        let of_pool: u64 = members.into_iter().flatten().map(of_server).sum();
        let of_server = record.server.as_ref().map_or(0, of_server);
        let sign = if record.redispatched { "+" } else { "" };
        let retries = record.tries.saturating_sub(1);
        write!(out, "{all}/{of_listener}/{of_pool}/{of_server}/{sign}{retries} 0/0")
    }
}

/// HAProxy writes no brackets around an IPv6 address, and a unix socket with the number of its listener from 1.
fn write_client(out: &mut Vec<u8>, client: Option<SocketAddr>, listener: ListenerId) -> io::Result<()> {
    match client {
        Some(address) => write!(out, "{}:{}", address.ip(), address.port()),
        None => write!(out, "unix:{}", u32::from(listener.0) + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::tests::{names, names_of, rejected, relayed};
    use crate::session::Heard;
    use crate::snapshot::PoolId;
    use crate::tick::Tick;

    const NOW: Now = Now { tick: Tick(10_000), wall_ms: 1_795_419_482_000 };

    fn line_in(zone: TimeZone, names: &Arc<Snapshot>, record: &Record) -> String {
        let mut out = Vec::new();
        Tcplog::new(names, zone).write(&mut out, record, NOW);
        String::from_utf8(out).unwrap()
    }

    fn line(record: &Record) -> String {
        line_in(TimeZone::UTC, &names(), record)
    }

    #[test]
    fn a_line_has_the_fields_of_haproxy() {
        let served = Record { bytes_out: 4711, ..relayed() };
        let expected =
            "192.0.2.7:40001 [23/Nov/2026:07:37:59.000] web app/beta 0/3/1123 4711 -- 1/1/0/0/+1 0/0";
        assert_eq!(line(&served), expected);
        let at_first = Record { tries: 1, redispatched: false, ..served.clone() };
        assert!(line(&at_first).ends_with(" 4711 -- 1/1/0/0/0 0/0"));
        let by_the_same = Record { tries: 3, redispatched: false, cause: Some(Cause::ServerReset), ..served };
        assert!(line(&by_the_same).ends_with(" 4711 SD 1/1/0/0/2 0/0"));
    }

    #[test]
    fn what_did_not_happen_is_minus_one() {
        let expected =
            "2001:db8::1:40002 [23/Nov/2026:07:38:02.000] web app/<NOSRV> -1/-1/0 0 PC 1/1/0/0/0 0/0";
        assert_eq!(line(&rejected()), expected);
        let refused =
            Record { connect_ms: None, cause: Some(Cause::ConnectRefused), bytes_out: 0, ..relayed() };
        assert!(line(&refused).contains(" web app/beta 0/-1/1123 0 SC 1/1/0/0/+1 "));
        assert!(line(&Record { client: None, ..relayed() }).starts_with("unix:1 ["));
    }

    #[test]
    fn the_pool_is_the_one_that_a_route_leads_to() {
        let names = names_of(
            "[listener.web]\nbind = [\"127.0.0.1:0\"]\n[[listener.web.route]]\nsni = [\"a.test\"]\npool = \"one\"\n\
             [[listener.web.route]]\nsni = [\"b.test\"]\npool = \"two\"\n\
             [pool.one]\nserver = [{ name = \"s\", addr = \"127.0.0.1:9001\" }]\n\
             [pool.two]\nserver = [{ name = \"s\", addr = \"127.0.0.1:9002\" }]",
        );
        let line = |pool| {
            let heard = Heard { pool, ..Heard::default() };
            line_in(TimeZone::UTC, &names, &Record { heard: Some(heard.into()), ..rejected() })
        };
        assert!(line(Some(PoolId(0))).contains("] web one/<NOSRV> -1/-1/0 "));
        // As HAProxy has it where there is no backend.
        assert!(line(None).contains("] web web/<NOSRV> -1/-1/0 "));
    }

    #[test]
    fn counts_are_those_of_now() {
        let names = names();
        let counts = [&names.connections, &names.listeners[0].connections];
        let servers = [0, 1].map(|index| &names.servers[index].connections);
        for (limit, count) in counts.into_iter().zip([1, 4]).chain(servers.into_iter().zip([3, 2])) {
            assert!((0..count).all(|_| limit.take()));
        }
        assert!(line_in(TimeZone::UTC, &names, &relayed()).ends_with(" 2/5/5/2/+1 0/0"));
        assert!(line_in(TimeZone::UTC, &names, &rejected()).ends_with(" 2/5/5/0/0 0/0"));
    }

    #[test]
    fn the_date_is_that_of_the_accept_in_local_time() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let shown = |wall_ms: i64| {
            let mut out = Vec::new();
            let record = Record { began: Tick(0), ..relayed() };
            Tcplog::new(&names(), zone.clone()).write(&mut out, &record, Now { tick: Tick(60_000), wall_ms });
            let line = String::from_utf8(out).unwrap();
            line.split(['[', ']']).nth(1).unwrap().to_owned()
        };
        let minute = 60_000;
        assert_eq!(shown(1_795_419_482_001 + minute), "23/Nov/2026:08:38:02.001");
        assert_eq!(shown(1_774_745_999_999 + minute), "29/Mar/2026:01:59:59.999");
        assert_eq!(shown(1_774_746_000_000 + minute), "29/Mar/2026:03:00:00.000");
        assert_eq!(shown(-1 + minute), "01/Jan/1970:00:59:59.999");
    }
}
