//! The end of a process that has a bug.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use signal_hook::consts::SIGABRT;

use super::*;

/// Set in the process that is to panic.
const PANIC: &str = "TIDEGATE_TEST_PANIC";

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
