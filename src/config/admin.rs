//! `[admin]`: where a running process is asked, and who may ask it what.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::de::DeValue;

use super::address::{self, Address};
use super::read::{At, Draft, Reader, Section};
use super::value::{self, Fault, Parsed};

/// `[admin]`. Without the table nothing listens; with it, at least one of `socket` and `http` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// `socket`: the path of a unix socket, whose clients may do everything; `None` is `"off"`.
    pub socket: Option<PathBuf>,
    /// `socket_mode`: the permissions of its file. Its owner may always use it.
    pub socket_mode: u32,
    /// `http`; `None` is `"off"`.
    pub http: Option<SocketAddr>,
    /// `http_token_file`; `None` is `""`. There is one when `http` is not on loopback, and for `http_write`.
    pub http_token_file: Option<PathBuf>,
    /// `http_write`: clients of `http` that have the token may change things.
    pub http_write: bool,
}

impl Admin {
    /// Where the control socket is, unless the configuration says otherwise.
    pub const SOCKET: &str = "/run/tidegate/admin.sock";
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            socket: cfg!(unix).then(|| PathBuf::from(Self::SOCKET)),
            socket_mode: 0o600,
            http: Some(SocketAddr::from(([127, 0, 0, 1], 9901))),
            http_token_file: None,
            http_write: false,
        }
    }
}

/// `[admin]`, and where its parts stand.
pub(super) struct DraftAdmin {
    pub(super) admin: Admin,
    /// Whether `socket` is what the file says, or leaves to the default.
    pub(super) knows_socket: bool,
    socket_at: At,
    http_at: At,
}

impl DraftAdmin {
    /// What it listens on.
    pub(super) fn places(&self) -> Vec<(Address, At)> {
        let socket = self.admin.socket.clone().map(|path| (Address::Unix(path), self.socket_at));
        let http = self.admin.http.map(|at| (Address::Ip(at), self.http_at));
        socket.into_iter().chain(http).collect()
    }
}

impl Reader {
    pub(super) fn admin(&mut self, section: &Section<'_>, draft: &mut Draft) {
        let mut admin = Admin::default();
        let [mut socket_at, mut http_at, mut write_at] = [section.at; 3];
        let problems = self.problems();
        for (key, value) in section.keys {
            let at = self.at(value.span().start);
            match key.get_ref().as_ref() {
                "socket" => {
                    self.set(&mut admin.socket, value, socket);
                    socket_at = at;
                }
                "socket_mode" => self.set(&mut admin.socket_mode, value, mode),
                "http" => {
                    self.set(&mut admin.http, value, http);
                    http_at = at;
                }
                "http_token_file" => self.set(&mut admin.http_token_file, value, token_file),
                "http_write" => {
                    self.set(&mut admin.http_write, value, value::boolean);
                    write_at = at;
                }
                _ => self.unread(section, key, value),
            }
        }
        // A wrong word may be what `socket` was meant to be.
        let is_left_out = || self.problems() == problems && !self.lost_keys(section.at);
        let knows_socket = !self.has_problem(section.at)
            && !self.has_problem(socket_at)
            && (socket_at != section.at || is_left_out());
        for (at, fault) in contradictions(&admin, section.at, http_at, write_at) {
            self.missing(at, fault);
        }
        draft.admin = Some(DraftAdmin { admin, knows_socket, socket_at, http_at });
    }
}

/// What the keys say against each other.
fn contradictions(admin: &Admin, table: At, http_at: At, write_at: At) -> Vec<(At, Fault)> {
    let token = "write http_token_file = \"/etc/tidegate/token\", a file with a long random word in it";
    match admin.http {
        None if admin.socket.is_none() => {
            let fault = Fault::new("[admin] has neither `socket` nor `http`");
            vec![(table, fault.help("leave the table out, or switch one of them on"))]
        }
        None if admin.http_write => {
            let fault = Fault::new("`http_write` has no effect with http = \"off\"");
            vec![(write_at, fault.help("leave it out, or write an address for `http`"))]
        }
        Some(http) if admin.http_token_file.is_none() => {
            let mut faults = Vec::new();
            if !http.ip().is_loopback() {
                let fault = Fault::new(format!("others than this host reach {http}, and there is no token"));
                faults.push((http_at, fault.help(format!("{token}; or listen on 127.0.0.1"))));
            }
            if admin.http_write {
                let fault = Fault::new("`http_write` lets everybody on this host change things");
                faults.push((write_at, fault.help(token)));
            }
            faults
        }
        _ => Vec::new(),
    }
}

fn socket(value: &DeValue<'_>) -> Parsed<Option<PathBuf>> {
    let text = value::text(value)?;
    if text == "off" {
        return Ok(None);
    }
    let path = text.strip_prefix("unix:").unwrap_or(&text);
    match address::unix(path) {
        Ok(Address::Unix(path)) => Ok(Some(path)),
        Ok(Address::Abstract(_)) => {
            let fault = Fault::new(format!("{text:?} has no file, whose permissions say who may use it"));
            Err(fault.help("write the path of a file: \"/run/tidegate/admin.sock\""))
        }
        Ok(Address::Ip(_) | Address::Handed(_)) => Ok(None),
        Err(fault) if !cfg!(unix) => Err(fault.help("write \"off\", or leave it out; there is `http`")),
        Err(fault) => Err(fault),
    }
}

fn mode(value: &DeValue<'_>) -> Parsed<u32> {
    let expected = "permissions in octal such as \"0600\" or \"0660\"";
    if let DeValue::Integer(number) = value {
        let help = format!("write it in quotes: \"{number}\"");
        return Err(Fault::mismatch(expected, value).help(help));
    }
    let text = value::text(value)?;
    let octal = text.len() <= 4 && text.chars().all(|digit| digit.is_digit(8));
    let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| octal && *mode <= 0o777);
    let mode = mode.ok_or_else(|| Fault::new(format!("expected {expected}, found {text:?}")))?;
    if mode & 0o600 != 0o600 {
        let fault = Fault::new(format!("with {text:?} not even the owner could use the socket"));
        return Err(fault.help(format!("write \"{:04o}\"", mode | 0o600)));
    }
    Ok(mode)
}

fn http(value: &DeValue<'_>) -> Parsed<Option<SocketAddr>> {
    if matches!(value, DeValue::String(_)) && value::text(value)? == "off" {
        return Ok(None);
    }
    match address::bind(value)? {
        Address::Ip(at) => Ok(Some(at)),
        Address::Unix(path) => {
            let fault = Fault::new(format!("`http` is an IP address and port, not {}", path.display()));
            Err(fault.help(format!("write socket = \"{}\"; it speaks HTTP, too", path.display())))
        }
        Address::Abstract(_) => {
            Err(Fault::new("`http` cannot be a unix socket").help("write an IP address and port"))
        }
        Address::Handed(_) => {
            Err(Fault::new("`http` cannot be a socket that is handed over")
                .help("write an IP address and port"))
        }
    }
}

fn token_file(value: &DeValue<'_>) -> Parsed<Option<PathBuf>> {
    let text = value::text(value)?;
    if text.contains('\0') || text.ends_with('/') {
        return Err(Fault::new(format!("{text:?} is not the path of a file")));
    }
    Ok((!text.is_empty()).then(|| text.into()))
}
