//! What is handed over is for this process alone: those that it starts find nothing of it in their environment. It is
//! taken out only where there is one thread, so this test is a program of its own without the usual frame.

/// What must not be passed on, with a value that means this process.
#[cfg(target_os = "linux")]
const VARIABLES: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

#[cfg(target_os = "linux")]
fn main() {
    use std::env;
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;
    use std::time::Duration;

    use tidegate::sys::supervisor::{Socket, handed_over};

    if env::var_os("NOTIFY_SOCKET").is_none() {
        let exec = "WATCHDOG_PID=$$ LISTEN_PID=$$ exec \"$0\" 3</dev/null";
        let given = [
            ("NOTIFY_SOCKET", "@nobody"),
            ("WATCHDOG_USEC", "1000000"),
            ("LISTEN_FDS", "2"),
            ("LISTEN_FDNAMES", "a:b"),
        ];
        let program = env::current_exe().expect("this test");
        panic!("{}", Command::new("sh").args(["-c", exec]).arg(program).envs(given).exec());
    }
    let handed = handed_over();
    assert!(handed.reports.is_some());
    assert_eq!(handed.watchdog, Some(Duration::from_secs(1)));
    let names: Vec<&str> = handed.sockets.iter().map(Socket::name).collect();
    assert_eq!(names, ["a"], "the second is not open");
    let child = Command::new("sh").args(["-c", "env; ls -l /proc/self/fd"]).output().expect("a shell");
    let said = String::from_utf8_lossy(&child.stdout);
    for variable in VARIABLES {
        assert!(!said.contains(variable), "{variable} is passed on: {said}");
        assert!(env::var_os(variable).is_none(), "{variable} stays");
    }
    assert!(!said.contains(" 3 -> /dev/null"), "the descriptor is passed on: {said}");
    assert!(handed_over().reports.is_none(), "it is handed over once");
}

#[cfg(not(target_os = "linux"))]
fn main() {}
