//! Where the lines of the running program go, and what reads them.

mod daemons;
mod files;
mod haproxy;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::PATIENCE;
use crate::support::gate::{Config, Gate};

/// A key of the configuration that is a path.
fn key(name: &str, path: &Path) -> String {
    format!("{name} = \"{}\"", path.display())
}

/// The program on a unix socket in `folder`, so that no log is needed to find it.
fn start(folder: &Path, config: Config) -> Gate {
    Gate::start_unheard("true", config, &folder.join("front"))
}

fn lines_of(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Waits until that is so.
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "it never came to that: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Ends it as an administrator would.
fn end(mut gate: Gate) {
    gate.signal(Signal::TERM);
    let status = gate.wait_exit(PATIENCE).expect("it ends when no connection is left");
    assert!(status.success(), "{status}");
}
