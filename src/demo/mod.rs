//! `tidegate demo`: the main job on an embedded default. The proxy runs as it always does; this room adds
//! back ends (`back_end`), each a process of its own that can be killed, and a load (`load`).

mod back_end;
mod load;

use std::fmt::Write;
use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

pub use back_end::serve;

use crate::config::{self, AccessFormat, Address, Config};
use crate::say::say;
use crate::sys::signals;
use back_end::BackEnds;
use load::{Load, Summary};

/// The access line of the demo: short enough to be read while it scrolls.
const ACCESS_LINE: &str = "{client} -> {server}  {bytes_out} bytes  {duration_ms} ms  {cause}";

/// How long the proxy may take to listen.
const START_TIME: Duration = Duration::from_secs(10);

/// The configuration that is built in: the `proxy.toml` of the source tree, with an access line for people.
///
/// # Errors
/// The errors in it, as of any configuration.
pub fn built_in() -> Result<Config, config::Report> {
    let mut config = config::parse(include_str!("../../proxy.toml"), "proxy.toml (built in)")?;
    config.access.format = AccessFormat::Template(ACCESS_LINE.parse().expect("it is a template"));
    Ok(config)
}

/// Runs the proxy with back ends of its own until a signal comes, or under load for `time`. The back ends
/// are the servers of the first listener's pool.
///
/// Ends with success unless a request of the load failed.
///
/// # Errors
/// A back end or the proxy that cannot start.
pub fn run(mut config: Config, time: Option<Duration>) -> anyhow::Result<ExitCode> {
    let listener = config.listeners.first().context("the demo needs a listener")?;
    let front = listener.bind.iter().find_map(Address::ip).map(reachable);
    let front = front.context("the demo needs a listener with an IP address")?;
    let pool = config.pools[listener.pool].clone();
    if time.is_some() {
        config.access.output = None;
    }
    let back_ends = BackEnds::start(&pool.servers)?;
    let welcome = welcome(front, &back_ends, &config, time);
    let names = pool.servers.iter().map(|server| server.name.clone()).collect();
    let stopping = Arc::new(AtomicBool::new(false));
    let guide = thread::Builder::new().name("demo".to_owned()).spawn({
        let stopping = Arc::clone(&stopping);
        move || {
            let result = guide(front, &welcome, time.map(|time| Load { to: front, names, time }), &stopping);
            if !matches!(result, Ok(None)) {
                // The proxy ends as it always does, by a signal and a drain.
                signals::request_stop().context("cannot stop the proxy")?;
            }
            result
        }
    })?;
    crate::process::run(config.clone(), None)?;
    stopping.store(true, Ordering::Relaxed);
    let summary = guide.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    drop(back_ends);

    let Some(summary) = summary else { return Ok(ExitCode::SUCCESS) };
    say(format_args!("\n{summary}"))?;
    Ok(if summary.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Beside the running proxy: shows the user round and, with a load, drives it. `None`: nothing more to do
/// but wait for the user's signal, or one has come before the proxy was ready.
fn guide(
    front: SocketAddr,
    welcome: &str,
    load: Option<Load>,
    stopping: &Arc<AtomicBool>,
) -> anyhow::Result<Option<Summary>> {
    let patience = now() + START_TIME;
    while let Err(error) = reach_a_back_end(front) {
        if stopping.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if now() >= patience {
            return Err(error).with_context(|| format!("the proxy does not answer at {front}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    // Only a proxy that is up heeds these signals: before, they end the process as they do any other. The
    // load must know, so that what fails because of the stop is not taken for a failure of the proxy.
    signals::tell_of_stop(stopping).context("cannot listen for signals")?;
    say(welcome)?;
    load.map(|load| load.drive(stopping)).transpose()
}

/// Sends an end and waits for a back end's: that proves that the whole way is open, and no byte is moved, so
/// that the access log stays the user's.
fn reach_a_back_end(front: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&front, START_TIME)?;
    stream.set_read_timeout(Some(START_TIME))?;
    stream.shutdown(Shutdown::Write)?;
    stream.read(&mut [0]).map(|_| ())
}

/// Where a client on this machine reaches a listener bound to `bind`.
fn reachable(mut bind: SocketAddr) -> SocketAddr {
    if bind.ip().is_unspecified() {
        bind.set_ip(if bind.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    bind
}

/// Who runs where, and what to try.
fn welcome(front: SocketAddr, back_ends: &BackEnds, config: &Config, time: Option<Duration>) -> String {
    let mut text = format!("The proxy listens on {front}; behind it are processes of their own:\n");
    for back_end in back_ends.iter() {
        let _ = writeln!(text, "  {:<12} {:<21} pid {}", back_end.name, back_end.addr, back_end.pid());
    }
    let _ = write!(
        text,
        "\nTry in another terminal:\n  curl http://{front}/\n  for i in 1 2 3 4 5 6; do curl -s http://{front}/; done\n"
    );
    if let Some(victim) = back_ends.iter().nth(1) {
        let _ = writeln!(
            text,
            "  {} {}   # ends {}: its clients go to the others at once",
            if cfg!(windows) { "taskkill /F /PID" } else { "kill" },
            victim.pid(),
            victim.name
        );
    }
    text.push('\n');
    match time {
        Some(time) => {
            let _ = writeln!(
                text,
                "{} clients send requests for {time:?}; the access log is off meanwhile.",
                load::CLIENTS
            );
        }
        None if config.access.output.is_none() => text.push_str("Ctrl-C ends it. The access log is off.\n"),
        None => text.push_str("Ctrl-C ends it. The access log has a line for each connection that ended:\n"),
    }
    text
}

/// The demo is outside the rooms that get the time as an argument: it is a client and a server of them.
#[expect(clippy::disallowed_methods, reason = "measures the proxy from outside")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_reach_a_listener_on_all_addresses_by_loopback() {
        for (bind, front) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("127.0.0.2:80", "127.0.0.2:80")]
        {
            assert_eq!(reachable(bind.parse().unwrap()), front.parse().unwrap());
        }
    }

    #[test]
    fn the_built_in_configuration_is_right_and_stays_on_loopback() {
        let config = built_in().unwrap_or_else(|report| panic!("{report}"));
        let names: Vec<_> = config.pools[config.listeners[0].pool].servers.iter().map(|s| &s.name).collect();
        assert_eq!(names, ["alpha", "beta", "gamma"]);
        assert!(
            config
                .listeners
                .iter()
                .flat_map(|l| &l.bind)
                .all(|addr| addr.ip().is_some_and(|addr| addr.ip().is_loopback()))
        );
    }
}
