//! What the value of a key says of the server that it registers. Pure.

use serde_json::{Map, Value};

use super::super::Listed;
use super::super::parse::printable;
use super::reply::MOST_VALUE;
use crate::config::{ServerState, address_in_list, check_name};

/// A server that is called `name`, what stands behind the prefix in its key. The value is its address, `10.0.0.1:5432`, or a
/// JSON object with what a server of a list may have, but for the name.
///
/// # Errors
/// Why it is no server.
pub fn registration(name: &[u8], value: &[u8]) -> Result<Listed, String> {
    read(name, value).map_err(|why| printable(&why))
}

fn read(name: &[u8], value: &[u8]) -> Result<Listed, String> {
    let name = std::str::from_utf8(name).map_err(|_| "its key is not UTF-8")?;
    check_name(name)?;
    if value.len() > MOST_VALUE {
        return Err(format!("its value has more than {MOST_VALUE} bytes"));
    }
    let value = std::str::from_utf8(value).map_err(|_| "its value is not UTF-8")?.trim();
    if !value.starts_with('{') {
        let (name, addr) = (name.to_owned(), address_in_list(value)?);
        let (maxconn, backup, state) = (None, false, ServerState::Ready);
        return Ok(Listed { name, addr, weight: 1, maxconn, backup, state });
    }
    let mut keys: Map<String, Value> = serde_json::from_str(value).map_err(|error| error.to_string())?;
    if keys.insert("name".to_owned(), name.into()).is_some() {
        return Err("its value has a `name`, and its key is its name".to_owned());
    }
    serde_json::from_value(keys.into()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn a_value_is_an_address_or_json() {
        let plain = registration(b"a", b" 10.0.0.1:5432\n").unwrap();
        assert_eq!(
            (plain.name.as_str(), plain.addr.to_string().as_str(), plain.weight),
            ("a", "10.0.0.1:5432", 1)
        );
        assert_eq!(registration(b"a", br#"{"addr": "10.0.0.1:5432"}"#), Ok(plain.clone()));
        let more = br#"{"addr": "[fd00::1]:1", "weight": 0, "maxconn": 9, "backup": true, "state": "drain"}"#;
        let expected = Listed {
            addr: "[fd00::1]:1".parse().unwrap(),
            weight: 0,
            maxconn: NonZeroU32::new(9),
            backup: true,
            state: ServerState::Drain,
            ..plain
        };
        assert_eq!(registration(b"a", more), Ok(expected));
    }

    #[test]
    fn what_is_no_registration_says_why() {
        let long = " ".repeat(MOST_VALUE + 1);
        for (name, value, said) in [
            (&b"a/b"[..], &b"10.0.0.1:1"[..], "\"a/b\" is not a name"),
            (b"", b"10.0.0.1:1", "is not a name"),
            (b"\xff", b"10.0.0.1:1", "its key is not UTF-8"),
            (b"a", b"", "is not an IP address"),
            (b"a", b"\xff", "its value is not UTF-8"),
            (b"a", long.as_bytes(), "more than 4096 bytes"),
            (b"a", b"10.0.0.1", "has no port"),
            (b"a", b"10.0.0.1:0", "has port 0"),
            (b"a", b"db.example:1", "is a name"),
            (b"a", b"{", "EOF"),
            (b"a", b"{}", "missing field `addr`"),
            (b"a", br#"{"addr": "10.0.0.1:1", "name": "b"}"#, "its key is its name"),
            (b"a", br#"{"addr": "10.0.0.1:1", "wieght": 2}"#, "unknown field `wieght`"),
            (b"a", br#"{"addr": "10.0.0.1:1", "weight": 65536}"#, "65536"),
            (b"a", b"{\"addr\": \"\x1b[31m\"}", "control character"),
        ] {
            let why = registration(name, value).unwrap_err();
            assert!(why.contains(said) && !why.contains(char::is_control), "{why}");
        }
    }
}
