//! Every key of the configuration reference, and what other proxies call the same things.

/// The keys of one kind of table.
pub(super) struct Table {
    /// Its path, with NAME for what the user chooses; empty at the top of a file.
    pub(super) path: &'static str,
    /// The keys of the reference, whether this version reads them or not.
    pub(super) keys: &'static [&'static str],
}

/// The whole reference.
pub(super) const TABLES: &[Table] = &[
    Table {
        path: "",
        keys: &[
            "config_version",
            "include",
            "process",
            "admin",
            "log",
            "metrics",
            "dns",
            "defaults",
            "listener",
            "pool",
        ],
    },
    Table {
        path: "process",
        keys: &[
            "workers",
            "cpu_affinity",
            "engine",
            "engine_fallback",
            "maxconn",
            "buffer_size",
            "buffer_budget",
            "splice",
            "user",
            "watch",
            "drain",
            "uring",
        ],
    },
    Table { path: "process.drain", keys: &["grace", "idle_first", "spread", "hard_stop", "handover"] },
    Table { path: "process.uring", keys: &["entries", "buffers", "multishot"] },
    Table { path: "admin", keys: &["socket", "socket_mode", "http", "http_token_file", "http_write"] },
    Table { path: "log", keys: &["level", "output", "format", "access"] },
    Table {
        path: "log.access",
        keys: &["output", "format", "template", "events", "update_every", "skip_empty", "sample"],
    },
    Table { path: "metrics", keys: &["per_server", "tcp_info", "tcp_info_sample_every"] },
    Table { path: "dns", keys: &["resolvers", "ttl_min", "ttl_max", "hold", "timeout", "tries", "prefer"] },
    Table { path: "defaults", keys: &["timeouts", "tcp", "retry"] },
    Table {
        path: "defaults.timeouts",
        keys: &[
            "connect",
            "connect_total",
            "idle",
            "half_close",
            "preread",
            "queue",
            "max_lifetime",
            "max_lifetime_jitter",
        ],
    },
    Table {
        path: "defaults.tcp",
        keys: &[
            "nodelay",
            "keepalive",
            "dead_peer",
            "user_timeout",
            "rst_on_error",
            "congestion",
            "rcvbuf",
            "sndbuf",
            "dscp",
            "mark",
            "interface",
        ],
    },
    Table { path: "defaults.tcp.keepalive", keys: &["idle", "interval", "count"] },
    Table { path: "defaults.retry", keys: &["tries", "same_server_delay"] },
    Table {
        path: "listener.NAME",
        keys: &[
            "bind",
            "v6only",
            "pool",
            "engine",
            "backlog",
            "accept_balance",
            "accept_burst",
            "maxconn",
            "at_maxconn",
            "when_no_upstream",
            "server_speaks_first",
            "accept_proxy",
            "max_client_hello",
            "access",
            "limits",
            "route",
            "tls",
            "timeouts",
            "tcp",
        ],
    },
    Table { path: "listener.NAME.timeouts", keys: &["idle", "half_close", "preread", "max_lifetime"] },
    Table { path: "listener.NAME.accept_proxy", keys: &["from", "versions", "untrusted"] },
    Table { path: "listener.NAME.access", keys: &["default", "rules", "match_on"] },
    Table {
        path: "listener.NAME.limits",
        keys: &[
            "per_source_conns",
            "per_source_rate",
            "rate",
            "ipv6_prefix",
            "table_size",
            "dry_run",
            "upload",
            "download",
        ],
    },
    Table { path: "listener.NAME.limits.per_source_rate", keys: &["rate", "burst"] },
    Table {
        path: "listener.NAME.route",
        keys: &["sni", "alpn", "starttls", "pool", "source", "default", "action"],
    },
    Table {
        path: "listener.NAME.tls",
        keys: &["certs", "min_version", "alpn", "client_ca", "client_auth", "reload_certs"],
    },
    Table {
        path: "pool.NAME",
        keys: &[
            "balance",
            "server",
            "on_down",
            "on_removed",
            "drain_timeout",
            "close_rate",
            "all_down",
            "slow_start",
            "send_proxy",
            "proxy_tlvs",
            "source",
            "queue",
            "servers_file",
            "servers_url",
            "servers_etcd",
            "servers_poll",
            "check",
            "passive",
            "hash",
            "tls",
            "timeouts",
            "tcp",
            "retry",
        ],
    },
    Table { path: "pool.NAME.timeouts", keys: &["connect", "connect_total", "queue", "idle", "half_close"] },
    Table { path: "pool.NAME.queue", keys: &["max"] },
    Table { path: "pool.NAME.servers_url", keys: &["url", "ca", "client_cert", "client_key"] },
    Table {
        path: "pool.NAME.servers_etcd",
        keys: &["endpoints", "prefix", "username", "password_file", "ca", "client_cert", "client_key"],
    },
    Table { path: "pool.NAME.server", keys: &["name", "addr", "weight", "maxconn", "backup", "state"] },
    Table {
        path: "pool.NAME.check",
        keys: &[
            "kind",
            "port",
            "path",
            "status",
            "interval",
            "fast_interval",
            "down_interval",
            "timeout",
            "fall",
            "rise",
            "jitter",
            "initial",
            "close",
            "track",
            "argv",
            "sni",
            "steps",
        ],
    },
    Table { path: "pool.NAME.check.steps", keys: &["send", "send_hex", "expect", "expect_hex"] },
    Table { path: "pool.NAME.passive", keys: &["max_fails", "eject", "eject_max", "max_ejected"] },
    Table { path: "pool.NAME.hash", keys: &["method", "table", "key", "ipv6_prefix", "bounded_load"] },
    Table {
        path: "pool.NAME.tls",
        keys: &["enabled", "server_name", "ca", "client_cert", "client_key", "insecure_skip_verify"],
    },
];

/// Keys of the reference that this version does not have yet: they are not offered to who has written another one.
pub(super) const LATER: &[(&str, &[&str])] =
    &[("process.drain", &["handover"]), ("listener.NAME", &["tls"]), ("pool.NAME", &["tls"])];

/// What is not there, or has another name, in one kind of table only.
const OF_TABLES: &[(&str, &[&str], &str)] = &[
    ("listener.NAME", &["timeout"], "write [listener.NAME.timeouts] with `idle` or `half_close`"),
    (
        "pool.NAME",
        &["timeout"],
        "write [pool.NAME.timeouts] with `connect`, `queue` or `idle`; that of a check is `timeout` in [pool.NAME.check]",
    ),
    ("pool.NAME.server", &["disabled", "down"], "write state = \"maint\""),
    ("pool.NAME.server", &["enabled", "up"], "it is, unless state = \"drain\" or \"maint\" is written"),
    (
        "pool.NAME.check",
        &["host", "header", "headers"],
        "it cannot be set: `Host` in a check's request is the address of the server",
    ),
    ("pool.NAME.check", &["method"], "it cannot be set: a check of HTTP asks by GET"),
];

/// What other proxies call something, and what to write here. Names are in lower case, their words joined
/// by `_`; see [`of_others`].
const OTHERS: &[(&[&str], &str, &str)] = &[
    // HAProxy
    (&["global"], "HAProxy", "[process] and [log]"),
    (&["frontend", "bind_process"], "HAProxy", "[listener.NAME]"),
    (
        &["backend", "use_backend", "default_backend"],
        "HAProxy",
        "[pool.NAME], which a listener names with `pool`",
    ),
    (&["listen"], "HAProxy and nginx", "[listener.NAME] with `bind = [\"0.0.0.0:80\"]`, and [pool.NAME]"),
    (&["bind"], "HAProxy", "`bind = [\"0.0.0.0:80\"]` in [listener.NAME]"),
    (&["mode", "mode_tcp", "mode_http"], "HAProxy", "nothing: every listener relays TCP"),
    (
        &["timeout_connect", "proxy_connect_timeout", "connect_timeout"],
        "HAProxy, nginx and Envoy",
        "`connect` in [defaults.timeouts]",
    ),
    (
        &[
            "timeout_client",
            "timeout_server",
            "timeout_tunnel",
            "proxy_timeout",
            "idle_timeout",
            "clitimeout",
            "srvtimeout",
        ],
        "HAProxy, nginx and Envoy",
        "`idle` in [defaults.timeouts], for both directions together",
    ),
    (
        &["timeout_client_fin", "timeout_server_fin", "proxy_half_close"],
        "HAProxy and nginx",
        "`half_close` in [defaults.timeouts]",
    ),
    (&["timeout_queue"], "HAProxy", "`queue` in [defaults.timeouts]"),
    (
        &[
            "timeout_client_hs",
            "inspect_delay",
            "preread_timeout",
            "proxy_protocol_timeout",
            "listener_filters_timeout",
        ],
        "HAProxy, nginx and Envoy",
        "`preread` in [defaults.timeouts]",
    ),
    (&["timeout"], "HAProxy", "[defaults.timeouts]"),
    (&["max_conns"], "nginx", "`maxconn` in [[pool.NAME.server]]"),
    (&["maxqueue", "max_pending_requests"], "HAProxy and Envoy", "`queue = { max = 1000 }` in [pool.NAME]"),
    (
        &[
            "clitcpka",
            "srvtcpka",
            "tcpka",
            "option_tcpka",
            "option_clitcpka",
            "option_srvtcpka",
            "proxy_socket_keepalive",
            "so_keepalive",
            "tcp_keepalive",
        ],
        "HAProxy, nginx and Envoy",
        "`keepalive` in [defaults.tcp]",
    ),
    (
        &["clitcpka_idle", "srvtcpka_idle", "keepalive_time", "tcp_keepidle"],
        "HAProxy and Envoy",
        "`keepalive = { idle = \"60s\" }` in [defaults.tcp]",
    ),
    (
        &["clitcpka_intvl", "srvtcpka_intvl", "keepalive_interval"],
        "HAProxy and Envoy",
        "`keepalive = { interval = \"10s\" }` in [defaults.tcp]",
    ),
    (
        &["clitcpka_cnt", "srvtcpka_cnt", "keepalive_probes"],
        "HAProxy and Envoy",
        "`keepalive = { count = 6 }` in [defaults.tcp]",
    ),
    (&["tcp_nodelay", "no_delay"], "nginx", "`nodelay` in [defaults.tcp]"),
    (
        &["nbthread", "nbproc", "worker_processes", "concurrency", "threads"],
        "HAProxy, nginx and Envoy",
        "`workers` in [process]",
    ),
    (&["cpu_map", "worker_cpu_affinity"], "HAProxy and nginx", "`cpu_affinity` in [process]"),
    (
        &["worker_connections", "fullconn", "max_connections"],
        "HAProxy, nginx and Envoy",
        "`maxconn` in [process] or [listener.NAME]",
    ),
    (
        &["tune_bufsize", "proxy_buffer_size", "per_connection_buffer_limit_bytes"],
        "HAProxy, nginx and Envoy",
        "`buffer_size` in [process]",
    ),
    (
        &["hard_stop_after", "worker_shutdown_timeout", "drain_time_s"],
        "HAProxy, nginx and Envoy",
        "`hard_stop` in [process.drain]",
    ),
    (
        &[
            "retries",
            "option_redispatch",
            "redispatch",
            "proxy_next_upstream_tries",
            "proxy_next_upstream",
            "max_connect_attempts",
        ],
        "HAProxy, nginx and Envoy",
        "`tries` in [defaults.retry], each on another server",
    ),
    (&["proxy_next_upstream_timeout"], "nginx", "`connect_total` in [defaults.timeouts]"),
    (
        &["server", "default_server"],
        "HAProxy and nginx",
        "[[pool.NAME.server]] with `name`, `addr` and `weight`",
    ),
    (&["address", "host", "socket_address"], "Envoy", "`addr = \"127.0.0.1:9001\"` in [[pool.NAME.server]]"),
    (&["load_balancing_weight"], "Envoy", "`weight` in [[pool.NAME.server]]"),
    (&["lb_policy", "lb_algorithm", "hash_policy"], "Envoy", "`balance` in [pool.NAME]"),
    (&["option_dontlognull", "dontlognull"], "HAProxy", "`skip_empty` in [log.access]"),
    (&["option_tcplog", "tcplog"], "HAProxy", "`format = \"haproxy_tcplog\"` in [log.access]"),
    (&["option_logasap", "logasap"], "HAProxy", "`events = [\"open\", \"close\"]` in [log.access]"),
    (&["log_format", "access_log"], "HAProxy, nginx and Envoy", "`format` and `template` in [log.access]"),
    (&["group", "uid", "gid"], "HAProxy", "`user` in [process], whose groups come with it"),
    (&["error_log"], "nginx", "`output` in [log]"),
    (
        &["daemon", "pid", "pidfile"],
        "HAProxy and nginx",
        "nothing: the program stays in the foreground for its supervisor",
    ),
    (
        &["conn_cur", "src_conn_cur", "limit_conn", "limit_conn_zone", "max_connections_per_ip"],
        "HAProxy, nginx and sozu",
        "`per_source_conns` in [listener.NAME.limits]",
    ),
    (
        &["conn_rate", "src_conn_rate", "limit_req"],
        "HAProxy and nginx",
        "`per_source_rate` in [listener.NAME.limits]",
    ),
    (&["rate_limit_sessions", "maxconnrate"], "HAProxy", "`rate` in [listener.NAME.limits]"),
    (&["limit_conn_dry_run"], "nginx", "`dry_run` in [listener.NAME.limits]"),
    (
        &["acl", "allow", "deny"],
        "HAProxy and nginx",
        "`rules = [\"allow 10.0.0.0/8\"]` in [listener.NAME.access]",
    ),
    // nginx
    (&["worker_rlimit_nofile", "ulimit_n"], "nginx and HAProxy", "nothing: the limit is raised at the start"),
    (&["stream", "events", "http"], "nginx", "nothing: write [listener.NAME] and [pool.NAME]"),
    (&["upstream", "cluster", "clusters"], "nginx and Envoy", "[pool.NAME] with [[pool.NAME.server]]"),
    (&["proxy_pass"], "nginx", "`pool` in [listener.NAME]"),
    (
        &["least_conn", "leastconn", "ip_hash", "hash"],
        "nginx",
        "`balance` in [pool.NAME]; this version has \"round_robin\"",
    ),
    (&["reuseport"], "nginx", "nothing: every worker has its own listening socket"),
    (&["max_fails", "fail_timeout", "outlier_detection"], "nginx and Envoy", "[pool.NAME.passive]"),
    (
        &["health_checks", "health_check", "httpchk", "option_httpchk"],
        "HAProxy, nginx and Envoy",
        "[pool.NAME.check]",
    ),
    (&["inter"], "HAProxy", "`interval` in [pool.NAME.check]"),
    (&["fastinter"], "HAProxy", "`fast_interval` in [pool.NAME.check]"),
    (&["downinter"], "HAProxy", "`down_interval` in [pool.NAME.check]"),
    (&["fall_count", "unhealthy_threshold"], "Envoy", "`fall` in [pool.NAME.check]"),
    (&["rise_count", "healthy_threshold"], "Envoy", "`rise` in [pool.NAME.check]"),
    (
        &["send_proxy_v2", "proxy_protocol", "accept_proxy_protocol"],
        "HAProxy and nginx",
        "`send_proxy` in [pool.NAME] or `accept_proxy` in [listener.NAME]",
    ),
    (&["slowstart"], "HAProxy", "`slow_start` in [pool.NAME]"),
    // Envoy
    (&["static_resources", "bootstrap"], "Envoy", "nothing: write [listener.NAME] and [pool.NAME]"),
    (&["listeners"], "Envoy", "[listener.NAME]"),
    (
        &["endpoints", "lb_endpoints", "load_assignment", "servers"],
        "Envoy",
        "[[pool.NAME.server]] with `name` and `addr`",
    ),
    (&["tcp_backlog_size", "tune_listen_backlog"], "Envoy and HAProxy", "`backlog` in [listener.NAME]"),
    (
        &["v4v6", "ipv6only", "ipv4_compat"],
        "HAProxy, nginx and Envoy",
        "`v6only = false` in [listener.NAME], for clients of IPv4 at \"[::]:80\"",
    ),
    (
        &["maxaccept", "tune_maxaccept", "max_connections_to_accept_per_socket_event"],
        "HAProxy and Envoy",
        "`accept_burst` in [listener.NAME]",
    ),
    (
        &["max_connect_duration", "max_downstream_connection_duration"],
        "Envoy",
        "`max_lifetime` in [defaults.timeouts]",
    ),
    (&["stats", "stats_socket"], "HAProxy", "[admin]"),
    (
        &["resolvers", "nameserver", "resolver"],
        "HAProxy and nginx",
        "`resolvers = [\"10.0.0.53:53\"]` in [dns]",
    ),
];

/// Values of other proxies, in lower case with `_` between words, and the word for them here.
const VALUES_OF_OTHERS: &[(&str, &str)] = &[
    ("roundrobin", "round_robin"),
    ("static_rr", "round_robin"),
    ("rr", "round_robin"),
    ("leastconn", "least_conn"),
    ("least_request", "least_conn"),
    ("least_connections", "least_conn"),
    ("ring_hash", "source"),
    ("maglev", "source"),
    ("ip_hash", "source"),
    ("power_of_two", "p2c"),
    ("uring", "io_uring"),
    ("iouring", "io_uring"),
    ("epoll", "mio"),
    ("kqueue", "mio"),
    ("warning", "warn"),
    ("notice", "info"),
    ("err", "error"),
    ("crit", "error"),
    ("critical", "error"),
    ("alert", "error"),
    ("permit", "allow"),
    ("accept", "allow"),
    ("block", "deny"),
    ("drop", "deny"),
    ("reject", "deny"),
    ("emerg", "error"),
    ("queue", "wait"),
    ("refuse", "reject"),
    ("tcplog", "haproxy_tcplog"),
    ("custom", "template"),
    ("text", "logfmt"),
];

/// The help for a key that the table at `path` does not have; `None` for a key of the reference, which this
/// version does not read yet.
pub(super) fn help_for_unknown(path: &str, key: &str) -> Option<String> {
    let table = TABLES.iter().find(|table| table.path == path)?;
    if table.keys.contains(&key) {
        return None;
    }
    let near = || nearest(key, table.keys.iter().copied()).map(|near| format!("did you mean `{near}`?"));
    let known = || format!("known here: {}", listed(&built(table), "`", " and "));
    let own = OF_TABLES.iter().find(|(of, names, _)| *of == path && names.contains(&plain(key).as_str()));
    let own = own.map(|(.., help)| (*help).to_owned());
    Some(own.or_else(|| of_others(key)).or_else(near).or_else(|| homes(key)).unwrap_or_else(known))
}

/// The keys of a table that can be written.
fn built(table: &Table) -> Vec<&'static str> {
    let is_later = |key: &&str| LATER.iter().any(|(path, keys)| *path == table.path && keys.contains(key));
    table.keys.iter().copied().filter(|key| !is_later(key)).collect()
}

/// What to write where the table at `path`, whose own key is `key`, was expected and a plain value is.
pub(super) fn help_for_table(path: &str, key: &str, value: Option<u64>) -> Option<String> {
    let table = TABLES.iter().find(|table| table.path == path)?;
    Some(match (built(table).as_slice(), value) {
        ([only], Some(value)) => format!("write {key} = {{ {only} = {value} }}"),
        (keys, _) => format!("a table has keys of its own; known there: {}", listed(keys, "`", " and ")),
    })
}

/// What to write for `name` of another proxy's configuration, whose words may be joined by a space, `-`,
/// `.` or `_`, in any case.
pub(super) fn of_others(name: &str) -> Option<String> {
    let name = plain(name);
    let (_, whose, ours) = OTHERS.iter().find(|(names, ..)| names.contains(&name.as_str()))?;
    Some(format!("that is {whose} language; here it is {ours}"))
}

/// The word that a value of another proxy has here.
pub(super) fn value_of_others(value: &str) -> Option<&'static str> {
    let value = plain(value);
    VALUES_OF_OTHERS.iter().find(|(name, _)| *name == value).map(|(_, ours)| *ours)
}

fn plain(name: &str) -> String {
    name.to_ascii_lowercase().replace([' ', '-', '.'], "_")
}

/// The tables that do have `key`, in a sentence.
fn homes(key: &str) -> Option<String> {
    let tables = TABLES.iter().filter(|table| !table.path.is_empty() && table.keys.contains(&key));
    let homes: Vec<String> = tables.map(|table| format!("[{}]", table.path)).collect();
    (!homes.is_empty()).then(|| format!("`{key}` belongs in {}", homes.join(" or ")))
}

/// The word that `written` was probably meant to be: few letters differ, or one begins with the other.
pub(super) fn nearest<'w>(written: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let written = plain(written);
    let allowed = (written.chars().count() / 3).max(1);
    let extends = |word: &str| {
        let (long, short) = if word.len() > written.len() { (word, &*written) } else { (&*written, word) };
        long.strip_prefix(short).is_some_and(|rest| rest.starts_with('_'))
    };
    words
        .map(|word| (strsim::osa_distance(&written, word), word))
        .filter(|(distance, word)| *distance <= allowed || extends(word))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `a`, `b` and `c`, each between two `quote`s.
pub(super) fn listed(words: &[&str], quote: &str, last: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{quote}{word}{quote}")).collect();
    match quoted.split_last() {
        Some((end, rest)) if !rest.is_empty() => format!("{}{last}{end}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_get_the_best_help_there_is() {
        let cases = [
            ("pool.NAME.check", "fall_counts", "did you mean `fall`?"),
            ("process", "worker", "did you mean `workers`?"),
            ("process", "max_conn", "did you mean `maxconn`?"),
            ("process", "Workers", "did you mean `workers`?"),
            ("listener.NAME", "pol", "did you mean `pool`?"),
            ("", "listeners", "that is Envoy language; here it is [listener.NAME]"),
            ("", "pools", "did you mean `pool`?"),
            ("listener.NAME", "idle", "`idle` belongs in [defaults.timeouts] or [defaults.tcp.keepalive] or"),
            ("defaults.retry", "zzzzzz", "known here: `tries` and `same_server_delay`"),
            (
                "",
                "worker_processes",
                "that is HAProxy, nginx and Envoy language; here it is `workers` in [process]",
            ),
            ("defaults.timeouts", "timeout client", "here it is `idle` in [defaults.timeouts]"),
            ("defaults.timeouts", "timeout-client-fin", "here it is `half_close` in [defaults.timeouts]"),
            ("pool.NAME", "lb_policy", "here it is `balance` in [pool.NAME]"),
            ("pool.NAME.check", "inter", "HAProxy language; here it is `interval` in [pool.NAME.check]"),
            ("pool.NAME.check", "fastinter", "here it is `fast_interval` in [pool.NAME.check]"),
            ("pool.NAME.check", "downinter", "here it is `down_interval` in [pool.NAME.check]"),
            ("pool.NAME.check", "host", "it cannot be set: `Host`"),
            ("pool.NAME.check", "method", "it cannot be set: a check of HTTP asks by GET"),
            ("pool.NAME", "timeout", "write [pool.NAME.timeouts]"),
            ("listener.NAME", "timeout", "write [listener.NAME.timeouts]"),
            ("defaults", "timeout", "here it is [defaults.timeouts]"),
            ("pool.NAME.server", "disabled", "write state = \"maint\""),
            ("pool.NAME.server", "check", "`check` belongs in [pool.NAME]"),
            ("pool.NAME.server", "rise", "`rise` belongs in [pool.NAME.check]"),
        ];
        for (path, key, part) in cases {
            let help = help_for_unknown(path, key).unwrap();
            assert!(help.contains(part), "{path} {key}: {help}");
        }
    }

    #[test]
    fn keys_of_the_reference_are_never_unknown() {
        for table in TABLES {
            for key in table.keys {
                assert_eq!(help_for_unknown(table.path, key), None, "[{}] {key}", table.path);
            }
        }
    }

    #[test]
    fn what_is_not_built_is_not_offered() {
        for (path, later) in LATER {
            let table = TABLES.iter().find(|table| table.path == *path).unwrap();
            let known = help_for_unknown(path, "zzzzzzzzzzzz").unwrap();
            assert!(known.starts_with("known here: `"), "{known}");
            for key in table.keys {
                let is_offered = known.contains(&format!("`{key}`"));
                assert_eq!(is_offered, !later.contains(key), "[{path}] {key}: {known}");
            }
            assert!(later.iter().all(|key| table.keys.contains(key)), "[{path}]");
        }
    }

    #[test]
    fn names_of_others_are_written_as_they_are_looked_up_and_once() {
        let keys = OTHERS.iter().flat_map(|(names, ..)| names.iter().copied()).collect();
        let values = VALUES_OF_OTHERS.iter().map(|(name, _)| *name).collect();
        let lists: [Vec<&str>; 2] = [keys, values];
        for mut names in lists {
            assert!(names.iter().all(|name| plain(name) == *name), "{names:?}");
            names.sort_unstable();
            assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
        }
    }

    #[test]
    fn the_nearest_word_is_near() {
        let words = || ["round_robin", "least_conn", "p2c"].into_iter();
        assert_eq!(nearest("round-robin", words()), Some("round_robin"));
        assert_eq!(nearest("raund_robbin", words()), Some("round_robin"));
        assert_eq!(nearest("random", words()), None);
        assert_eq!(nearest("", words()), None);
    }

    #[test]
    fn lists_read_as_sentences() {
        assert_eq!(listed(&[], "`", " and "), "");
        assert_eq!(listed(&["a"], "`", " and "), "`a`");
        assert_eq!(listed(&["a", "b", "c"], "\"", " or "), "\"a\", \"b\" or \"c\"");
    }
}
