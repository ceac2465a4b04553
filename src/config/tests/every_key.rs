//! Every key of the reference is read, or refused by name.

use super::*;

/// A date is no value of any key, so each key must be refused: as a wrong value or as not supported yet.
#[test]
fn every_key_of_the_reference_is_read_or_refused_as_not_supported_yet() {
    let mut read = Vec::new();
    for table in TABLES {
        for key in table.keys {
            let path = table.path.replace("NAME", "x");
            let text = match path.as_str() {
                "" => format!("{key} = 1979-05-27"),
                "pool.x.check.steps" => format!("[pool.x.check]\nsteps = [{{ {key} = 1979-05-27 }}]"),
                "pool.x.server" | "listener.x.route" => format!("[[{path}]]\n{key} = 1979-05-27"),
                _ => format!("[{path}]\n{key} = 1979-05-27"),
            };
            let errors = errors(&text);
            let said = |words: &str| errors.iter().any(|error| error.contains(words));
            assert!(!said("unknown"), "{text}\n{errors:#?}");
            if said("found a date or time") || said("`include` needs a file") {
                read.push(format!("{}.{key}", table.path));
            } else {
                assert!(said("is not supported yet by this version"), "{text}\n{errors:#?}");
                let is_offered = !LATER.iter().any(|(path, keys)| *path == table.path && keys.contains(key));
                // Of tables that are not there as a whole no key is ever asked for.
                assert!(!is_offered || is_later(table.path), "[{}] {key} belongs in LATER", table.path);
            }
        }
    }
    let tables = ".config_version .include .process .admin .log .metrics .dns .defaults .listener .pool process.workers \
        process.cpu_affinity process.engine process.engine_fallback process.maxconn process.buffer_size process.buffer_budget process.splice process.user process.watch \
        process.drain process.uring process.drain.grace process.drain.idle_first process.drain.spread process.drain.hard_stop \
        process.uring.entries process.uring.buffers process.uring.multishot admin.socket admin.socket_mode admin.http admin.http_token_file admin.http_write log.level log.output log.format log.access log.access.output \
        log.access.format log.access.template log.access.events log.access.update_every log.access.skip_empty \
        log.access.sample metrics.per_server metrics.tcp_info metrics.tcp_info_sample_every dns.resolvers dns.ttl_min dns.ttl_max \
        dns.hold dns.timeout dns.tries dns.prefer defaults.timeouts defaults.tcp defaults.retry defaults.timeouts.connect \
        defaults.timeouts.connect_total defaults.timeouts.idle defaults.timeouts.half_close defaults.timeouts.preread defaults.timeouts.queue defaults.timeouts.max_lifetime defaults.timeouts.max_lifetime_jitter \
        defaults.tcp.nodelay defaults.tcp.keepalive defaults.tcp.dead_peer defaults.tcp.user_timeout defaults.tcp.rst_on_error defaults.tcp.congestion \
        defaults.tcp.rcvbuf defaults.tcp.sndbuf defaults.tcp.dscp defaults.tcp.mark defaults.tcp.interface \
        defaults.tcp.keepalive.idle \
        defaults.tcp.keepalive.interval defaults.tcp.keepalive.count defaults.retry.tries \
        defaults.retry.same_server_delay listener.NAME.bind listener.NAME.v6only listener.NAME.pool listener.NAME.engine listener.NAME.backlog listener.NAME.accept_balance \
        listener.NAME.accept_burst listener.NAME.maxconn listener.NAME.at_maxconn listener.NAME.when_no_upstream listener.NAME.server_speaks_first listener.NAME.accept_proxy listener.NAME.max_client_hello listener.NAME.access listener.NAME.limits listener.NAME.route listener.NAME.timeouts listener.NAME.tcp \
        listener.NAME.timeouts.idle listener.NAME.timeouts.half_close listener.NAME.timeouts.preread listener.NAME.timeouts.max_lifetime listener.NAME.accept_proxy.from listener.NAME.accept_proxy.versions \
        listener.NAME.accept_proxy.untrusted listener.NAME.access.default \
        listener.NAME.access.rules listener.NAME.access.match_on listener.NAME.limits.per_source_conns \
        listener.NAME.limits.per_source_rate listener.NAME.limits.rate listener.NAME.limits.ipv6_prefix \
        listener.NAME.limits.table_size listener.NAME.limits.dry_run listener.NAME.limits.upload listener.NAME.limits.download listener.NAME.limits.per_source_rate.rate \
        listener.NAME.limits.per_source_rate.burst listener.NAME.route.sni listener.NAME.route.alpn \
        listener.NAME.route.starttls listener.NAME.route.pool listener.NAME.route.source listener.NAME.route.default \
        listener.NAME.route.action pool.NAME.balance pool.NAME.server \
        pool.NAME.on_down pool.NAME.on_removed pool.NAME.drain_timeout pool.NAME.close_rate pool.NAME.all_down pool.NAME.slow_start pool.NAME.send_proxy pool.NAME.proxy_tlvs pool.NAME.source pool.NAME.queue \
        pool.NAME.servers_file pool.NAME.servers_url pool.NAME.servers_etcd pool.NAME.servers_poll \
        pool.NAME.check pool.NAME.passive pool.NAME.hash pool.NAME.timeouts pool.NAME.tcp pool.NAME.retry pool.NAME.timeouts.connect \
        pool.NAME.timeouts.connect_total pool.NAME.timeouts.queue pool.NAME.timeouts.idle pool.NAME.timeouts.half_close pool.NAME.queue.max \
        pool.NAME.servers_url.url pool.NAME.servers_url.ca pool.NAME.servers_url.client_cert pool.NAME.servers_url.client_key \
        pool.NAME.servers_etcd.endpoints pool.NAME.servers_etcd.prefix pool.NAME.servers_etcd.username pool.NAME.servers_etcd.password_file \
        pool.NAME.servers_etcd.ca pool.NAME.servers_etcd.client_cert pool.NAME.servers_etcd.client_key \
        pool.NAME.server.name pool.NAME.server.addr pool.NAME.server.weight pool.NAME.server.maxconn pool.NAME.server.backup pool.NAME.server.state \
        pool.NAME.check.kind pool.NAME.check.port pool.NAME.check.path pool.NAME.check.status \
        pool.NAME.check.interval pool.NAME.check.fast_interval pool.NAME.check.down_interval \
        pool.NAME.check.timeout pool.NAME.check.fall pool.NAME.check.rise pool.NAME.check.jitter \
        pool.NAME.check.initial pool.NAME.check.close pool.NAME.check.track pool.NAME.check.argv \
        pool.NAME.check.sni pool.NAME.check.steps pool.NAME.check.steps.send pool.NAME.check.steps.send_hex \
        pool.NAME.check.steps.expect pool.NAME.check.steps.expect_hex \
        pool.NAME.passive.max_fails pool.NAME.passive.eject pool.NAME.passive.eject_max \
        pool.NAME.passive.max_ejected pool.NAME.hash.method pool.NAME.hash.table \
        pool.NAME.hash.key pool.NAME.hash.ipv6_prefix pool.NAME.hash.bounded_load";
    for (path, keys) in LATER {
        let is_read = |key: &&&str| read.contains(&format!("{path}.{key}"));
        assert_eq!(keys.iter().find(is_read), None, "[{path}]: take it out of LATER");
    }
    assert_eq!(read, tables.split_whitespace().collect::<Vec<_>>());
}

/// Whether the whole table is not there yet.
fn is_later(path: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(parent, key)| LATER.iter().any(|(path, keys)| *path == parent && keys.contains(&key)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is cut out of or put into a good text, it is judged without a panic, and every error points
    /// at a line that is there.
    #[test]
    fn no_text_is_too_broken_to_judge(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..40, r#"[\[\]{}"'=#\\\n,a-c0-9é.$]{0,6}"#), 0..6),
    ) {
        let mut text = include_str!("../../../proxy.toml").replace("# ", "") + LEAST;
        for (index, length, insert) in cuts {
            let start = text.floor_char_boundary(index.index(text.len() + 1));
            let end = text.floor_char_boundary(start + length);
            text.replace_range(start..end, &insert);
        }
        if let Err(report) = parse(&text, "test") {
            prop_assert!(!report.errors.is_empty());
            for place in report.errors.iter().filter_map(|problem| problem.place.as_ref()) {
                prop_assert!(place.line >= 1 && place.line <= text.split('\n').count());
                prop_assert!(place.column >= 1);
            }
        }
    }
}
