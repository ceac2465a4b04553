//! The commands as a user types them: what is printed where, and the exit codes.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const GOOD: &str = r#"
[listener.web]
bind = ["127.0.0.1:8080"]
pool = "web"

[pool.web]
balance = "round_robin"
server = [
  { name = "a", addr = "127.0.0.1:9001" },
  { name = "b", addr = "127.0.0.1:9002" },
]
"#;

/// The commands that read a configuration.
const COMMANDS: &[&str] = if cfg!(feature = "lab") { &["run", "check", "demo"] } else { &["run", "check"] };

fn tidegate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate")).args(args).output().expect("the program starts")
}

fn out(output: &Output) -> &str {
    str::from_utf8(&output.stdout).expect("text")
}

fn err(output: &Output) -> &str {
    str::from_utf8(&output.stderr).expect("text")
}

/// A directory with `proxy.toml` in it.
fn with_config(text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("proxy.toml");
    fs::write(&file, text).expect("writable");
    let file = file.to_str().expect("text").to_owned();
    (directory, file)
}

#[test]
fn help_shows_commands_examples_exit_codes_and_the_default_file() {
    for flag in ["-h", "--help"] {
        let output = tidegate(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        for part in [
            "run",
            "check",
            "demo",
            "Examples:",
            "Exit codes:",
            "/etc/tidegate/proxy.toml",
            "docs/ARCHITECTURE.md",
            "docs/health.md",
            "docs/discovery.md",
        ] {
            assert!(out(&output).contains(part), "{flag}: {part:?} is missing in:\n{}", out(&output));
        }
        assert!(!out(&output).contains("demo-server"), "an inner command is shown");
    }
    for (command, parts) in [
        ("run", ["--engine", "--workers", "/etc/tidegate/proxy.toml", "Signals:"]),
        ("engines", ["--json", "Examples:", "[listener.NAME]", "mio"]),
        ("check", ["--quiet", "--format", "--dump", "Exit codes:"]),
        ("ctl", ["rollback", "weight", "Examples:", "tidegate ctl drain web/alpha"]),
        ("conns", ["--older-than", "--watch", "Examples:", "Exit codes:"]),
        ("diff", ["--config", "--socket", "tidegate diff -c", "Exit codes:"]),
        ("demo", ["--for", "--config", "Examples:", "Exit codes:"]),
    ] {
        let output = tidegate(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0));
        for part in parts {
            assert!(out(&output).contains(part), "{command}: {part:?} is missing in:\n{}", out(&output));
        }
    }
}

#[test]
fn version_is_the_package_s() {
    let first = format!("tidegate {}", env!("CARGO_PKG_VERSION"));
    for flag in ["-V", "--version"] {
        let output = tidegate(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(out(&output).lines().next(), Some(first.as_str()));
    }
    assert!(out(&tidegate(&["--version"])).contains("engines:"));
}

#[test]
fn a_wrong_command_line_is_2_and_says_what_is_wrong() {
    for (args, part) in [
        (&[][..], "Usage:"),
        (&["frobnicate"], "frobnicate"),
        (&["run", "--engine", "warp"], "no such engine"),
        (&["run", "--engine", "uring"], "did you mean io_uring?"),
        (&["run", "--workers", "1025"], "from 1 to 1024"),
        (&["engines", "--jsno"], "--json"),
        (&["run", "--workers", "0"], "from 1"),
        (&["run", "--workers", "many"], "from 1"),
        (&["check", "w.toml"], "a configuration stands behind `-c`: tidegate check -c w.toml"),
        (&["check", "--format", "xml"], "human"),
        (&["check", "--dump", "-q"], "cannot be used with"),
        (&["check", "--dump", "--format", "json"], "cannot be used with"),
        (&["demo", "--for", "10"], "the units are"),
        (&["demo", "--for", "0s"], "is no time at all"),
    ] {
        let output = tidegate(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(err(&output).contains(part), "{args:?}: {part:?} is missing in:\n{}", err(&output));
        assert_eq!(out(&output), "", "{args:?}");
    }
}

#[test]
fn engines_lists_each_with_what_is_in_its_way() {
    let table = tidegate(&["engines"]);
    assert_eq!(table.status.code(), Some(0), "{}", err(&table));
    let json = tidegate(&["engines", "--json"]);
    assert_eq!(json.status.code(), Some(0), "{}", err(&json));
    let rows: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    let rows = rows.as_array().expect("an array");
    let names: Vec<&str> = rows.iter().map(|row| row["engine"].as_str().expect("a name")).collect();
    assert_eq!(names, ["mio", "io_uring", "threads", "epoll_level", "poll", "select", "sigio", "aio"]);
    for (name, row) in names.iter().zip(rows) {
        let runs = row["runs_here"].as_bool().expect("yes or no");
        assert_eq!(runs, row.get("cause").is_none() && row.get("remedy").is_none(), "{row}");
        let line = out(&table).lines().find(|line| line.starts_with(name)).expect("a line of its own");
        assert!(line.contains(if runs { " yes " } else { " no " }), "{line}");
        assert!(line.contains(row["model"].as_str().expect("a model")), "{line}");
        assert_eq!(out(&table).contains(&format!("{name} cannot run here: ")), !runs, "{}", out(&table));
    }
    assert_eq!((&rows[0]["runs_here"], &rows[0]["synonym"]), (&true.into(), &"readiness".into()));
}

#[test]
fn check_counts_what_it_found() {
    let (_directory, file) = with_config(GOOD);
    let output = tidegate(&["check", "-c", &file]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), format!("{file}: ok: 1 listener, 1 pool, 2 servers\n"));
    assert_eq!(err(&output), "");
}

#[test]
fn check_q_says_nothing_when_there_is_no_error() {
    let (_directory, file) = with_config(GOOD);
    let output = tidegate(&["check", "-q", "-c", &file]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!((out(&output), err(&output)), ("", ""));

    let (_directory, file) = with_config("[pool.web]\nbalanse = 1\n");
    let output = tidegate(&["check", "-q", "-c", &file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("balanse"), "{}", err(&output));
}

#[test]
fn check_in_json_is_one_object() {
    let (_directory, file) = with_config(GOOD);
    let output = tidegate(&["check", "--format", "json", "-c", &file]);
    assert_eq!(output.status.code(), Some(0));
    let answer: serde_json::Value = serde_json::from_str(out(&output)).expect("JSON");
    assert_eq!(answer, serde_json::json!({"ok": true, "errors": []}));

    let (_directory, file) = with_config("[pool.web]\nbalanse = 1\nserver = 7\n");
    let output = tidegate(&["check", "--format", "json", "-c", &file]);
    assert_eq!(output.status.code(), Some(1));
    let answer: serde_json::Value = serde_json::from_str(out(&output)).expect("JSON");
    assert_eq!(answer["ok"], false);
    assert!(answer["errors"].as_array().expect("a list").len() >= 2, "not all errors at once: {answer}");
    assert_eq!(err(&output), "");
}

#[test]
fn check_warns_of_what_is_hardly_meant() {
    let (_directory, file) = with_config(&GOOD.replace("9002", "9001"));
    let output = tidegate(&["check", "-c", &file]);
    assert_eq!(output.status.code(), Some(0));
    let said = "warning: pool web: the servers a and b are one: both have 127.0.0.1:9001";
    assert!(err(&output).starts_with(said), "{}", err(&output));
}

/// What a start would refuse on this machine, all at once.
#[test]
#[cfg(target_os = "linux")]
fn check_looks_at_the_machine_and_a_dump_does_not() {
    let (directory, file) = with_config("");
    let token = directory.path().join("token");
    fs::write(&token, "short").expect("writable");
    let text = format!(
        "[process]\nuser = \"no-such-user\"\n[log]\noutput = \"/no/such/folder/log\"\n[log.access]\noutput = {:?}\n\
         [admin]\nhttp_token_file = {token:?}\n[defaults.tcp]\ncongestion = \"nosuch\"\n{GOOD}",
        format!("{}/", directory.path().display()).trim_end_matches('/'),
    );
    fs::write(&file, text).expect("writable");
    let output = tidegate(&["check", "-c", &file]);
    assert_eq!((output.status.code(), out(&output)), (Some(1), ""));
    for part in [
        "error: process.user = \"no-such-user\": there is no such user here\n  --> ",
        "error: log.output = \"/no/such/folder/log\": there is no folder /no/such/folder\n",
        ": that is a folder\n",
        ": it is one word of ",
        "congestion = \"nosuch\": this kernel has no such algorithm",
        "   = help: `useradd --system",
        "   = help: make it, or name a file elsewhere",
    ] {
        assert!(err(&output).contains(part), "{part:?} is missing in:\n{}", err(&output));
    }
    let json = tidegate(&["check", "--format", "json", "-c", &file]);
    let answer: serde_json::Value = serde_json::from_str(out(&json)).expect("JSON");
    assert_eq!(answer["errors"].as_array().expect("a list").len(), 5, "{answer}");
    assert_eq!(tidegate(&["check", "--dump", "-c", &file]).status.code(), Some(0));
}

#[test]
fn check_dump_is_a_configuration_again() {
    let (_directory, file) = with_config(GOOD);
    let output = tidegate(&["check", "--dump", "-c", &file]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let dump = out(&output).to_owned();
    assert!(dump.contains("half_close"), "a default is not filled in:\n{dump}");
    let (_directory, file) = with_config(&dump);
    let again = tidegate(&["check", "--dump", "-c", &file]);
    assert_eq!((again.status.code(), out(&again)), (Some(0), dump.as_str()), "{}", err(&again));
}

#[test]
fn check_binds_nothing() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = holder.local_addr().expect("bound").to_string();
    let (_directory, file) = with_config(&GOOD.replace("127.0.0.1:8080", &taken));
    let output = tidegate(&["check", "-c", &file]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
}

#[test]
fn configuration_errors_are_1_for_every_command_and_name_the_file() {
    let (_directory, file) = with_config("[listener.web]\nbind = [\"nowhere\"]\nfrobnicate = true\n");
    for command in COMMANDS {
        let output = tidegate(&[command, "-c", &file]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        for part in ["proxy.toml:3", "frobnicate", "nowhere"] {
            assert!(err(&output).contains(part), "{command}: {part:?} is missing in:\n{}", err(&output));
        }
        assert_eq!(out(&output), "", "{command}");
    }
}

#[test]
fn a_missing_file_is_1_and_named() {
    for command in COMMANDS {
        let output = tidegate(&[command, "-c", "/nonexistent/proxy.toml"]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(err(&output).contains("/nonexistent/proxy.toml"), "{command}: {}", err(&output));
    }
}

#[test]
fn the_default_file_is_in_etc() {
    if Path::new("/etc/tidegate/proxy.toml").exists() {
        // What it says is the machine's business; that it is the one which is read is all that counts here.
        assert!(out(&tidegate(&["check"])).starts_with("/etc/tidegate/proxy.toml:"));
        return;
    }
    let output = tidegate(&["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("/etc/tidegate/proxy.toml"), "{}", err(&output));
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let (_directory, file) = with_config(GOOD);
    for args in [&["--help"][..], &["--version"], &["check", "--dump", "-c", &file]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // Closed before the program can have written anything, or at least before anybody has read it.
        drop(child.stdout.take());
        let mut said = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        let status = child.wait().expect("ends");
        assert_eq!((status.code(), said.as_str()), (Some(0), ""), "{args:?}");
    }
}

/// The log's reader may go, as with `2> >(head)`; what cannot be said must not change how the program ends.
#[test]
#[cfg(target_os = "linux")]
fn run_stops_as_asked_when_nobody_reads_its_log() {
    use rustix::process::{Pid, Signal, kill_process};
    use std::io::{BufRead, BufReader};

    let (_directory, file) = with_config(&GOOD.replace("127.0.0.1:8080", "127.0.0.1:0"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["run", "-c", &file])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut log = BufReader::new(child.stderr.take().expect("piped")).lines();
    assert!(log.any(|line| line.expect("text").contains("listening on")));
    drop(log);
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it runs");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error() {
    let (_directory, file) = with_config(GOOD);
    let full = fs::File::options().write(true).open("/dev/full").expect("there is /dev/full");
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["check", "--dump", "-c", &file])
        .stdout(full)
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("No space left"), "{}", err(&output));
}

#[test]
#[cfg(not(feature = "lab"))]
fn the_demo_says_what_it_was_built_without() {
    let output = tidegate(&["demo", "--for", "1s", "-c", "proxy.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("built without") && err(&output).contains("rebuild with"),
        "{}",
        err(&output)
    );
}

#[test]
fn a_port_in_use_is_1_for_run() {
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = holder.local_addr().expect("bound").to_string();
    let (_directory, file) = with_config(&GOOD.replace("127.0.0.1:8080", &taken));
    let output = tidegate(&["run", "-c", &file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains(&taken), "{}", err(&output));
}

/// Nobody is turned away because a file does not tell for whom a name stands.
#[test]
fn explain_does_not_take_names_in_a_file_for_nobody() {
    let text = "[listener.l]\nbind = [\"127.0.0.1:80\"]\npool = \"p\"\n[pool.p]\n";
    let verdict = |servers: &str| {
        let (_directory, file) = with_config(&format!("{text}{servers}\n"));
        let output = tidegate(&["explain", "-c", &file, "--source", "192.0.2.1"]);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        out(&output).lines().find(|line| line.starts_with("  it is ")).expect("a verdict").to_owned()
    };
    for servers in [
        "server = [{ name = \"a\", addr = \"db.example.com:80\" }]",
        "servers_file = \"/etc/tidegate/servers.toml\"",
    ] {
        let said = verdict(servers);
        assert!(said.contains("it is reset, as far as the file tells: names and lists"), "{said}");
        assert!(!said.contains("no server takes connections"), "{said}");
    }
    let said = verdict("server = [{ name = \"a\", addr = \"10.0.0.1:80\", state = \"maint\" }]");
    assert_eq!(said, "  it is reset: no server takes connections (when_no_upstream)");
}

/// What others on this host may do is said by `check`, and at the start, when there is a log already.
#[test]
#[cfg(unix)]
fn who_else_may_control_the_process_is_warned_of() {
    use std::os::unix::fs::PermissionsExt as _;
    let (directory, file) = with_config("");
    let token = directory.path().join("token");
    fs::write(&token, "0123456789abcdef").expect("writable");
    let admin = format!("[admin]\nsocket_mode = \"0666\"\nhttp_token_file = {token:?}\n");
    fs::write(&file, admin + GOOD).expect("writable");
    let warnings = |mode| {
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).expect("ours");
        let output = tidegate(&["check", "-c", &file]);
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        ["every user of this host may read the token in ", "every user of this host may control this process"]
            .map(|part| err(&output).contains(part))
    };
    assert_eq!(warnings(0o644), [true, true]);
    assert_eq!(warnings(0o640), [false, true]);
}

#[test]
fn explain_tells_a_story_or_json_about_a_file() {
    let (_directory, file) = with_config(GOOD);
    let story = tidegate(&["explain", "-c", &file, "--source", "192.0.2.1"]);
    let expected = "192.0.2.1 at listener web:\n  no rule of [access] names it: it is let in\n  pool web chooses by \
        round_robin\n  it gets web/a, and is connected to it; if that fails, to another one\n\n";
    assert!(out(&story).starts_with(expected), "{}", out(&story));
    assert!(out(&story).contains("web/a") && out(&story).contains("its turn comes later"), "{}", out(&story));
    let json = tidegate(&["explain", "-c", &file, "--listener", "web", "--source", "192.0.2.1", "--json"]);
    let told: serde_json::Value = serde_json::from_str(out(&json)).expect("JSON");
    assert_eq!((&told["server"], &told["outcome"]), (&"a".into(), &"server".into()));
    for (arguments, code, words) in [
        (&["--listener", "wbe", "--source", "192.0.2.1"][..], 3, "there is web"),
        (&["--listener", "web"], 2, "--source 192.0.2.1"),
        (&["--source", "somebody"], 2, "invalid"),
    ] {
        let output = tidegate(&[&["explain", "-c", &file], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{}", err(&output));
        assert!(err(&output).contains(words), "{}", err(&output));
    }
    // The key of a route has a word, which may be written here, too.
    for (starttls, code) in
        [(&["--starttls"][..], 0), (&["--starttls", "postgres"], 0), (&["--starttls", "smtp"], 2)]
    {
        let output = tidegate(&[&["explain", "-c", &file, "--source", "192.0.2.1"], starttls].concat());
        assert_eq!(output.status.code(), Some(code), "{starttls:?}: {}", err(&output));
    }
    let (_directory, broken) = with_config("[listner.web]\n");
    assert_eq!(tidegate(&["explain", "-c", &broken, "--source", "192.0.2.1"]).status.code(), Some(1));
}
