//! A configuration as a file that gives it again.

use std::fmt::Display;
use std::time::Duration;

use super::value::{DURATION_UNITS, SIZE_UNITS};
use super::{
    Access, AccessFormat, AtMaxconn, Balance, Config, CpuAffinity, EngineKind, Listener, LogFormat,
    LogOutput, Pool, Process, Tcp,
};

/// The whole configuration with every default written out, as TOML that [`parse`](super::parse) reads back
/// to an equal one. References such as `${NAME}` have become what they stood for.
#[must_use]
pub fn dump(config: &Config) -> String {
    let Config { process, log, access, timeouts, tcp, retry, listeners, pools } = config;
    let mut out = Lines(String::new());
    out.key("config_version", 1);
    out.process(process);
    out.header("[log]");
    out.key("level", quoted(&log.level.as_str().to_lowercase()));
    out.key("output", output(&log.output));
    out.key("format", log_format(log.format));
    out.access(access);
    out.header("[defaults.timeouts]");
    out.key("connect", duration_or_off(timeouts.connect));
    out.key("connect_total", duration_or_off(timeouts.connect_total));
    out.key("idle", duration_or_off(timeouts.idle));
    out.key("half_close", duration_or_off(timeouts.half_close));
    out.tcp(tcp);
    out.header("[defaults.retry]");
    out.key("tries", retry.tries);
    out.key("same_server_delay", duration(retry.same_server_delay));
    for listener in listeners {
        out.listener(listener, &pools[listener.pool]);
    }
    for pool in pools {
        out.pool(pool);
    }
    out.0
}

/// The lines of a file.
struct Lines(String);

impl Lines {
    fn header(&mut self, header: &str) {
        self.0.push('\n');
        self.0.push_str(header);
        self.0.push('\n');
    }

    fn key(&mut self, key: &str, value: impl Display) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    fn process(&mut self, process: &Process) {
        self.header("[process]");
        self.key("workers", number_or("auto", process.workers));
        self.key(
            "cpu_affinity",
            match &process.cpu_affinity {
                CpuAffinity::Off => quoted("off"),
                CpuAffinity::Auto => quoted("auto"),
                CpuAffinity::Cpus(cpus) => array(cpus),
            },
        );
        let engine = match process.engine {
            EngineKind::Auto => "auto",
            EngineKind::Mio => "mio",
        };
        self.key("engine", quoted(engine));
        self.key("maxconn", number_or("auto", process.maxconn));
        self.key("buffer_size", size(process.buffer_size.into()));
        self.key("buffer_budget", size(process.buffer_budget));
        self.header("[process.drain]");
        self.key("hard_stop", duration_or_off(process.hard_stop));
    }

    fn access(&mut self, access: &Access) {
        self.header("[log.access]");
        self.key("output", access.output.as_ref().map_or_else(|| quoted("off"), output));
        match &access.format {
            AccessFormat::Json => self.key("format", quoted("json")),
            AccessFormat::Logfmt => self.key("format", quoted("logfmt")),
            AccessFormat::Template(template) => {
                self.key("format", quoted("template"));
                self.key("template", quoted(template));
            }
        }
        self.key("events", array(&["close"]));
        self.key("update_every", quoted("off"));
        self.key("skip_empty", access.skip_empty);
        self.key("sample", format!("{:?}", access.sample));
    }

    fn tcp(&mut self, tcp: &Tcp) {
        self.header("[defaults.tcp]");
        self.key("nodelay", tcp.nodelay);
        let keepalive = tcp.keepalive.map(|keepalive| {
            let idle = duration(keepalive.idle);
            let interval = duration(keepalive.interval);
            format!("{{ idle = {idle}, interval = {interval}, count = {} }}", keepalive.count)
        });
        self.key("keepalive", keepalive.unwrap_or_else(|| quoted("off")));
    }

    fn listener(&mut self, listener: &Listener, pool: &Pool) {
        self.header(&format!("[listener.{}]", bare(&listener.name)));
        self.key("bind", array(&listener.bind));
        self.key("pool", quoted(&pool.name));
        self.key("backlog", number_or("auto", listener.backlog));
        self.key("maxconn", number_or("off", listener.maxconn));
        let at_maxconn = match listener.at_maxconn {
            AtMaxconn::Wait => "wait",
            AtMaxconn::Reject => "reject",
        };
        self.key("at_maxconn", quoted(at_maxconn));
    }

    fn pool(&mut self, pool: &Pool) {
        self.header(&format!("[pool.{}]", bare(&pool.name)));
        let balance = match pool.balance {
            Balance::RoundRobin => "round_robin",
        };
        self.key("balance", quoted(balance));
        for server in &pool.servers {
            self.header(&format!("[[pool.{}.server]]", bare(&pool.name)));
            self.key("name", quoted(&server.name));
            self.key("addr", quoted(&server.addr.to_string()));
            self.key("weight", server.weight);
        }
    }
}

/// A name as a part of a header; one with a dot needs quotes there.
fn bare(name: &str) -> String {
    if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() }
}

/// A TOML string that means `text` itself, whatever is in it.
fn quoted(text: &str) -> String {
    toml::Value::from(text.replace("${", "$${")).to_string()
}

fn array<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

fn number_or<T: Display>(word: &str, number: Option<T>) -> String {
    number.map_or_else(|| quoted(word), |number| number.to_string())
}

fn output(output: &LogOutput) -> String {
    match output {
        LogOutput::Stdout => quoted("stdout"),
        LogOutput::Stderr => quoted("stderr"),
        LogOutput::Journald => quoted("journald"),
        LogOutput::Syslog(path) => quoted(&format!("syslog:{}", path.display())),
        LogOutput::File(path) => quoted(&path.display().to_string()),
    }
}

fn log_format(format: LogFormat) -> String {
    match format {
        LogFormat::Logfmt => quoted("logfmt"),
        LogFormat::Json => quoted("json"),
    }
}

fn duration(duration: Duration) -> String {
    in_units(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), DURATION_UNITS)
}

fn duration_or_off(limit: Option<Duration>) -> String {
    limit.map_or_else(|| quoted("off"), duration)
}

fn size(bytes: u64) -> String {
    in_units(bytes, SIZE_UNITS)
}

/// `amount` in the largest of the units, given largest first, that divides it; the last one if none does.
fn in_units(amount: u64, units: &[(&str, u64)]) -> String {
    let whole = units.iter().find(|(_, factor)| amount.is_multiple_of(*factor)).or_else(|| units.last());
    whole.map_or_else(String::new, |(unit, factor)| quoted(&format!("{}{unit}", amount / factor)))
}
