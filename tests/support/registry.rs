//! Bytes from the network as what etcd answers: what must hold whatever they are.

use serde_json::json;
use tidegate::control::discovery::etcd::{MOST_KEYS, MOST_VALUE, Registry, registration};
use tidegate::control::discovery::parse;

/// Reads the first line of `bytes` as an answer and the others as those of a watch; says whether the first is one.
///
/// # Panics
/// When there is more than may be, or a server that is written again is another one.
pub(crate) fn check(bytes: &[u8]) -> bool {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Ok(mut all) = Registry::read("/s/", lines.next().unwrap_or_default()) else { return false };
    check_servers(&all);
    for line in lines {
        let before = all.clone();
        match all.apply(line) {
            Ok(is_news) => assert!(is_news || before.is_like(&all), "{line:?}"),
            Err(_) => break,
        }
        check_servers(&all);
    }
    true
}

fn check_servers(all: &Registry) {
    assert!(all.pairs().count() <= MOST_KEYS);
    for (name, value) in all.pairs() {
        assert!(value.len() <= MOST_VALUE + 1);
        let Ok(server) = registration(name, value) else { continue };
        assert_eq!(server.name.as_bytes(), name);
        let mut keys = json!({
            "addr": server.addr, "weight": server.weight, "backup": server.backup, "state": server.state,
            "maxconn": server.maxconn.map_or(0, u32::from),
        });
        let again = registration(name, keys.to_string().as_bytes());
        assert_eq!(again.as_ref(), Ok(&server));
        // It may stand in any other list as well.
        keys["name"] = server.name.clone().into();
        assert_eq!(parse(json!([keys]).to_string().as_bytes()), Ok(vec![server]));
    }
}
