//! `tidegate ctl`, `conns` and `diff` as a user types them.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::fake::served::Served;
use super::world::{fake, fake_of};

const CONFIG: &str = r#"
[listener.web]
bind = ["127.0.0.1:8080"]
pool = "web"
[pool.web]
server = [{ name = "a", addr = "127.0.0.1:9001" }]
"#;

fn tidegate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate")).args(args).output().expect("the program starts")
}

/// The exit code, the standard output and the standard error.
fn run(args: &[&str], socket: &Path) -> (i32, String, String) {
    let args = [args, &["--socket", socket.to_str().unwrap()]].concat();
    let output = tidegate(&args);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn every_verb_does_what_it_says() {
    let served = Served::new(fake());
    let no_filter = r#""listener":null,"pool":null"#;
    let killed = |rest: &str| format!("kill {{{rest}}}");
    for (args, change, said) in [
        (&["ctl", "drain", "web/alpha"][..], "state web/alpha Drain".to_owned(), "ready -> Drain"),
        (&["ctl", "ready", "web/alpha"], "state web/alpha Ready".to_owned(), "the next reload keeps it"),
        (&["ctl", "maint", "web/alpha"], "state web/alpha Maint".to_owned(), "Maint"),
        (&["ctl", "weight", "web/alpha", "7"], "weight web/alpha 7".to_owned(), "weight 1 -> 7"),
        (&["ctl", "reload"], "reload None".to_owned(), "listener web: 0 of 6"),
        (&["ctl", "reload", "--confirm", "90s"], "reload Some(90s)".to_owned(), "taken back in 90s unless"),
        (&["ctl", "confirm"], "confirm".to_owned(), "is kept"),
        (&["ctl", "rollback"], "roll back".to_owned(), "nothing differs"),
        (&["ctl", "rebalance", "web", "--rate", "9/s"], "rebalance web Some(9)".to_owned(), "9 a second"),
        (&["ctl", "log-level", "debug"], "log level DEBUG".to_owned(), "info -> DEBUG"),
        (
            &["ctl", "kill", "--server", "web/alpha", "--older-than", "1h", "--rate", "50/s"],
            killed(&format!(
                r#""id":null,{no_filter},"server":"web/alpha","source":null,"older_than":"1h","idle_for":null"#
            )) + " Some(50)",
            "closing 1 (kill): 120 connections, 50 a second",
        ),
        (
            &["ctl", "kill", "--all"],
            killed(&format!(
                r#""id":null,{no_filter},"server":null,"source":null,"older_than":null,"idle_for":null"#
            )) + " None",
            "120 connections, all at once",
        ),
    ] {
        let (code, out, err) = run(args, &served.socket);
        assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
        assert!(out.contains(said), "{args:?}: {out}");
        assert_eq!(served.fake.changes().last(), Some(&change), "{args:?}");
    }
}

#[test]
fn status_is_tables_or_json() {
    let served = Served::new(fake());
    let (code, out, _) = run(&["ctl", "status"], &served.socket);
    assert_eq!(code, 0);
    for part in [
        "tidegate 1.2.3: serving, up 1h1m; 6 of 1000 connections, 50 of 4096 descriptors",
        "/etc/tidegate/proxy.toml: loaded 2023-11-14T22:15:00Z, change 2",
        "the last reload failed: unknown key `colour`",
        "taken back in 42 s unless",
        "LISTENER  ADDRESS",
        "web/alpha            127.0.0.1:9001  ready, ejected for 7 s                5 (file: 1)",
        "web/beta             127.0.0.1:9001  drain (file: ready), ejected for 7 s",
        "CHECK OF   KIND  AT",
        "web/alpha  http  10.0.0.1:8008  failed  416.7 ms       9       1  HTTP status 503; the certificate has ended at 2026-11-29T12:00:00Z  HTTP/1.1 503\\r\\n",
        "ready, slow start at 35 %",
        "web/alpha (removed)",
        "416.7 ms",
        "CLOSING  WHY",
    ] {
        assert!(out.contains(part), "{part}\n{out}");
    }
    let (_, out, _) = run(&["ctl", "status", "--json"], &served.socket);
    let status: tidegate::control::model::Status = serde_json::from_str(&out).unwrap();
    assert_eq!(status.pools[0].servers.len(), 3);
    assert_eq!(run(&["ctl", "dump"], &served.socket).1, "config_version = 1\n");
}

#[test]
fn conns_are_a_table_or_lines_of_json() {
    let served = Served::new(fake_of(2_500));
    let (code, out, _) = run(&["conns"], &served.socket);
    assert_eq!((code, out.lines().count()), (0, 2_501));
    assert!(out.starts_with("ID                LISTENER  CLIENT"), "{}", &out[..200]);
    let (_, out, _) = run(&["conns", "--json", "--paths"], &served.socket);
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), &lines[0]["client_path"]["rtt_us"]), (2_500, &18_400.into()));
    let (code, out, err) = run(&["conns", "--server", "web/gamma"], &served.socket);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains("pool web has no server \"gamma\""), "{err}");
}

/// Its reader ends it, as `| head` does.
#[test]
fn conns_watch_goes_on_until_nobody_reads_it() {
    let served = Served::new(fake_of(2));
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["conns", "--watch", "--socket", served.socket.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let heads = lines.by_ref().filter(|line| line.starts_with("ID ")).take(2).count();
    assert_eq!(heads, 2, "it was not drawn again");
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn diff_reads_the_new_configuration_here() {
    let served = Served::new(fake());
    let file = served.socket.with_file_name("new.toml");
    let named = format!("[admin]\nsocket = \"{}\"\n{CONFIG}", served.socket.display());
    fs::write(&file, named).unwrap();
    let file = file.to_str().unwrap();
    let output = tidegate(&["diff", "-c", file]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "listener web: as it was\n");
    fs::write(file, "[listner.web]\n").unwrap();
    let (code, out, err) = run(&["diff", "-c", file], &served.socket);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("listner"), "{err}");
}

#[test]
fn the_socket_is_that_of_the_configuration() {
    let served = Served::new(fake());
    let file = served.socket.with_file_name("proxy.toml");
    let with = |admin: &str| {
        fs::write(&file, format!("{admin}{CONFIG}")).unwrap();
        let output = tidegate(&["ctl", "-c", file.to_str().unwrap(), "status"]);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let named = format!("[admin]\nsocket = \"{}\"\n", served.socket.display());
    assert_eq!(with(&named), (0, String::new()));
    let halfway = "[pool.new]\nbalance = \"leastconn\"\n[listener";
    assert_eq!(with(&format!("{named}{halfway}\n")), (0, String::new()), "errors elsewhere are none of its");
    for (admin, part) in [
        ("", "has no table [admin]"),
        ("[admin]\nsocket = \"off\"\n", "has socket = \"off\""),
        ("[admin]\nsokcet = 1\n", "does not say where the control socket is: name it with --socket"),
        ("[admin]\nsokcet = 1\n", "unknown key `sokcet`"),
        ("[admin]\nsocket = \"/nonexistent/admin.sock\"\n", "nobody listens on /nonexistent/admin.sock"),
    ] {
        let (code, err) = with(admin);
        assert_eq!(code, 1, "{admin}");
        assert!(err.contains(part), "{admin}: {err}");
    }
}

#[test]
fn exit_codes_tell_refusals_from_errors() {
    let served = Served::new(fake());
    served.fake.world(|world| world.status.config.confirm_within_s = None);
    let nowhere = Path::new("/nonexistent/admin.sock");
    for (args, socket, code, part) in [
        (&["ctl", "drain", "web/gamma"][..], &*served.socket, 3, "has no server \"gamma\""),
        // As it is called, whatever a path has to have in its place.
        (&["ctl", "maint", "web/a@[fe80::1%12]:80"], &served.socket, 3, "no server \"a@[fe80::1%12]:80\""),
        (&["ctl", "rebalance", "wbe"], &served.socket, 3, "no pool \"wbe\""),
        (&["ctl", "confirm"], &served.socket, 3, "no reload waits"),
        (&["ctl", "status"], nowhere, 1, "a table [admin]"),
        (&["conns"], nowhere, 1, "nobody listens on /nonexistent"),
        (&["ctl", "kill"], &served.socket, 2, "--all"),
        (&["ctl", "kill", "--all", "--pool", "web"], &served.socket, 2, "--all goes with no condition"),
        (&["ctl", "kill", "--pool", "web", "--rate", "50"], &served.socket, 2, "from 1/s"),
        (&["ctl", "drain", "alpha"], &served.socket, 2, "web/alpha"),
        (&["ctl", "weight", "web/alpha", "65536"], &served.socket, 2, "65536"),
        (&["ctl", "log-level", "loud"], &served.socket, 2, "debug"),
        (&["ctl", "reload", "--confirm", "60"], &served.socket, 2, "the units are"),
        (&["conns", "--older-than", "500"], &served.socket, 2, "`older_than`: expected a duration"),
        (&["ctl", "kill", "--source", "10.0.0.0/33"], &served.socket, 2, "`source`: expected"),
    ] {
        let (got, out, err) = run(args, socket);
        assert_eq!((got, out.as_str()), (code, ""), "{args:?}: {err}");
        assert!(err.contains(part), "{args:?}: {err}");
    }
    assert_eq!(served.fake.changes(), [""; 0]);
}
