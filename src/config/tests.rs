//! What a text means, and what is said of one that is wrong, at which line and column.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::known::{LATER, TABLES};
use super::*;

mod admin;
mod admission;
mod etcd;
mod every_key;
mod health;
mod listening;
mod lists;
mod names;
mod oddities;
mod pools;
mod proxy;
mod route;
mod sockets;

/// The least that a configuration needs; tests put their own lines before it.
const LEAST: &str = r#"
[listener.web]
bind = ["127.0.0.1:8080"]
pool = "web"
[pool.web]
balance = "round_robin"
server = [{ name = "a", addr = "127.0.0.1:9001" }]
"#;

fn good(text: &str) -> Config {
    parse(text, "test").unwrap_or_else(|report| panic!("{report}\nin\n{text}"))
}

/// The errors as `line:column message / help`.
fn errors(text: &str) -> Vec<String> {
    let report = parse(text, "test").expect_err(text);
    let shown = |problem: Problem| {
        let place = problem.place.map_or_else(|| "-".to_owned(), |at| format!("{}:{}", at.line, at.column));
        let help = problem.help.map(|help| format!(" / {help}")).unwrap_or_default();
        format!("{place} {}{help}", problem.message)
    };
    report.errors.into_iter().map(shown).collect()
}

/// Each text, put before the least that a configuration needs, must give one error that begins and goes on so.
fn assert_errors(cases: &[(&str, &str, &str)]) {
    for (text, start, part) in cases {
        let found = errors(&format!("{text}{LEAST}"));
        assert_eq!(found.len(), 1, "{text}\n{found:#?}");
        assert!(found[0].starts_with(start) && found[0].contains(part), "{text}\n{found:#?}");
    }
}

/// As [`assert_errors`], for texts that are whole.
fn assert_errors_of_whole(cases: &[(&str, &[&str])]) {
    for (text, expected) in cases {
        assert_eq!(errors(text), *expected, "{text}");
    }
}

fn ip(text: &str) -> Address {
    Address::Ip(text.parse().unwrap())
}

#[test]
fn the_example_in_the_repository_works() {
    let config = good(include_str!("../../proxy.toml"));
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].bind, [ip("127.0.0.1:8080")]);
    let servers = config.pools[config.listeners[0].pool].servers.iter();
    let servers: Vec<String> = servers.map(|server| format!("{} {}", server.name, server.addr)).collect();
    assert_eq!(servers, ["alpha 127.0.0.1:9001", "beta 127.0.0.1:9002", "gamma 127.0.0.1:9003"]);
}

#[test]
fn the_commented_lines_of_the_example_are_the_defaults() {
    let uncommented = |line: &str| match line.strip_prefix("# ") {
        // `include` needs a folder, and `template` a format that asks for it.
        Some(rest)
            if (rest.contains(" = ") || rest.starts_with('['))
                && !rest.starts_with("include")
                && !rest.starts_with("template") =>
        {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    let example = include_str!("../../proxy.toml");
    let all: Vec<String> = example.lines().map(uncommented).collect();
    assert_ne!(all.join("\n"), example);
    // A table that is commented out as a whole is not the same as one without a key.
    assert_eq!(good(&all.join("\n")), Config { admin: Some(Admin::default()), ..good(example) });
}

/// The pool of the least configuration.
fn least_pool() -> Pool {
    Pool {
        name: "web".to_owned(),
        balance: Balance::RoundRobin,
        all_down: AllDown::Reject,
        on_down: OnDown::Keep,
        on_removed: OnRemoved::Drain,
        slow_start: None,
        check: Check::Off,
        passive: Passive::default(),
        drain_timeout: None,
        close_rate: 100,
        source: Source::System,
        send_proxy: None,
        timeouts: OwnTimeouts::default(),
        tcp: Tcp::default(),
        retry: Retry::default(),
        queue_max: 1000,
        servers: vec![Server {
            name: "a".to_owned(),
            addr: ip("127.0.0.1:9001"),
            weight: 1,
            maxconn: None,
            backup: false,
            state: ServerState::Ready,
            origin: Origin::File,
        }],
        named: Vec::new(),
        lists: Vec::new(),
        servers_poll: Duration::from_secs(5),
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "every key once")]
fn what_is_not_written_has_the_default_of_the_reference() {
    let config = good(LEAST);
    let seconds = Duration::from_secs;
    let expected = Config {
        process: Process {
            workers: None,
            cpu_affinity: CpuAffinity::Off,
            engine: EngineKind::Auto,
            engine_fallback: true,
            maxconn: None,
            buffer_size: 262_144,
            buffer_budget: 536_870_912,
            splice: Splice::Off,
            watch: false,
            user: None,
            drain: Drain {
                grace: Duration::ZERO,
                idle_first: true,
                spread: seconds(30),
                hard_stop: Some(seconds(300)),
            },
            uring: Uring { entries: 4096, buffers: 1024, multishot: true },
        },
        admin: None,
        log: Log { level: log::LevelFilter::Info, output: LogOutput::Stderr, format: LogFormat::Logfmt },
        access: Access {
            output: Some(LogOutput::Stdout),
            format: AccessFormat::Json,
            events: vec![Event::Close],
            update_every: None,
            skip_empty: true,
            sample: 1.0,
        },
        dns: Dns::default(),
        metrics: Metrics { per_server: true, tcp_info: TcpInfo::Close, tcp_info_sample_every: seconds(10) },
        timeouts: Timeouts {
            connect: Some(seconds(5)),
            connect_total: Some(seconds(10)),
            idle: Some(seconds(3600)),
            half_close: Some(seconds(300)),
            queue: Some(seconds(10)),
            preread: Some(seconds(5)),
            max_lifetime: None,
            max_lifetime_jitter: 0.1,
        },
        tcp: Tcp {
            nodelay: true,
            keepalive: Some(Keepalive { idle: seconds(60), interval: seconds(10), count: 6 }),
            dead_peer: Some(seconds(60)),
            user_timeout: None,
            rst_on_error: true,
            congestion: None,
            rcvbuf: None,
            sndbuf: None,
            dscp: None,
            mark: None,
            interface: None,
        },
        retry: Retry { tries: 3, same_server_delay: seconds(1) },
        listeners: vec![Listener {
            name: "web".to_owned(),
            bind: vec![ip("127.0.0.1:8080")],
            v6only: true,
            pool: 0,
            routes: Vec::new(),
            server_speaks_first: false,
            max_client_hello: 16 << 10,
            engine: None,
            backlog: None,
            accept_balance: AcceptBalance::LeastLoaded,
            accept_burst: 16,
            maxconn: None,
            at_maxconn: AtMaxconn::Wait,
            when_no_upstream: WhenNoUpstream::Rst,
            accept_proxy: None,
            timeouts: OwnTimeouts::default(),
            tcp: Tcp::default(),
            access: AccessRules::default(),
            limits: Limits::default(),
        }],
        pools: vec![least_pool()],
    };
    assert_eq!(config, expected);
}

#[test]
fn every_key_of_process_and_log_is_read() {
    let text = r#"
config_version = 1
[process]
workers = 4
cpu_affinity = ["0", "2", "4-6"]
engine = "readiness"
engine_fallback = false
maxconn = 1000
buffer_size = "4KiB"
buffer_budget = "16KiB"
splice = "auto"
watch = true
user = "tidegate"
drain = { grace = "5s", idle_first = false, spread = "0s", hard_stop = "off" }
uring = { entries = 64, buffers = 32768, multishot = false }
[log]
level = "debug"
output = "journald"
format = "json"
[log.access]
output = "syslog:/dev/log"
format = "template"
template = "{client} {cause}"
events = ["update", "open"]
update_every = "90s"
skip_empty = false
sample = 0.5
"#;
    let config = good(&format!("{text}{LEAST}"));
    let process = Process {
        workers: NonZeroU16::new(4),
        cpu_affinity: CpuAffinity::Cpus(vec![0, 2, 4, 5, 6]),
        engine: EngineKind::Mio,
        engine_fallback: false,
        maxconn: NonZeroU32::new(1000),
        buffer_size: 4096,
        buffer_budget: 16384,
        splice: Splice::Auto,
        watch: true,
        user: Some("tidegate".to_owned()),
        drain: Drain {
            grace: Duration::from_secs(5),
            idle_first: false,
            spread: Duration::ZERO,
            hard_stop: None,
        },
        uring: Uring { entries: 64, buffers: 32_768, multishot: false },
    };
    assert_eq!(config.process, process);
    let log = Log { level: log::LevelFilter::Debug, output: LogOutput::Journald, format: LogFormat::Json };
    assert_eq!(config.log, log);
    let access = Access {
        output: Some(LogOutput::Syslog(PathBuf::from("/dev/log"))),
        format: AccessFormat::Template("{client} {cause}".parse().unwrap()),
        events: vec![Event::Update, Event::Open],
        update_every: Some(Duration::from_secs(90)),
        skip_empty: false,
        sample: 0.5,
    };
    assert_eq!(config.access, access);
}

#[test]
fn every_key_of_defaults_is_read() {
    let text = r#"
[defaults.timeouts]
connect = "1s"
connect_total = "2s"
idle = "off"
half_close = "500ms"
queue = "3s"
preread = "700ms"
max_lifetime = "2h"
max_lifetime_jitter = 0
[defaults.tcp]
nodelay = false
keepalive = { idle = "2m" }
dead_peer = "off"
[defaults.retry]
tries = 255
same_server_delay = "10ms"
"#;
    let config = good(&format!("{text}{LEAST}"));
    let timeouts = Timeouts {
        connect: Some(Duration::from_secs(1)),
        connect_total: Some(Duration::from_secs(2)),
        idle: None,
        half_close: Some(Duration::from_millis(500)),
        queue: Some(Duration::from_secs(3)),
        preread: Some(Duration::from_millis(700)),
        max_lifetime: Some(Duration::from_hours(2)),
        max_lifetime_jitter: 0.0,
    };
    assert_eq!(config.timeouts, timeouts);
    let keepalive = Keepalive { idle: Duration::from_secs(120), ..Keepalive::default() };
    assert_eq!(
        config.tcp,
        Tcp { nodelay: false, keepalive: Some(keepalive), dead_peer: None, ..Tcp::default() }
    );
    assert_eq!(config.retry, Retry { tries: 255, same_server_delay: Duration::from_millis(10) });
}

#[test]
fn every_key_of_listeners_and_pools_is_read() {
    let config = good(
        r#"
[listener.a]
bind = ["0.0.0.0:80", "[::]:80", "fd:a"]
v6only = true
pool = "two"
engine = "completion"
backlog = 128
accept_balance = "reuseport"
accept_burst = 7
maxconn = 20
at_maxconn = "reject"
when_no_upstream = "close"
[pool.one]
balance = "round_robin"
queue = { max = 7 }
[[pool.one.server]]
name = "x"
addr = "[::1]:9001"
weight = 0
[[pool.one.server]]
name = "y"
addr = "10.0.0.1:9002"
weight = 65535
maxconn = 300
[pool.two]
balance = "round_robin"
server = [{ name = "x", addr = "10.0.0.1:9001" }]
"#,
    );
    let listener = Listener {
        name: "a".to_owned(),
        bind: vec![ip("0.0.0.0:80"), ip("[::]:80"), Address::Handed("a".to_owned())],
        v6only: true,
        pool: 1,
        routes: Vec::new(),
        server_speaks_first: false,
        max_client_hello: 16 << 10,
        engine: Some(EngineKind::IoUring),
        backlog: NonZeroU32::new(128),
        accept_balance: AcceptBalance::Reuseport,
        accept_burst: 7,
        maxconn: NonZeroU32::new(20),
        at_maxconn: AtMaxconn::Reject,
        when_no_upstream: WhenNoUpstream::Close,
        accept_proxy: None,
        timeouts: OwnTimeouts::default(),
        tcp: Tcp::default(),
        access: AccessRules::default(),
        limits: Limits::default(),
    };
    assert_eq!(config.listeners, [listener]);
    let pools = config.pools.iter().flat_map(|pool| pool.servers.iter().map(|server| (&pool.name, server)));
    let servers: Vec<String> = pools
        .map(|(pool, server)| {
            let most = server.maxconn.map_or(0, NonZeroU32::get);
            format!("{pool} {} {} {} {most}", server.name, server.addr, server.weight)
        })
        .collect();
    assert_eq!(servers, ["one x [::1]:9001 0 0", "one y 10.0.0.1:9002 65535 300", "two x 10.0.0.1:9001 1 0"]);
    assert_eq!(config.pools.iter().map(|pool| pool.queue_max).collect::<Vec<_>>(), [7, 1000]);
}

#[test]
fn both_ways_to_write_servers_are_the_same() {
    let tables = LEAST.replace(
        "server = [{ name = \"a\", addr = \"127.0.0.1:9001\" }]",
        "[[pool.web.server]]\nname = \"a\"\naddr = \"127.0.0.1:9001\"",
    );
    assert_ne!(tables, LEAST);
    assert_eq!(good(&tables), good(LEAST));
}

#[test]
fn errors_at_the_top() {
    assert_errors(&[
        ("config_version = 2", "1:18 config_version 2 is newer than this program", "use a newer tidegate"),
        ("config_version = 0", "1:18 expected a whole number from 1", "found the number 0"),
        ("config_version = \"1\"", "1:18 expected a whole number", "write 1, without quotes"),
        ("include = [\"a.toml\"]", "1:11 `include` needs a file", ""),
        ("colour = 1", "1:1 unknown key `colour` before the first table", "known here: `config_version`, "),
        ("[proces]", "1:2 unknown table [proces]", "did you mean `process`?"),
        ("[metrics]\nper_server = \"no\"", "2:14 expected true or false", ""),
        (
            "[metrics]\ntcp_info_sample_every = \"10ms\"",
            "2:25 samples are a second or more apart",
            "write \"1s\"",
        ),
        ("process = 1", "1:11 expected a table [process], found the number 1", ""),
        ("log.access = true", "1:14 expected a table [log.access], found true", ""),
        ("worker_processes = 4", "1:1 unknown key `worker_processes`", "here it is `workers` in [process]"),
        ("[upstream.x]\n", "1:2 unknown table [upstream]", "here it is [pool.NAME]"),
        ("[frontend.web]\n", "1:2 unknown table [frontend]", "here it is [listener.NAME]"),
    ]);
}

#[test]
fn errors_in_process() {
    assert_errors(&[
        (
            "[process]\nworkers = 0",
            "2:11 expected \"auto\" or a whole number from 1 to 1024, found the number 0",
            "",
        ),
        ("[process]\nworkers = 1025", "2:11 expected", "from 1 to 1024"),
        ("[process]\nworkers = \"8\"", "2:11 expected", "write 8, without quotes"),
        ("[process]\nnbthread = 4", "2:1 unknown key `nbthread` in [process]", "`workers` in [process]"),
        (
            "[process]\nconcurrency = 4",
            "2:1 unknown key",
            "Envoy language; here it is `workers` in [process]",
        ),
        ("[process]\ncpu_affinity = \"on\"", "2:16 expected \"off\" or \"auto\"", "found \"on\""),
        ("[process]\ncpu_affinity = [0]", "2:17 expected CPUs", "write \"0\""),
        ("[process]\ncpu_affinity = []", "2:16 expected \"off\", \"auto\" or an array", "found an empty one"),
        ("[process]\ncpu_affinity = [\"7-4\"]", "2:17 expected CPUs such as", "found the string \"7-4\""),
        ("[process]\ncpu_affinity = [\"0\", \"1024\"]", "2:22 expected CPUs such as", "up to 1023"),
        ("[process]\ncpu_affinity = [\"3\", \"0-5\"]", "2:22 CPU 3 is in the list twice", ""),
        (
            "[process]\ngroup = \"x\"",
            "2:1 unknown key `group` in [process]",
            "here it is `user` in [process]",
        ),
        ("[process]\nuser = 0", "2:8 expected a string, found the number 0", ""),
        ("[process]\nuser = \"a:b\"", "2:8 \"a:b\" is not the name of a user", "write the name alone"),
        ("[process]\nengine = \"epoll\"", "2:10 expected", "did you mean \"mio\"?"),
        (
            "[listener.x]\npool = \"web\"\nbind = [\"[::1]:1\"]\nengine = \"io-uring\"",
            "4:10 expected \"inherit\", \"auto\", \"mio\", \"io_uring\", \"threads\",",
            "did you mean \"io_uring\"?",
        ),
        ("[process]\nmaxconn = 0", "2:11 expected \"auto\" or a whole number from 1 to", ""),
        ("[process]\nmaxconn = \"off\"", "2:11 expected \"auto\" or a whole number from 1 to", ""),
        ("[process]\nbuffer_size = 16384", "2:15 expected a size", "write \"16384KiB\" or"),
        ("[process]\nbuffer_size = \"16k\"", "2:15 expected a size", "did you mean \"16KiB\"?"),
        ("[process]\nbuffer_size = \"17MiB\"", "2:15 expected a size from 4KiB to 16MiB", ""),
        ("[process]\nbuffer_budget = \"1KiB\"", "2:17 expected a size from 4KiB to 1024GiB", ""),
        (
            "[process]\nworkers = 4\nbuffer_budget = \"512KiB\"",
            "3:17 buffer_budget is 512 KiB, less than the 1024 KiB that 4 workers need for a buffer_size of 256 KiB",
            "write buffer_budget = \"1024KiB\" or more",
        ),
        ("[process]\nbuffer_budget = \"64KiB\"\nworkers = 1", "2:17 buffer_budget is 64 KiB", ""),
        ("[process]\nbuffer_size = \"16MiB\"\nworkers = 1000", "2:15 buffer_budget is 524288 KiB", ""),
        (
            "[process]\ndrain.hard_stop = \"0s\"",
            "2:19 \"0s\" is no time at all",
            "write \"off\" for no limit",
        ),
        ("[process.drain]\nhard_stop = 300", "2:13 expected a duration", "write \"300s\" or \"300ms\""),
        ("[process.uring]\nbuffers = 1000", "2:11 expected a power of two, found 1000", "write 512 or 1024"),
        (
            "[process.uring]\nentries = 4",
            "2:11 expected a whole number from 8 to 32768, found the number 4",
            "",
        ),
        ("[process.drain]\nhandover = true", "2:1 `handover` in [process.drain] is not supported yet", ""),
        (
            "[process]\nhard_stop_after = \"5m\"",
            "2:1 unknown key",
            "here it is `hard_stop` in [process.drain]",
        ),
        ("[process]\nengine_fallback = \"mio\"", "2:19 expected true or false", ""),
    ]);
}

#[test]
fn errors_in_log() {
    assert_errors(&[
        ("[log]\nlevel = \"warning\"", "2:9 expected \"off\", \"error\", \"warn\"", "did you mean \"warn\"?"),
        ("[log]\noutput = \"off\"", "2:10 only [log.access] can be off", "write level = \"off\""),
        ("[log]\noutput = \"stdot\"", "2:10 expected", "did you mean \"stdout\"?"),
        ("[log]\noutput = \"syslog\"", "2:10 expected", "did you mean \"syslog:/dev/log\"?"),
        ("[log]\noutput = \"proxy.log\"", "2:10 expected", "has a `/` in it"),
        ("[log]\noutput = \"syslog:localhost:514\"", "2:10 \"syslog:localhost:514\" names no socket", ""),
        ("[log]\noutput = \"/var/log/\"", "2:10 \"/var/log/\" is not the path of a file", ""),
        ("[log]\noutput = \"/a\\u0000\"", "2:10 ", "is not the path of a file"),
        ("[log]\nformat = \"text\"", "2:10 expected", "did you mean \"logfmt\"?"),
        ("[log.access]\nformat = \"template\"", "1:1 [log.access] has no `template`", "write one such as"),
        ("[log.access]\ntemplate = \"{ts}\"", "2:12 `template` has no effect without", "leave it out"),
        ("[log.access]\nevents = []", "2:10 expected an array of events", "found an empty one"),
        ("[log.access]\nevents = \"close\"", "2:10 expected an array", "write it in brackets: [\"close\"]"),
        ("[log.access]\nskip_empty = \"yes\"", "2:14 expected true or false, found the string \"yes\"", ""),
        ("[log.access]\nsample = 0", "2:10 expected a number over 0 and up to 1", ""),
        ("[log.access]\noption_dontlognull = true", "2:1 unknown key", "here it is `skip_empty`"),
    ]);
    assert_eq!(good(&format!("[log.access]\noutput = \"off\"\ntemplate = \"\"{LEAST}")).access.output, None);
    let file = good(&format!("[log]\noutput = \"./a\"{LEAST}")).log.output;
    assert_eq!(file, LogOutput::File(PathBuf::from("./a")));
}

#[test]
fn errors_in_events() {
    assert_errors(&[
        ("log.access.events = [\"closed\"]", "1:22 expected \"open\", \"update\"", "did you mean \"close\"?"),
        ("log.access.events = [\"open\", \"open\"]", "1:30 \"open\" is in the list twice", ""),
        ("log.access.events = [\"open\", \"update\"]", "1:21 `events` has \"update\", but", "= \"5m\""),
        ("log.access.update_every = \"5m\"", "1:27 `update_every` has no effect without", "[\"update\","),
        ("log.access.update_every = \"999ms\"", "1:27 updates are a second or more apart", "\"1s\" or more"),
        (
            "log.access.format = \"haproxy_tcplog\"\nlog.access.events = [\"open\", \"close\"]",
            "2:21 format = \"haproxy_tcplog\" has no line for anything but \"close\"",
            "write events = [\"close\"]",
        ),
    ]);
    // One mistake is told once: what is wrong with a value hides what follows from its absence.
    assert_errors(&[
        ("log.access = { events = [\"updte\"], update_every = \"5m\" }", "1:26 expected", "\"update\"?"),
        ("log.access = { events = [\"update\"], update_every = \"5\" }", "1:52 expected a duration", ""),
    ]);
    let tcplog = good(&format!("[log.access]\nformat = \"haproxy_tcplog\"{LEAST}")).access;
    assert_eq!((tcplog.format, tcplog.events), (AccessFormat::HaproxyTcplog, vec![Event::Close]));
}

#[test]
fn errors_in_templates() {
    for (template, part) in [
        ("", "the template has no field / write one such as"),
        ("plain", "the template has no field"),
        ("{clent}", "the template has an unknown field {clent} / did you mean {client}?"),
        ("{zzzzzz}", "unknown field {zzzzzz} / the fields are `ts`, "),
        ("{}", "unknown field {}"),
        ("{ts", "the template has a `{` without its other half"),
        ("{{ts}}", "the template has no field"),
        ("{ts", "a brace that stands for itself is written `{{`"),
        ("{ts {client}", "the template has a `{` without its other half"),
        ("ts} {client}", "the template has a `}` without its other half"),
        ("{ts}\\n", "a template is one line, without control characters"),
    ] {
        let text = format!("log.access.format = \"template\"\nlog.access.template = \"{template}\"");
        assert_errors(&[(text.as_str(), "2:23 ", part)]);
    }
}

#[test]
fn errors_in_defaults() {
    assert_errors(&[
        ("[defaults.timeouts]\nconnect = 5", "2:11 expected a duration", "write \"5s\" or \"5ms\""),
        ("[defaults.timeouts]\nidle = \"0s\"", "2:8 \"0s\" is no time at all", "write \"off\" for no limit"),
        ("[defaults.timeouts]\ntimeout_client = \"5s\"", "2:1 unknown key", "here it is `idle`"),
        ("[defaults.timeouts]\n\"timeout client\" = \"5s\"", "2:1 unknown key", "here it is `idle`"),
        ("[defaults.tcp]\nnodelay = 1", "2:11 expected true or false, found the number 1", ""),
        ("[defaults.tcp]\nkeepalive = true", "2:13 expected \"off\" or a table", "it is on when nothing"),
        (
            "[defaults.tcp]\nkeepalive = false",
            "2:13 expected \"off\" or a table",
            "write keepalive = \"off\"",
        ),
        ("[defaults.tcp]\nkeepalive = \"60s\"", "2:13 expected \"off\" or a table", "{ idle = \"60s\" }"),
        ("[defaults.tcp]\nkeepalive = { idle = \"500ms\" }", "2:22 expected whole seconds", ""),
        ("[defaults.tcp]\nkeepalive = { interval = \"10h\" }", "2:26 expected whole seconds", "32767s"),
        ("[defaults.tcp]\nkeepalive = { count = 128 }", "2:23 expected a whole number from 1 to 127", ""),
        (
            "[defaults.tcp.keepalive]\ncnt = 1",
            "2:1 unknown key `cnt` in [defaults.tcp.keepalive]",
            "known here",
        ),
        ("[defaults.tcp]\nclitcpka = true", "2:1 unknown key", "here it is `keepalive` in [defaults.tcp]"),
        ("[defaults.tcp]\nrst_on_error = \"off\"", "2:16 expected true or false", ""),
        ("[defaults.retry]\ntries = 0", "2:9 expected a whole number from 1 to 255", ""),
        ("[defaults.retry]\nsame_server_delay = \"off\"", "2:21 expected a duration", ""),
        ("[defaults.retry]\nretries = 3", "2:1 unknown key", "here it is `tries` in [defaults.retry]"),
        (
            "[defaults]\nidle = \"1h\"",
            "2:1 unknown key `idle` in [defaults]",
            "belongs in [defaults.timeouts]",
        ),
    ]);
    let config = good(&format!("[defaults]\ntcp.keepalive = \"off\"\ntcp.nodelay = false{LEAST}"));
    assert_eq!(config.tcp, Tcp { nodelay: false, keepalive: None, ..Tcp::default() });
}

#[test]
fn errors_in_listeners() {
    let other = |keys: &str| format!("[listener.x]\n{keys}");
    let cases = [
        ("pool = \"web\"", "1:1 [listener.x] has no `bind`", "write bind = [\"0.0.0.0:8080\"]"),
        ("bind = [\"[::1]:1\"]", "1:1 [listener.x] has no `pool`", "the NAME of a [pool.NAME]"),
        ("pool = \"web\"\nbind = \"0.0.0.0:1\"", "3:8 expected an array", "in brackets: [\"0.0.0.0:1\"]"),
        ("pool = \"web\"\nbind = []", "3:8 expected an array of addresses", "found an empty one"),
        (
            "pool = \"web\"\nbind = [\"[::1]:1\", \"*:80\"]",
            "3:20 \"*:80\" is not an IP address",
            "\"0.0.0.0:80\"",
        ),
        ("pool = \"web\"\nbind = [\"fd:\"]", "3:9 \"\" is not the name of a socket", "FileDescriptorName="),
        ("bind = [\"[::1]:1\"]\npool = \"wbe\"", "3:8 there is no pool \"wbe\"", "did you mean \"web\"?"),
        ("bind = [\"[::1]:1\"]\npool = \"other\"", "3:8 there is no pool", "write a table [pool.other]"),
        (
            "pool = \"web\"\nbind = [\"127.0.0.1:8080\"]",
            "5:9 127.0.0.1:8080 is taken by 127.0.0.1:8080 at test:3:9",
            "use another port",
        ),
        ("pool = \"web\"\nbind = [\"0.0.0.0:8080\"]", "5:9 127.0.0.1:8080 is taken by 0.0.0.0:8080", ""),
        (
            "pool = \"web\"\nbind = [\"[::]:1\", \"[::1]:1\"]",
            "3:19 [::1]:1 is taken by [::]:1 at test:3:9",
            "",
        ),
        ("pool = \"web\"\nbind = [\"[::1]:1\"]\nbacklog = 0", "4:11 expected \"auto\" or a whole number", ""),
        ("pool = \"web\"\nbind = [\"[::1]:1\"]\nmaxconn = 0", "4:11 expected \"off\" or a whole number", ""),
        (
            "pool = \"web\"\nbind = [\"[::1]:1\"]\nat_maxconn = \"drop\"",
            "4:14 expected \"wait\" or \"reject\"",
            "",
        ),
        (
            "pool = \"web\"\nbind = [\"[::1]:1\"]\n[listener.x.timeouts]\nconnect = \"1h\"",
            "5:1 unknown key `connect` in [listener.x.timeouts]",
            "`connect` belongs in [defaults.timeouts] or [pool.NAME.timeouts]",
        ),
        (
            "pool = \"web\"\nbind = [\"[::1]:1\"]\n[listener.x.tls]\n",
            "4:13 `tls` in [listener.x]",
            "not supported yet",
        ),
        ("pool = \"web\"\nbind = [\"[::1]:1\"]\nproxy_pass = \"x\"", "4:1 unknown key", "here it is `pool`"),
    ];
    for (keys, start, part) in cases {
        assert_errors(&[(other(keys).as_str(), start, part)]);
    }
    assert_errors(&[
        ("[listener]\nbind = [\"[::1]:1\"]", "2:1 [listener] has no key `bind`", "in [listener.NAME]"),
        ("[listener.\"a b\"]\npool = \"web\"\nbind = [\"[::1]:1\"]", "1:11 \"a b\" is not a name", "1 to 64"),
    ]);
    assert_errors_of_whole(&[
        (
            "[[listener]]\n",
            &[
                "- there is no listener / write [listener.NAME] with `bind` and `pool`",
                "1:1 expected tables with names, found an array / write [listener.NAME], with a name of your own",
            ],
        ),
        ("", &["- there is no listener / write [listener.NAME] with `bind` and `pool`"]),
    ]);
}

#[test]
fn both_families_may_share_a_port_and_the_kernel_may_choose_one() {
    let config = good(
        &LEAST.replace("\"127.0.0.1:8080\"", "\"0.0.0.0:80\", \"[::]:80\", \"127.0.0.1:0\", \"127.0.0.1:0\""),
    );
    assert_eq!(config.listeners[0].bind.len(), 4);
}

#[test]
fn a_path_is_listened_on_once() {
    let text = LEAST.replace("\"127.0.0.1:8080\"", "\"unix:/x\", \"[::1]:1\", \"unix:/x\"");
    let found = errors(&text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("unix:/x is taken by unix:/x at test:"), "{found:#?}");
    assert!(found[0].ends_with("use another path"), "{found:#?}");
}

#[test]
fn sockets_of_a_name_are_taken_once() {
    let text = LEAST.replace("\"127.0.0.1:8080\"", "\"fd:x\", \"unix:/x\", \"fd:x\"");
    let found = errors(&text);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].contains("fd:x is taken by fd:x at test:"), "{found:#?}");
    assert!(found[0].contains("another FileDescriptorName="), "{found:#?}");
}

#[test]
fn counts_have_limits() {
    let mut text = LEAST.to_owned();
    for index in 0..4096 {
        text += &format!("[pool.p{index}]\nbalance = \"round_robin\"\nserver = [");
        let servers = (0..16).map(|n| format!("{{ name = \"{n}\", addr = \"10.0.0.1:{}\" }}", n + 1));
        text += &(servers.collect::<Vec<_>>().join(", ") + "]\n");
    }
    let expected =
        ["- there are 4097 pools, and 4096 is the most", "- there are 65537 servers, and 65535 is the most"];
    assert_eq!(errors(&text), expected);
}

#[test]
fn all_errors_come_at_once_in_their_order() {
    let text = r#"[process]
workers = "many"
timeout client 5s
maxconn = 10 20
[log]
levle = "info"
[listener.web]
bind = ["127.0.0.1:8080", "localhost:80"
pool = "nope"
[pool.web
balance = "sni"
[pool.api]
balance = "sni"
balance = "round_robin"
server = [{ name = "a", addr = "10.0.0.1" }]
"#;
    let expected = [
        "2:11 expected \"auto\" or a whole number from 1 to 1024, found the string \"many\"",
        "3:9 key with no value, expected `=` / that is HAProxy, nginx and Envoy language; here it is `idle` in \
         [defaults.timeouts], for both directions together",
        "4:11 `10 20` is not a value / a string needs quotes: write \"10 20\"",
        "6:1 unknown key `levle` in [log] / did you mean `level`?",
        "8:41 unclosed array, expected `]`",
        "10:10 unclosed table, expected `]`",
        "14:1 `balance` is given twice / keep one of the two",
        "15:32 \"10.0.0.1\" is not an IP address and port / it has no port: write \"10.0.0.1:PORT\"",
    ];
    assert_eq!(errors(text), expected);
}

#[test]
fn what_may_be_in_a_broken_line_is_not_called_missing() {
    assert_errors_of_whole(&[
        // The pool may be in the table whose header is broken.
        (
            "[listener.a]\nbind = [\"[::1]:1\"]\npool = \"b\"\n[pool.b\nbalance = 1",
            &["4:8 unclosed table, expected `]`"],
        ),
        // The key may be on the broken line; in the other table it is surely not.
        (
            "[listener.a]\nbind = [\"[::1]:1\"]\npool b\n[pool.b]\nbalance = \"round_robin\"",
            &[
                "3:6 key with no value, expected `=` / a line is `key = value` or `[table]`",
                "4:1 [pool.b] has no `server` / write [[pool.b.server]] with a `name` and an `addr`, or `servers_file`",
            ],
        ),
    ]);
}
