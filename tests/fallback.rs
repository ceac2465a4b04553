//! An engine that the kernel refuses: another takes its place and the log says why, or the start is refused.
//!
//! strace answers in the kernel's place, as a kernel without io_uring does, or one that forbids it.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod support;

use std::process::Command;

use support::gate::{Config, Gate, refusal};
use support::servers::Server;
use support::service::installed;

/// Puts the program under strace, as the same process, which has every try to make a ring fail with `error`.
fn refusing(error: &str) -> String {
    format!(
        "exec strace -D -f -qq -o /dev/null -e trace=io_uring_setup -e inject=io_uring_setup:error={error} \
         \"$0\" \"$@\""
    )
}

#[test]
fn mio_stands_in_for_io_uring_and_the_log_says_why() {
    if !installed(&["strace"]) {
        return;
    }
    for error in ["EPERM", "ENOSYS"] {
        let server = Server::echo();
        let config = Config::new("io_uring").with_fallback().workers(2).server(server.address());
        let gate = Gate::start_under(&refusing(error), &config);
        gate.echo(100);
        let lines = gate.log_lines();
        let told: Vec<_> =
            lines.iter().filter(|line| line.contains("engine io_uring cannot run here: ")).collect();
        assert_eq!(told.len(), 1, "{lines:#?}");
        assert!(
            told[0].contains("level=warn") && told[0].contains("; mio stands in for it; help: "),
            "{told:?}"
        );
        assert!(lines.iter().any(|line| line.contains("workers 2 mio, maxconn")), "{lines:#?}");
        assert!(gate.stop().iter().all(|access| access.engine == "mio"));
    }
}

#[test]
fn without_the_fall_back_the_start_is_refused_with_the_cause_and_the_cure() {
    if !installed(&["strace"]) {
        return;
    }
    for error in ["EPERM", "ENOSYS"] {
        let server = Server::echo();
        let of_process = Config::new("io_uring").server(server.address());
        let of_listener = Config::new("mio").listener("engine = \"io_uring\"").server(server.address());
        for (config, beginning) in [
            (of_process, "tidegate: engine io_uring cannot run here: "),
            (of_listener, "tidegate: listener l: engine io_uring cannot run here: "),
        ] {
            let (status, said) = refusal(&refusing(error), &config);
            assert_eq!(status.expect("it ends").code(), Some(1), "{said}");
            let [cause, help] = said.lines().collect::<Vec<_>>()[..] else { panic!("not two lines: {said}") };
            assert!(cause.starts_with(beginning) && cause.len() > beginning.len(), "{said}");
            assert!(help.starts_with("  = help: ") && help.len() > 20, "{said}");
        }
    }
}

/// Limits may allow a ring and not one for each worker: found out before anything is bound, too.
#[test]
fn a_ring_for_one_of_two_workers_is_not_enough() {
    if !installed(&["strace"]) {
        return;
    }
    let server = Server::echo();
    let config = |workers| Config::new("io_uring").workers(workers).server(server.address());
    let second_fails = refusing("ENOMEM:when=2+");
    Gate::start_under(&refusing("ENOMEM:when=3+"), &config(1)).echo(100);
    let (status, said) = refusal(&second_fails, &config(2));
    assert_eq!(status.expect("it ends").code(), Some(1), "{said}");
    assert!(said.starts_with("tidegate: engine io_uring cannot run here: no memory for the rings"), "{said}");
    assert!(said.contains("  = help: raise the limit of locked memory"), "{said}");
    let gate = Gate::start_under(&second_fails, &config(2).with_fallback());
    gate.echo(100);
    assert!(gate.logs(|line| line.contains("workers 2 mio, maxconn")));
}

/// What `tidegate engines` says is what the start would say.
#[test]
fn engines_says_so_beforehand() {
    if !installed(&["strace"]) {
        return;
    }
    let output = Command::new("sh")
        .args(["-c", &refusing("EPERM"), env!("CARGO_BIN_EXE_tidegate"), "engines", "--json"])
        .output()
        .expect("a shell");
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let row =
        rows.as_array().expect("rows").iter().find(|row| row["engine"] == "io_uring").expect("it is there");
    assert_eq!(row["runs_here"], false);
    let cause = row["cause"].as_str().expect("a cause");
    let (_, said) = refusal(&refusing("EPERM"), &Config::new("io_uring").server("127.0.0.1:1"));
    assert!(said.contains(cause), "{cause:?} is not in: {said}");
}
