//! Lists of servers as text: TOML, or JSON. Pure. The text may come from a network: nothing in it is looked up, no
//! `${…}` is replaced, and whatever it is, it is a list or an error.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use crate::config::{self, ServerState};

/// Servers that one list may have.
pub const LONGEST_LIST: usize = 4096;

/// The longest text of a list, in bytes.
pub const LARGEST_LIST: usize = 1 << 20;

/// A server of a list: the keys of `[[pool.NAME.server]]`, with the same meaning and defaults.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// `name`, unique in its list.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// `addr`
    #[serde(deserialize_with = "addr")]
    pub addr: SocketAddr,
    /// `weight`
    #[serde(default = "one")]
    pub weight: u16,
    /// `maxconn`; `None` is 0, any number.
    #[serde(default, deserialize_with = "maxconn")]
    pub maxconn: Option<NonZeroU32>,
    /// `backup`
    #[serde(default)]
    pub backup: bool,
    /// `state`
    #[serde(default)]
    pub state: ServerState,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    server: Vec<Listed>,
}

fn one() -> u16 {
    1
}

fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    config::check_name(&text).map_err(D::Error::custom)?;
    Ok(text)
}

fn addr<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    config::address_in_list(&String::deserialize(from)?).map_err(D::Error::custom)
}

fn maxconn<'de, D: Deserializer<'de>>(from: D) -> Result<Option<NonZeroU32>, D::Error> {
    u32::deserialize(from).map(NonZeroU32::new)
}

/// Reads `[[server]]` tables of TOML, or JSON: an array of servers, or an object with one as `server`.
///
/// # Errors
/// What is wrong, with line and column where there is a place. A list without servers is an error: it is what a file is
/// while it is written, and what a program says that could not find out.
pub fn parse(text: &[u8]) -> Result<Vec<Listed>, String> {
    if text.len() > LARGEST_LIST {
        return Err(format!("it is longer than {LARGEST_LIST} bytes"));
    }
    let text = std::str::from_utf8(text)
        .map_err(|error| format!("{}: this byte is not UTF-8", place(text, error.valid_up_to())))?;
    let all = if is_json(text) { json(text) } else { toml(text) };
    let all = all.map_err(|error| printable(&error))?;
    if all.is_empty() {
        return Err("it has no servers; to take one out of use, write state = \"drain\"".to_owned());
    }
    if all.len() > LONGEST_LIST {
        return Err(format!("it has {} servers, and {LONGEST_LIST} is the most", all.len()));
    }
    let mut names = HashSet::new();
    match all.iter().position(|one| !names.insert(&one.name)) {
        Some(place) => Err(format!("server {} is the second one named {:?}", place + 1, all[place].name)),
        None => Ok(all),
    }
}

/// No TOML begins so: a table's header has a name behind its brackets.
fn is_json(text: &str) -> bool {
    let mut signs = text.chars().filter(|sign| !sign.is_whitespace());
    match signs.next() {
        Some('{') => true,
        Some('[') => matches!(signs.next(), Some('{' | ']')),
        _ => false,
    }
}

fn json(text: &str) -> Result<Vec<Listed>, String> {
    let all = if text.trim_start().starts_with('{') {
        serde_json::from_str::<Whole>(text).map(|whole| whole.server)
    } else {
        serde_json::from_str(text)
    };
    all.map_err(|error| {
        let (line, column, message) = (error.line(), error.column(), error.to_string());
        let message = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
        format!("line {line}, column {column}: {message}")
    })
}

fn toml(text: &str) -> Result<Vec<Listed>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let whole: Result<Whole, _> = ::toml::from_str(text);
    whole.map(|whole| whole.server).map_err(|error| {
        let message = error.message().trim_end().replace('\n', ", ");
        match error.span() {
            Some(span) => format!("{}: {message}", place(text.as_bytes(), span.start)),
            None => message,
        }
    })
}

/// Where an offset is, for people.
fn place(text: &[u8], offset: usize) -> String {
    let before = &text[..offset.min(text.len())];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    format!("line {line}, column {column}")
}

/// The longest that is said of a text that somebody else wrote, in characters.
const LONGEST_TOLD: usize = 300;

/// What is told of bytes that are not what they should be.
const SAMPLE: usize = 64;

/// An error with the beginning of the bytes that it is about.
pub(super) fn with_sample(error: String, bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return error;
    }
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    let more = if bytes.len() > SAMPLE { "…" } else { "" };
    format!("{error}; it begins with \"{}{more}\"", sample.escape_ascii())
}

/// `text` without anything that a terminal would obey, and no longer than is of use.
pub(super) fn printable(text: &str) -> String {
    let plain = |sign: char| if sign.is_control() { sign.escape_default().collect() } else { vec![sign] };
    text.chars().take(LONGEST_TOLD).flat_map(plain).take(LONGEST_TOLD).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &str, addr: &str) -> Listed {
        let (addr, state) = (addr.parse().unwrap(), ServerState::Ready);
        Listed { name: name.to_owned(), addr, weight: 1, maxconn: None, backup: false, state }
    }

    #[test]
    fn toml_and_json_say_the_same() {
        let more = Listed {
            weight: 0,
            maxconn: NonZeroU32::new(300),
            backup: true,
            state: ServerState::Maint,
            ..listed("b", "[fd00::1]:5432")
        };
        let expected = [listed("a", "10.0.0.1:5432"), more];
        let rest = r#""weight": 0, "maxconn": 300, "backup": true, "state": "maint""#;
        let json = format!(
            r#"[{{"name": "a", "addr": "10.0.0.1:5432"}}, {{"name": "b", "addr": "[fd00::1]:5432", {rest}}}]"#
        );
        for text in [
            "# made by hand\n[[server]]\nname = \"a\"\naddr = \"10.0.0.1:5432\"\n\n[[server]]\nname = 'b'\naddr = \"[fd00::1]:5432\"\nweight = 0\nmaxconn = 300\nbackup = true\nstate = \"maint\"\n",
            "server = [{ name = \"a\", addr = \"10.0.0.1:5432\", maxconn = 0 }, { name = \"b\", addr = \"[fd00::1]:5432\", weight = 0, maxconn = 300, backup = true, state = \"maint\" }]",
            &json,
            &format!("\n {{ \"server\" : {json} }}\n"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_place() {
        let one = |key: &str| format!("[[server]]\nname = \"a\"\naddr = \"10.0.0.1:1\"\n{key}\n");
        let many = |count: usize| -> String {
            (0..count).map(|n| format!("[[server]]\nname=\"a{n}\"\naddr=\"10.0.0.1:1\"\n")).collect()
        };
        for (text, said) in [
            (String::new(), "it has no servers"),
            (" \n".to_owned(), "it has no servers"),
            ("[]".to_owned(), "it has no servers"),
            ("server = []".to_owned(), "it has no servers"),
            ("# nothing yet\n".to_owned(), "missing field `server`"),
            (one("wieght = 1"), "line 4, column 1: unknown field `wieght`"),
            (one("weight = 65536"), "line 4, column 10: "),
            (one("weight = -1"), "line 4, column 10: "),
            (one("state = \"down\""), "line 4, column 9: unknown variant `down`"),
            (
                one("[[server]]\nname = \"a\"\naddr = \"10.0.0.2:1\""),
                "server 2 is the second one named \"a\"",
            ),
            (one("[[server]]\nname = \"a b\""), "line 5, column 8: \"a b\" is not a name"),
            (
                one("[[server]]\nname = \"b\"\naddr = \"10.0.0.1\""),
                "line 6, column 8: \"10.0.0.1\" has no port",
            ),
            (
                one("[[server]]\nname = \"b\"\naddr = \"10.0.0.1:0\""),
                "line 6, column 8: \"10.0.0.1:0\" has port 0",
            ),
            (one("[[server]]\nname = \"b\"\naddr = \"db.example:1\""), "is a name; a list has addresses"),
            (one("[[server]]\nname = \"b\"\naddr = \"unix:/run/x\""), "is not an IP address and port"),
            (one("[[server]]\nname = \"b\"\nadd"), "line 6, column "),
            (
                "[{\"name\": \"a\",\n \"addr\": \"10.0.0.1\"}]".to_owned(),
                "line 2, column 20: \"10.0.0.1\" has no port",
            ),
            ("[{\"name\": \"a\", \"addr\": \"10.0".to_owned(), "line 1, column "),
            ("[{\"name\": \"${HOME}\", \"addr\": \"10.0.0.1:1\"}]".to_owned(), "\"${HOME}\" is not a name"),
            ("[".repeat(100_000), "line 1, column "),
            (format!("[{}", "{\"x\":[".repeat(100_000)), "line 1, column "),
            ("<html>\u{1b}[31m".to_owned(), "line 1, column "),
            (many(LONGEST_LIST + 1), "it has 4097 servers, and 4096 is the most"),
            (" ".repeat(LARGEST_LIST + 1), "it is longer than 1048576 bytes"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            let begin = text.chars().take(80).collect::<String>();
            assert!(error.contains(said) && !error.contains(char::is_control), "{begin}\n{error}");
        }
        assert_eq!(parse(b"ok = 1\n\xff").unwrap_err(), "line 2, column 1: this byte is not UTF-8");
        assert_eq!(parse(many(LONGEST_LIST).as_bytes()).unwrap().len(), LONGEST_LIST);
    }
}
