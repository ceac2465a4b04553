//! `[pool.NAME.check]` and `[pool.NAME.passive]`: how a pool finds out which of its servers can be used.

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::pools::DraftPool;
use super::read::{At, Reader, Section, Value};
use super::value::{self, Fault, Parsed};
use super::{Address, Pool, name_in};

/// Where a pool learns whether its servers are up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// It does not: they all count as up.
    Off,
    /// Each of them is asked.
    Own(Probe),
    /// `track`: all of them are what that server is.
    Track {
        /// An index into [`super::Config::pools`].
        pool: usize,
        /// An index into [`super::Pool::servers`].
        server: usize,
    },
}

/// How a server is asked, how often, and what its answers mean.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Probe {
    /// `kind`, with the keys that only it has.
    pub kind: Kind,
    /// `port`: instead of the server's own.
    pub port: Option<NonZeroU16>,
    /// `interval`: from the beginning of one check to that of the next.
    pub interval: Duration,
    /// `fast_interval`: the same while the last check speaks against the server's state; by default as `interval`.
    pub fast_interval: Duration,
    /// `down_interval`: the same while it is down; by default as `interval`.
    pub down_interval: Duration,
    /// `timeout`: for a whole check, up to [`LONGEST_TIMEOUT`].
    pub timeout: Duration,
    /// `fall`: so many checks in a row fail until it is down, 1 to 255.
    pub fall: u8,
    /// `rise`: so many checks in a row pass until it is up again, 1 to 255.
    pub rise: u8,
    /// `jitter`, in thousandths: an interval is longer or shorter by up to this share of it.
    pub jitter: u16,
    /// `initial`
    pub initial: Initial,
    /// `close`
    pub close: CheckClose,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            kind: Kind::Tcp,
            port: None,
            interval: Duration::from_secs(2),
            fast_interval: Duration::from_secs(2),
            down_interval: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            fall: 3,
            rise: 2,
            jitter: 100,
            initial: Initial::CheckFirst,
            close: CheckClose::Fin,
        }
    }
}

/// The longest `timeout` of a check: the process waits so long for the first ones before it listens.
pub const LONGEST_TIMEOUT: Duration = Duration::from_mins(1);

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Whether a connection can be made.
    Tcp,
    /// What these steps say, one after the other.
    SendExpect(Vec<Step>),
    /// An HTTP server.
    Http {
        /// What is asked for, from the first `/` on.
        path: String,
        /// The status codes that are good.
        status: Vec<RangeInclusive<u16>>,
    },
    /// Whether a TLS handshake can be made; the certificate is not judged.
    Tls {
        /// The name that is asked for; empty is none.
        sni: String,
    },
    /// Whether PostgreSQL takes sessions.
    Postgres,
    /// Whether MySQL or MariaDB takes sessions.
    Mysql,
    /// Whether Redis answers.
    Redis,
    /// Whether Redis answers and is a master.
    RedisMaster,
    /// Whether an SMTP server greets.
    Smtp,
    /// What a program says: its file and its arguments.
    Exec(Vec<String>),
}

/// A step of a `send_expect` check.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// These bytes are sent.
    Send(Vec<u8>),
    /// These bytes come, behind whatever else comes.
    Expect(Vec<u8>),
}

/// `initial`: what a server is before its first check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Initial {
    /// Down; the first check alone decides, and the process listens only then.
    CheckFirst,
    /// Up.
    Up,
    /// Down until `rise` checks have passed.
    Down,
}

impl Initial {
    pub(super) const NAMES: [(&'static str, Self); 3] =
        [("check_first", Self::CheckFirst), ("up", Self::Up), ("down", Self::Down)];
}

/// `close`: how the connection of a check ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CheckClose {
    /// As any connection.
    Fin,
    /// With a reset, which leaves nothing behind here.
    Rst,
}

impl CheckClose {
    pub(super) const NAMES: [(&'static str, Self); 2] = [("fin", Self::Fin), ("rst", Self::Rst)];
}

/// `on_down`: what becomes of the connections of a server that goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDown {
    /// They go on until they end by themselves.
    Keep,
    /// Each is reset.
    Close,
}

impl OnDown {
    pub(super) const NAMES: [(&'static str, Self); 2] = [("keep", Self::Keep), ("close", Self::Close)];
}

/// `[pool.NAME.passive]`: a server whose connects fail is left out for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passive {
    /// `max_fails`: so many failed connects in a row; 0 is never.
    pub max_fails: u32,
    /// `eject`: how long the first time; twice as long each time after that.
    pub eject: Duration,
    /// `eject_max`: how long at most.
    pub eject_max: Duration,
    /// `max_ejected`: of the servers of a pool, in percent, 1 to 100. One at least may be, and one that is up stays.
    pub max_ejected: u8,
}

impl Default for Passive {
    fn default() -> Self {
        Self {
            max_fails: 5,
            eject: Duration::from_secs(10),
            eject_max: Duration::from_mins(5),
            max_ejected: 50,
        }
    }
}

/// The names of kinds; those of a kind with keys of its own come with the defaults of these.
fn kinds() -> Vec<(&'static str, Option<Kind>)> {
    let http = Kind::Http { path: "/".to_owned(), status: vec![200..=200] };
    vec![
        ("tcp", Some(Kind::Tcp)),
        ("send_expect", Some(Kind::SendExpect(Vec::new()))),
        ("http", Some(http)),
        ("tls", Some(Kind::Tls { sni: String::new() })),
        ("postgres", Some(Kind::Postgres)),
        ("mysql", Some(Kind::Mysql)),
        ("redis", Some(Kind::Redis)),
        ("redis-master", Some(Kind::RedisMaster)),
        ("smtp", Some(Kind::Smtp)),
        ("exec", Some(Kind::Exec(Vec::new()))),
        ("off", None),
    ]
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::SendExpect(_) => "send_expect",
            Self::Http { .. } => "http",
            Self::Tls { .. } => "tls",
            Self::Postgres => "postgres",
            Self::Mysql => "mysql",
            Self::Redis => "redis",
            Self::RedisMaster => "redis-master",
            Self::Smtp => "smtp",
            Self::Exec(_) => "exec",
        }
    }
}

/// A check whose `track` is a name still.
pub(super) struct DraftCheck {
    pub(super) at: At,
    track: Option<(String, At)>,
    probe: Option<Probe>,
}

/// Keys that mean something with one kind only.
#[derive(Default)]
struct OfKind {
    path: Option<(String, At)>,
    status: Option<(Vec<RangeInclusive<u16>>, At)>,
    steps: Option<(Vec<Step>, At)>,
    argv: Option<(Vec<String>, At)>,
    sni: Option<(String, At)>,
}

/// The most steps of a check, and the most bytes of one.
const MOST_STEPS: usize = 64;
const MOST_BYTES: usize = 4096;

impl Reader {
    pub(super) fn check(&mut self, section: &Section<'_>) -> DraftCheck {
        let mut probe = Probe::default();
        let mut kind = Some(Kind::Tcp);
        let mut track = None;
        let (mut fast, mut down) = (None, None);
        let mut own = OfKind::default();
        for (key, value) in section.keys {
            let at = self.at(value.span().start);
            let place = |text| Some((text, at));
            match key.get_ref().as_ref() {
                "kind" => {
                    self.set(&mut kind, value, read_kind);
                }
                "port" => {
                    self.set(&mut probe.port, value, |v| {
                        value::integer(v, 1..=u16::MAX).map(NonZeroU16::new)
                    });
                }
                "interval" => self.set(&mut probe.interval, value, value::duration),
                "fast_interval" => fast = self.take(value, value::duration),
                "down_interval" => down = self.take(value, value::duration),
                "timeout" => self.set(&mut probe.timeout, value, timeout),
                "fall" => self.set(&mut probe.fall, value, |v| value::integer(v, 1..=u8::MAX)),
                "rise" => self.set(&mut probe.rise, value, |v| value::integer(v, 1..=u8::MAX)),
                "jitter" => self.set(&mut probe.jitter, value, value::thousandths),
                "initial" => {
                    self.set(&mut probe.initial, value, |v| value::choice(v, &Initial::NAMES, &[]));
                }
                "close" => self.set(&mut probe.close, value, |v| value::choice(v, &CheckClose::NAMES, &[])),
                "track" => {
                    track = self.take(value, value::text).filter(|name| !name.is_empty()).and_then(place);
                }
                "path" => own.path = self.take(value, path).map(|path| (path, at)),
                "status" => {
                    own.status = Some((self.statuses(value), at));
                }
                "steps" => own.steps = Some((self.steps(section, value), at)),
                "argv" => own.argv = self.argv(value).map(|argv| (argv, at)),
                "sni" => own.sni = self.take(value, sni).filter(|name| !name.is_empty()).and_then(place),
                _ => self.unread(section, key, value),
            }
        }
        probe.fast_interval = fast.unwrap_or(probe.interval);
        probe.down_interval = down.unwrap_or(probe.interval);
        if track.is_some() && section.keys.len() > 1 {
            let fault = Fault::new(format!("[{}] has `track` and other keys", section.path));
            self.problem(
                section.at,
                fault.help("with `track` that server's state is taken: leave the others out"),
            );
        }
        probe.kind = kind.clone().unwrap_or(Kind::Tcp);
        self.of_kind(section, kind.as_ref(), &mut probe.kind, own);
        DraftCheck { at: section.at, track, probe: kind.is_some().then_some(probe) }
    }

    /// Puts keys that only one kind has into it; they are errors with another kind.
    fn of_kind(&mut self, section: &Section<'_>, kind: Option<&Kind>, into: &mut Kind, own: OfKind) {
        let mut alien = Vec::new();
        let OfKind { path, status, steps, argv, sni } = own;
        if let Some((given, at)) = path {
            match into {
                Kind::Http { path, .. } => *path = given,
                _ => alien.push(("path", "http", at)),
            }
        }
        if let Some((given, at)) = status {
            match into {
                Kind::Http { status, .. } => *status = given,
                _ => alien.push(("status", "http", at)),
            }
        }
        if let Some((given, at)) = steps {
            match into {
                Kind::SendExpect(steps) => *steps = given,
                _ => alien.push(("steps", "send_expect", at)),
            }
        } else if matches!(kind, Some(Kind::SendExpect(_))) {
            self.require(
                section,
                "steps",
                "write steps = [{ send = \"PING\\r\\n\" }, { expect = \"PONG\" }]",
            );
        }
        if let Some((given, at)) = argv {
            match into {
                Kind::Exec(argv) => *argv = given,
                _ => alien.push(("argv", "exec", at)),
            }
        } else if matches!(kind, Some(Kind::Exec(_))) && is_unwritten(section.keys.get("argv")) {
            let fault = Fault::new(format!("[{}] has no program in `argv`", section.path));
            self.missing(
                section.at,
                fault.help("write argv = [\"/usr/local/bin/check\"], and its arguments behind it"),
            );
        }
        if let Some((given, at)) = sni {
            match into {
                Kind::Tls { sni } => *sni = given,
                _ => alien.push(("sni", "tls", at)),
            }
        }
        // What is off has no kind to fit.
        for (key, kind, at) in alien.into_iter().filter(|_| kind.is_some()) {
            let fault = Fault::new(format!("`{key}` means nothing with kind = {:?}", into.name()));
            self.problem(at, fault.help(format!("write kind = {kind:?}, or leave `{key}` out")));
        }
    }

    fn steps(&mut self, section: &Section<'_>, value: &Value<'_>) -> Vec<Step> {
        let items = self.list(value, "an array of steps: [{ send = \"PING\\r\\n\" }, { expect = \"PONG\" }]");
        if items.len() > MOST_STEPS {
            let fault = Fault::new(format!("there are {} steps, and {MOST_STEPS} is the most", items.len()));
            self.problem(self.at(value.span().start), fault);
        }
        let mut steps = Vec::new();
        for item in items {
            let expected = "a step: { send = … }, { send_hex = … }, { expect = … } or { expect_hex = … }";
            match item.get_ref() {
                DeValue::Table(keys) if keys.len() == 1 => {
                    let path = format!("{}.steps", section.path);
                    let at = self.at(item.span().start);
                    let step = Section { kind: "pool.NAME.check.steps", path, at, keys };
                    steps.extend(self.step(&step));
                }
                DeValue::Table(_) => {
                    let fault =
                        Fault::new(format!("expected {expected}, found a table with another number of keys"));
                    self.problem(
                        self.at(item.span().start),
                        fault.help("one key a step: they are done in turn"),
                    );
                }
                other => self.problem(self.at(item.span().start), Fault::mismatch(expected, other)),
            }
        }
        steps
    }

    fn step(&mut self, section: &Section<'_>) -> Option<Step> {
        let (key, value) = section.keys.iter().next()?;
        match key.get_ref().as_ref() {
            "send" => self.take(value, plain_bytes).map(Step::Send),
            "send_hex" => self.take(value, hex_bytes).map(Step::Send),
            "expect" => self.take(value, plain_bytes).map(Step::Expect),
            "expect_hex" => self.take(value, hex_bytes).map(Step::Expect),
            _ => {
                self.unread(section, key, value);
                None
            }
        }
    }

    fn statuses(&mut self, value: &Value<'_>) -> Vec<RangeInclusive<u16>> {
        let expected = "an array of status codes such as [\"200\", \"300-399\"]";
        if let DeValue::Integer(number) = value.get_ref() {
            let fault = Fault::mismatch(expected, value.get_ref());
            self.problem(self.at(value.span().start), fault.help(format!("write status = [\"{number}\"]")));
            return Vec::new();
        }
        let items = self.list(value, expected);
        items.iter().filter_map(|item| self.take(item, status)).collect()
    }

    fn argv(&mut self, value: &Value<'_>) -> Option<Vec<String>> {
        if matches!(value.get_ref(), DeValue::Array(items) if items.is_empty()) {
            return None;
        }
        let expected = "an array of a program and its arguments";
        if let DeValue::String(line) = value.get_ref() {
            let words: Vec<String> = line.split_whitespace().map(|word| format!("{word:?}")).collect();
            let fault = Fault::mismatch(expected, value.get_ref());
            let help = format!("no shell takes it apart: write argv = [{}]", words.join(", "));
            self.problem(self.at(value.span().start), fault.help(help));
            return None;
        }
        let items = self.list(value, expected);
        let argv: Vec<String> = items.iter().filter_map(|item| self.take(item, word)).collect();
        if argv.first().is_some_and(|program| !program.starts_with('/')) {
            let fault = Fault::new(format!("{:?} is no whole path", argv[0]));
            self.problem(
                self.at(value.span().start),
                fault.help("no shell and no PATH looks for it: write /usr/bin/…"),
            );
        }
        if !cfg!(unix) {
            self.problem(self.at(value.span().start), Fault::new("this system runs no programs as checks"));
        }
        Some(argv).filter(|argv| !argv.is_empty())
    }

    pub(super) fn passive(&mut self, section: &Section<'_>, passive: &mut Passive) {
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "max_fails" => self.set(&mut passive.max_fails, value, |v| value::integer(v, 0..=1_000_000)),
                "eject" => self.set(&mut passive.eject, value, value::duration),
                "eject_max" => self.set(&mut passive.eject_max, value, value::duration),
                "max_ejected" => self.set(&mut passive.max_ejected, value, value::percent),
                _ => self.unread(section, key, value),
            }
        }
        if passive.eject_max < passive.eject {
            let fault = Fault::new(format!("`eject_max` in [{}] is shorter than `eject`", section.path));
            self.problem(section.at, fault.help("`eject` doubles each time, up to `eject_max`"));
        }
    }

    /// Checks what checks say of servers and of each other, and puts them into their pools.
    pub(super) fn join_checks(&mut self, drafts: &mut [DraftPool]) {
        let places: HashMap<String, usize> =
            drafts.iter().enumerate().map(|(index, draft)| (draft.pool.name.clone(), index)).collect();
        for index in 0..drafts.len() {
            let Some(check) = drafts[index].check.take() else { continue };
            drafts[index].pool.check = match (check.track, check.probe) {
                (Some((name, at)), _) => match self.tracked(&name, at, drafts, &places) {
                    Some((pool, server)) => Check::Track { pool, server },
                    None => Check::Off,
                },
                (None, Some(probe)) => {
                    self.check_port(check.at, &probe, &drafts[index]);
                    Check::Own(probe)
                }
                (None, None) => Check::Off,
            };
            drafts[index].check_at = Some(check.at);
        }
        self.check_tracks(drafts);
    }

    /// A unix socket has no port, and so none can stand in its place.
    fn check_port(&mut self, at: At, probe: &Probe, draft: &DraftPool) {
        let is_unix = |address: &Address| address.ip().is_none();
        let other = draft.pool.servers.iter().find(|server| is_unix(&server.addr));
        if let (Some(port), Some(server)) = (probe.port, other) {
            let message =
                format!("`port` = {port} for {}, whose address {} has no port", server.name, server.addr);
            self.problem(at, Fault::new(message).help("leave `port` out, or give the server an IP address"));
        }
    }

    fn tracked(
        &mut self,
        name: &str,
        at: At,
        drafts: &[DraftPool],
        places: &HashMap<String, usize>,
    ) -> Option<(usize, usize)> {
        let Some((pool, server)) = name.split_once('/') else {
            self.problem(
                at,
                Fault::new(format!("{name:?} is no server")).help("write track = \"pool/server\""),
            );
            return None;
        };
        let found = places.get(pool).and_then(|place| {
            let server = drafts[*place].pool.servers.iter().position(|one| one.name == server)?;
            Some((*place, server))
        });
        let is_named = |pool: &Pool| pool.named.iter().any(|one| one.name == server);
        if places.get(pool).is_some_and(|place| is_named(&drafts[*place].pool)) {
            let fault = Fault::new(format!("{name:?} is a name, which may stand for several servers"));
            self.problem(at, fault.help("track a server with an address, or check these servers here"));
        } else if found.is_none() {
            let fault = Fault::new(format!("there is no server {name:?} to track"));
            let list = |names: Vec<&str>| names.join(", ");
            let help = match places.get(pool).map(|place| &drafts[*place].pool.servers) {
                None => {
                    let pools = drafts.iter().map(|draft| draft.pool.name.as_str());
                    format!("there is no pool {pool}; the pools are: {}", list(pools.collect()))
                }
                Some(servers) if servers.is_empty() => {
                    format!(
                        "no server of pool {pool} stands in this file with an address, and others cannot be tracked"
                    )
                }
                Some(servers) => {
                    let servers = servers.iter().map(|server| server.name.as_str());
                    format!("the servers of pool {pool} are: {}", list(servers.collect()))
                }
            };
            self.missing_table(at, fault.help(help));
        }
        found
    }

    /// Who is followed must be checked in the end.
    fn check_tracks(&mut self, drafts: &[DraftPool]) {
        for (index, draft) in drafts.iter().enumerate() {
            let Some(at) = draft.check_at else { continue };
            let mut way = vec![index];
            while let Check::Track { pool, .. } = drafts[way[way.len() - 1]].pool.check {
                let comes_back = way.contains(&pool);
                way.push(pool);
                if comes_back {
                    break;
                }
            }
            let last = way[way.len() - 1];
            let names: Vec<&str> = way.iter().map(|pool| drafts[*pool].pool.name.as_str()).collect();
            // A circle is told of where it is first come by.
            if way.len() > 1 && last == index && way[1..].iter().all(|pool| *pool >= index) {
                let fault = Fault::new(format!("pools track each other in a circle: {}", names.join(" -> ")));
                self.problem(at, fault.help("one of them needs a check of its own"));
            } else if way.len() == 2 && drafts[last].pool.check == Check::Off {
                let fault = Fault::new(format!("the servers of pool {:?} are not checked", names[1]));
                self.problem(
                    at,
                    fault.help(format!("write [pool.{}.check], or track another one", names[1])),
                );
            }
        }
    }
}

/// Whether there is no program, rather than one that could not be read.
fn is_unwritten(argv: Option<&Value<'_>>) -> bool {
    argv.is_none_or(|argv| matches!(argv.get_ref(), DeValue::Array(items) if items.is_empty()))
}

fn read_kind(value: &DeValue<'_>) -> Parsed<Option<Kind>> {
    let read = value::choice(value, &kinds(), &[]).and_then(only_where_built);
    read.map_err(|fault| match value {
        DeValue::String(text) if text == "https" => {
            fault.help("there is none for HTTP within TLS: \"tls\" checks the handshake")
        }
        _ => fault,
    })
}

/// The cryptography of TLS is built for Linux only, and a program is run where it can be ended with all that it has started.
fn only_where_built(kind: Option<Kind>) -> Parsed<Option<Kind>> {
    let lacks = match &kind {
        Some(Kind::Tls { .. }) if cfg!(not(target_os = "linux")) => "has no TLS",
        Some(Kind::Exec(_)) if cfg!(not(unix)) => "runs no programs as checks",
        _ => return Ok(kind),
    };
    Err(Fault::new(format!("this system's build {lacks}")).help("write kind = \"tcp\""))
}

fn timeout(value: &DeValue<'_>) -> Parsed<Duration> {
    let read = value::duration(value)?;
    if read > LONGEST_TIMEOUT {
        let fault = Fault::new(format!("a check that takes {read:?} tells nothing in time"));
        return Err(fault.help("the longest is \"1m\""));
    }
    Ok(read)
}

/// What is asked of an HTTP server: it stands in a line of the request as it is.
fn path(value: &DeValue<'_>) -> Parsed<String> {
    let text = value::text(value)?;
    if text.starts_with('/') && text.len() <= MOST_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text);
    }
    Err(Fault::new(format!("{text:?} is no path")).help("write \"/health\", with %20 for a space"))
}

fn status(value: &DeValue<'_>) -> Parsed<RangeInclusive<u16>> {
    let expected = "a status code such as \"200\", or a range such as \"200-299\"";
    let text = match value {
        DeValue::Integer(number) => {
            let fault = Fault::mismatch(expected, value);
            return Err(fault.help(format!("write \"{number}\", in quotes")));
        }
        value => value::text(value)?,
    };
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    let code = |text: &str| text.parse().ok().filter(|code| text.len() == 3 && (100..=599).contains(code));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(Fault::mismatch(expected, value)),
    }
}

/// A host name, as TLS names one (RFC 6066, section 3).
fn sni(value: &DeValue<'_>) -> Parsed<String> {
    let text = value::text(value)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if text.len() <= 253
        && text.bytes().all(fits)
        && !text.split('.').any(|label| label.is_empty() && !text.is_empty())
    {
        return Ok(text);
    }
    Err(Fault::new(format!("{text:?} is no host name")).help("write \"db.example.com\""))
}

fn word(value: &DeValue<'_>) -> Parsed<String> {
    let text = value::text(value)?;
    if text.contains('\0') {
        return Err(Fault::new("an argument has no NUL in it"));
    }
    Ok(text)
}

fn plain_bytes(value: &DeValue<'_>) -> Parsed<Vec<u8>> {
    bounded(value::text(value)?.into_bytes())
}

fn hex_bytes(value: &DeValue<'_>) -> Parsed<Vec<u8>> {
    let text = value::text(value)?;
    if let Some((place, wrong)) = text.char_indices().find(|(_, char)| !char.is_ascii_hexdigit()) {
        let column = text[..place].chars().count() + 1;
        let fault = Fault::new(format!("{wrong:?} at column {column} is no hexadecimal digit"));
        return Err(fault.help("two digits a byte and nothing between them: \"0d0a\""));
    }
    if !text.len().is_multiple_of(2) {
        let fault = Fault::new(format!("{} hexadecimal digits are no whole number of bytes", text.len()));
        return Err(fault.help("two digits a byte: \"0d0a\""));
    }
    let digit =
        |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
    bounded(text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect())
}

fn bounded(bytes: Vec<u8>) -> Parsed<Vec<u8>> {
    match bytes.len() {
        0 => Err(Fault::new("a step has at least one byte")),
        1..=MOST_BYTES => Ok(bytes),
        count => Err(Fault::new(format!("a step has at most {MOST_BYTES} bytes, and this one {count}"))),
    }
}

impl OnDown {
    pub(super) fn name(self) -> &'static str {
        name_in(&Self::NAMES, &self)
    }
}
