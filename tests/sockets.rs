//! Options of the sockets of each leg, as ss(8) tells them; and what the system refuses, at the start and of a reload.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod support;

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::process::Signal;
use support::PATIENCE;
use support::gate::{Config, Gate, refusal};
use support::peer::{End, Peer};
use support::servers::listen;
use support::service::installed;
use support::stage::Stage;

/// What the system knows of the program's socket from `local` to `remote`.
fn told(local: SocketAddr, remote: SocketAddr) -> String {
    let filter = format!("src {local} and dst {remote}");
    let told = Command::new("ss").args(["-Htnoime", "--tos", &filter]).output().expect("ss can be run");
    String::from_utf8(told.stdout).unwrap()
}

/// Both legs of a connection: what the system knows of them.
fn legs(stage: &Stage, gate: &Gate) -> ([Peer; 2], [String; 2]) {
    let [mut client, mut server] = stage.pair();
    client.send(1);
    server.receive(1);
    let towards_server = server.socket().peer_addr().unwrap().as_socket().unwrap();
    let told = [told(gate.address(), client.address()), told(towards_server, server.address())];
    ([client, server], told)
}

fn has(told: &str, word: &str) -> bool {
    told.split([' ', '(', ',', ')']).any(|part| part == word)
}

#[test]
fn each_leg_has_its_options() {
    if !installed(&["ss"]) {
        return;
    }
    let config = Config::new("mio")
        .table("defaults.tcp", "congestion = \"reno\"\nkeepalive = { idle = \"7000s\" }\ndscp = 8")
        .table("listener.l.tcp", "sndbuf = \"100KiB\"\ndscp = 46")
        .table(
            "pool.p.tcp",
            "congestion = \"cubic\"\nrcvbuf = \"64KiB\"\nkeepalive = \"off\"\ninterface = \"lo\"",
        );
    let (stage, gate) = Stage::through(config);
    let (_peers, [client, server]) = legs(&stage, &gate);
    // The kernel doubles buffers for its own needs (socket(7)), and a class is the upper six bits of the octet.
    for word in ["reno", "tb204800", "tos:0xb8"] {
        assert!(has(&client, word), "{word}: {client}");
    }
    for word in ["cubic", "rb131072", "tos:0x20"] {
        assert!(has(&server, word), "{word}: {server}");
    }
    // Probes of sockets are spread over a quarter of the time before the first one.
    let minutes =
        client.split("timer:(keepalive,").nth(1).and_then(|rest| rest.split("min").next()?.parse().ok());
    assert!(minutes.is_some_and(|minutes: u32| (87..=116).contains(&minutes)), "{client}");
    assert!(!server.contains("timer:(keepalive"), "{server}");
    assert!(server.contains("%lo:"), "it is bound to the device: {server}");
}

#[test]
fn marks_are_seen_by_the_kernel() {
    if !installed(&["ss"]) || !rustix::process::geteuid().is_root() {
        return;
    }
    let config = Config::new("mio").table("pool.p.tcp", "mark = 0x17").table("listener.l.tcp", "mark = 5");
    let (stage, gate) = Stage::through(config);
    let (_peers, [client, server]) = legs(&stage, &gate);
    assert!(has(&client, "fwmark:0x5"), "{client}");
    assert!(has(&server, "fwmark:0x17"), "{server}");
}

/// Another user has the one capability that marks and clients' addresses take, and no other.
#[test]
fn a_mark_can_be_set_by_another_user_too() {
    if !installed(&["ss"]) || !rustix::process::geteuid().is_root() {
        return;
    }
    let config = Config::new("mio").process("user = \"nobody\"").table("pool.p.tcp", "mark = 0x17");
    let (stage, gate) = Stage::through(config);
    let (_peers, [_, server]) = legs(&stage, &gate);
    assert!(has(&server, "fwmark:0x17"), "{server}");
    let status = fs::read_to_string(format!("/proc/{}/status", gate.pid())).unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("a line").trim();
    // CAP_NET_BIND_SERVICE is the tenth, CAP_NET_RAW the thirteenth (linux/capability.h).
    assert_eq!(u64::from_str_radix(effective, 16).unwrap(), 1 << 10 | 1 << 13);
}

#[test]
fn what_the_system_refuses_is_an_error_at_the_start() {
    let cases = [
        (
            "pool.p.tcp",
            "congestion = \"nosuch\"",
            "pool p: congestion = \"nosuch\": this kernel has no such algorithm; it has:",
        ),
        (
            "listener.l.tcp",
            "interface = \"nosuch0\"",
            "listener l: interface = \"nosuch0\": there is no such device",
        ),
    ];
    for (table, line, expected) in cases {
        let config = Config::new("mio").server("127.0.0.1:9").table(table, line);
        let (status, said) = refusal("true", &config);
        assert_eq!(status.and_then(|status| status.code()), Some(1), "{said}");
        assert!(said.contains(expected) && said.contains("= help:"), "{said}");
    }
    let config = Config::new("mio").server("127.0.0.1:9").pool("source = [\"127.0.0.1\", \"203.0.113.77\"]");
    let (_, said) = refusal("true", &config);
    assert!(
        said.contains("pool p: source = [\"203.0.113.77\"]: ") && said.contains("`ip address`"),
        "{said}"
    );
}

#[test]
fn what_takes_a_capability_is_refused_without_it() {
    if !installed(&["setpriv"]) || !rustix::process::geteuid().is_root() {
        return;
    }
    let config = |line: &str| Config::new("mio").server("127.0.0.1:9").pool(line);
    let marked = config("").table("pool.p.tcp", "mark = 7");
    let transparent = config("source = [\"client\"]");
    for (config, expected) in [
        (marked, "pool p: mark = \"7\": it takes CAP_NET_ADMIN"),
        (transparent, "pool p: source = [\"client\"]"),
    ] {
        let without =
            "set -- setpriv --bounding-set=-net_admin,-net_raw --inh-caps=-all \"$0\" \"$@\" && exec \"$@\"";
        let (status, said) = refusal(without, &config);
        assert_eq!(status.and_then(|status| status.code()), Some(1), "{said}");
        assert!(said.contains(expected) && said.contains("CAP_NET_RAW"), "{said}");
    }
}

#[test]
fn a_buffer_that_the_kernel_cuts_is_told_of() {
    let most: u64 = fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap().trim().parse().unwrap();
    if most >= 512 << 20 {
        return;
    }
    let config = Config::new("mio").server("127.0.0.1:9").table("listener.l.tcp", "rcvbuf = \"512MiB\"");
    let gate = Gate::start(&config);
    let expected =
        format!("listener l: rcvbuf is {}KiB, the most that the sysctl net.core.rmem_max allows", most >> 10);
    assert!(gate.logs(|line| line.contains(&expected)), "{:?}", gate.log_lines());
}

/// The listening socket stays; what was set on it is taken back where the file says nothing of it any more.
#[test]
fn a_reload_sets_options_and_takes_them_back() {
    if !installed(&["ss"]) {
        return;
    }
    let server = listen("127.0.0.1").unwrap();
    let config = || Config::new("mio").server(server.local_addr().unwrap());
    let options = "congestion = \"reno\"\nrcvbuf = \"100KiB\"\ndscp = 46\nuser_timeout = \"9s\"";
    let gate = Gate::start(&config());
    let reload = |config: &Config, expected: &str| {
        let before = gate.log_lines().len();
        fs::write(gate.file(), config.to_string()).unwrap();
        gate.signal(Signal::HUP);
        let began = Instant::now();
        while !gate.log_lines()[before..].iter().any(|line| line.contains(expected)) {
            assert!(began.elapsed() < PATIENCE, "{:?}", gate.log_lines());
            thread::sleep(Duration::from_millis(5));
        }
    };
    let client_leg = || {
        let client = gate.connect();
        let (accepted, _) = server.accept().unwrap();
        let told = told(gate.address(), client.address());
        let mut accepted = Peer::server(accepted);
        drop(client);
        assert_eq!(accepted.receive_to_end(), End::Fin);
        told
    };
    let before = client_leg();
    assert!(!has(&before, "reno") && !has(&before, "tos:0xb8") && !has(&before, "rb204800"), "{before}");
    reload(&config().table("listener.l.tcp", options), "reloaded");
    let with = client_leg();
    assert!(has(&with, "reno") && has(&with, "tos:0xb8") && has(&with, "rb204800"), "{with}");
    reload(
        &config().table("listener.l.tcp", "congestion = \"nosuch\""),
        "not reloaded, nothing was changed: listener l",
    );
    reload(&config(), "reloaded");
    let after = client_leg();
    assert!(!has(&after, "reno") && !has(&after, "tos:0xb8") && !has(&after, "rb204800"), "{after}");
}

/// The kernel cuts a queue without a word: a start and `check` say so, once for each listener.
#[test]
fn a_backlog_that_the_kernel_cuts_is_told_of() {
    let most: u32 = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
    let longer = most + 1;
    let said =
        format!("listener l: `backlog` is {longer}, and the kernel cuts it to {most}: raise the sysctl");
    let config = |backlog: &str| {
        Config::new("mio").workers(2).server("127.0.0.1:9").listener(&format!("backlog = {backlog}"))
    };
    let tells =
        |gate: &Gate| gate.log_lines().iter().filter(|line| line.contains("net.core.somaxconn")).count();
    let gate = Gate::start(&config(&longer.to_string()));
    assert!(gate.logs(|line| line.contains("level=warn") && line.contains(&said)));
    assert_eq!(tells(&gate), 1, "{:?}", gate.log_lines());
    let check =
        Command::new(env!("CARGO_BIN_EXE_tidegate")).args(["check", "-c"]).arg(gate.file()).output().unwrap();
    let warned = String::from_utf8(check.stderr).unwrap();
    assert!(check.status.success() && warned.contains(&format!("warning: {said}")), "{warned}");
    // It listens after it has said all that it has to say of its configuration.
    for fits in ["\"auto\"", &most.to_string()] {
        assert_eq!(tells(&Gate::start(&config(fits))), 0, "{fits}");
    }
}
