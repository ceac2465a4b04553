use std::num::NonZeroU16;

use proptest::option;
use proptest::prelude::*;

use super::super::{
    Action, Address, Dns, Drain, Endpoint, Etcd, Event, HashKey, Keepalive, ListAt, ListHost, ListUrl, Log,
    Metrics, NamePattern, OnDown, Origin, Prefer, ProxyTlvs, Rate, Resolver, Rule, SendProxy, Server,
    ServerState, Splice, TcpInfo, Timeouts, Tls, Uring, parse,
};
use super::*;
use crate::client_hello::ServerName;
use crate::proxy_header::Versions;

fn some_duration() -> impl Strategy<Value = Duration> {
    prop_oneof![1..=31_536_000_000_u64, (1..=8760_u64).prop_map(|h| h * 3_600_000)]
        .prop_map(Duration::from_millis)
}

/// Quotes, backslashes, references and letters of other scripts, as paths may hold them.
fn nasty() -> impl Strategy<Value = String> {
    r#"[ -~é漢\t\n\u{1b}"'\\${}#]{0,12}(\$\{[A-Z]{0,3}\}?)?[a-z]"#
}

fn some_output() -> impl Strategy<Value = LogOutput> {
    prop_oneof![
        Just(LogOutput::Stdout),
        Just(LogOutput::Stderr),
        Just(LogOutput::Journald),
        nasty().prop_map(|path| LogOutput::Syslog(PathBuf::from(format!("/{path}")))),
        nasty().prop_map(|path| LogOutput::File(PathBuf::from(format!("./{path}")))),
    ]
}

fn some_engine() -> impl Strategy<Value = EngineKind> {
    prop::sample::select(EngineKind::NAMES.map(|(_, kind)| kind).to_vec())
}

fn some_process() -> impl Strategy<Value = Process> {
    let cpus = prop_oneof![
        Just(CpuAffinity::Off),
        Just(CpuAffinity::Auto),
        prop::sample::subsequence((0..1024).collect::<Vec<u32>>(), 1..9).prop_map(CpuAffinity::Cpus),
    ];
    let engine = (some_engine(), any::<bool>(), any::<bool>());
    let workers = option::of((1..=1024_u16).prop_map(|n| NonZeroU16::new(n).unwrap()));
    let splice = proptest::sample::select(Splice::NAMES.map(|(_, splice)| splice).to_vec());
    let user = option::of("[A-Za-z0-9_.$-]{1,9}");
    let sizes = (4..=16384_u32, 16 << 20..=1_u64 << 30, splice, user);
    let zero_or_more = || prop_oneof![Just(Duration::ZERO), some_duration()];
    let drain = (zero_or_more(), any::<bool>(), zero_or_more(), option::of(some_duration()))
        .prop_map(|(grace, idle_first, spread, hard_stop)| Drain { grace, idle_first, spread, hard_stop });
    let uring = (8..=32_768_u32, 3..=15_u32, any::<bool>()).prop_map(|(entries, power, multishot)| Uring {
        entries,
        buffers: 1 << power,
        multishot,
    });
    (workers, cpus, engine, any::<Option<NonZeroU32>>(), sizes, drain, uring).prop_map(
        |(
            workers,
            cpu_affinity,
            (engine, engine_fallback, watch),
            maxconn,
            (buffer_size, buffer_budget, splice, user),
            drain,
            uring,
        )| Process {
            workers,
            cpu_affinity,
            engine,
            engine_fallback,
            maxconn,
            buffer_size: buffer_size << 10,
            buffer_budget: buffer_budget << 10,
            splice,
            watch,
            user,
            drain,
            uring,
        },
    )
}

fn some_admin() -> impl Strategy<Value = Option<Admin>> {
    let socket = option::of("/admin/[ -~]{0,50}".prop_map(PathBuf::from));
    let token = option::of(nasty().prop_map(PathBuf::from));
    let http = (any::<std::net::IpAddr>(), 1..80_u16).prop_map(std::net::SocketAddr::from);
    let admin = (socket, 0..=0o177_u32, http, token, any::<bool>());
    option::of(admin.prop_map(|(socket, mode, mut http, http_token_file, write)| {
        if http_token_file.is_none() {
            http.set_ip([127, 0, 0, 1].into());
        }
        http.set_ip(http.ip().to_canonical());
        let http_write = write && http_token_file.is_some();
        Admin { socket, socket_mode: 0o600 | mode, http: Some(http), http_token_file, http_write }
    }))
}

fn some_logs() -> impl Strategy<Value = (Log, Access)> {
    let log = (prop::sample::select(LEVELS.map(|(_, level)| level).to_vec()), some_output(), any::<bool>())
        .prop_map(|(level, output, json)| {
            let format = if json { LogFormat::Json } else { LogFormat::Logfmt };
            Log { level, output, format }
        });
    let format = prop_oneof![
        Just(AccessFormat::Json),
        Just(AccessFormat::Logfmt),
        Just(AccessFormat::HaproxyTcplog),
        r#"([ -z~é"'\\$]|\{\{|\}\}){0,9}\$?\{ts\}"#
            .prop_map(|text| AccessFormat::Template(text.parse().expect("it is a template"))),
    ];
    let events = prop::sample::subsequence(Event::NAMES.map(|(_, event)| event).to_vec(), 1..=3);
    let sample = prop_oneof![Just(1.0), 1e-9..1.0_f64];
    let access = (option::of(some_output()), format, events.prop_shuffle(), any::<bool>(), sample);
    let access = access.prop_map(|(output, format, mut events, skip_empty, sample)| {
        if format == AccessFormat::HaproxyTcplog {
            events = vec![Event::Close];
        }
        let update_every = events.contains(&Event::Update).then_some(Duration::from_secs(90));
        Access { output, format, events, update_every, skip_empty, sample }
    });
    (log, access)
}

fn some_defaults() -> impl Strategy<Value = (Timeouts, Tcp, Retry)> {
    let limit = || option::of(some_duration());
    let limits = (limit(), limit(), limit(), limit(), limit(), limit(), limit(), 0.0..=1.0_f64);
    let timeouts = limits.prop_map(
        |(connect, connect_total, idle, half_close, queue, preread, max_lifetime, max_lifetime_jitter)| {
            Timeouts {
                connect,
                connect_total,
                idle,
                half_close,
                queue,
                preread,
                max_lifetime,
                max_lifetime_jitter,
            }
        },
    );
    let seconds = || (1..=32767_u64).prop_map(Duration::from_secs);
    let keepalive = (seconds(), seconds(), 1..=127_u8).prop_map(|(idle, interval, count)| Keepalive {
        idle,
        interval,
        count,
    });
    let names = (option::of("[!-.0-~]{0,14}[a-z]"), option::of("[!-.0-~]{0,14}[a-z]"));
    let buffer = || option::of((4..=524_288_u32).prop_map(|kib| kib << 10));
    let marks = (option::of(0..=63_u8), any::<Option<NonZeroU32>>());
    let tcp = (
        any::<bool>(),
        option::of(keepalive),
        (limit(), limit(), any::<bool>()),
        names,
        (buffer(), buffer()),
        marks,
    );
    let tcp = tcp.prop_map(
        |(
            nodelay,
            keepalive,
            (dead_peer, user_timeout, rst_on_error),
            (congestion, interface),
            (rcvbuf, sndbuf),
            (dscp, mark),
        )| Tcp {
            nodelay,
            keepalive,
            dead_peer,
            user_timeout,
            rst_on_error,
            congestion,
            rcvbuf,
            sndbuf,
            dscp,
            mark,
            interface,
        },
    );
    (timeouts, tcp.boxed(), some_retry())
}

fn some_retry() -> impl Strategy<Value = Retry> {
    (1..=u8::MAX, some_duration()).prop_map(|(tries, same_server_delay)| Retry { tries, same_server_delay })
}

fn some_own_timeouts() -> impl Strategy<Value = OwnTimeouts> {
    let limit = || option::of(option::of(some_duration()));
    (limit(), limit(), limit(), limit(), limit()).prop_map(
        |(connect, connect_total, idle, half_close, queue)| OwnTimeouts {
            connect,
            connect_total,
            idle,
            half_close,
            queue,
            preread: None,
            max_lifetime: None,
        },
    )
}

fn some_path() -> impl Strategy<Value = Address> {
    let path = "/[ -~]{0,50}".prop_map(|path| Address::Unix(path.into()));
    let name = "[ -~é]{1,50}".prop_map(Address::Abstract);
    prop_oneof![path, name]
}

/// Servers that have a name as their address, and the rest of these.
fn some_named(like: &[Server]) -> Vec<Server<DnsName>> {
    let names = [("host", "db.example:1"), ("service", "srv:_db._tcp.example")];
    let named = |(server, (kind, addr)): (&Server, (&str, &str))| Server {
        name: format!("{}-{kind}", server.name),
        addr: DnsName::read(addr).unwrap().unwrap(),
        weight: if kind == "service" { 1 } else { server.weight },
        maxconn: server.maxconn.or(NonZeroU32::new(9)),
        backup: server.backup,
        state: server.state,
        origin: Origin::File,
    };
    like.iter().zip(names).map(named).collect()
}

fn some_balance() -> impl Strategy<Value = Balance> {
    let key = prop::sample::select(HashKey::NAMES.map(|(_, key)| key).to_vec());
    let table = prop_oneof![Just(Table::Ring), Just(Table::Maglev(101))];
    let spread = (key, table, 0..=128_u8, option::of(100..=100_000_u32));
    let spread =
        spread.prop_map(|(key, table, ipv6_prefix, bound)| Spread { key, table, ipv6_prefix, bound });
    prop_oneof![
        prop::sample::select(Balance::NAMES.map(|(_, balance)| balance).to_vec()),
        spread.prop_map(Balance::Source),
    ]
}

/// Clients of these wait for their server, and listeners may wait for them only if the check is of something else.
fn waits(probe: &Probe) -> bool {
    matches!(probe.kind, Kind::Mysql | Kind::Smtp) && probe.port.is_none()
}

fn some_pool() -> BoxedStrategy<Pool> {
    let ip = (any::<std::net::IpAddr>(), 1..=u16::MAX).prop_map(Address::from);
    let addr = prop_oneof![ip, some_path()];
    let state = prop::sample::select(ServerState::NAMES.map(|(_, state)| state).to_vec());
    let server =
        ("[A-Za-z0-9_.-]{1,9}", addr, any::<u16>(), any::<Option<NonZeroU32>>(), any::<bool>(), state)
            .prop_map(|(name, addr, weight, maxconn, backup, state)| Server {
                name,
                addr,
                weight,
                maxconn,
                backup,
                state,
                origin: Origin::File,
            });
    let balance = some_balance();
    let removed = prop::sample::select(OnRemoved::NAMES.map(|(_, removed)| removed).to_vec());
    let down = prop::sample::select(OnDown::NAMES.map(|(_, down)| down).to_vec());
    let all_down = prop::sample::select(AllDown::NAMES.map(|(_, all)| all).to_vec());
    let closing =
        (balance, all_down, removed, down, option::of(some_duration()), 1..=1_000_000_u32, any::<u32>());
    let health = (option::of(some_duration()), some_check(), some_passive());
    ("[A-Za-z0-9_.-]{1,64}", closing, health, some_way(), prop::collection::vec(server, 1..4))
        .prop_map(|(name, closing, (slow_start, mut check, passive), way, mut servers)| {
            let (balance, all_down, on_removed, on_down, drain_timeout, close_rate, queue_max) = closing;
            let ((source, send_proxy), (lists, servers_poll), timeouts, tcp, retry) = way;
            let named = some_named(&servers);
            for (index, server) in servers.iter_mut().enumerate() {
                server.name += &index.to_string();
                // Some are to serve as a rule, and nobody may be behind one that has no limit.
                server.backup &= index > 0;
                if balance == Balance::First {
                    server.maxconn.get_or_insert(NonZeroU32::MIN);
                }
            }
            if let Check::Own(probe) = &mut check
                && servers.iter().any(|server| server.addr.ip().is_none())
            {
                probe.port = None;
                if waits(probe) {
                    probe.kind = Kind::Tcp;
                }
            }
            Pool {
                name,
                balance,
                all_down,
                on_down,
                on_removed,
                drain_timeout,
                close_rate,
                slow_start,
                check,
                passive,
                source,
                send_proxy,
                timeouts,
                tcp,
                retry,
                queue_max,
                servers,
                named,
                lists,
                servers_poll,
            }
        })
        .boxed()
}

type Way = ((Source, Option<SendProxy>), (Vec<ListAt>, Duration), OwnTimeouts, Tcp, Retry);

/// How servers are reached.
fn some_way() -> impl Strategy<Value = Way> {
    let source = prop_oneof![
        Just(Source::System),
        Just(Source::Client),
        Just(Source::Addresses(vec![[192, 0, 2, 1].into(), std::net::Ipv6Addr::LOCALHOST.into()])),
    ];
    let tcp = some_defaults().prop_map(|(_, tcp, _)| tcp);
    let file = option::of("/[ -.0-~]{1,50}".prop_map(|path| ListAt::File(path.into())));
    let url = (1..=u16::MAX, "/[a-z]{0,9}(\\?[a-z$={}]{0,9})?", option::of(some_tls()));
    let url = url.prop_map(|(port, target, tls)| {
        let host = ListHost::Named(DnsName::Host("list.example".to_owned(), port));
        ListAt::Url(ListUrl { host, target, tls })
    });
    let file = (file, option::of(url));
    let poll = (100..100_000_u64).prop_map(Duration::from_millis);
    let etcd = option::of(some_etcd().prop_map(|etcd| ListAt::Etcd(Box::new(etcd))));
    let lists = (
        (file, etcd).prop_map(|((file, url), etcd)| file.into_iter().chain(url).chain(etcd).collect()),
        poll,
    );
    ((source, some_send_proxy()), lists, some_own_timeouts(), tcp.boxed(), some_retry())
}

fn some_file() -> impl Strategy<Value = PathBuf> {
    "/[ -~]{1,50}".prop_map(PathBuf::from)
}

fn some_tls() -> impl Strategy<Value = Tls> {
    (some_file(), option::of((some_file(), some_file()))).prop_map(|(ca, client)| Tls { ca, client })
}

fn some_etcd() -> impl Strategy<Value = Etcd> {
    let host = prop_oneof!["[a-z]{1,9}", Just("10.0.0.1".to_owned()), Just("fd00::1".to_owned())];
    let endpoint = (host, 1..=u16::MAX).prop_map(|(host, port)| Endpoint { is_tls: true, host, port });
    let user = option::of(("[ -~]{1,20}", some_file()));
    (prop::collection::vec(endpoint, 1..4), "[ -~\u{e9}\n]{1,50}", user, some_tls())
        .prop_map(|(endpoints, prefix, user, tls)| Etcd { endpoints, prefix, user, tls: Some(tls) })
}

fn some_send_proxy() -> impl Strategy<Value = Option<SendProxy>> {
    let tlvs = any::<[bool; 2]>().prop_map(|[unique_id, crc32c]| {
        let tlvs = ProxyTlvs { unique_id, crc32c, ..ProxyTlvs::default() };
        Some(SendProxy { version: Version::V2, tlvs })
    });
    let v1 = SendProxy { version: Version::V1, tlvs: ProxyTlvs::default() };
    prop_oneof![Just(None), Just(Some(v1)), tlvs]
}

fn some_accept_proxy() -> impl Strategy<Value = Option<AcceptProxy>> {
    let untrusted = prop::sample::select(Untrusted::NAMES.map(|(_, untrusted)| untrusted).to_vec());
    let versions = prop::sample::select(vec![(true, false), (false, true), (true, true)])
        .prop_map(|(v1, v2)| Versions { v1, v2 });
    let from = prop::collection::vec(some_network(), 1..3);
    option::of((from, any::<bool>(), versions, untrusted).prop_map(
        |(from, from_unix, versions, untrusted)| AcceptProxy { from, from_unix, versions, untrusted },
    ))
}

/// None, or one with conditions to the first pool and a default one.
fn some_routes() -> impl Strategy<Value = Vec<Route>> {
    let name = "[a-z0-9_-]{1,20}\\.example".prop_map(|name| ServerName::new(name.as_bytes()).unwrap());
    let sni = (name, any::<bool>()).prop_map(|(name, is_exact)| {
        let first = if is_exact { NamePattern::Exact(name) } else { NamePattern::Below(name) };
        vec![first, NamePattern::Below(ServerName::new(b"other.example").unwrap())]
    });
    let alpn = prop::collection::hash_set("[ -~]{1,20}", 0..3).prop_map(Vec::from_iter);
    let source = prop::collection::hash_set(some_network(), 0..3).prop_map(Vec::from_iter);
    let starttls = prop::sample::select(Starttls::NAMES.map(|(_, starttls)| starttls).to_vec());
    let last = prop::sample::select(vec![RouteTo::Pool(1), RouteTo::Reject, RouteTo::Close]);
    let routes = (sni, alpn, source, starttls, last).prop_map(|(sni, alpn, source, starttls, last)| {
        let none = Route {
            sni: vec![],
            alpn: vec![],
            source: vec![],
            starttls: Starttls::Off,
            default: true,
            to: last,
        };
        vec![Route { sni, alpn, source, starttls, default: false, to: RouteTo::Pool(0) }, none]
    });
    prop_oneof![Just(vec![]), routes]
}

fn some_passive() -> impl Strategy<Value = Passive> {
    (0..=1_000_000_u32, some_duration(), some_duration(), 1..=100_u8).prop_map(
        |(max_fails, one, other, max_ejected)| Passive {
            max_fails,
            eject: one.min(other),
            eject_max: one.max(other),
            max_ejected,
        },
    )
}

fn some_network() -> impl Strategy<Value = ipnet::IpNet> {
    // Addresses of IPv6 that stand for one of IPv4 are refused.
    let v4 = (any::<std::net::Ipv4Addr>(), 0..=32_u8).prop_map(|(addr, prefix)| (addr.into(), prefix));
    let v6 = (1..=u128::MAX >> 1, 0..=128_u8)
        .prop_map(|(bits, prefix)| (std::net::Ipv6Addr::from_bits(bits << 1 | 1 << 127).into(), prefix));
    prop_oneof![v4, v6].prop_map(|(addr, prefix): (std::net::IpAddr, u8)| {
        ipnet::IpNet::new(addr, prefix).expect("the prefix fits").trunc()
    })
}

fn some_access_rules() -> impl Strategy<Value = AccessRules> {
    let action = || prop::sample::select(Action::NAMES.map(|(_, action)| action).to_vec());
    let rule = (action(), some_network()).prop_map(|(action, network)| Rule { action, network });
    let match_on = prop::sample::select(MatchOn::NAMES.map(|(_, on)| on).to_vec());
    (action(), prop::collection::vec(rule, 0..4), match_on)
        .prop_map(|(default, rules, match_on)| AccessRules { default, rules, match_on })
}

fn some_limits() -> impl Strategy<Value = Limits> {
    let number = || 1..=1_000_000_u32;
    let source_rate = option::of((number(), number()).prop_map(|(rate, burst)| Rate { rate, burst }));
    let conns = option::of(number().prop_map(|n| NonZeroU32::new(n).unwrap()));
    let bytes = || option::of((1..=1_u64 << 30).prop_map(|kib| NonZeroU64::new(kib << 10).unwrap()));
    let table = (1..=128_u8, 16..=16_000_000_u32, any::<bool>(), bytes(), bytes());
    (conns, source_rate, option::of(number()), table).prop_map(
        |(per_source_conns, per_source_rate, rate, (ipv6_prefix, table_size, dry_run, upload, download))| {
            Limits {
                per_source_conns,
                per_source_rate,
                rate,
                ipv6_prefix,
                table_size,
                dry_run,
                upload,
                download,
            }
        },
    )
}

fn some_kind() -> impl Strategy<Value = Kind> {
    let text = nasty().prop_map(String::into_bytes);
    let bytes = prop_oneof![text, prop::collection::vec(any::<u8>(), 1..9)];
    let step = (any::<bool>(), bytes)
        .prop_map(|(sends, bytes)| if sends { Step::Send(bytes) } else { Step::Expect(bytes) });
    let codes = (100..=599_u16, 100..=599_u16).prop_map(|(one, other)| one.min(other)..=one.max(other));
    let http = ("/[!-~]{0,9}", prop::collection::vec(codes, 1..3));
    let argv = ("/[ -~]{0,9}", prop::collection::vec(nasty(), 0..3));
    prop_oneof![
        prop::sample::select(vec![
            Kind::Tcp,
            Kind::Postgres,
            Kind::Mysql,
            Kind::Redis,
            Kind::RedisMaster,
            Kind::Smtp
        ]),
        prop::collection::vec(step, 1..4).prop_map(Kind::SendExpect),
        http.prop_map(|(path, status)| Kind::Http { path, status }),
        "([a-z]{1,5}([.][a-z]{1,5}){0,2})?".prop_map(|sni| Kind::Tls { sni }),
        argv.prop_map(|(program, mut argv)| {
            argv.insert(0, program);
            Kind::Exec(argv)
        }),
    ]
}

fn some_check() -> impl Strategy<Value = Check> {
    let times = (some_duration(), some_duration(), some_duration(), 1..=60_000_u64);
    let initial = prop::sample::select(Initial::NAMES.map(|(_, initial)| initial).to_vec());
    let close = prop::sample::select(CheckClose::NAMES.map(|(_, close)| close).to_vec());
    let counts = (1..=u8::MAX, 1..=u8::MAX, 0..=1000_u16);
    let probe = (some_kind(), any::<Option<NonZeroU16>>(), times, counts, initial, close);
    let probe = probe.prop_map(|(kind, port, times, (fall, rise, jitter), initial, close)| {
        let (interval, fast_interval, down_interval, timeout) = times;
        let timeout = Duration::from_millis(timeout);
        let intervals = Probe { interval, fast_interval, down_interval, timeout, ..Probe::default() };
        let mut probe = Probe { kind, port, fall, rise, jitter, initial, close, ..intervals };
        if waits(&probe) {
            probe.port = Some(NonZeroU16::MIN);
        }
        Check::Own(probe)
    });
    prop_oneof![Just(Check::Off), probe]
}

#[expect(clippy::too_many_lines, reason = "every table once")]
fn some_config() -> impl Strategy<Value = Config> {
    let limit = any::<Option<NonZeroU32>>;
    let handed = "[ -9;-~]{1,20}".prop_map(Address::Handed);
    let listener = (
        any::<std::net::IpAddr>().prop_map(|ip| ip.to_canonical()),
        some_path(),
        handed,
        option::of(some_engine()),
        limit(),
        limit(),
        some_access_rules(),
        some_limits(),
        (some_accept_proxy(), some_routes(), any::<bool>(), (1..=32_u32).prop_map(|kib| kib << 10)),
    );
    let parts = (
        some_process().boxed(),
        some_admin().boxed(),
        some_logs().boxed(),
        some_defaults().boxed(),
        some_pool(),
        some_pool(),
        listener.boxed(),
    );
    parts.prop_filter_map("limits that hold together", |parts| {
        let (
            process,
            admin,
            (log, access),
            (timeouts, tcp, retry),
            one,
            other,
            (ip, path, handed, engine, backlog, maxconn, rules, limits, first_bytes),
        ) = parts;
        let wait = backlog.is_none();
        let tcp_info = if wait { TcpInfo::Off } else { TcpInfo::Sample };
        let metrics = Metrics {
            per_server: wait,
            tcp_info,
            tcp_info_sample_every: Duration::from_secs(1).max(process.drain.grace),
        };
        let (accept_proxy, routes, speaks_first, max_client_hello) = first_bytes;
        let listener = Listener {
            name: other.name.clone(),
            bind: vec![(ip, 80).into(), path, (ip, 0).into(), handed],
            v6only: wait,
            pool: if matches!(routes.last(), Some(route) if route.to != RouteTo::Pool(1)) { 0 } else { 1 },
            server_speaks_first: speaks_first && routes.is_empty(),
            routes,
            max_client_hello,
            engine,
            backlog,
            accept_balance: if wait { AcceptBalance::LeastLoaded } else { AcceptBalance::Reuseport },
            accept_burst: if wait { 1 } else { 1024 },
            maxconn,
            at_maxconn: if wait { AtMaxconn::Wait } else { AtMaxconn::Reject },
            when_no_upstream: if wait { WhenNoUpstream::Close } else { WhenNoUpstream::Rst },
            accept_proxy,
            timeouts: OwnTimeouts {
                connect: None,
                connect_total: None,
                queue: None,
                preread: one.timeouts.half_close,
                max_lifetime: one.timeouts.idle,
                ..one.timeouts
            },
            tcp: one.tcp.clone(),
            access: rules,
            limits,
        };
        let resolver = |tcp_only| Resolver { at: (ip, 53).into(), tcp_only };
        let dns = Dns {
            resolvers: if wait {
                Resolvers::System
            } else {
                Resolvers::Listed(vec![resolver(true), resolver(false)])
            },
            hold: process.drain.grace,
            ttl_max: Dns::default().ttl_max.max(process.drain.grace),
            tries: if wait { 1 } else { 10 },
            prefer: if wait { Prefer::Ipv6 } else { Prefer::Any },
            ..Dns::default()
        };
        let listeners = vec![listener];
        let differ = one.name != other.name;
        let pools = vec![one, other];
        differ.then_some(Config {
            process,
            admin,
            log,
            access,
            metrics,
            dns,
            timeouts,
            tcp,
            retry,
            listeners,
            pools,
        })
    })
}

proptest! {
    #[test]
    fn a_dump_is_read_back_as_the_same_configuration(config in some_config()) {
        let text = dump(&config);
        match parse(&text, "dump") {
            Ok(read) => prop_assert_eq!(read, config, "{}", text),
            Err(report) => prop_assert!(false, "{}\n{}", report, text),
        }
    }
}

/// What a file that says nothing gets.
const DEFAULTS: &str = r#"config_version = 1

[process]
workers = "auto"
cpu_affinity = "off"
engine = "auto"
engine_fallback = true
maxconn = "auto"
buffer_size = "256KiB"
buffer_budget = "512MiB"
splice = "off"
watch = false
user = ""

[process.drain]
grace = "0s"
idle_first = true
spread = "30s"
hard_stop = "5m"

[process.uring]
entries = 4096
buffers = 1024
multishot = true

[log]
level = "info"
output = "stderr"
format = "logfmt"

[log.access]
output = "stdout"
format = "json"
events = ["close"]
update_every = "off"
skip_empty = true
sample = 1.0

[metrics]
per_server = true
tcp_info = "close"
tcp_info_sample_every = "10s"

[dns]
resolvers = "system"
ttl_min = "1s"
ttl_max = "5m"
hold = "30s"
timeout = "1s"
tries = 3
prefer = "any"

[defaults.timeouts]
connect = "5s"
connect_total = "10s"
idle = "1h"
half_close = "5m"
preread = "5s"
queue = "10s"
max_lifetime = "off"
max_lifetime_jitter = 0.1

[defaults.tcp]
nodelay = true
keepalive = { idle = "1m", interval = "10s", count = 6 }
dead_peer = "1m"
user_timeout = "off"
rst_on_error = true
congestion = ""
rcvbuf = "auto"
sndbuf = "auto"
dscp = "off"
mark = "off"
interface = ""

[defaults.retry]
tries = 3
same_server_delay = "1s"

[listener."a.b"]
bind = ["[::1]:80"]
v6only = true
pool = "p"
engine = "inherit"
backlog = "auto"
accept_balance = "least_loaded"
accept_burst = 16
maxconn = "off"
at_maxconn = "wait"
when_no_upstream = "rst"
server_speaks_first = false
max_client_hello = "16KiB"

[listener."a.b".access]
default = "allow"
rules = []
match_on = "client"

[listener."a.b".limits]
per_source_conns = "off"
per_source_rate = "off"
rate = "off"
ipv6_prefix = 64
table_size = 100000
dry_run = false
upload = "off"
download = "off"

[pool.p]
balance = "round_robin"
all_down = "reject"
on_down = "keep"
on_removed = "drain"
drain_timeout = "off"
close_rate = "100/s"
source = []
send_proxy = "off"
proxy_tlvs = []
slow_start = "off"
queue = { max = 1000 }
servers_poll = "5s"

[pool.p.passive]
max_fails = 5
eject = "10s"
eject_max = "5m"
max_ejected = "50%"

[[pool.p.server]]
name = "s"
addr = "10.0.0.1:1"
weight = 1
maxconn = 0
backup = false
state = "ready"
"#;

#[test]
fn a_dump_writes_every_default_and_says_auto_and_off() {
    let least = "[listener.\"a.b\"]\nbind = [\"[::1]:80\"]\npool = \"p\"\n[pool.p]\n\
                 balance = \"round_robin\"\nserver = [{ name = \"s\", addr = \"10.0.0.1:1\" }]";
    assert_eq!(dump(&parse(least, "least").unwrap()), DEFAULTS);
}
