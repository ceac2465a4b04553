//! The lab as a user runs it: short runs, and what it says of proxies that fail, lie or die.

#![cfg(all(feature = "lab", target_os = "linux"))]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::service::installed;
use tempfile::TempDir;
use tidegate::lab::results::{Cell, Results};

fn lab(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let rounds: &[&str] = if arguments.contains(&"--rounds") { &[] } else { &["--rounds", "1"] };
    command.args(["lab", "run", "--quick"]).args(rounds).args(arguments);
    command.stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text)).concat()
}

/// Runs the lab; what it wrote, its exit code, and what it said.
fn results(directory: &TempDir, arguments: &[&str]) -> (Results, Option<i32>, String) {
    let out = directory.path().join("report");
    let output = lab(arguments).arg("--out").arg(&out).output().expect("the program starts");
    let said = said(&output);
    (read(&out).unwrap_or_else(|| panic!("no results: {said}")), output.status.code(), said)
}

fn read(out: &Path) -> Option<Results> {
    let text = fs::read_to_string(out.join("results.json")).ok()?;
    let report = fs::read_to_string(out.join("report.html")).ok()?;
    assert!(report.starts_with("<!DOCTYPE html>"), "{}", &report[..80.min(report.len())]);
    Some(serde_json::from_str(&text).expect("it is JSON of this format"))
}

fn cell<'r>(results: &'r Results, subject: &str, workload: &str) -> &'r Cell {
    let is_it = |cell: &&Cell| cell.subject == subject && cell.workload == workload;
    results.cells.iter().find(is_it).expect("every subject has a cell of every workload")
}

/// A program that stands in for Python, and starts the peer `script` instead of ours.
fn false_python(directory: &TempDir, script: &str) -> PathBuf {
    let [python, proxy] = ["python", "other.py"].map(|name| directory.path().join(name));
    fs::write(&proxy, script).unwrap();
    let shell = format!(
        "#!/bin/sh\ncase \"$1\" in\n-c) echo \"$0\" ;;\n--version) echo Python 0 ;;\n*) shift; exec python3 {} \"$@\" ;;\nesac\n",
        proxy.display()
    );
    fs::write(&python, shell).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    python
}

/// A proxy that passes on what `change` makes of each piece towards the client.
fn changing(change: &str) -> String {
    format!(
        r#"
import asyncio, sys
ip, port, back_ip, back_port = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
async def pump(source, target, change):
    try:
        while piece := await source.read(65536):
            target.write(change(piece))
            await target.drain()
        target.write_eof()
    except OSError:
        target.close()
async def serve(source, target):
    back, front = await asyncio.open_connection(back_ip, back_port)
    await asyncio.gather(pump(source, front, lambda it: it), pump(back, target, lambda piece: {change}))
async def main():
    await (await asyncio.start_server(serve, ip, port, backlog=1024)).serve_forever()
asyncio.run(main())
"#
    )
}

#[test]
fn a_short_run_measures_engines_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--engines", "mio,threads", "--peers", "none", "--workloads", "integrity,pp64,churn"];
    let (results, code, said) = results(&directory, &arguments);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("report.html") && said.contains("pp64"), "{said}");
    for subject in ["direct", "mio", "threads"] {
        for workload in ["integrity", "pp64", "churn"] {
            let cell = cell(&results, subject, workload);
            assert!(cell.failures.is_empty(), "{:?}", cell.failures);
            let [round] = &cell.rounds[..] else { panic!("{subject} {workload}: {cell:?}") };
            assert!(round.units > 0.0 && round.cpu_per_unit() > 0.0 && round.bytes > 0, "{round:?}");
            assert_eq!(round.calls.is_some(), subject != "direct", "{round:?}");
        }
    }
    let latency = cell(&results, "mio", "pp64").rounds[0].latency.expect("replies have one");
    assert!(latency.p50 > 0.0 && latency.p50 <= latency.p99 && latency.p99 <= latency.max, "{latency:?}");
    let info = results.subjects.iter().find(|it| it.name == "mio").unwrap();
    assert!(info.configuration.contains("engine = \"mio\""), "{}", info.configuration);
}

#[test]
fn the_program_s_own_counts_are_those_of_the_tracer() {
    if !installed(&["strace"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let arguments = ["--engines", "mio,io_uring", "--peers", "none", "--workloads", "pp1"];
    let (results, _, said) = results(&directory, &arguments);
    let subjects = results.subjects.iter().filter(|it| it.name != "direct" && it.absent.is_none());
    for subject in subjects {
        let census = cell(&results, &subject.name, "pp1").census.as_ref().unwrap_or_else(|| panic!("{said}"));
        assert!(census.messages > 10.0, "{census:?}");
        assert_eq!(census.differences, Vec::<String>::new(), "{}: {census:?}", subject.name);
        let calls: u64 = census.traced.values().map(|count| count.calls).sum();
        let a_message = calls as f64 / census.messages;
        assert!((0.9..4.0).contains(&a_message), "{}: {a_message} calls a message", subject.name);
    }
}

#[test]
fn a_proxy_that_changes_a_byte_fails_its_cells_and_no_others() {
    if !installed(&["python3"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let python = false_python(
        &directory,
        &changing("piece[:50] + bytes([piece[50] ^ 1]) + piece[51:] if len(piece) > 50 else piece"),
    );
    let peer = format!("asyncio={}", python.display());
    let arguments =
        ["--engines", "mio", "--peers", "asyncio", "--peer", &peer, "--workloads", "integrity,pp1"];
    let (results, code, said) = results(&directory, &arguments);
    assert_eq!(code, Some(0), "another's failure is not ours: {said}");
    for (workload, words) in [("integrity", "came back changed"), ("pp1", "arrived changed")] {
        let cell = cell(&results, "asyncio", workload);
        assert!(cell.rounds.is_empty() && cell.failures[0].cause.contains(words), "{cell:?}");
        assert_eq!(self::cell(&results, "mio", workload).rounds.len(), 1);
    }
}

#[test]
fn a_proxy_that_loses_a_byte_fails_its_cell() {
    if !installed(&["python3"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // The last byte of one piece: nothing that arrives is wrong, and it is one too few.
    let lossy = changing("piece[:-1] if len(piece) == 65536 else piece");
    let peer = format!("asyncio={}", false_python(&directory, &lossy).display());
    let arguments = ["--engines", "none", "--peers", "asyncio", "--peer", &peer, "--workloads", "integrity"];
    let (results, _, said) = results(&directory, &arguments);
    let cell = cell(&results, "asyncio", "integrity");
    assert!(cell.rounds.is_empty() && !cell.failures.is_empty(), "{said}");
}

#[test]
fn a_proxy_that_dies_or_never_listens_has_its_last_words_in_the_results() {
    if !installed(&["python3"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (script, words, cause) in [
        ("import sys\nsys.exit('no more ink')", "no more ink", "exit code 1"),
        (
            &changing(
                "[print('out of paper', file=sys.stderr), sys.stderr.flush(), __import__('os')._exit(3)]",
            ),
            "out of paper",
            "exit code 3",
        ),
    ] {
        let peer = format!("asyncio={}", false_python(&directory, script).display());
        let arguments = ["--engines", "mio", "--peers", "asyncio", "--peer", &peer, "--workloads", "pp1"];
        let (results, code, said) = results(&directory, &arguments);
        let failure = cell(&results, "asyncio", "pp1").failures.first().unwrap_or_else(|| panic!("{said}"));
        assert!(failure.last_words.contains(words) && failure.cause.contains(cause), "{failure:?}");
        assert_eq!((code, cell(&results, "mio", "pp1").rounds.len()), (Some(0), 1), "{said}");
    }
}

#[test]
fn names_that_nobody_has_are_answered_with_those_that_there_are() {
    for (arguments, words) in [
        (["--engines", "epol"], "mio, mio+splice, io_uring, threads, epoll_level, poll, select, sigio, aio"),
        (["--peers", "squid"], "haproxy, nginx, envoy, node, asyncio"),
        (["--workloads", "pp2"], "integrity, pp1, pp64, pp1000"),
        (["--peer", "haproxy"], "and a file, such as"),
        (["--build", "a/b=c"], "a name of letters"),
        (["--rounds", "0"], "0"),
    ] {
        let output = lab(&arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
    }
}

#[test]
fn what_does_not_fit_is_said_before_the_run_and_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_tidegate");
    let script = format!(
        "ulimit -n 600; exec {program} lab run --quick --rounds 1 --engines mio --peers none \
         --workloads pp1000,pp1,churn --out {}/report",
        directory.path().display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let said = said(&output);
    assert!(
        said.contains("left out: pp1000 needs 2300 descriptors") && said.contains("ulimit -n 2300"),
        "{said}"
    );
    let results = read(&directory.path().join("report")).expect("the rest was measured");
    assert!(cell(&results, "mio", "pp1000").skipped.is_some());
    for fits in ["pp1", "churn"] {
        assert_eq!(cell(&results, "mio", fits).rounds.len(), 1, "{:?}", cell(&results, "mio", fits));
    }
}

#[test]
fn an_interrupt_ends_the_run_and_keeps_what_was_measured() {
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("report");
    let mut run =
        lab(&["--engines", "mio", "--peers", "none", "--workloads", "pp1,pp64,churn", "--rounds", "50"]);
    let mut run = run.arg("--out").arg(&out).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(run.stderr.take().unwrap()).lines().map_while(Result::ok);
    // The first round is over.
    assert!(lines.any(|line| line.contains("round 2 of 50")));
    kill_process(Pid::from_child(&run), Signal::INT).unwrap();
    lines.for_each(drop);
    assert_eq!(run.wait().unwrap().code(), Some(0));
    let results = read(&out).expect("a report");
    assert!(results.about.interrupted);
    let rounds = cell(&results, "mio", "pp1").rounds.len();
    assert!((1..50).contains(&rounds), "{rounds}");
}
