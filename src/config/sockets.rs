//! `timeouts`, `tcp` and `retry`: tables that `[defaults]` has, and listeners and pools of their own.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use toml::de::DeValue;

use super::read::{Draft, Key, Reader, Section, Value};
use super::value::{self, Fault, Parsed};
use super::{Keepalive, OwnTimeouts, Retry, Tcp};

/// The longest name of a congestion control algorithm, and of a network device (`TCP_CA_NAME_MAX` and `IFNAMSIZ` less the
/// zero at their ends).
const NAME_MOST: usize = 15;

/// What a table sets, to be put over what holds without it. That may stand in a file that is read later.
pub(super) struct Edits<T>(Vec<Edit<T>>);

type Edit<T> = Box<dyn FnOnce(&mut T)>;

impl<T> Default for Edits<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> fmt::Debug for Edits<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} edits", self.0.len())
    }
}

impl<T: 'static> Edits<T> {
    /// One more, if its value could be read.
    fn add<V: 'static>(&mut self, value: Option<V>, put: fn(&mut T, V)) {
        self.0.extend(value.map(|value| Box::new(move |all: &mut T| put(all, value)) as Edit<T>));
    }

    /// `base` with what is set.
    pub(super) fn over(self, mut base: T) -> T {
        self.0.into_iter().for_each(|edit| edit(&mut base));
        base
    }
}

impl Reader {
    pub(super) fn defaults(&mut self, section: &Section<'_>, draft: &mut Draft) {
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "timeouts" => self.with(section, key, value, "defaults.timeouts", |r, s| {
                    draft.timeouts = r.timeouts(s);
                    draft.jitter = s.keys.get("max_lifetime_jitter").and_then(|v| r.take(v, value::fraction));
                }),
                "tcp" => self.with(section, key, value, "defaults.tcp", |r, s| draft.tcp = r.tcp(s)),
                "retry" => self.with(section, key, value, "defaults.retry", |r, s| draft.retry = r.retry(s)),
                _ => self.unread(section, key, value),
            }
        }
    }

    /// Which keys there may be is a matter of the section's kind.
    pub(super) fn timeouts(&mut self, section: &Section<'_>) -> OwnTimeouts {
        let mut own = OwnTimeouts::default();
        let is_listeners = section.kind == "listener.NAME.timeouts";
        let is_all = section.kind == "defaults.timeouts";
        for (key, value) in section.keys {
            let slot = match key.get_ref().as_ref() {
                "connect" if !is_listeners => &mut own.connect,
                "connect_total" if !is_listeners => &mut own.connect_total,
                "idle" => &mut own.idle,
                "half_close" => &mut own.half_close,
                "queue" if !is_listeners => &mut own.queue,
                "preread" if is_listeners || is_all => &mut own.preread,
                "max_lifetime" if is_listeners || is_all => &mut own.max_lifetime,
                // It is nobody's own.
                "max_lifetime_jitter" if is_all => continue,
                _ => {
                    self.unread(section, key, value);
                    continue;
                }
            };
            *slot = self.take(value, value::duration_or_off);
        }
        own
    }

    pub(super) fn tcp(&mut self, section: &Section<'_>) -> Edits<Tcp> {
        let mut edits: Edits<Tcp> = Edits::default();
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "nodelay" => edits.add(self.take(value, value::boolean), |tcp, it| tcp.nodelay = it),
                "keepalive" => self.keepalive(section, key, value, &mut edits),
                "dead_peer" => edits.add(self.take(value, dead_peer), |tcp, it| tcp.dead_peer = it),
                "user_timeout" => {
                    let read = self.take(value, |v| value::duration_or_off(v).and_then(only_on_linux));
                    edits.add(read, |tcp, it| tcp.user_timeout = it);
                }
                "rst_on_error" => {
                    edits.add(self.take(value, value::boolean), |tcp, it| tcp.rst_on_error = it);
                }
                "congestion" => {
                    let read = self.take(value, |v| name(v, "\"cubic\"").and_then(only_on_linux));
                    edits.add(read, |tcp, it| tcp.congestion = it);
                }
                "rcvbuf" => edits.add(self.take(value, socket_buffer), |tcp, it| tcp.rcvbuf = it),
                "sndbuf" => edits.add(self.take(value, socket_buffer), |tcp, it| tcp.sndbuf = it),
                "dscp" => {
                    let read = |v: &DeValue<'_>| value::integer_or("off", v, 0..=63).and_then(only_on_linux);
                    edits.add(self.take(value, read), |tcp, it| tcp.dscp = it);
                }
                "mark" => {
                    let read = |v: &DeValue<'_>| {
                        let mark: Option<u32> = value::integer_or("off", v, 1..=u32::MAX)?;
                        only_on_linux(mark.and_then(NonZeroU32::new))
                    };
                    edits.add(self.take(value, read), |tcp, it| tcp.mark = it);
                }
                "interface" => {
                    let read = self.take(value, |v| name(v, "\"eth0\"").and_then(only_on_linux));
                    edits.add(read, |tcp, it| tcp.interface = it);
                }
                _ => self.unread(section, key, value),
            }
        }
        edits
    }

    fn keepalive(&mut self, section: &Section<'_>, key: &Key<'_>, value: &Value<'_>, edits: &mut Edits<Tcp>) {
        if !value.get_ref().is_table() {
            edits.add(self.take(value, keepalive_off), |tcp, off| tcp.keepalive = off);
            return;
        }
        let mut own: Edits<Keepalive> = Edits::default();
        self.with(section, key, value, "defaults.tcp.keepalive", |reader, section| {
            for (key, value) in section.keys {
                match key.get_ref().as_ref() {
                    "idle" => own.add(reader.take(value, whole_seconds), |all, it| all.idle = it),
                    "interval" => own.add(reader.take(value, whole_seconds), |all, it| all.interval = it),
                    "count" => {
                        let read = reader.take(value, |v| value::integer(v, 1..=127));
                        own.add(read, |all, it| all.count = it);
                    }
                    _ => reader.unread(section, key, value),
                }
            }
        });
        edits.add(Some(own), |tcp, own| {
            tcp.keepalive = Some(own.over(tcp.keepalive.unwrap_or_default()));
        });
    }

    pub(super) fn retry(&mut self, section: &Section<'_>) -> Edits<Retry> {
        let mut edits: Edits<Retry> = Edits::default();
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "tries" => {
                    let read = self.take(value, |v| value::integer(v, 1..=u8::MAX));
                    edits.add(read, |retry, it| retry.tries = it);
                }
                "same_server_delay" => {
                    let read = self.take(value, value::duration);
                    edits.add(read, |retry, it| retry.same_server_delay = it);
                }
                _ => self.unread(section, key, value),
            }
        }
        edits
    }
}

/// An option that other systems lack, or have in another way.
fn only_on_linux<T>(option: Option<T>) -> Parsed<Option<T>> {
    if cfg!(target_os = "linux") || option.is_none() {
        return Ok(option);
    }
    Err(Fault::new("sockets have no such option on this system").help("leave it out"))
}

/// Linux alone tells how long a peer owes acknowledgements.
fn dead_peer(value: &DeValue<'_>) -> Parsed<Option<Duration>> {
    let limit = value::duration_or_off(value)?;
    if cfg!(target_os = "linux") || limit.is_none() {
        return Ok(limit);
    }
    let fault = Fault::new("this system does not tell how long a peer has acknowledged nothing");
    Err(fault.help("write \"off\", or leave it out; keepalive finds peers that are gone"))
}

/// A name that the kernel knows something by; `""` is none.
fn name(value: &DeValue<'_>, example: &str) -> Parsed<Option<String>> {
    let text = value::text(value)?;
    let fits = |c: char| c.is_ascii_graphic() && c != '/';
    if text.len() <= NAME_MOST && text.chars().all(fits) {
        return Ok((!text.is_empty()).then_some(text));
    }
    let fault = Fault::new(format!("{text:?} is not such a name"));
    Err(fault.help(format!("it has up to {NAME_MOST} characters without `/` and spaces, such as {example}")))
}

/// The kernel doubles it for its own needs, and takes at most 2 GiB then.
fn socket_buffer(value: &DeValue<'_>) -> Parsed<Option<u32>> {
    if matches!(value, DeValue::String(_)) && value::text(value)? == "auto" {
        return Ok(None);
    }
    value::size(value, 4 << 10..=512 << 20, "from 4KiB to 512MiB, or \"auto\"").map(Some)
}

fn keepalive_off(value: &DeValue<'_>) -> Parsed<Option<Keepalive>> {
    let expected = "\"off\" or a table such as { idle = \"60s\", interval = \"10s\", count = 6 }";
    let fault = Fault::mismatch(expected, value);
    match value {
        DeValue::String(_) if value::text(value)? == "off" => Ok(None),
        DeValue::Boolean(true) => Err(fault.help("it is on when nothing is written")),
        DeValue::Boolean(false) => Err(fault.help("write keepalive = \"off\"")),
        DeValue::String(_) => Err(fault.help("write the time in the table: { idle = \"60s\" }")),
        _ => Err(fault),
    }
}

/// The kernel counts the times of keep-alive in seconds, and takes at most 32767 of them.
fn whole_seconds(value: &DeValue<'_>) -> Parsed<Duration> {
    let read = value::duration(value)?;
    if read.subsec_nanos() == 0 && read <= Duration::from_secs(32767) {
        return Ok(read);
    }
    Err(Fault::mismatch("whole seconds from \"1s\" to \"32767s\"", value))
}
