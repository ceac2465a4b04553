//! Bytes from a file or the network as a list of servers: what must hold whatever they are.

use std::collections::HashSet;

use tidegate::control::discovery::{LONGEST_LIST, Listed, parse};

/// Reads `bytes`; says whether they are a list.
///
/// # Panics
/// When a list breaks its own rules, reads otherwise once it is written again, or an error could harm who reads it.
pub(crate) fn check(bytes: &[u8]) -> bool {
    let all = match parse(bytes) {
        Ok(all) => all,
        Err(error) => {
            assert!(!error.is_empty() && !error.contains(char::is_control), "{error:?}");
            assert!(error.chars().count() < 1_000, "{error}");
            return false;
        }
    };
    assert!((1..=LONGEST_LIST).contains(&all.len()));
    let names: HashSet<&str> = all.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "{all:?}");
    assert!(all.iter().all(|one| (1..=64).contains(&one.name.len()) && one.addr.port() != 0), "{all:?}");
    let json: Vec<String> = all.iter().map(|one| format!("{{{}}}", keys(one, "\"", ": ", ", "))).collect();
    assert_eq!(parse(format!("[{}]", json.join(",\n")).as_bytes()).as_ref(), Ok(&all));
    let toml: Vec<String> =
        all.iter().map(|one| format!("[[server]]\n{}\n", keys(one, "", " = ", "\n"))).collect();
    assert_eq!(parse(toml.concat().as_bytes()).as_ref(), Ok(&all));
    true
}

fn keys(one: &Listed, quote: &str, is: &str, end: &str) -> String {
    let Listed { name, addr, weight, maxconn, backup, state } = one;
    let maxconn = maxconn.map_or(0, std::num::NonZeroU32::get);
    [
        ("name", format!("\"{name}\"")),
        ("addr", format!("\"{addr}\"")),
        ("weight", weight.to_string()),
        ("maxconn", maxconn.to_string()),
        ("backup", backup.to_string()),
        ("state", format!("\"{}\"", state.name())),
    ]
    .map(|(key, value)| format!("{quote}{key}{quote}{is}{value}"))
    .join(end)
}
