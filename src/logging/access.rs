//! How a closed connection becomes a line.

use std::io::Write as _;
use std::net::SocketAddr;

use super::Record;
use super::stamp::{Now, Stamps};
use crate::config::{AccessFormat, Field, Piece};
use crate::snapshot::Snapshot;

/// Writes access lines. JSON and logfmt are templates too, so that there is one way to write a line.
#[derive(Debug)]
pub(super) struct AccessLines {
    pieces: Vec<Piece>,
    /// What stands on both sides of a text.
    quote: &'static [u8],
    /// What stands for a value that is not there.
    absent: &'static [u8],
    /// Listener and pool as they are written, by listener.
    listeners: Vec<(String, String)>,
    /// Server and its address as they are written, by server.
    servers: Vec<(String, String)>,
    /// By worker.
    engines: Vec<&'static str>,
    stamps: Stamps,
}

impl AccessLines {
    pub(super) fn new(format: &AccessFormat, names: &Snapshot, engines: Vec<&'static str>) -> Self {
        let is_json = matches!(format, AccessFormat::Json);
        let shown = |name: &str| {
            if is_json { serde_json::Value::from(name).to_string() } else { name.to_owned() }
        };
        let listener = |it: &crate::snapshot::Listener| (shown(&it.name), shown(&names.pool(it.pool).name));
        let server = |it: &crate::snapshot::Server| (shown(&it.name), shown(&it.addr.to_string()));
        Self {
            pieces: match format {
                AccessFormat::Json => joined("{\"", "\":", ",\"", "}"),
                AccessFormat::Logfmt => joined("", "=", " ", ""),
                AccessFormat::Template(template) => template.pieces().to_vec(),
            },
            quote: if is_json { b"\"" } else { b"" },
            absent: if is_json { b"null" } else { b"-" },
            listeners: names.listeners.iter().map(listener).collect(),
            servers: names.servers.iter().map(server).collect(),
            engines,
            stamps: Stamps::default(),
        }
    }

    /// Appends the line of `record`, without its end.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, record: &Record, now: Now) {
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
            Field::Event => self.write_text(out, "close"),
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
            Field::Pool => out.extend_from_slice(names.1.as_bytes()),
            Field::Server => out.extend_from_slice(server.map_or(self.absent, |it| it.0.as_bytes())),
            Field::ServerAddr => out.extend_from_slice(server.map_or(self.absent, |it| it.1.as_bytes())),
            Field::Tries => write_number(out, record.tries.into()),
            Field::ConnectMs => match record.connect_ms {
                Some(ms) => write_number(out, ms.into()),
                None => out.extend_from_slice(self.absent),
            },
            Field::DurationMs => write_number(out, record.ended.0.saturating_sub(record.began.0)),
            Field::BytesIn => write_number(out, record.bytes_in),
            Field::BytesOut => write_number(out, record.bytes_out),
            Field::Cause => self.write_text(out, record.cause.name()),
            Field::Closer => self.write_text(out, record.cause.closer()),
            Field::HapTs => self.write_text(out, record.cause.hap_ts()),
            Field::Engine => self.write_text(out, self.engines[usize::from(record.worker)]),
            Field::Worker => write_number(out, record.worker.into()),
        }
    }

    /// For our own words, which need no escape.
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
    use super::*;
    use crate::logging::tests::{names, rejected, relayed};
    use crate::tick::Tick;

    const NOW: Now = Now { tick: Tick(10_000), wall_ms: 1_795_419_482_000 };

    fn line(format: &AccessFormat, record: &Record) -> String {
        let mut out = Vec::new();
        AccessLines::new(format, &names(), vec!["poll", "mio"]).write(&mut out, record, NOW);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_has_every_field() {
        let expected = r#"{"ts":"2026-11-23T07:38:00.123Z","event":"close","id":"00000000000000ff","listener":"web","client":"192.0.2.7:40001","pool":"app","server":"beta","server_addr":"127.0.0.1:9002","tries":2,"connect_ms":3,"duration_ms":1123,"bytes_in":78,"bytes_out":18446744073709551615,"cause":"done","closer":"both","hap_ts":"--","engine":"mio","worker":1}"#;
        let line = line(&AccessFormat::Json, &relayed());
        assert_eq!(line, expected);
        let value: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).unwrap();
        assert_eq!(value.len(), Field::NAMES.len());
        assert!(Field::NAMES.iter().all(|(name, _)| value.contains_key(*name)));
    }

    #[test]
    fn json_says_null_where_there_is_no_value() {
        let expected = r#"{"ts":"2026-11-23T07:38:02.000Z","event":"close","id":"ffffffffffffffff","listener":"web","client":"[2001:db8::1]:40002","pool":"app","server":null,"server_addr":null,"tries":0,"connect_ms":null,"duration_ms":0,"bytes_in":0,"bytes_out":0,"cause":"maxconn","closer":"proxy","hap_ts":"PC","engine":"poll","worker":0}"#;
        assert_eq!(line(&AccessFormat::Json, &rejected()), expected);
    }

    #[test]
    fn logfmt_has_every_field() {
        let expected = "ts=2026-11-23T07:38:00.123Z event=close id=00000000000000ff listener=web \
                        client=192.0.2.7:40001 pool=app server=beta server_addr=127.0.0.1:9002 tries=2 \
                        connect_ms=3 duration_ms=1123 bytes_in=78 bytes_out=18446744073709551615 cause=done \
                        closer=both hap_ts=-- engine=mio worker=1";
        assert_eq!(line(&AccessFormat::Logfmt, &relayed()), expected);
    }

    #[test]
    fn logfmt_says_a_dash_where_there_is_no_value() {
        let expected = "ts=2026-11-23T07:38:02.000Z event=close id=ffffffffffffffff listener=web \
                        client=[2001:db8::1]:40002 pool=app server=- server_addr=- tries=0 connect_ms=- \
                        duration_ms=0 bytes_in=0 bytes_out=0 cause=maxconn closer=proxy hap_ts=PC engine=poll \
                        worker=0";
        assert_eq!(line(&AccessFormat::Logfmt, &rejected()), expected);
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
        let mut names = names();
        names.listeners[0].name = "a\"b\\c".to_owned();
        let mut out = Vec::new();
        AccessLines::new(&AccessFormat::Json, &names, vec!["poll", "mio"]).write(&mut out, &relayed(), NOW);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["listener"], "a\"b\\c");
    }
}
