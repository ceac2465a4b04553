//! `[admin]`.

use super::*;

fn admin(keys: &str) -> Admin {
    good(&format!("[admin]\n{keys}{LEAST}")).admin.expect("the table is there")
}

#[test]
fn without_the_table_nobody_is_asked() {
    assert_eq!(good(LEAST).admin, None);
}

#[test]
fn what_admin_does_not_say_has_the_default_of_the_reference() {
    let expected = Admin {
        socket: Some(PathBuf::from("/run/tidegate/admin.sock")),
        socket_mode: 0o600,
        http: Some("127.0.0.1:9901".parse().unwrap()),
        http_token_file: None,
        http_write: false,
    };
    assert_eq!(admin(""), expected);
}

#[test]
fn every_key_of_admin_is_read() {
    let keys = "socket = \"/run/x.sock\"\nsocket_mode = \"0660\"\nhttp = \"[::]:80\"\n\
                http_token_file = \"/etc/token\"\nhttp_write = true\n";
    let expected = Admin {
        socket: Some(PathBuf::from("/run/x.sock")),
        socket_mode: 0o660,
        http: Some("[::]:80".parse().unwrap()),
        http_token_file: Some(PathBuf::from("/etc/token")),
        http_write: true,
    };
    assert_eq!(admin(keys), expected);
    assert_eq!(admin("http = \"off\"").http, None);
    assert_eq!(admin("socket = \"off\"").socket, None);
    assert_eq!(admin("socket = \"unix:/x\"\nsocket_mode = \"700\"").socket_mode, 0o700);
}

/// Whoever is to be asked is found whatever else is wrong, and never guessed.
#[test]
fn the_control_socket_is_known_in_spite_of_errors_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("proxy.toml");
    let of = |text: &str| {
        std::fs::write(&file, text).unwrap();
        super::super::admin(&file).map(|admin| admin.map(|admin| admin.socket))
    };
    let is = |path: &str| Ok(Some(Some(PathBuf::from(path))));
    let wrong = "[listner.web]\nbind = 5s\n[pool.web]\nbalance round_robin\n";
    let given = "[admin]\nsocket = \"/x.sock\"\n";
    assert_eq!(of(&format!("{given}{wrong}")), is("/x.sock"));
    assert_eq!(of(&format!("{wrong}{given}http = 5s\nsokcet = 1\n")), is("/x.sock"));
    assert_eq!(of(&format!("[admin]\n{wrong}")), is(Admin::SOCKET));
    assert_eq!(of("[admin]\nhttp = \"0.0.0.0:9901\"\n"), is(Admin::SOCKET));
    assert_eq!(of(&format!("[admin]\nsocket = \"off\"\n{wrong}")), Ok(Some(None)));
    assert_eq!(of("[pool.web]\nbalance round_robin\n"), Ok(None));
    std::fs::write(folder.path().join("admin.part"), given).unwrap();
    assert_eq!(of(&format!("include = [\"*.part\"]\n{wrong}")), is("/x.sock"));
    for unknown in [
        "[admin]\nsocket = /x.sock\n",
        "[admin]\nsocket = \"x.sock\"\n",
        "[admin]\nsokcet = \"/x.sock\"\n",
        "[admin\nsocket = \"/x.sock\"\n",
        "include = conf.d\n",
        "include = [\"no.toml\"]\n",
        "include = [\"*.part\"]\n[admin]\nsocket = \"/y.sock\"\n",
    ] {
        assert!(of(unknown).is_err(), "{unknown}: {:?}", of(unknown));
    }
}

#[test]
fn errors_in_admin() {
    assert_errors(&[
        ("[admin]\nsocket = \"x.sock\"", "2:10 \"x.sock\" depends on where", "the whole path"),
        ("[admin]\nsocket = \"\"", "2:10 there is no path", ""),
        ("[admin]\nsocket_mode = 600", "2:15 expected permissions in octal", "write it in quotes: \"600\""),
        ("[admin]\nsocket_mode = \"0680\"", "2:15 expected permissions in octal", "found \"0680\""),
        ("[admin]\nsocket_mode = \"+600\"", "2:15 expected permissions in octal", "found \"+600\""),
        ("[admin]\nsocket_mode = \"1777\"", "2:15 expected permissions in octal", "found \"1777\""),
        ("[admin]\nsocket_mode = \"0060\"", "2:15 with \"0060\" not even the owner", "write \"0660\""),
        ("[admin]\nhttp = 9901", "2:8 expected an address and port", "\"0.0.0.0:9901\""),
        ("[admin]\nhttp = \"localhost:9901\"", "2:8 \"localhost:9901\" is not an IP", "127.0.0.1:9901"),
        ("[admin]\nhttp = \"unix:/x\"", "2:8 `http` is an IP address and port", "write socket = \"/x\""),
        (
            "[admin]\nhttp = \"0.0.0.0:9901\"",
            "2:8 others than this host reach 0.0.0.0:9901",
            "http_token_file",
        ),
        ("[admin]\nhttp_write = true", "2:14 `http_write` lets everybody on this host", "http_token_file"),
        ("[admin]\nhttp_token_file = \"/etc/\"", "2:19 \"/etc/\" is not the path of a file", ""),
        (
            "[admin]\nhttp = \"off\"\nhttp_token_file = \"/t\"\nhttp_write = true",
            "4:14 `http_write` has no effect with http = \"off\"",
            "",
        ),
        ("[admin]\nhttp = \"off\"\nsocket = \"off\"", "1:1 [admin] has neither", "leave the table out"),
        (
            "[admin]\ntoken = \"x\"",
            "2:1 unknown key `token` in [admin]",
            "known here: `socket`, `socket_mode`, `http`, ",
        ),
        ("[stats]\n", "1:2 unknown table [stats]", "here it is [admin]"),
    ]);
}

#[test]
fn admin_and_listeners_share_no_address() {
    let found = errors(&format!("[admin]\nhttp = \"127.0.0.1:8080\"{LEAST}"));
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("127.0.0.1:8080 is taken by 127.0.0.1:8080 at test:2:8"), "{found:#?}");
}
