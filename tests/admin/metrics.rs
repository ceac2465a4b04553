//! `/metrics` as Prometheus reads it.

use std::io::Write;
use std::process::{Command, Stdio};

use super::fake::served::Served;
use super::world::fake;

const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[test]
fn the_state_is_told_in_both_formats() {
    let served = Served::new(fake());
    let text = served.tcp().get("/metrics");
    assert_eq!(text.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    let accept = [("accept", "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.5")];
    let open = served.tcp().ask("GET", "/metrics", &accept, "");
    assert_eq!(open.header("content-type"), OPEN);
    assert!(open.body.ends_with("# EOF\n") && !text.body.contains("# EOF"));
    for line in [
        "tidegate_build_info{version=\"1.2.3\",engine=\"mio\"} 1",
        "tidegate_start_time_seconds 1700000000.25",
        "tidegate_ready 1",
        "tidegate_connections 6",
        "tidegate_maxconn 1000",
        "tidegate_fds_used_ratio 0.01220703125",
        "tidegate_config_last_reload_successful 0",
        "tidegate_config_last_reload_timestamp_seconds 1700000100.5",
        "tidegate_config_generation 2",
        "tidegate_listen_overflows_total 7",
        "tidegate_listen_drops_total 9",
        "tidegate_listener_connections{listener=\"web\"} 6",
        "tidegate_listener_maxconn{listener=\"web\"} 100",
        "tidegate_listener_accepted_total{listener=\"web\"} 40",
        "tidegate_listener_rejected_total{listener=\"web\",reason=\"maxconn\"} 4",
        "tidegate_listener_bytes_total{listener=\"web\",direction=\"down\"} 18446744073709551615",
        "tidegate_connections_closed_total{listener=\"web\",pool=\"web\",cause=\"done\"} 30",
        "tidegate_connections_closed_total{listener=\"edge\",pool=\"web\",cause=\"done\"} 5",
        "tidegate_connections_closed_total{listener=\"edge\",pool=\"\",cause=\"no_route\"} 3",
        "tidegate_listener_probes_total{listener=\"web\"} 11",
        "tidegate_route_connections_total{listener=\"edge\",route=\"1\",match=\"sni=*.example.com,...\",pool=\"web\"} 5",
        "tidegate_route_rejected_total{listener=\"edge\",route=\"2\",match=\"sni=old.example.com\"} 2",
        "tidegate_route_rejected_total{listener=\"edge\",route=\"none\",match=\"none\"} 1",
        // Of the server that is there, and of the one of its name that was removed.
        "tidegate_upstream_connections{pool=\"web\",server=\"alpha\"} 6",
        "tidegate_upstream_connect_attempts_total{pool=\"web\",server=\"beta\",result=\"refused\"} 2",
        "tidegate_upstream_connect_seconds_bucket{pool=\"web\",server=\"beta\",le=\"0.001\"} 3",
        "tidegate_upstream_connect_seconds_bucket{pool=\"web\",server=\"beta\",le=\"0.01\"} 5",
        "tidegate_upstream_connect_seconds_bucket{pool=\"web\",server=\"beta\",le=\"1.0\"} 5",
        "tidegate_upstream_connect_seconds_bucket{pool=\"web\",server=\"beta\",le=\"+Inf\"} 6",
        "tidegate_upstream_connect_seconds_sum{pool=\"web\",server=\"alpha\"} 5.0",
        "tidegate_upstream_redispatches_total{pool=\"web\",server=\"beta\"} 2",
        "tidegate_upstream_state{pool=\"web\",server=\"beta\",state=\"drain\"} 1",
        "tidegate_upstream_state{pool=\"web\",server=\"beta\",state=\"ready\"} 0",
        "tidegate_upstream_certificate_expiry_timestamp_seconds{pool=\"web\",server=\"beta\"} 1795953600",
        "tidegate_upstream_weight{pool=\"web\",server=\"alpha\"} 5",
        "tidegate_upstream_bytes_total{pool=\"web\",server=\"beta\",direction=\"up\"} 1000",
        "tidegate_tcp_rtt_seconds_bucket{side=\"client\",listener=\"web\",le=\"0.001\"} 3",
        "tidegate_tcp_rtt_seconds_count{side=\"server\",pool=\"web\",server=\"beta\"} 6",
        "tidegate_tcp_retransmits_total{side=\"client\",listener=\"web\"} 7",
        "tidegate_tcp_segments_sent_total{side=\"server\",pool=\"web\",server=\"alpha\"} 1800",
        "tidegate_worker_connections{worker=\"0\",engine=\"mio\"} 6",
        "tidegate_worker_turns_total{worker=\"0\",engine=\"mio\"} 100",
        "tidegate_worker_cpu_seconds_total{worker=\"0\",engine=\"mio\"} 12.5",
        "tidegate_worker_answer_seconds_count{worker=\"0\",engine=\"mio\"} 6",
    ] {
        for page in [&text.body, &open.body] {
            assert_eq!(page.lines().filter(|it| *it == line).count(), 1, "{line}\n{page}");
        }
    }
}

#[test]
fn without_per_server_no_sample_is_of_a_server() {
    let fake = fake();
    fake.world(|world| world.per_server = false);
    let served = Served::new(fake);
    let page = served.tcp().get("/metrics").body;
    let of_servers: Vec<&str> = page.lines().filter(|it| it.contains("server=\"")).collect();
    assert_eq!(of_servers, Vec::<&str>::new());
    // Three of each of three: two that are there, and one that was removed.
    let pools: Vec<&str> = page.lines().filter(|it| it.starts_with("tidegate_upstream_")).collect();
    assert_eq!(pools, ["tidegate_upstream_connections{pool=\"web\"} 9"]);
    for line in [
        "tidegate_queue_length{pool=\"web\"} 4",
        "tidegate_tcp_retransmits_total{side=\"client\",listener=\"web\"} 7",
    ] {
        assert!(page.lines().any(|it| it == line), "{line}\n{page}");
    }
}

#[test]
fn what_the_system_does_not_tell_is_no_metric() {
    let fake = fake();
    fake.world(|world| {
        (world.status.process.listen_overflows, world.status.process.listen_drops) = (None, None);
    });
    let page = Served::new(fake).tcp().get("/metrics").body;
    assert!(page.contains("tidegate_fds_used_ratio") && !page.contains("tidegate_listen_"), "{page}");
}

#[test]
fn no_sample_stands_there_twice() {
    let served = Served::new(fake());
    let page = served.tcp().get("/metrics").body;
    let mut names: Vec<&str> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    let count = names.len();
    assert!(count > 50);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "{page}");
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = started else {
        let required = std::env::var_os("TIDEGATE_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(!required, "promtool is not installed, and TIDEGATE_REQUIRE_TOOLS=1");
        println!("skipped: promtool is not installed");
        return;
    };
    let served = Served::new(fake());
    let page = served.tcp().get("/metrics").body;
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
