//! The tables that hold for the whole process: `[process]` and `[log]`.

use std::num::{NonZeroU16, NonZeroU32};
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;
use toml::de::DeValue;

use super::read::{At, Draft, Reader, Section, Value};
use super::value::{self, Fault, Parsed};
use super::{
    Access, AccessFormat, CpuAffinity, Drain, EngineKind, Event, LogFormat, LogOutput, MOST_WORKERS, Process,
    Splice, TcpInfo, Template, Uring, known, template,
};

/// How much is logged: each level with its name.
pub const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];

/// The number of CPUs that Linux can name to a process.
const MOST_CPUS: u32 = 1024;

impl Reader {
    pub(super) fn process(&mut self, section: &Section<'_>, draft: &mut Draft) {
        let process = &mut draft.process;
        for (key, value) in section.keys {
            let at = Some(self.at(value.span().start));
            match key.get_ref().as_ref() {
                "workers" => {
                    self.set(&mut process.workers, value, workers);
                    draft.budget_at = draft.budget_at.or(at);
                }
                "cpu_affinity" => self.cpu_affinity(&mut process.cpu_affinity, value),
                "engine" => {
                    self.set(&mut process.engine, value, |v| value::choice(v, &EngineKind::NAMES, &[]));
                }
                "engine_fallback" => self.set(&mut process.engine_fallback, value, value::boolean),
                "maxconn" => self.set(&mut process.maxconn, value, |v| count_or("auto", v)),
                "buffer_size" => {
                    self.set(&mut process.buffer_size, value, buffer_size);
                    draft.budget_at = draft.budget_at.or(at);
                }
                "buffer_budget" => {
                    self.set(&mut process.buffer_budget, value, buffer_budget);
                    draft.budget_at = at;
                }
                "splice" => self.set(&mut process.splice, value, |v| value::choice(v, &Splice::NAMES, &[])),
                "watch" => self.set(&mut process.watch, value, value::boolean),
                "user" => self.set(&mut process.user, value, user),
                "drain" => self.with(section, key, value, "process.drain", |reader, section| {
                    reader.drain(section, &mut process.drain);
                }),
                "uring" => self.with(section, key, value, "process.uring", |reader, section| {
                    reader.uring(section, &mut process.uring);
                }),
                _ => self.unread(section, key, value),
            }
        }
    }

    fn drain(&mut self, section: &Section<'_>, drain: &mut Drain) {
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "grace" => self.set(&mut drain.grace, value, value::duration_or_zero),
                "idle_first" => self.set(&mut drain.idle_first, value, value::boolean),
                "spread" => self.set(&mut drain.spread, value, value::duration_or_zero),
                "hard_stop" => self.set(&mut drain.hard_stop, value, value::duration_or_off),
                _ => self.unread(section, key, value),
            }
        }
    }

    fn uring(&mut self, section: &Section<'_>, uring: &mut Uring) {
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "entries" => self.set(&mut uring.entries, value, |v| value::integer(v, 8..=32_768)),
                "buffers" => self.set(&mut uring.buffers, value, ring_buffers),
                "multishot" => self.set(&mut uring.multishot, value, value::boolean),
                _ => self.unread(section, key, value),
            }
        }
    }

    fn cpu_affinity(&mut self, slot: &mut CpuAffinity, value: &Value<'_>) {
        if value.get_ref().is_str() {
            return self.set(slot, value, |v| {
                value::choice(v, &CpuAffinity::NAMES, &[]).and_then(only_where_threads_can_be_pinned)
            });
        }
        let mut cpus = Vec::new();
        for item in self.list(value, "\"off\", \"auto\" or an array of CPUs such as [\"0\", \"4-7\"]") {
            self.take(item, |item| add_cpus(&mut cpus, item));
        }
        self.set(slot, value, |_| only_where_threads_can_be_pinned(CpuAffinity::Cpus(cpus)));
    }

    /// Where the number of workers is not written, one is what is sure.
    pub(super) fn check_budget(&mut self, process: &Process, at: Option<At>, (share, what): (u64, String)) {
        let workers = process.workers.map_or(1, NonZeroU16::get);
        let least = u64::from(workers) * share;
        if process.buffer_budget < least {
            let message = format!(
                "buffer_budget is {} KiB, less than the {} KiB that {workers} workers need for {what}",
                process.buffer_budget >> 10,
                least >> 10,
            );
            let help = format!("write buffer_budget = \"{}KiB\" or more", least >> 10);
            self.problem(at.unwrap_or(At::START), Fault::new(message).help(help));
        }
    }

    pub(super) fn log(&mut self, section: &Section<'_>, draft: &mut Draft) {
        let log = &mut draft.log;
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "level" => self.set(&mut log.level, value, level),
                "output" => self.set(&mut log.output, value, |v| {
                    output(v)?.ok_or_else(|| {
                        Fault::new("only [log.access] can be off").help("write level = \"off\"")
                    })
                }),
                "format" => {
                    self.set(&mut log.format, value, |v| value::choice(v, &LogFormat::NAMES, &[]));
                }
                "access" => {
                    self.with(section, key, value, "log.access", |r, s| r.access(s, &mut draft.access));
                }
                _ => self.unread(section, key, value),
            }
        }
    }

    fn access(&mut self, section: &Section<'_>, access: &mut Access) {
        let mut template = None;
        let (mut events_at, mut update_every_at, mut is_read) = (section.at, section.at, true);
        for (key, value) in section.keys {
            let at = self.at(value.span().start);
            match key.get_ref().as_ref() {
                "output" => self.set(&mut access.output, value, output),
                "format" => {
                    self.set(&mut access.format, value, |v| value::choice(v, &AccessFormat::NAMES, &[]));
                }
                "template" => template = self.take(value, value::text).map(|text| (text, value)),
                "events" => {
                    events_at = at;
                    access.events = self.events(value);
                    is_read &= !access.events.is_empty();
                }
                "update_every" => {
                    update_every_at = at;
                    let read = self.take(value, pause_between_updates);
                    is_read &= read.is_some();
                    access.update_every = read.flatten();
                }
                "skip_empty" => self.set(&mut access.skip_empty, value, value::boolean),
                "sample" => self.set(&mut access.sample, value, value::share),
                _ => self.unread(section, key, value),
            }
        }
        self.template(section, template, &mut access.format);
        if is_read {
            self.check_events(access, events_at, update_every_at);
        }
    }

    pub(super) fn metrics(&mut self, section: &Section<'_>, draft: &mut Draft) {
        let metrics = &mut draft.metrics;
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "per_server" => self.set(&mut metrics.per_server, value, value::boolean),
                "tcp_info" => {
                    self.set(&mut metrics.tcp_info, value, |v| value::choice(v, &TcpInfo::NAMES, &[]));
                }
                "tcp_info_sample_every" => {
                    self.set(&mut metrics.tcp_info_sample_every, value, |v| {
                        let every = value::duration(v)?;
                        if every < Duration::from_secs(1) {
                            return Err(
                                Fault::new("samples are a second or more apart").help("write \"1s\" or more")
                            );
                        }
                        Ok(every)
                    });
                }
                _ => self.unread(section, key, value),
            }
        }
    }

    /// Checks what `events`, `update_every` and `format` say together.
    fn check_events(&mut self, access: &Access, events: At, update_every: At) {
        let has_updates = access.events.contains(&Event::Update);
        if has_updates && access.update_every.is_none() {
            let fault = Fault::new("`events` has \"update\", but `update_every` does not say how often");
            self.problem(
                events,
                fault.help("write update_every = \"5m\" beside it, or leave \"update\" out"),
            );
        }
        if !has_updates && access.update_every.is_some() {
            let fault = Fault::new("`update_every` has no effect without \"update\" in `events`");
            let help = "write events = [\"update\", \"close\"] beside it, or leave it out";
            self.problem(update_every, fault.help(help));
        }
        if access.format == AccessFormat::HaproxyTcplog && access.events != [Event::Close] {
            let fault = Fault::new("format = \"haproxy_tcplog\" has no line for anything but \"close\"");
            let help = "write events = [\"close\"], or another format such as \"logfmt\"";
            self.problem(events, fault.help(help));
        }
    }

    /// Joins `template` and `format`, of which neither means anything without the other.
    fn template(
        &mut self,
        section: &Section<'_>,
        template: Option<(String, &Value<'_>)>,
        format: &mut AccessFormat,
    ) {
        match (format, template) {
            (AccessFormat::Template(slot), Some((text, value))) => {
                self.set(slot, value, |_| Template::parse(&text));
            }
            (AccessFormat::Template(_), None) => self.require(section, "template", template::EXAMPLE),
            (_, Some((text, value))) if !text.is_empty() => {
                let fault = Fault::new("`template` has no effect without format = \"template\"");
                let help = "write format = \"template\" beside it, or leave it out";
                self.problem(self.at(value.span().start), fault.help(help));
            }
            _ => {}
        }
    }

    /// None at all when one of them is wrong.
    fn events(&mut self, value: &Value<'_>) -> Vec<Event> {
        let mut events = Vec::new();
        let items = self.list(value, "an array of events such as [\"open\", \"close\"]");
        for item in items {
            let event = self.take(item, |item| {
                let event = value::choice(item, &Event::NAMES, &[])?;
                if events.contains(&event) {
                    return Err(Fault::new(format!("{:?} is in the list twice", event.name())));
                }
                Ok(event)
            });
            events.extend(event);
        }
        if events.len() < items.len() { Vec::new() } else { events }
    }
}

fn workers(value: &DeValue<'_>) -> Parsed<Option<NonZeroU16>> {
    Ok(value::integer_or("auto", value, 1..=MOST_WORKERS)?.and_then(NonZeroU16::new))
}

/// A count of at least one, or `word`.
pub(super) fn count_or(word: &str, value: &DeValue<'_>) -> Parsed<Option<NonZeroU32>> {
    Ok(value::integer_or(word, value, 1..=u32::MAX)?.and_then(NonZeroU32::new))
}

/// Adds the CPUs of `"4"` or `"4-7"`.
fn add_cpus(cpus: &mut Vec<u32>, value: &DeValue<'_>) -> Parsed<()> {
    let expected = format!("CPUs such as \"0\" or \"4-7\", up to {}", MOST_CPUS - 1);
    if let DeValue::Integer(number) = value {
        return Err(Fault::mismatch(&expected, value).help(format!("write \"{number}\"")));
    }
    let text = value::text(value)?;
    let (first, last) = text.split_once('-').unwrap_or((&text, &text));
    let number = |text: &str| text.parse::<u32>().ok().filter(|cpu| *cpu < MOST_CPUS);
    let range = number(first).zip(number(last)).filter(|(first, last)| first <= last);
    let (first, last) = range.ok_or_else(|| Fault::mismatch(&expected, value))?;
    for cpu in first..=last {
        if cpus.contains(&cpu) {
            return Err(Fault::new(format!("CPU {cpu} is in the list twice")));
        }
        cpus.push(cpu);
    }
    Ok(())
}

fn buffer_size(value: &DeValue<'_>) -> Parsed<u32> {
    value::size(value, 4 << 10..=16 << 20, "from 4KiB to 16MiB")
}

fn ring_buffers(value: &DeValue<'_>) -> Parsed<u16> {
    let buffers: u16 = value::integer(value, 8..=32_768)?;
    if buffers.is_power_of_two() {
        return Ok(buffers);
    }
    let near = [buffers.next_power_of_two() / 2, buffers.next_power_of_two()];
    Err(Fault::new(format!("expected a power of two, found {buffers}"))
        .help(format!("write {} or {}", near[0], near[1])))
}

fn buffer_budget(value: &DeValue<'_>) -> Parsed<u64> {
    value::size(value, 4 << 10..=1 << 40, "from 4KiB to 1024GiB")
}

/// Every connection is looked at each time, so it is a second or more.
fn pause_between_updates(value: &DeValue<'_>) -> Parsed<Option<Duration>> {
    let pause = value::duration_or_off(value)?;
    if pause.is_some_and(|pause| pause < Duration::from_secs(1)) {
        return Err(Fault::new("updates are a second or more apart").help("write \"1s\" or more"));
    }
    Ok(pause)
}

/// The name of a user; `""` is nobody in particular.
fn user(value: &DeValue<'_>) -> Parsed<Option<String>> {
    let name = value::text(value)?;
    if name.is_empty() {
        return Ok(None);
    }
    if !cfg!(target_os = "linux") {
        let fault = Fault::new("on this system the process cannot become another user");
        return Err(fault.help("leave it out, and start the program as that user"));
    }
    if name.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '/')) {
        let fault = Fault::new(format!("{name:?} is not the name of a user"));
        return Err(fault.help("write the name alone, such as \"tidegate\": its groups come with it"));
    }
    Ok(Some(name))
}

fn level(value: &DeValue<'_>) -> Parsed<LevelFilter> {
    value::choice(value, &LEVELS, &[])
}

/// Linux alone keeps a thread on the CPU that it is told.
fn only_where_threads_can_be_pinned(affinity: CpuAffinity) -> Parsed<CpuAffinity> {
    if cfg!(target_os = "linux") || affinity == CpuAffinity::Off {
        return Ok(affinity);
    }
    Err(Fault::new("this system keeps no thread on a CPU").help("write \"off\", or leave it out"))
}

/// The journal and syslog are reached over unix sockets.
fn only_with_unix_sockets(output: LogOutput) -> Parsed<Option<LogOutput>> {
    if cfg!(unix) || !matches!(output, LogOutput::Journald | LogOutput::Syslog(_)) {
        return Ok(Some(output));
    }
    let fault = Fault::new(format!("there are no unix sockets on this system, and so no \"{output}\""));
    Err(fault.help("write \"stderr\", \"stdout\" or the path of a file"))
}

/// Where lines go; `None` for `"off"`. A file has a `/` in its path, so that no misspelt word becomes one.
fn output(value: &DeValue<'_>) -> Parsed<Option<LogOutput>> {
    let text = value::text(value)?;
    let syslog = text.strip_prefix("syslog:");
    if text == "off" {
        return Ok(None);
    }
    if let Some((_, output)) = LogOutput::NAMES.iter().find(|(word, _)| *word == text) {
        return only_with_unix_sockets(output.clone());
    }
    let path = syslog.unwrap_or(&text);
    if path.contains('\0') || path.ends_with('/') {
        return Err(Fault::new(format!("{text:?} is not the path of a file")));
    }
    if let Some(path) = syslog {
        if !path.starts_with('/') {
            return Err(Fault::new(format!("{text:?} names no socket")).help("write \"syslog:/dev/log\""));
        }
        return only_with_unix_sockets(LogOutput::Syslog(PathBuf::from(path)));
    }
    if text.contains('/') || (cfg!(windows) && text.contains('\\')) {
        return Ok(Some(LogOutput::File(PathBuf::from(text))));
    }
    let words = LogOutput::NAMES.map(|(word, _)| word);
    let words = [words[0], words[1], words[2], "syslog:/dev/log"];
    let fault = Fault::new(format!(
        "expected {} or the path of a file, found {text:?}",
        known::listed(&words, "\"", ", ")
    ));
    let help = match known::nearest(&text, words.into_iter().chain(["syslog"])) {
        Some("syslog") => "did you mean \"syslog:/dev/log\"?".to_owned(),
        Some(word) => format!("did you mean {word:?}?"),
        None => {
            "the path of a file has a `/` in it: \"/var/log/tidegate.log\" or \"./tidegate.log\"".to_owned()
        }
    };
    Err(fault.help(help))
}
