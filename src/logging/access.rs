//! How what has become of a connection becomes a line.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::Record;
use super::stamp::{Now, Stamps};
use super::tcplog::Tcplog;
use crate::config::{AccessFormat, Field, Piece};
use crate::path::{Path, Verdict};
use crate::session::{Cause, Heard};
use crate::snapshot::{Listener, PoolId, Server, Snapshot};

/// Writes access lines.
#[derive(Debug)]
pub(super) enum AccessLines {
    /// Ours.
    Fields(Fields),
    /// HAProxy's.
    Tcplog(Tcplog),
}

impl AccessLines {
    pub(super) fn new(format: &AccessFormat, names: &Arc<Snapshot>, engines: Vec<&'static str>) -> Self {
        match format {
            AccessFormat::HaproxyTcplog => Self::Tcplog(Tcplog::new(names, TimeZone::system())),
            AccessFormat::Json => {
                Self::Fields(Fields::new(joined("{\"", "\":", ",\"", "}"), Style::Json, names, engines))
            }
            AccessFormat::Logfmt => {
                Self::Fields(Fields::new(joined("", "=", " ", ""), Style::Logfmt, names, engines))
            }
            AccessFormat::Template(template) => {
                Self::Fields(Fields::new(template.pieces().to_vec(), Style::Plain, names, engines))
            }
        }
    }

    /// Ids stand for these names from now on.
    pub(super) fn set_names(&mut self, names: &Arc<Snapshot>) {
        match self {
            Self::Fields(fields) => fields.set_names(names),
            Self::Tcplog(tcplog) => tcplog.set_names(names),
        }
    }

    /// There is one more worker, of this engine.
    pub(super) fn add_worker(&mut self, engine: &'static str) {
        match self {
            Self::Fields(fields) => fields.engines.push(engine),
            Self::Tcplog(_) => {}
        }
    }

    /// Appends the line of `record`, without its end.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, record: &Record, now: Now) {
        match self {
            Self::Fields(fields) => fields.write(out, record, now),
            Self::Tcplog(tcplog) => tcplog.write(out, record, now),
        }
    }
}

/// How values are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Json,
    Logfmt,
    /// As they are: a template has its own quotes.
    Plain,
}

/// JSON and logfmt are templates too, so that there is one way to write a line.
#[derive(Debug)]
pub(super) struct Fields {
    pieces: Vec<Piece>,
    /// What stands on both sides of a text.
    quote: &'static [u8],
    /// The same for a text of several words.
    sentence_quote: &'static [u8],
    /// What stands for a value that is not there.
    absent: &'static [u8],
    /// Listener as it is written, and the pool of who went to none by a route, by listener.
    listeners: Vec<(String, Option<PoolId>)>,
    /// As they are written, by pool.
    pools: Vec<String>,
    /// Server, its address and its pool as they are written, by server.
    servers: Vec<(String, String, String)>,
    /// By worker.
    engines: Vec<&'static str>,
    stamps: Stamps,
}

impl Fields {
    fn new(pieces: Vec<Piece>, style: Style, names: &Snapshot, engines: Vec<&'static str>) -> Self {
        let mut fields = Self {
            pieces,
            quote: if style == Style::Json { b"\"" } else { b"" },
            sentence_quote: if style == Style::Plain { b"" } else { b"\"" },
            absent: if style == Style::Json { b"null" } else { b"-" },
            listeners: Vec::new(),
            pools: Vec::new(),
            servers: Vec::new(),
            engines,
            stamps: Stamps::default(),
        };
        fields.set_names(names);
        fields
    }

    fn set_names(&mut self, names: &Snapshot) {
        let is_json = !self.quote.is_empty();
        let shown = |name: &str| {
            if is_json { serde_json::Value::from(name).to_string() } else { name.to_owned() }
        };
        let pool = |id: PoolId| shown(&names.pool(id).name);
        let listener = |it: &Listener| (shown(&it.name), it.only_pool());
        let server = |it: &Server| (shown(&it.name), shown(&it.addr.to_string()), pool(it.pool));
        self.listeners = names.listeners.iter().map(listener).collect();
        self.servers = names.servers.iter().map(server).collect();
        self.pools = names.pools.iter().map(|it| shown(&it.name)).collect();
    }

    fn write(&mut self, out: &mut Vec<u8>, record: &Record, now: Now) {
        // By index, because writing a field may change the kept stamp.
        for index in 0..self.pieces.len() {
            out.extend_from_slice(self.pieces[index].literal.as_bytes());
            if let Some(field) = self.pieces[index].field {
                self.write_field(out, field, record, now);
            }
        }
    }

    fn write_field(&mut self, out: &mut Vec<u8>, field: Field, record: &Record, now: Now) {
        let names = &self.listeners[usize::from(record.listener.0)];
        let server = record.server.map(|id| &self.servers[id.0 as usize]);
        match field {
            Field::Ts => {
                out.extend_from_slice(self.quote);
                self.stamps.write(out, now.wall_ms_at(record.ended));
                out.extend_from_slice(self.quote);
            }
            Field::Event => self.write_text(out, record.event.name()),
            Field::Id => {
                out.extend_from_slice(self.quote);
                write_hex(out, record.id);
                out.extend_from_slice(self.quote);
            }
            Field::Listener => out.extend_from_slice(names.0.as_bytes()),
            Field::Client => {
                out.extend_from_slice(self.quote);
                write_client(out, record.client);
                out.extend_from_slice(self.quote);
            }
            Field::Sni => self.write_heard(out, record, |heard| heard.sni.as_deref()),
            Field::Alpn => self.write_heard(out, record, |heard| heard.alpn.as_deref()),
            Field::Authority => self.write_heard(out, record, |heard| heard.authority.as_deref()),
            Field::UniqueId => self.write_heard(out, record, |heard| heard.unique_id.as_deref()),
            Field::VpceId => self.write_heard(out, record, |heard| heard.vpce_id.as_deref()),
            Field::Route => match record.heard.as_ref().and_then(|heard| heard.route) {
                Some(number) => write_number(out, number.get().into()),
                None => out.extend_from_slice(self.absent),
            },
            Field::Pool => {
                let by_route = record.heard.as_ref().and_then(|heard| heard.pool);
                let led_to = by_route.or(names.1).map(|id| &self.pools[usize::from(id.0)]);
                // That of the listener may be another one since a reload.
                let pool = server.map(|it| &it.2).or(led_to);
                out.extend_from_slice(pool.map_or(self.absent, |pool| pool.as_bytes()));
            }
            Field::Server => out.extend_from_slice(server.map_or(self.absent, |it| it.0.as_bytes())),
            Field::ServerAddr => out.extend_from_slice(server.map_or(self.absent, |it| it.1.as_bytes())),
            Field::Tries => write_number(out, record.tries.into()),
            Field::QueueMs => write_number(out, record.queue_ms.into()),
            Field::ConnectMs => match record.connect_ms {
                Some(ms) => write_number(out, ms.into()),
                None => out.extend_from_slice(self.absent),
            },
            Field::DurationMs => write_number(out, record.ended.0.saturating_sub(record.began.0)),
            Field::BytesIn => write_number(out, record.bytes_in),
            Field::BytesOut => write_number(out, record.bytes_out),
            Field::Cause => self.write_of_cause(out, record, Cause::name),
            Field::Closer => self.write_of_cause(out, record, Cause::closer),
            Field::HapTs => self.write_of_cause(out, record, Cause::hap_ts),
            Field::IdleClientMs => self.write_of_path(out, record.paths[0], |path| path.unheard_ms),
            Field::IdleServerMs => self.write_of_path(out, record.paths[1], |path| path.unheard_ms),
            Field::RttClientUs => self.write_of_path(out, record.paths[0], |path| path.rtt_us),
            Field::RttServerUs => self.write_of_path(out, record.paths[1], |path| path.rtt_us),
            Field::RetransClient => self.write_of_path(out, record.paths[0], |path| path.retransmits),
            Field::RetransServer => self.write_of_path(out, record.paths[1], |path| path.retransmits),
            Field::Verdict => match Verdict::of(record.paths) {
                Some(verdict) => {
                    out.extend_from_slice(self.sentence_quote);
                    write!(out, "{verdict}").expect("a Vec takes every byte");
                    out.extend_from_slice(self.sentence_quote);
                }
                None => out.extend_from_slice(self.absent),
            },
            Field::Engine => self.write_text(out, self.engines[usize::from(record.worker)]),
            Field::Worker => write_number(out, record.worker.into()),
        }
    }

    fn write_of_cause(&self, out: &mut Vec<u8>, record: &Record, word: fn(Cause) -> &'static str) {
        match record.cause {
            Some(cause) => self.write_text(out, word(cause)),
            None => out.extend_from_slice(self.absent),
        }
    }

    fn write_of_path(&self, out: &mut Vec<u8>, path: Option<Path>, number: fn(Path) -> u32) {
        match path {
            Some(path) => write_number(out, number(path).into()),
            None => out.extend_from_slice(self.absent),
        }
    }

    fn write_heard(&self, out: &mut Vec<u8>, record: &Record, text: fn(&Heard) -> Option<&str>) {
        match record.heard.as_deref().and_then(text) {
            Some(text) => self.write_text(out, text),
            None => out.extend_from_slice(self.absent),
        }
    }

    /// For our own words, and those of [`Heard`], which need no escape.
    fn write_text(&self, out: &mut Vec<u8>, text: &str) {
        out.extend_from_slice(self.quote);
        out.extend_from_slice(text.as_bytes());
        out.extend_from_slice(self.quote);
    }
}

/// All fields: `open` before the first, `next` before the others, `equals` after each name.
fn joined(open: &str, equals: &str, next: &str, close: &str) -> Vec<Piece> {
    let fields = Field::NAMES.iter().enumerate().map(|(index, &(name, field))| {
        let before = if index == 0 { open } else { next };
        Piece { literal: format!("{before}{name}{equals}"), field: Some(field) }
    });
    fields.chain([Piece { literal: close.to_owned(), field: None }]).collect()
}

fn write_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn write_hex(out: &mut Vec<u8>, number: u64) {
    for shift in (0..64).step_by(4).rev() {
        out.push(b"0123456789abcdef"[(number >> shift & 0xf) as usize]);
    }
}

fn write_client(out: &mut Vec<u8>, client: Option<SocketAddr>) {
    match client {
        None => out.extend_from_slice(b"unix"),
        Some(SocketAddr::V4(address)) => {
            for (index, octet) in address.ip().octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                write_number(out, octet.into());
            }
            out.push(b':');
            write_number(out, address.port().into());
        }
        Some(SocketAddr::V6(address)) => write!(out, "{address}").expect("a Vec takes every byte"),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use super::*;
    use crate::config::Event;
    use crate::logging::tests::{names, names_of, rejected, relayed};
    use crate::tick::Tick;

    const NOW: Now = Now { tick: Tick(10_000), wall_ms: 1_795_419_482_000 };

    fn line(format: &AccessFormat, record: &Record) -> String {
        let mut out = Vec::new();
        AccessLines::new(format, &names(), vec!["poll", "mio"]).write(&mut out, record, NOW);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_has_every_field() {
        let expected = r#"{"ts":"2026-11-23T07:38:00.123Z","event":"close","id":"00000000000000ff","listener":"web","client":"192.0.2.7:40001","sni":null,"alpn":null,"authority":null,"unique_id":null,"vpce_id":null,"route":null,"pool":"app","server":"beta","server_addr":"127.0.0.1:9002","tries":2,"queue_ms":0,"connect_ms":3,"duration_ms":1123,"bytes_in":78,"bytes_out":18446744073709551615,"cause":"done","closer":"both","hap_ts":"--","idle_client_ms":700,"idle_server_ms":0,"rtt_client_us":18000,"rtt_server_us":240,"retrans_client":40,"retrans_server":0,"verdict":"client path lossy, server path clean","engine":"mio","worker":1}"#;
        let line = line(&AccessFormat::Json, &relayed());
        assert_eq!(line, expected);
        let value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).unwrap();
        assert_eq!(value.len(), Field::NAMES.len());
        assert!(Field::NAMES.iter().all(|(name, _)| value.contains_key(*name)));
    }

    #[test]
    fn json_says_null_where_there_is_no_value() {
        let expected = r#"{"ts":"2026-11-23T07:38:02.000Z","event":"close","id":"ffffffffffffffff","listener":"web","client":"[2001:db8::1]:40002","sni":null,"alpn":null,"authority":null,"unique_id":null,"vpce_id":null,"route":null,"pool":"app","server":null,"server_addr":null,"tries":0,"queue_ms":0,"connect_ms":null,"duration_ms":0,"bytes_in":0,"bytes_out":0,"cause":"maxconn","closer":"proxy","hap_ts":"PC","idle_client_ms":null,"idle_server_ms":null,"rtt_client_us":null,"rtt_server_us":null,"retrans_client":null,"retrans_server":null,"verdict":null,"engine":"poll","worker":0}"#;
        assert_eq!(line(&AccessFormat::Json, &rejected()), expected);
    }

    #[test]
    fn logfmt_has_every_field() {
        let expected = "ts=2026-11-23T07:38:00.123Z event=close id=00000000000000ff listener=web \
                        client=192.0.2.7:40001 sni=- alpn=- authority=- unique_id=- vpce_id=- route=- pool=app server=beta server_addr=127.0.0.1:9002 tries=2 \
                        queue_ms=0 connect_ms=3 duration_ms=1123 bytes_in=78 bytes_out=18446744073709551615 cause=done \
                        closer=both hap_ts=-- idle_client_ms=700 idle_server_ms=0 rtt_client_us=18000 rtt_server_us=240 retrans_client=40 \
                        retrans_server=0 verdict=\"client path lossy, server path clean\" engine=mio worker=1";
        assert_eq!(line(&AccessFormat::Logfmt, &relayed()), expected);
    }

    #[test]
    fn logfmt_says_a_dash_where_there_is_no_value() {
        let expected = "ts=2026-11-23T07:38:02.000Z event=close id=ffffffffffffffff listener=web \
                        client=[2001:db8::1]:40002 sni=- alpn=- authority=- unique_id=- vpce_id=- route=- pool=app server=- server_addr=- tries=0 queue_ms=0 connect_ms=- \
                        duration_ms=0 bytes_in=0 bytes_out=0 cause=maxconn closer=proxy hap_ts=PC idle_client_ms=- idle_server_ms=- rtt_client_us=- rtt_server_us=- retrans_client=- \
                        retrans_server=- verdict=- engine=poll \
                        worker=0";
        assert_eq!(line(&AccessFormat::Logfmt, &rejected()), expected);
    }

    #[test]
    fn what_has_not_ended_has_no_cause() {
        let open = Record { event: Event::Open, bytes_in: 0, bytes_out: 0, cause: None, ..relayed() };
        let expected = r#"{"ts":"2026-11-23T07:38:00.123Z","event":"open","id":"00000000000000ff","listener":"web","client":"192.0.2.7:40001","sni":null,"alpn":null,"authority":null,"unique_id":null,"vpce_id":null,"route":null,"pool":"app","server":"beta","server_addr":"127.0.0.1:9002","tries":2,"queue_ms":0,"connect_ms":3,"duration_ms":1123,"bytes_in":0,"bytes_out":0,"cause":null,"closer":null,"hap_ts":null,"idle_client_ms":700,"idle_server_ms":0,"rtt_client_us":18000,"rtt_server_us":240,"retrans_client":40,"retrans_server":0,"verdict":"client path lossy, server path clean","engine":"mio","worker":1}"#;
        assert_eq!(line(&AccessFormat::Json, &open), expected);
        let update = Record { event: Event::Update, bytes_out: 9, ..open.clone() };
        let expected = "ts=2026-11-23T07:38:00.123Z event=update id=00000000000000ff listener=web \
                        client=192.0.2.7:40001 sni=- alpn=- authority=- unique_id=- vpce_id=- route=- pool=app server=beta server_addr=127.0.0.1:9002 tries=2 \
                        queue_ms=0 connect_ms=3 duration_ms=1123 bytes_in=0 bytes_out=9 cause=- closer=- hap_ts=- idle_client_ms=700 idle_server_ms=0 rtt_client_us=18000 \
                        rtt_server_us=240 retrans_client=40 retrans_server=0 verdict=\"client path lossy, server path clean\" engine=mio \
                        worker=1";
        assert_eq!(line(&AccessFormat::Logfmt, &update), expected);
    }

    #[test]
    fn what_a_hello_or_a_header_says_and_where_it_leads_is_told() {
        let routed = names_of(
            "[listener.web]\nbind = [\"127.0.0.1:0\"]\n[[listener.web.route]]\nsni = [\"a.test\"]\npool = \"app\"\n\
             [pool.app]\nserver = [{ name = \"alpha\", addr = \"127.0.0.1:9001\" }]",
        );
        let line = |format: &AccessFormat, heard: Heard| {
            let mut out = Vec::new();
            let record = Record { heard: Some(heard.into()), server: None, ..rejected() };
            AccessLines::new(format, &routed, vec!["mio"]).write(&mut out, &record, NOW);
            String::from_utf8(out).unwrap()
        };
        let asks =
            || Heard { sni: Some("b.test".into()), alpn: Some("h2,http/1.1".into()), ..Heard::default() };
        let lost = line(&AccessFormat::Json, asks());
        let expected = r#""sni":"b.test","alpn":"h2,http/1.1","authority":null,"unique_id":null,"vpce_id":null,"route":null,"pool":null,"#;
        assert!(lost.contains(expected), "{lost}");
        let led = Heard { route: NonZeroU16::new(1), pool: Some(PoolId(0)), ..asks() };
        let led = line(&AccessFormat::Logfmt, led);
        let expected =
            " sni=b.test alpn=h2,http/1.1 authority=- unique_id=- vpce_id=- route=1 pool=app server=- ";
        assert!(led.contains(expected), "{led}");
        let template = AccessFormat::Template("{sni}>{route}>{pool}".parse().unwrap());
        assert_eq!(line(&template, asks()), "b.test>->-");
        let told = || Heard {
            authority: Some("c.test".into()),
            unique_id: Some("%00%FF".into()),
            vpce_id: Some("vpce-1".into()),
            ..Heard::default()
        };
        let json = line(&AccessFormat::Json, told());
        let expected =
            r#""alpn":null,"authority":"c.test","unique_id":"%00%FF","vpce_id":"vpce-1","route":null,"#;
        assert!(json.contains(expected), "{json}");
        let template = AccessFormat::Template("{authority} {unique_id} {vpce_id} {sni}".parse().unwrap());
        assert_eq!(line(&template, told()), "c.test %00%FF vpce-1 -");
    }

    #[test]
    fn a_template_is_the_users_own_line() {
        let template = |text: &str| AccessFormat::Template(text.parse().unwrap());
        let shown = line(&template("{client} -> {pool}/{server} {{{cause}}} ü {hap_ts}"), &relayed());
        assert_eq!(shown, "192.0.2.7:40001 -> app/beta {done} ü --");
        assert_eq!(line(&template("{server}:{connect_ms}|"), &rejected()), "-:-|");
        for (name, _) in Field::NAMES {
            let shown = line(&template(&format!("<{{{name}}}>")), &relayed());
            assert!(shown.len() > 2, "{name} is empty");
        }
    }

    #[test]
    fn names_are_escaped_in_json() {
        let mut names = Arc::into_inner(names()).unwrap();
        names.listeners[0].name = "a\"b\\c".into();
        let mut out = Vec::new();
        AccessLines::new(&AccessFormat::Json, &Arc::new(names), vec!["poll", "mio"]).write(
            &mut out,
            &relayed(),
            NOW,
        );
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["listener"], "a\"b\\c");
    }
}
