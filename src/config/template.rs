//! The user's own line of the access log, and the fields that one may have.

use std::fmt;
use std::str::FromStr;

use super::known;
use super::value::{Fault, Parsed};

/// What can be told of a connection. Of one that has not ended there is no cause, closer or pair of letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// When it was so: RFC 3339, UTC, milliseconds.
    Ts,
    /// `open`, `update` or `close`: see [`super::Event`].
    Event,
    /// Unique in this process: 16 hexadecimal digits.
    Id,
    /// The listener's name.
    Listener,
    /// The client's address and port.
    Client,
    /// The name that its TLS hello asks for; absent where none was read, or it names nobody.
    Sni,
    /// The protocols that this offers, with commas between them.
    Alpn,
    /// The name that it asks for, as a proxy in front has told it (a TLV of a PROXY header); absent where none has.
    Authority,
    /// The connection's id at a proxy in front, in the same way.
    UniqueId,
    /// The VPC endpoint of AWS through which it has come, in the same way.
    VpceId,
    /// The number of the route that takes it, from 1; absent where none does, or there are none.
    Route,
    /// The pool's name; absent when it went to none.
    Pool,
    /// The server's name; absent when none was tried.
    Server,
    /// The server's address and port; absent when none was tried.
    ServerAddr,
    /// Attempts to reach a server.
    Tries,
    /// How long it waited until a server had room.
    QueueMs,
    /// From accept to the server's connection; absent when none was reached.
    ConnectMs,
    /// From accept until then.
    DurationMs,
    /// Moved from the client to the server until then.
    BytesIn,
    /// Moved from the server to the client until then.
    BytesOut,
    /// Why it ended: see [`crate::session::Cause`].
    Cause,
    /// Who ended it: see [`crate::session::Cause`].
    Closer,
    /// HAProxy's two letters: see [`crate::session::Cause`].
    HapTs,
    /// For how long the client had sent no byte by then, or, if it never has, since its connection; absent where the system does
    /// not tell, as the next ones.
    IdleClientMs,
    /// The same of the server.
    IdleServerMs,
    /// The round-trip time to the client, in microseconds.
    RttClientUs,
    /// To the server.
    RttServerUs,
    /// Segments that were sent to the client again.
    RetransClient,
    /// To the server.
    RetransServer,
    /// What both paths were like, in words: see [`crate::path::Verdict`].
    Verdict,
    /// How its bytes were moved.
    Engine,
    /// Which worker carried it, from 0.
    Worker,
}

impl Field {
    /// Each of them with its name, in the order of a JSON line.
    pub const NAMES: [(&'static str, Self); 32] = [
        ("ts", Self::Ts),
        ("event", Self::Event),
        ("id", Self::Id),
        ("listener", Self::Listener),
        ("client", Self::Client),
        ("sni", Self::Sni),
        ("alpn", Self::Alpn),
        ("authority", Self::Authority),
        ("unique_id", Self::UniqueId),
        ("vpce_id", Self::VpceId),
        ("route", Self::Route),
        ("pool", Self::Pool),
        ("server", Self::Server),
        ("server_addr", Self::ServerAddr),
        ("tries", Self::Tries),
        ("queue_ms", Self::QueueMs),
        ("connect_ms", Self::ConnectMs),
        ("duration_ms", Self::DurationMs),
        ("bytes_in", Self::BytesIn),
        ("bytes_out", Self::BytesOut),
        ("cause", Self::Cause),
        ("closer", Self::Closer),
        ("hap_ts", Self::HapTs),
        ("idle_client_ms", Self::IdleClientMs),
        ("idle_server_ms", Self::IdleServerMs),
        ("rtt_client_us", Self::RttClientUs),
        ("rtt_server_us", Self::RttServerUs),
        ("retrans_client", Self::RetransClient),
        ("retrans_server", Self::RetransServer),
        ("verdict", Self::Verdict),
        ("engine", Self::Engine),
        ("worker", Self::Worker),
    ];
}

/// One line: `{field}` for each of [`Field::NAMES`], `{{` and `}}` for braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// In their order; at least one has a field.
    pub(super) pieces: Vec<Piece>,
}

/// What stands before a field, and the field; none at the end of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// As it is written out: a brace is one brace.
    pub literal: String,
    /// What follows it.
    pub field: Option<Field>,
}

impl Template {
    /// What to write, in its order.
    #[must_use]
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    pub(super) fn parse(text: &str) -> Parsed<Self> {
        if text.contains(|c: char| c.is_control() && c != '\t') {
            return Err(Fault::new("a template is one line, without control characters"));
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let end = rest.find(['{', '}']).filter(|end| brace == "{" && rest[*end..].starts_with('}'));
            let end = end.ok_or_else(|| unpaired(brace))?;
            pieces.push(Piece { literal: std::mem::take(&mut literal), field: Some(field(&rest[..end])?) });
            rest = &rest[end + 1..];
        }
        if pieces.is_empty() {
            return Err(Fault::new("the template has no field").help(EXAMPLE));
        }
        literal.push_str(rest);
        pieces.push(Piece { literal, field: None });
        Ok(Self { pieces })
    }
}

pub(super) const EXAMPLE: &str = "write one such as template = \"{ts} {client} {server} {cause}\"";

fn unpaired(brace: &str) -> Fault {
    Fault::new(format!("the template has a `{brace}` without its other half"))
        .help(format!("a brace that stands for itself is written `{brace}{brace}`"))
}

fn field(name: &str) -> Parsed<Field> {
    if let Some((_, field)) = Field::NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*field);
    }
    let names = Field::NAMES.map(|(name, _)| name);
    let near = known::nearest(name, names.into_iter());
    let help = near.map_or_else(
        || format!("the fields are {}", known::listed(&names, "`", " and ")),
        |near| format!("did you mean {{{near}}}?"),
    );
    Err(Fault::new(format!("the template has an unknown field {{{name}}}")).help(help))
}

impl FromStr for Template {
    type Err = String;

    /// The template that is written so; otherwise what is wrong with it.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|fault| fault.message)
    }
}

impl fmt::Display for Template {
    /// As the user writes it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Piece { literal, field } in &self.pieces {
            out.write_str(&literal.replace('{', "{{").replace('}', "}}"))?;
            if let Some((name, _)) = field.and_then(|it| Field::NAMES.iter().find(|(_, known)| *known == it))
            {
                write!(out, "{{{name}}}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_text_and_fields() {
        let template = Template::parse("{client} {{{cause}}} ü").unwrap();
        let piece = |literal: &str, field| Piece { literal: literal.to_owned(), field };
        let expected = [piece("", Some(Field::Client)), piece(" {", Some(Field::Cause)), piece("} ü", None)];
        assert_eq!(template.pieces(), expected);
    }

    #[test]
    fn a_template_is_shown_as_it_was_written() {
        for text in ["{ts}", "{{}}{ts}", "a {id}}} {{ {worker} b", "\t{client}{cause}"] {
            assert_eq!(Template::parse(text).unwrap().to_string(), text);
        }
    }
}
