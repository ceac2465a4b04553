//! The end of a process that has a bug.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use signal_hook::consts::SIGABRT;

use super::*;

/// Set in the process that is to panic.
const PANIC: &str = "TIDEGATE_TEST_PANIC";

#[test]
fn splicing_that_is_asked_for_in_vain_is_told() {
    let told = |engine, splice| {
        let text = format!(
            "process = {{ engine = \"{engine}\", splice = \"{splice}\" }}\n\
             [listener.l]\nbind = [\"127.0.0.1:0\"]\npool = \"p\"\n\
             [pool.p]\nserver = [{{ name = \"s\", addr = \"127.0.0.1:1\" }}]\n"
        );
        let config = crate::config::parse(&text, "test").expect("it is right");
        let sets = Sets::choose(&config, 1, |_| Ok(())).expect("every engine runs");
        splicing_in_vain(&config, &sets).join("; ")
    };
    assert_eq!(told("threads", "off"), "");
    assert!(told("io_uring", "auto").contains("io_uring does not splice"));
    let can = cfg!(target_os = "linux") && sys::Pipe::new().is_ok();
    assert_eq!(told("mio", "auto").is_empty(), can);
}

/// Runs itself again in a process of its own, where a thread panics after the hook was set.
#[test]
fn a_panic_of_a_worker_ends_the_process() {
    if std::env::var_os(PANIC).is_some() {
        abort_on_panic();
        let worker =
            thread::Builder::new().name("worker-0".to_string()).spawn(|| panic!("as the test wants"));
        let _ = worker.expect("a thread").join();
        // Half alive: what must not be.
        std::process::exit(0);
    }
    let test = "process::tests::a_panic_of_a_worker_ends_the_process";
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", test, "--nocapture"])
        .env(PANIC, "1")
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(SIGABRT), "{:?}: {complaint}", output.status);
    for part in ["as the test wants", "tidegate: worker-0 panicked: this is a bug"] {
        assert!(complaint.contains(part), "{part:?} is missing in: {complaint}");
    }
}
