//! Lists of servers that stand in files and are written anew, well and badly.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate::control::model::{List, Serving};

use crate::control::{File, Run, goes_on, place};
use crate::echo::{Echo, Load, session};
use crate::real::{assert_none_failed, servers, wait_for_servers};
use crate::support::PATIENCE;
use crate::support::peer::End;

/// A file with a list.
struct Sheet {
    folder: TempDir,
}

impl Sheet {
    fn new(text: &str) -> Self {
        let sheet = Self { folder: tempfile::tempdir().unwrap() };
        sheet.replace(text);
        sheet
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("servers")
    }

    /// Puts another file in its place, as is right.
    fn replace(&self, text: impl AsRef<[u8]>) {
        let new = self.folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    /// Writes into it, as is wrong.
    fn write(&self, text: impl AsRef<[u8]>) {
        fs::write(self.path(), text).unwrap();
    }
}

pub(crate) fn toml(servers: &[SocketAddr]) -> String {
    servers.iter().map(|at| format!("[[server]]\nname = \"s{}\"\naddr = \"{at}\"\n", at.ip())).collect()
}

pub(crate) fn json(servers: &[SocketAddr]) -> String {
    let all: Vec<String> =
        servers.iter().map(|at| format!("{{\"name\": \"s{}\", \"addr\": \"{at}\"}}", at.ip())).collect();
    format!("[{}]\n", all.join(", "))
}

pub(crate) fn name(at: SocketAddr) -> String {
    format!("s{}@{at}", at.ip())
}

/// A pool `p` of the servers of that file alone.
fn file(path: &Path) -> File {
    let list = format!("servers_file = \"{}\"", path.display());
    File::new("mio")
        .listen("l", "127.0.0.1:0", "p")
        .set("pool.p", format!("balance = \"round_robin\"\nservers_poll = \"100ms\"\n{list}"))
}

fn list(run: &Run) -> List {
    run.status().lists.remove(0)
}

fn looks(run: &Run, result: &str) -> u64 {
    list(run).looks[result]
}

#[test]
fn new_connections_follow_a_list_under_load() {
    let echoes = [Echo::start(), Echo::start(), Echo::start()];
    let [a, b, c] = echoes.each_ref().map(Echo::address);
    let sheet = Sheet::new(&toml(&[a]));
    let run = Run::start(&file(&sheet.path()).add("pool.p", "on_removed = \"keep\""));
    wait_for_servers(&run, &[a]);
    let mut kept = run.session();
    let listed = run.server(&name(a));
    assert_eq!(listed.origin, format!("servers_file {}", sheet.path().display()));
    let load = Load::start(run.gate.address_of("l"), 4);
    let mut slowest = Duration::ZERO;
    let turns: [&[SocketAddr]; 4] = [&[b, c], &[c], &[a, b, c], &[b]];
    for round in 0..24 {
        let all = turns[round % 4];
        let text = if round % 2 == 0 { json(all) } else { toml(all) };
        let (refused, in_place) = (looks(&run, "refused"), round % 3 == 0);
        let began = Instant::now();
        if in_place {
            sheet.write(&text);
        } else {
            sheet.replace(&text);
        }
        wait_for_servers(&run, all);
        slowest = slowest.max(began.elapsed());
        // Only a file that is written in place may be met half done, once.
        assert!(looks(&run, "refused") - refused <= u64::from(in_place), "round {round}");
    }
    println!("followed after {slowest:?} at most");
    let before = echoes[0].served();
    let after = echoes[1].served();
    let began = Instant::now();
    while echoes[1].served() < after + 50 {
        assert!(began.elapsed() < PATIENCE, "nobody follows");
        thread::sleep(Duration::from_millis(10));
    }
    let late = echoes[0].served() - before;
    assert!(late <= 8, "{late} sessions went to a server that is not in the list");
    assert_none_failed(load);
    goes_on(&mut kept);
    assert!(run.gate.logs(|line| line.contains(&format!("server p/{} has come (servers_file ", name(b)))));
    assert_eq!(looks(&run, "changed"), 25);
}

/// Whatever is found instead of a list: who serves goes on, what is wrong is told once, and counted.
#[test]
fn what_is_no_list_takes_nothing_away() {
    let echoes = [Echo::start(), Echo::start()];
    let [a, b] = echoes.each_ref().map(Echo::address);
    let sheet = Sheet::new(&toml(&[a]));
    let file = file(&sheet.path());
    let run = Run::start(&file);
    wait_for_servers(&run, &[a]);
    let mut kept = run.session();
    let load = Load::start(run.gate.address_of("l"), 2);
    let half = toml(&[a, b]);
    let bad: [(&[u8], &str); 7] = [
        (b"", "it has no servers"),
        (b"[]", "it has no servers"),
        (&half.as_bytes()[..half.len() - 9], "line 6, column "),
        (b"[[server]]\nname = \"a\"\naddr = \"10.0.0.1\"\n", "line 3, column 8: \"10.0.0.1\" has no port"),
        (b"\x7fELF\x02\x01\x01\0\0", "line 1, column 10: "),
        (b"[{\"name\": \"a\"}]", "line 1, column 14: missing field `addr`"),
        (&[b' '; (1 << 20) + 1], "it is longer than 1048576 bytes"),
    ];
    for (text, said) in bad {
        let count = looks(&run, "refused");
        sheet.replace(text);
        run.wait_for(said, |status| {
            status.lists[0].looks["refused"] >= count + 2 && status.lists[0].reason.contains(said)
        });
        assert_eq!(servers(&run.status()), [a.to_string()], "{said}");
        sheet.replace(toml(&[a]));
        run.wait_for("the list", |status| status.lists[0].last_result.as_deref() == Some("same"));
    }
    fs::remove_file(sheet.path()).unwrap();
    run.wait_for("no file", |status| status.lists[0].looks["failed"] >= 2);
    // A reload in between forgets nothing.
    run.reload(&file.add("pool.p", "close_rate = \"50/s\""));
    run.wait_for("no file", |status| status.lists[0].looks["failed"] >= 4);
    wait_for_servers(&run, &[a]);
    assert!(list(&run).reason.contains("No such file"), "{:?}", list(&run));
    assert_none_failed(load);
    goes_on(&mut kept);
    sheet.replace(toml(&[b]));
    wait_for_servers(&run, &[b]);
    let told = |words: &str| run.gate.log_lines().iter().filter(|line| line.contains(words)).count();
    assert!(run.gate.logs(|line| line.contains("is well again")));
    assert_eq!(told("line 3, column 8"), 1, "{:#?}", run.gate.log_lines());
    assert_eq!(told("No such file"), 1);
    assert!(told("the one server of the last good list stays") >= 8);
}

#[test]
fn sessions_of_a_server_that_leaves_its_list_drain() {
    let echoes = [Echo::start(), Echo::start()];
    let [a, b] = echoes.each_ref().map(Echo::address);
    let sheet = Sheet::new(&json(&[a]));
    let run = Run::start(&file(&sheet.path()));
    wait_for_servers(&run, &[a]);
    let mut client = run.session();
    sheet.replace(json(&[b]));
    assert_eq!(client.receive_to_end(), End::Fin);
    assert_eq!(run.cause(client.address()), "server_removed");
    assert!(run.gate.logs(|line| {
        line.contains(
            "was removed: 1 connections are asked to leave at their next quiet moment, 100 a second",
        )
    }));
    goes_on(&mut run.session());
    assert_eq!(echoes[1].served(), 1);
}

/// Where checks decide, servers that leave serve until those that come are known to be well.
#[test]
fn checked_servers_of_a_list_are_replaced_without_a_gap() {
    let echoes = [Echo::start(), Echo::start()];
    let [a, b] = echoes.each_ref().map(Echo::address);
    // The same name with another address: another server.
    let one = |at: SocketAddr| format!("[[server]]\nname = \"one\"\naddr = \"{at}\"\n");
    let sheet = Sheet::new(&one(a));
    let file = file(&sheet.path()).add("pool.p", "on_removed = \"keep\"");
    let run = Run::start(&file.set("pool.p.check", "interval = \"200ms\"\ntimeout = \"500ms\""));
    wait_for_servers(&run, &[a]);
    let load = Load::start(run.gate.address_of("l"), 4);
    for _ in 0..5 {
        for at in [b, a] {
            sheet.replace(one(at));
            wait_for_servers(&run, &[at]);
        }
    }
    assert_none_failed(load);
    assert!(!run.gate.log_lines().iter().any(|line| line.contains("has no server left")));
}

/// Neither does a file that is not there keep the process from starting, nor one whose reading would not end.
#[test]
fn a_list_never_blocks_the_start() {
    let echo = Echo::start();
    let at = echo.address();
    let sheet = Sheet::new("");
    fs::remove_file(sheet.path()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        sheet.path(),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let run = Run::start(&file(&sheet.path()));
    let client = run.gate.resets_a_client();
    assert_eq!(run.gate.access(client).cause, "no_server");
    assert_eq!((run.status().pools[0].serving, list(&run).age_s), (Serving::Nobody, None));
    assert!(list(&run).reason.contains("it is a FIFO"), "{:?}", list(&run));
    sheet.replace(json(&[at]));
    wait_for_servers(&run, &[at]);
    session(run.gate.address_of("l")).expect("it is found");
    drop(run);

    fs::remove_file(sheet.path()).unwrap();
    fs::create_dir(sheet.path()).unwrap();
    let run = Run::start(&file(&sheet.path()));
    assert!(list(&run).reason.contains("it is a directory"), "{:?}", list(&run));
    drop(run);

    fs::remove_dir(sheet.path()).unwrap();
    let run = Run::start(&file(&sheet.path()));
    run.gate.resets_a_client();
    assert!(
        run.gate.logs(|line| line.contains("No such file") && line.contains("it has given no servers yet"))
    );
    sheet.replace(json(&[at]));
    wait_for_servers(&run, &[at]);
    session(run.gate.address_of("l")).expect("it is found");
}

/// Attributes follow; those that an operator has set go before them, also after a reload.
#[test]
fn what_a_list_says_of_a_server_yields_to_what_is_set() {
    let [a, b] = [place(), place()];
    let text = |more: &str| {
        format!(
            "[[server]]\nname = \"a\"\naddr = \"{a}\"\n{more}\n[[server]]\nname = \"b\"\naddr = \"{b}\"\n"
        )
    };
    let sheet = Sheet::new(&text(""));
    let file = file(&sheet.path());
    let run = Run::start(&file);
    wait_for_servers(&run, &[a, b]);
    sheet.replace(text("weight = 7\nmaxconn = 9\nbackup = true\nstate = \"drain\""));
    let of_a = || run.server(&format!("a@{a}"));
    run.wait_for("the weight", |_| of_a().weight == 7);
    assert_eq!((of_a().maxconn, of_a().backup, of_a().state.name()), (Some(9), true, "drain"));
    assert!(run.ctl(&["weight", "p/a", "3"]).well().contains("server p/a: weight 7 -> 3"));
    run.ctl(&["drain", &format!("p/b@{b}")]).well();
    run.reload(&file.clone().add("pool.p", "close_rate = \"50/s\""));
    sheet.replace(text("weight = 8"));
    run.wait_for("no backup", |_| !of_a().backup);
    assert_eq!((of_a().weight, of_a().file_weight), (3, Some(8)));
    assert_eq!(run.server(&format!("b@{b}")).state.name(), "drain");
    // Also where the list says the same at that moment, and until it is taken back.
    sheet.replace(text("weight = 9\nstate = \"drain\""));
    run.wait_for("the list's", |_| of_a().file_weight == Some(9));
    let said = run.ctl(&["drain", "p/a"]).well();
    assert!(said.contains("is drain already") && said.contains("whatever the list says"), "{said}");
    sheet.replace(text("weight = 10"));
    run.wait_for("the list's", |_| of_a().file_weight == Some(10));
    assert_eq!(
        (of_a().state.name(), of_a().file_state.map(tidegate::config::ServerState::name)),
        ("drain", Some("ready"))
    );
    run.ctl(&["ready", "p/a"]).well();
    sheet.replace(text("weight = 11\nstate = \"drain\""));
    run.wait_for("the list's", |_| of_a().file_weight == Some(11));
    assert_eq!((of_a().state.name(), of_a().file_state), ("drain", None));
    let refused = run.ctl(&["weight", "p/c", "1"]).refused();
    assert!(refused.contains("there is no server \"c\""), "{refused}");
    run.wait_for("no change", |status| status.lists[0].last_result.as_deref() == Some("same"));
    let table = run.ctl(&["status"]).well();
    assert!(table.contains("servers_file") && table.contains("same"), "{table}");
}

/// A list stands beside servers of the configuration and keeps their names apart; a reload takes it up and leaves it.
#[test]
fn a_reload_brings_a_list_without_a_gap() {
    let echoes = [Echo::start(), Echo::start()];
    let [a, b] = echoes.each_ref().map(Echo::address);
    let sheet = Sheet::new(&format!("[[server]]\nname = \"one\"\naddr = \"{a}\"\n{}", toml(&[b])));
    let both = file(&sheet.path()).add("pool.p", "on_removed = \"keep\"");
    let both = both.add("pool.p", format!("server = [{{ name = \"one\", addr = \"{a}\" }}]"));
    let table = both.table("pool.p");
    let own: Vec<&str> = table.lines().filter(|line| !line.contains("servers_file")).collect();
    let own = both.clone().set("pool.p", own.join("\n"));
    let run = Run::start(&own);
    let load = Load::start(run.gate.address_of("l"), 4);
    for _ in 0..3 {
        let said = run.reload(&both);
        assert!(said.contains("pool p: has the servers of servers_file "), "{said}");
        wait_for_servers(&run, &[a, b]);
        assert_eq!(list(&run).left_out, 1);
        let said = run.reload(&own);
        assert!(said.contains(" is left, and its servers are removed"), "{said}");
        wait_for_servers(&run, &[a]);
        assert!(run.status().lists.is_empty());
    }
    assert_none_failed(load);
}

/// What was known before a reload that is taken back is known again, though nobody can say it any more.
#[test]
fn a_reload_that_is_taken_back_has_its_list_back() {
    let echoes = [Echo::start(), Echo::start()];
    let [a, b] = echoes.each_ref().map(Echo::address);
    let sheet = Sheet::new(&toml(&[a]));
    let both = file(&sheet.path()).add("pool.p", "on_removed = \"keep\"");
    let run = Run::start(&both);
    wait_for_servers(&run, &[a]);
    let own = format!("server = [{{ name = \"own\", addr = \"{b}\" }}]");
    run.write(&both.clone().set("pool.p", own));
    run.ctl(&["reload", "--confirm", "60s"]).well();
    wait_for_servers(&run, &[b]);
    fs::remove_file(sheet.path()).unwrap();
    let load = Load::start(run.gate.address_of("l"), 4);
    run.ctl(&["rollback"]).well();
    assert_eq!(servers(&run.status()), [a.to_string()]);
    run.wait_for("no file", |status| status.lists[0].looks["failed"] >= 2);
    assert_eq!((servers(&run.status()), looks(&run, "changed")), (vec![a.to_string().as_str()], 1));
    assert_none_failed(load);
}
