//! Files, which somebody else renames.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use super::{end, key, lines_of, start, wait_until};
use crate::support::gate::Config;
use crate::support::servers::Server;

/// What logrotate does, under load: rename, signal, and the file is nobody's any more.
#[test]
fn rotated_files_have_every_line_once() {
    const ROUNDS: usize = 10;
    let folder = tempfile::tempdir().unwrap();
    let [log, access] = ["log", "access"].map(|name| folder.path().join(name));
    let server = Server::echo();
    let config = Config::new("mio")
        .workers(2)
        .server(server.address())
        .access_log(&key("output", &access))
        .access_log("format = \"template\"\ntemplate = \"{event} {id}\"\nevents = [\"open\", \"close\"]")
        .table("log", &key("output", &log));
    let gate = start(folder.path(), config);
    let (done, connections) = (AtomicBool::new(false), AtomicUsize::new(0));
    let sizes: Vec<usize> = thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    gate.echo(100);
                    connections.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let rotate = |round: usize| {
            wait_until("lines in the file", || lines_of(&access).len() >= 20);
            for path in [&log, &access] {
                fs::rename(path, path.with_extension(round.to_string())).unwrap();
            }
            gate.signal(Signal::USR1);
            wait_until("new files", || log.exists() && access.exists());
            lines_of(&access.with_extension(round.to_string())).len()
        };
        let sizes = (0..ROUNDS).map(rotate).collect();
        done.store(true, Ordering::Relaxed);
        sizes
    });
    end(gate);

    let rotated: Vec<_> =
        (0..ROUNDS).map(|round| lines_of(&access.with_extension(round.to_string()))).collect();
    assert_eq!(
        rotated.iter().map(Vec::len).collect::<Vec<_>>(),
        sizes,
        "a file grew after there was a new one"
    );
    let lines: Vec<String> = rotated.into_iter().flatten().chain(lines_of(&access)).collect();
    let total = connections.into_inner();
    println!("{total} connections, {} lines", lines.len());
    assert_eq!(lines.len(), total * 2);
    let of = |event: &str| -> BTreeSet<&str> {
        lines.iter().filter_map(|line| line.strip_prefix(event)?.strip_prefix(' ')).collect()
    };
    assert_eq!(of("open").len(), total, "an id came twice");
    assert_eq!(of("open"), of("close"));

    let told = |line: &String| line.contains("SIGUSR1");
    for round in 0..ROUNDS {
        let lines = lines_of(&log.with_extension(round.to_string()));
        assert_eq!(lines.iter().filter(|line| told(line)).count(), 1, "{lines:?}");
    }
    let last = lines_of(&log);
    assert!(!last.iter().any(told) && last.last().unwrap().contains("stopped"), "{last:?}");
}

#[test]
fn files_whose_folder_is_gone_are_written_on_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let [logs, gone] = ["logs", "gone"].map(|name| folder.path().join(name));
    fs::create_dir(&logs).unwrap();
    let server = Server::echo();
    let config = Config::new("mio")
        .server(server.address())
        .access_log(&key("output", &logs.join("access")))
        .table("log", &key("output", &logs.join("log")));
    let gate = start(folder.path(), config);
    fs::rename(&logs, &gone).unwrap();
    gate.signal(Signal::USR1);
    let told =
        |line: &str| line.contains("log.output = ") && line.contains("cannot open it anew: No such file");
    assert!(gate.logs(|line| line.starts_with("tidegate: ") && told(line)), "nothing on the standard error");
    wait_until("lines about both", || {
        let lines = lines_of(&gone.join("log"));
        let about = |key: &str| lines.iter().any(|line| line.contains("level=error") && line.contains(key));
        about("log.output = ") && about("log.access.output = ")
    });
    gate.echo(10);
    wait_until("a line in the old file", || lines_of(&gone.join("access")).len() == 1);

    fs::create_dir(&logs).unwrap();
    gate.signal(Signal::USR1);
    wait_until("new files", || logs.join("access").exists() && logs.join("log").exists());
    gate.echo(10);
    end(gate);
    assert_eq!(lines_of(&logs.join("access")).len(), 1);
    assert_eq!(lines_of(&gone.join("access")).len(), 1);
}

/// An open when the server is reached, a close at the end, with the same id; for what reached none, a close.
#[test]
fn opens_are_told_when_the_server_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let access = folder.path().join("access");
    let refusing = crate::support::servers::Refusing::new();
    let server = Server::echo();
    let config = Config::new("mio")
        .server(refusing.address())
        .server(server.address())
        .access_log(&key("output", &access))
        .access_log("events = [\"open\", \"close\"]");
    let gate = start(folder.path(), config);
    let json =
        |index: usize| -> serde_json::Value { serde_json::from_str(&lines_of(&access)[index]).unwrap() };

    let mut client = gate.connect();
    client.expect_echo();
    client.send(10);
    client.receive(10);
    wait_until("a line of the open", || lines_of(&access).len() == 1);
    thread::sleep(Duration::from_millis(200));
    client.finish();
    client.receive_to_end();
    wait_until("a line of the close", || lines_of(&access).len() == 2);
    let [open, close] = [json(0), json(1)];
    assert_eq!([&open["event"], &close["event"]], ["open", "close"]);
    let second = |line: &str| line.split(',').nth(1).map(str::to_owned);
    assert_eq!(second(&lines_of(&access)[0]).as_deref(), Some("\"event\":\"open\""));
    for same in [
        "id",
        "listener",
        "client",
        "pool",
        "server",
        "server_addr",
        "tries",
        "connect_ms",
        "engine",
        "worker",
    ] {
        assert!(!open[same].is_null(), "{same}");
        assert_eq!(open[same], close[same], "{same}");
    }
    assert_eq!((&open["server"], &open["tries"]), (&"s1".into(), &2.into()));
    assert_eq!(open["duration_ms"], open["connect_ms"]);
    assert!(close["duration_ms"].as_u64() >= Some(200));
    assert_eq!([&open["bytes_in"], &open["bytes_out"]], [0, 0]);
    assert_eq!([&close["bytes_in"], &close["bytes_out"]], [10, 10]);
    assert!(["cause", "closer", "hap_ts"].iter().all(|absent| open[absent].is_null()));
    assert_eq!(close["cause"], "done");

    drop(server);
    let mut client = gate.connect();
    client.receive_to_end();
    wait_until("a line of the other close", || lines_of(&access).len() == 3);
    assert_eq!([&json(2)["event"], &json(2)["cause"]], ["close", "connect_refused"]);
}
